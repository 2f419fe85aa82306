"""The Hamiltonian VAE: its flow's laws in float64, its bound against a closed form."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

from tinycohort.augment import hmc
from tinycohort.augment.autoencoders import hvae as module
from tinycohort.augment.autoencoders.hvae import HVAE, REFERENCE_IMAGES
from tinycohort.augment.autoencoders.likelihood import reconstruction_loss
from tinycohort.augment.networks import Architecture
from tinycohort.augment.posterior import Posterior
from tinycohort.datasets.common.errors import UsageError

D = 3
each_tempering = pytest.mark.parametrize("tempering", ["fixed", "free", "none"])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def images(n: int, seed: int = 0) -> Tensor:
    return torch.rand((n, 1, 8, 8), generator=seeded(seed))


def squared_error(x: Tensor, decoded: Tensor) -> Tensor:
    return (decoded - x).square().flatten(1).sum(1)


@pytest.fixture
def exact(monkeypatch):
    """Makes a model in evaluation mode whose every number is float64: the library computes errors and posteriors in float32 on purpose."""

    def make(**settings) -> HVAE:
        monkeypatch.setattr(module, "squared_error", squared_error)
        torch.manual_seed(0)
        model = HVAE(Architecture("conv", (8, 8), D, channels=4), **settings).double().eval()
        # Fresh networks hardly bend the density, and a leaky ReLU's kinks would hide the order of convergence.
        model.decoder = nn.Sequential(nn.Linear(D, 16), nn.Tanh(), nn.Linear(16, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8))).double()
        for value in model.decoder.parameters():
            nn.init.normal_(value, std=0.7)
        model.base = lambda x: Posterior(*model.encoder(x))
        model.flow_variance.fill_(0.1)
        return model

    return make


@each_tempering
def test_the_flow_runs_back(exact, tempering):
    model, x = exact(tempering=tempering, step_size=0.3, leapfrogs=4), images(20).double()
    start, momentum = normal((20, D), 1), normal((20, D), 2)
    z, rho = model.flow(x, start, momentum)
    assert float((z - start).detach().abs().max()) > 0.5
    log_density = model.log_density(x)
    for alpha in model.alphas().flip(0):
        state, rho = hmc.leapfrog(hmc.init(z, log_density), -rho / alpha, log_density, model.step_sizes(), 1)
        z, rho = state.z, -rho
    torch.testing.assert_close(z, start, rtol=0, atol=1e-10)
    torch.testing.assert_close(rho, momentum, rtol=0, atol=1e-10)


@each_tempering
def test_the_flow_multiplies_volume_by_a_power_of_beta_zero(exact, tempering):
    model, x = exact(tempering=tempering, step_size=0.3, beta_zero=0.2), images(1).double()
    beta_zero = 1 if tempering == "none" else 0.2
    torch.testing.assert_close(model.alphas().prod(), torch.tensor(math.sqrt(beta_zero)).double(), rtol=1e-6, atol=0)

    def flow(phase: Tensor) -> Tensor:
        return torch.cat(model.flow(x, phase[None, :D], phase[None, D:]), dim=1)[0]

    for phase in normal((5, 2 * D), 3):
        jacobian = torch.autograd.functional.jacobian(flow, phase)
        assert float(torch.linalg.cond(jacobian)) > 2
        assert float(torch.linalg.det(jacobian)) == pytest.approx(beta_zero ** (D / 2), rel=1e-6)


def test_the_fixed_scheme_is_quadratic():
    model = HVAE(Architecture("conv", (8, 8), D, channels=2), leapfrogs=4, beta_zero=0.25)
    inverse_roots = [(1 - 1 / 0.5) * k**2 / 16 + 1 / 0.5 for k in range(5)]
    expected = torch.tensor([inverse_roots[k + 1] / inverse_roots[k] for k in range(4)])
    torch.testing.assert_close(model.alphas(), expected)


@pytest.mark.parametrize(("likelihood", "beta"), [("calibrated", 1.0), ("fixed", 0.5)])
def test_the_density_is_its_equation(exact, likelihood, beta):
    model, x, z = exact(likelihood=likelihood, beta=beta), images(6).double(), normal((6, D), 1)
    log_p, gradient = model.log_density(x)(z)
    error = squared_error(x, model.decode(z))
    cost = error / (2 * 0.1) if likelihood == "calibrated" else error
    torch.testing.assert_close(log_p, -cost / beta - 0.5 * z.square().sum(1))
    for d in range(D):
        shift = 1e-5 * torch.eye(D, dtype=torch.float64)[d]
        slope = (model.log_density(x)(z + shift)[0] - model.log_density(x)(z - shift)[0]) / 2e-5
        torch.testing.assert_close(slope, gradient[:, d], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("likelihood", "beta"), [("calibrated", 1.0), ("fixed", 0.01)])
def test_the_reconstruction_is_that_of_the_image_that_is_decoded(exact, likelihood, beta):
    """It is read off U, which has decoded it: the same number, and the same slopes in the latents and the decoder's weights."""
    model, x, z = exact(likelihood=likelihood, beta=beta), images(6).double(), normal((6, D), 1).requires_grad_()
    wanted = reconstruction_loss(x, model.decode(z).double(), likelihood)
    found = model.reconstruction(x, hmc.init(z, model.log_density(x)))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)  # the library sums errors in float32
    of = [z, *model.decoder.parameters()]
    slopes = [torch.autograd.grad(value.sum(), of) for value in (found, wanted)]
    torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-6)


