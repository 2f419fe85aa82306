"""The importance-weighted bound: its equation, and that it is a bound which tightens with the number of draws."""

import math

import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from torch import Tensor
from torch.distributions import Normal

from tinycohort.augment.autoencoders.iwae import IWAE
from tinycohort.augment.autoencoders.likelihood import importance_weighted_error, loss_of_error, reconstruction_loss
from tinycohort.augment.networks import Architecture
from tinycohort.augment.posterior import Posterior, log_standard_normal
from tinycohort.datasets.common.errors import UsageError

FAILS = 1e-4  # a right model fails a test once in so many seeds; seeds are fixed


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(latent_dim: int = 3, **settings) -> IWAE:
    """In float64 all through but for the residual: the library computes posteriors in float32 on purpose."""
    torch.manual_seed(0)
    model = IWAE(Architecture("conv", (8, 9), latent_dim, channels=2), **settings).double().eval()
    model.posterior = lambda x: Posterior(*model.encoder(x))
    return model


def images(n: int = 5) -> Tensor:
    return torch.rand((n, 1, 8, 9), generator=seeded(7), dtype=torch.float64)


def loss_at(variance: Tensor, error: Tensor, kl: Tensor, voxels: int) -> Tensor:
    """-log 1/K sum_k N(x; x_k, variance) exp(-kl_k), the mean over images."""
    log_weights = -error / (2 * variance) - voxels / 2 * torch.log(2 * math.pi * variance) - kl
    return -(log_weights.logsumexp(0) - math.log(len(error))).mean()


def optimum(error: Tensor, kl: Tensor, voxels: int) -> Tensor:
    """The variance of the least loss, by search."""
    ends = [math.log(error.min() / voxels) - 0.1, math.log(error.max() / voxels) + 0.1]
    found = minimize_scalar(
        lambda x: float(loss_at(torch.tensor(math.exp(x), dtype=torch.float64), error, kl, voxels)),
        bounds=ends,
        method="bounded",
        options={"xatol": 1e-10},
    )
    return torch.tensor(math.exp(found.x), dtype=torch.float64)


def some_draws(samples: int, voxels: int, spread: float) -> tuple[Tensor, Tensor]:
    """Squared errors of about 0.01 a voxel, and KL terms, of draws of eight images."""
    shape = (samples, 8)
    error = 0.01 * voxels * (1 + spread * torch.randn(shape, generator=seeded(1), dtype=torch.float64)).clamp(min=0.05)
    return error, 20 + 3 * torch.randn(shape, generator=seeded(2), dtype=torch.float64)


@pytest.mark.parametrize("samples", [2, 5, 50])
@pytest.mark.parametrize("voxels", [72, 7680])
@pytest.mark.parametrize("spread", [0.01, 0.1, 0.3])
def test_the_calibrated_variance_is_the_optimum_of_the_bound(samples, voxels, spread):
    error, kl = some_draws(samples, voxels, spread)
    mean = importance_weighted_error(error, kl, voxels)
    log_variance = (mean / voxels).log().requires_grad_()
    loss, best = loss_at(log_variance.exp(), error, kl, voxels), optimum(error, kl, voxels)
    (gradient,) = torch.autograd.grad(loss, log_variance)
    # At the optimum it is the difference of two terms that are voxels / 2 each.
    assert abs(gradient) < 1e-5 * voxels / 2
    assert loss <= loss_at(best, error, kl, voxels) + 1e-6
    assert float(mean) / voxels == pytest.approx(float(best), rel=1e-5)
    log_weights = -loss_of_error(error, voxels, "calibrated", mean) - kl
    torch.testing.assert_close(math.log(samples) - log_weights.logsumexp(0).mean(), loss.detach(), rtol=1e-12, atol=0)


def test_the_plain_mean_of_the_errors_would_cost_nats():
    error, kl = some_draws(5, 7680, 0.02)
    weighted, plain = (loss_at(mean / 7680, error, kl, 7680) for mean in (importance_weighted_error(error, kl, 7680), error.mean()))
    assert plain - weighted > 0.5


@torch.no_grad()
def test_one_draw_is_a_vae_to_the_digit():
    model, x = built(samples=1), images()
    posterior = model.posterior(x)
    z = posterior.sample(seeded(1))
    reconstruction = reconstruction_loss(x, model.decode(z), "calibrated")
    terms = model.loss(x, seeded(1))
    assert terms["reconstruction"] == reconstruction.mean()
    assert terms["loss"] == (reconstruction + (posterior.log_prob(z) - log_standard_normal(z))).mean()


