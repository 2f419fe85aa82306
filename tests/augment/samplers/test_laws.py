"""Latent laws with a density: what all keep, then each against scikit-learn and SciPy in float64."""

import math

import numpy as np
import pytest
import torch
from grids import chi_squared, grid, numpy_state, seeded
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf as reference_ledoit_wolf
from sklearn.neighbors import KernelDensity
from torch import Tensor

from tinycohort.augment.posterior import Posterior
from tinycohort.augment.samplers.laws import (
    COLLAPSED,
    RIDGE,
    Gaussian,
    Kernels,
    Mixture,
    Whitening,
    ledoit_wolf,
    log_sum_of_kernels,
    log_sums_of_kernels,
)
from tinycohort.augment.samplers.plain import AggregatedPosterior
from tinycohort.datasets.common.errors import UsageError

LEVEL = 1e-4  # of every test; seeds are fixed
LAWS = {
    "gaussian": Gaussian.fit,
    "kde": lambda codes: Kernels.fit(codes, width=0.5),
    "mixture": lambda codes: Mixture.fit(codes, n_components=2),
    "diagonal mixture": lambda codes: Mixture.fit(codes, n_components=3, covariance="diag"),
    "posterior": lambda codes: AggregatedPosterior(Posterior(codes, -1 + 0.3 * codes.tanh())),
}
each_law = pytest.mark.parametrize("fit", LAWS.values(), ids=LAWS)