def test_energy_error_is_of_order_two(exact):
    x, z, rho = images(50).double(), 0.5 * normal((50, D), 1), normal((50, D), 2)
    counts, errors = np.array([16, 32, 64]), []
    for count in counts.tolist():
        model = exact(tempering="none", leapfrogs=count, step_size=1 / count)
        log_density = model.log_density(x)
        with torch.no_grad():
            end, end_rho = model.flow(x, z, rho)
            drift = log_density(z)[0] - log_density(end)[0] + 0.5 * (end_rho.square() - rho.square()).sum(1)
        errors.append(float(drift.abs().mean()))
    slope = np.polyfit(np.log(1 / counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(2, abs=0.1)


@each_tempering
def test_the_kl_term_is_the_divergence_of_the_flow(exact, tempering):
    """Where the image says nothing the flow is linear, and (z_K, rho_K) is Gaussian: its divergence from N(0, I) is known."""
    model = exact(tempering=tempering, step_size=0.4, beta_zero=0.3)
    mean, log_var = torch.tensor([0.5, -1.0, 2.0]).double(), torch.tensor([-1.0, 0.3, -3.0]).double()
    n = 40_000
    x = images(1).double().expand(n, -1, -1, -1)
    model.base = lambda x: Posterior(mean.expand(len(x), -1), log_var.expand(len(x), -1))
    model.decode = lambda z: x[: len(z)] + 0 * z.sum()

    def flow(phase: Tensor) -> Tensor:
        return torch.cat(model.flow(x[:1], phase[None, :D], phase[None, D:]), dim=1)[0]

    linear = torch.autograd.functional.jacobian(flow, torch.zeros(2 * D, dtype=torch.float64))
    beta_zero = float(model.alphas().prod().detach().square())
    start = torch.cat([log_var.exp(), torch.full((D,), 1 / beta_zero)]).diag().double()
    law = MultivariateNormal(linear @ torch.cat([mean, torch.zeros(D)]).double(), linear @ start @ linear.T)
    prior = MultivariateNormal(torch.zeros(2 * D).double(), torch.eye(2 * D).double())
    with torch.no_grad():
        draws = torch.stack([model.loss(x[:400], seeded(seed))["kl"] for seed in range(100)])
    error = float(draws.std()) / math.sqrt(len(draws))
    assert abs(float(draws.mean() - kl_divergence(law, prior))) < 4 * error
    assert error < 0.02 * float(kl_divergence(law, prior))


@pytest.mark.parametrize("parameter", ["step_logits", "tempering_logits"])
def test_gradients_pass_through_the_dynamics(exact, parameter):
    """Against central differences, the noise held fixed."""
    model, x = exact(step_size=0.2), images(6).double()
    logits = getattr(model, parameter)

    def kl() -> Tensor:
        return model.loss(x, seeded(1))["kl"]

    (gradient,) = torch.autograd.grad(kl(), logits)
    assert float(gradient.abs().min()) > 1e-4
    for index in range(logits.numel()):
        values = []
        for shift in (1e-5, -1e-5):
            with torch.no_grad():
                logits.view(-1)[index] += shift
                values.append(float(kl()))
                logits.view(-1)[index] -= shift
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(float(gradient.view(-1)[index]), rel=1e-4, abs=1e-7)


def test_codes_are_where_the_mean_comes_to_from_rest():
    torch.manual_seed(0)
    model, x = HVAE(Architecture("conv", (8, 8), D, channels=4), step_size=0.2).eval(), images(5)
    with torch.no_grad():
        codes, mean = model.encode(x), model.base(x).mean
    assert not torch.allclose(codes, mean, atol=1e-3)
    expected, _ = model.flow(x, mean, torch.zeros_like(mean))
    torch.testing.assert_close(codes, expected)
    assert not codes.requires_grad
    torch.testing.assert_close(torch.cat([model.encode(image[None]) for image in x]), codes, rtol=1e-4, atol=1e-5)


def test_before_an_epoch_the_flow_s_variance_is_measured_on_a_bounded_number_of_images(monkeypatch):
    torch.manual_seed(0)
    model, x = HVAE(Architecture("conv", (8, 8), D, channels=4)), images(REFERENCE_IMAGES + 50)
    before = {name: value.clone() for name, value in model.state_dict().items() if name != "flow_variance"}
    seen, base = [], model.base
    monkeypatch.setattr(model, "base", lambda x: (seen.append(len(x)), base(x))[1])
    model.before_epoch(x, seeded(0))
    assert sum(seen) == REFERENCE_IMAGES
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items() if name in before)
    with torch.no_grad():
        model.eval()
        expected = (model.decode(base(x).sample(seeded(1))) - x).square().mean()
    # Another subset and other draws: the images are all alike in their statistics.
    assert float(model.flow_variance) == pytest.approx(float(expected), rel=0.05)
    fixed = HVAE(Architecture("conv", (8, 8), D, channels=4), likelihood="fixed")
    fixed.before_epoch(x, seeded(0))
    assert float(fixed.flow_variance) == 1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"leapfrogs": 0}, "leapfrogs must be 1 or more"),
        ({"step_size": 0.5}, "step_size lies between 0 and 0.5"),
        ({"step_size": math.nan}, "step_size lies between"),
        ({"tempering": "linear"}, "'fixed', 'free' or 'none', not 'linear'"),
        ({"beta_zero": 1.0}, "beta_zero lies between 0 and 1"),
        ({"beta": 0.0}, "beta must be above 0"),
        ({"likelihood": "poisson"}, "not 'poisson'"),
    ],
)
def test_settings_that_cannot_be(settings, says):
    with pytest.raises(UsageError, match=says):
        HVAE(Architecture("conv", (8, 8), D, channels=2), **settings)