@pytest.mark.parametrize("samples", [1, 4])
@pytest.mark.parametrize("likelihood", ["fixed", "calibrated"])
@torch.no_grad()
def test_the_loss_is_its_equation(samples, likelihood):
    model, x = built(samples=samples, likelihood=likelihood), images()
    posterior = model.posterior(x)
    generator = seeded(1)
    draws = [torch.randn((5, 3), generator=generator, dtype=torch.float64) for _ in range(samples)]
    z = [posterior.mean + posterior.std * draw for draw in draws]
    decoded = [model.decode(part) for part in z]
    log_prior = torch.stack([Normal(0.0, 1.0).log_prob(part).sum(1) for part in z])
    log_q = torch.stack([Normal(posterior.mean, posterior.std).log_prob(part).sum(1) for part in z])
    error = torch.stack([(x - part).square().sum((1, 2, 3)) for part in decoded])
    variance = optimum(error, log_q - log_prior, 72) if likelihood == "calibrated" else torch.tensor(0.5)
    # Of variance 1/2 the log-density is minus the squared error and a constant, which is left out.
    constant = 0 if likelihood == "calibrated" else 0.5 * 72 * math.log(math.pi)
    log_likelihood = torch.stack([Normal(part, variance.sqrt()).log_prob(x).sum((1, 2, 3)) + constant for part in decoded])
    # Weights relative to the best, so that none underflows; not by torch's logsumexp.
    log_weights = log_likelihood + log_prior - log_q
    best = log_weights.amax(0)
    bound = (log_weights - best).exp().mean(0).log() + best
    terms = model.loss(x, seeded(1))
    close = {"rtol": 1e-5, "atol": 1e-5}  # the residual passes through float32
    torch.testing.assert_close(terms["loss"], -bound.mean(), **close)
    torch.testing.assert_close(terms["reconstruction"], -log_likelihood.mean(), **close)
    torch.testing.assert_close(terms["kl"], (log_q - log_prior).mean(), rtol=1e-12, atol=1e-12)
    elbo = -(terms["reconstruction"] + terms["kl"])
    if samples == 1:
        torch.testing.assert_close(-terms["loss"], elbo, rtol=1e-12, atol=1e-12)
    else:
        assert -terms["loss"] > elbo


def marginal(model: IWAE, x: Tensor) -> Tensor:
    """log p(x) of one image and one latent unit, up to the constant of the fixed likelihood, by quadrature."""
    grid = torch.linspace(-9, 9, 1001, dtype=torch.float64)
    error = (model.decode(grid[:, None]) - x).square().sum((1, 2, 3))
    return torch.logsumexp(-error + Normal(0.0, 1.0).log_prob(grid), 0) + math.log(grid[1] - grid[0])


@torch.no_grad()
def test_the_weights_average_to_the_marginal_likelihood():
    """E[1/K sum_k p(x, z_k) / q(z_k|x)] = p(x), for every K."""
    x = images(1)
    for samples in (1, 3):
        model = built(1, samples=samples, likelihood="fixed")
        evidence = marginal(model, x)
        ratios = torch.stack([torch.exp(-model.loss(x, seeded(seed))["loss"] - evidence) for seed in range(600)])
        assert ratios.std() > 0.01
        assert abs(ratios.mean() - 1) < norm.ppf(1 - FAILS / 2) * ratios.std() / math.sqrt(len(ratios))


@torch.no_grad()
def test_the_bound_rises_with_the_number_of_draws_and_stays_below_the_marginal():
    x = images(1)
    means, errors = [], []
    for samples in (1, 2, 8, 64):
        model = built(1, samples=samples, likelihood="fixed")
        # A proposal that is wrong enough to leave a gap.
        torch.nn.init.constant_(model.encoder.heads[0].bias, 1.0)
        # One image many times: as many independent bounds, averaged.
        bounds = torch.stack([-model.loss(x.expand(50, 1, 8, 9), seeded(seed))["loss"] for seed in range(20)])
        means.append(bounds.mean())
        errors.append(bounds.std() / math.sqrt(len(bounds)))
    limit = norm.ppf(1 - FAILS / 4)
    for i in range(3):
        assert means[i + 1] - means[i] > limit * math.hypot(errors[i], errors[i + 1])
    gaps = marginal(model, x) - torch.stack(means)
    assert gaps[-1] > -limit * errors[-1]
    assert gaps[-1] < 0.1 * gaps[0]


def test_no_draw_is_refused():
    with pytest.raises(UsageError, match="samples must be 1 or more, not 0"):
        built(samples=0)
