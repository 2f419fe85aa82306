"""The pull-back metric of decoders with known Jacobians, and the posterior that is best beside it."""

import pytest
import torch
from torch import nn

from tinycohort.augment.autoencoders import VAE
from tinycohort.augment.geometry.pullback import agreement, best_precision, pullback
from tinycohort.augment.networks import Architecture


def test_of_a_linear_decoder_it_is_the_gram_matrix_everywhere():
    draws = torch.Generator().manual_seed(0)
    weights = torch.randn(12, 3, generator=draws, dtype=torch.float64)
    z = torch.randn(7, 3, generator=draws, dtype=torch.float64)
    found = pullback(lambda z: (z @ weights.T + 1).reshape(-1, 1, 3, 4), z, batch_size=2)
    torch.testing.assert_close(found, (weights.T @ weights).expand(7, 3, 3))


def test_of_a_network_it_is_what_reverse_differentiation_gives():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 5), nn.Sigmoid()).double()
    z = torch.randn(5, 2, dtype=torch.float64)
    jacobians = torch.stack([torch.func.jacrev(network)(row) for row in z]).detach()
    torch.testing.assert_close(pullback(network, z, batch_size=3), jacobians.mT @ jacobians)


@pytest.mark.parametrize("shape", [(16, 16), (8, 10, 8)])
def test_a_decoder_of_images_has_one_whatever_the_batch(shape):
    torch.manual_seed(0)
    model = VAE(Architecture("conv", shape, 3, 2)).eval()
    z = torch.randn(5, 3)
    found = pullback(model.decode, z)
    assert found.shape == (5, 3, 3)
    torch.testing.assert_close(pullback(model.decode, z, batch_size=1), found, rtol=1e-4, atol=1e-6)
    # It says how far images move for a small step.
    step = 1e-2 * torch.randn(5, 3)
    with torch.no_grad():
        moved = (model.decode(z + step) - model.decode(z - step)).flatten(1).square().sum(1) / 4
    torch.testing.assert_close(torch.einsum("ni,nij,nj->n", step, found, step), moved, rtol=0.02, atol=1e-8)


@pytest.mark.parametrize("beta", [0.1, 1.0, 4.0])
def test_the_best_precision_minimises_the_loss_of_a_linear_decoder(beta):
    draws = torch.Generator().manual_seed(0)
    weights = torch.randn(6, 3, generator=draws, dtype=torch.float64)
    gram = (weights.T @ weights)[None]
    for variance, fixed in ((0.5, True), (0.02, False)):
        precision = best_precision(gram, beta=beta, **({} if fixed else {"variance": variance}))
        log_var = -precision.log()[0].requires_grad_()
        # E |x - W z|^2 / (2 v) + beta KL, without what does not depend on Sigma.
        squared = (gram[0].diagonal() * log_var.exp()).sum()
        loss = squared / (2 * variance) + beta * 0.5 * (log_var.exp() - log_var).sum()
        (gradient,) = torch.autograd.grad(loss, log_var)
        assert gradient.abs().max() < 1e-9


def test_agreement():
    expected = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) + 0.1
    same, double = agreement(expected, expected), agreement(2 * expected, expected)
    assert (same.low, same.median, same.high) == (1, 1, 1)
    assert (double.low, double.median, double.high) == (2, 2, 2)
    assert same.log_correlation == pytest.approx(1)
    assert double.log_correlation == pytest.approx(1)
    assert agreement(1 / expected, expected).log_correlation == pytest.approx(-1)