def codes_of(n: int, dim: int, seed: int = 0) -> Tensor:
    """Two crowds apart, correlated, away from 0, in units of their own, in float64."""
    z = torch.randn((n, dim), generator=seeded(seed), dtype=torch.float64)
    z[: n // 3] += 3
    z[:, 0] += 0.5 * z[:, -1]
    return 4 + z * torch.linspace(0.5, 2, dim, dtype=torch.float64)


def box(codes: Tensor) -> tuple[Tensor, Tensor]:
    return codes.mean(dim=0), 6 * codes.std(dim=0)


@each_law
@pytest.mark.parametrize("dim", [1, 2])
def test_the_density_integrates_to_1(fit, dim):
    codes = codes_of(30, dim)
    points, volume = grid(*box(codes), 500)
    assert float(fit(codes).log_density(points).exp().sum()) * volume == pytest.approx(1, abs=1e-4)


@each_law
@pytest.mark.parametrize("dim", [2, 3])
def test_draws_follow_the_density(fit, dim):
    codes = codes_of(30, dim)
    law = fit(codes)
    z, _ = law.sample(20_000, seeded(1))
    bins, finer = (16, 20) if dim == 2 else (10, 8)
    assert chi_squared(z, law.log_density, *box(codes), bins=bins, finer=finer) > LEVEL


@each_law
def test_the_same_seed_gives_the_same_draws_and_no_other_generator_is_asked(fit):
    codes = codes_of(30, 3).float()
    before, numpy_before = torch.get_rng_state(), numpy_state()
    law, ticks = fit(codes), []
    z, diagnostics = law.sample(25, seeded(3), lambda: ticks.append(1))
    assert torch.equal(z, fit(codes).sample(25, seeded(3))[0])
    assert not torch.equal(z, law.sample(25, seeded(4))[0])
    assert torch.equal(torch.get_rng_state(), before)
    assert numpy_state() == numpy_before
    assert len(ticks) == law.n_steps == 1
    assert (diagnostics.sampler, diagnostics.n_samples) == (law.name, 25)
    assert z.dtype == torch.float32
    assert law.log_density(codes).dtype == torch.float64


@pytest.mark.parametrize("shape", [(5, 1), (40, 3), (10, 20), (2, 4), (300, 16)])
def test_the_covariance_is_that_of_ledoit_and_wolf(shape):
    codes = torch.randn(shape, generator=seeded(0), dtype=torch.float64) * torch.linspace(0.5, 2, shape[1], dtype=torch.float64)
    expected, _ = reference_ledoit_wolf(codes.numpy())
    # Of one dimension there is nothing to shrink.
    assert np.allclose(ledoit_wolf(codes - codes.mean(dim=0)), expected, rtol=1e-10)
    whitening = Whitening.of(codes)
    ridge = RIDGE * np.eye(shape[1]) * float(codes.var(dim=0, correction=0).mean())
    assert np.allclose(whitening.factor @ whitening.factor.T, expected + ridge, rtol=1e-9)
    assert torch.equal(whitening.factor, whitening.factor.tril())


def test_whitening_has_an_inverse_and_its_determinant():
    codes = codes_of(50, 4)
    whitening = Whitening.of(codes)
    assert torch.allclose(whitening.back(whitening.to(codes)), codes, rtol=1e-10)
    jacobian = torch.autograd.functional.jacobian(lambda z: whitening.to(z[None])[0], codes[0])
    assert whitening.log_det == pytest.approx(-float(torch.linalg.slogdet(jacobian)[1]), rel=1e-10)


def test_a_collapsed_unit_keeps_its_own_variance():
    """Shrunk towards the others', it would have some hundred times as much."""
    codes = torch.randn((40, 6), generator=seeded(0), dtype=torch.float64)
    codes[:, 3:] *= 0.01
    assert float(codes[:, 3].var() / codes.var(dim=0).mean()) < COLLAPSED
    factor = Whitening.of(codes).factor
    variance = (factor @ factor.T).diagonal()
    assert torch.allclose(variance[3:], codes[:, 3:].var(dim=0, correction=0), rtol=0.5)
    # None is below the ridge, however constant.
    codes[:, 5] = 2
    assert float(Whitening.of(codes).factor.diagonal()[5]) > 0.9 * math.sqrt(RIDGE * float(codes.var(dim=0, correction=0).mean()))


def test_gaussian_is_that_of_scipy():
    codes, people = codes_of(30, 3), codes_of(10, 3, seed=5)
    law = Gaussian.fit(codes)
    expected, _ = reference_ledoit_wolf(codes.numpy())
    normal = multivariate_normal(codes.mean(dim=0).numpy(), expected)
    assert np.allclose(law.log_density(people), normal.logpdf(people.numpy()), rtol=1e-4)


@pytest.mark.parametrize("width", [0.05, 0.5, 3.0])
def test_kernels_are_those_of_scikit_learn_in_whitened_coordinates(width):
    codes, people = codes_of(30, 3), codes_of(10, 3, seed=5)
    law = Kernels.fit(codes, width=width)
    to = law.whitening.to
    reference = KernelDensity(bandwidth=width).fit(to(codes).numpy())
    expected = reference.score_samples(to(people).numpy()) - law.whitening.log_det
    assert np.allclose(law.log_density(people), expected, rtol=1e-9)
    assert torch.equal(law.log_densities(people, (1.0, width))[1], law.log_density(people))


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_a_mixture_is_the_sum_of_its_parts(covariance):
    codes, people = codes_of(60, 3), codes_of(10, 3, seed=5)
    law = Mixture.fit(codes, n_components=2, covariance=covariance)
    factor = law.whitening.factor.numpy()
    total = np.zeros(10)
    for weight, mean, cholesky in zip(law.weights, law.means, law.cholesky, strict=True):
        wide = factor @ cholesky.numpy()
        centre = law.whitening.back(mean[None])[0].numpy()
        total += float(weight) * multivariate_normal(centre, wide @ wide.T).pdf(people.numpy())
    assert np.allclose(law.log_density(people), np.log(total), rtol=1e-9)
    assert float(law.weights.sum()) == pytest.approx(1)


def test_posteriors_have_the_density_that_their_draws_are_of():
    means, log_var = codes_of(20, 3), torch.linspace(-12, 1, 60, dtype=torch.float64).reshape(20, 3)
    people = torch.cat([means[:5] + 1e-3, codes_of(10, 3, seed=5)])
    parts = [
        multivariate_normal(mean, np.diag(np.exp(row))).logpdf(people) for mean, row in zip(means.numpy(), log_var.numpy(), strict=True)
    ]
    expected = np.logaddexp.reduce(parts, axis=0) - math.log(20)
    assert np.allclose(AggregatedPosterior(Posterior(means, log_var)).log_density(people), expected, rtol=1e-9)


def test_sums_of_kernels_keep_their_digits_far_away_and_in_chunks(monkeypatch):
    centres, y = codes_of(40, 5), torch.cat([codes_of(20, 5, seed=1), 1e6 * codes_of(3, 5)])
    widths = (0.01, 0.7, 30.0)
    squares = (y[:, None] - centres).square().sum(dim=2)
    expected = torch.stack([(-squares / (2 * width**2)).logsumexp(dim=1) for width in widths])
    assert torch.allclose(log_sums_of_kernels(y, centres, widths), expected, rtol=1e-8)
    monkeypatch.setattr("tinycohort.augment.samplers.laws.CHUNK", 100)
    assert torch.allclose(log_sums_of_kernels(y, centres, widths), expected, rtol=1e-8)
    assert torch.equal(log_sum_of_kernels(y, centres, 0.7), log_sums_of_kernels(y, centres, widths)[1])


@each_law
@pytest.mark.parametrize("case", ["few", "line", "wide", "plane", "same", "tiny", "huge", "constant"])
def test_odd_codes(case, fit):
    """Densities and draws are finite, in the codes' own dtype."""
    codes = torch.randn({"few": (3, 8), "line": (20, 1), "wide": (30, 64)}.get(case, (12, 5)), generator=seeded(0))
    if case == "plane":
        codes[:, 3:] = codes[:, :2]
    if case == "same":
        codes = codes[:1].expand(12, 5).clone()
    if case == "constant":
        codes[:, 2] = 0.3
    codes = codes * {"tiny": 1e-12, "huge": 1e12}.get(case, 1.0)
    law = fit(codes)
    z, _ = law.sample(40, seeded(1))
    assert z.dtype == torch.float32
    assert z.isfinite().all()
    assert law.log_density(codes).isfinite().all()
    assert law.log_density(z).isfinite().all()


def test_many_draws_take_little_memory(frugal):
    """Of a mixture each draw has a component, whose covariance is not copied for it: that would take a gigabyte."""
    codes = torch.randn((200, 32), generator=seeded(0))
    law = Mixture.fit(codes, n_components=5)
    assert law.sample(100_000, seeded(0))[0].shape == (100_000, 32)


def test_densities_under_many_codes_take_little_memory(frugal):
    """Of 500 codes, under kernels and posteriors of 50,000: the distances would take 200 MB, and a row for each pair 1.6 GB."""
    codes = torch.randn((50_000, 8), generator=seeded(0))
    for law in (Kernels.fit(codes, width=0.5), AggregatedPosterior(Posterior(codes, torch.zeros_like(codes)))):
        assert law.log_density(codes[:500]).isfinite().all()


@pytest.mark.parametrize("width", [0.0, -1.0, math.inf, math.nan])
def test_kernels_of_no_width_are_refused(width):
    with pytest.raises(UsageError, match="width"):
        Kernels.fit(codes_of(10, 2), width=width)


def test_mixtures_that_are_none_are_refused():
    refused = {"from 1 to 10": {"n_components": 11}, "not 0": {"n_components": 0}, "tied": {"n_components": 2, "covariance": "tied"}}
    for told, settings in refused.items():
        with pytest.raises(UsageError, match=told):
            Mixture.fit(codes_of(10, 2), **settings)
