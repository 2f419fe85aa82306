"""R-hat and effective sample size against ArviZ, and what users are warned of."""

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tinycohort.augment.samplers.diagnostics import (
    ACCEPTANCE_RANGE,
    TOLERATED_R_HAT,
    TOLERATED_SHARE,
    Diagnostics,
    effective_sample_size,
    split_r_hat,
)


def autoregressive(draws: int, chains: int, correlation: float, *, spread: float = 0.0, dim: int = 3, seed: int = 0) -> Tensor:
    """``(draws, chains, dim)`` stationary AR(1) chains of variance 1, each about a mean of its own."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(draws, chains, dim))
    for t in range(1, draws):
        values[t] = correlation * values[t - 1] + math.sqrt(1 - correlation**2) * values[t]
    return torch.as_tensor(values + spread * generator.normal(size=(chains, dim)))


CASES = {
    "white": (100, 4, 0.0, 0.0),
    "odd number of draws": (101, 4, 0.5, 0.0),
    "sticky": (400, 8, 0.9, 0.0),
    "antithetic": (200, 4, -0.6, 0.0),
    "chains apart": (100, 4, 0.5, 2.0),
    "one chain": (200, 1, 0.5, 0.0),
    "paper's length": (100, 64, 0.99, 0.0),
}


@pytest.fixture(scope="module")
def arviz():
    return pytest.importorskip("arviz")


@pytest.mark.parametrize("case", CASES)
def test_split_r_hat_is_arvizs(case, arviz):
    draws, chains, correlation, spread = CASES[case]
    values = autoregressive(draws, chains, correlation, spread=spread)
    # ArviZ refuses to split a single chain, and takes its halves.
    halves, method = (values, "split") if chains > 1 else (torch.cat([values[: draws // 2], values[draws // 2 :]], dim=1), "identity")
    expected = [arviz.rhat(halves[..., d].T.numpy(), method=method) for d in range(3)]
    np.testing.assert_allclose(split_r_hat(values).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_effective_sample_size_is_arvizs(case, arviz):
    draws, chains, correlation, spread = CASES[case]
    values = autoregressive(draws, chains, correlation, spread=spread)
    expected = [arviz.ess(values[..., d].T.numpy(), method="mean") for d in range(3)]
    np.testing.assert_allclose(effective_sample_size(values).numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("draws", range(4, 13))
def test_effective_sample_size_of_few_draws_is_arvizs(draws, arviz):
    values = autoregressive(draws, 4, 0.3)
    expected = [arviz.ess(values[..., d].T.numpy(), method="mean") for d in range(3)]
    np.testing.assert_allclose(effective_sample_size(values).numpy(), expected, rtol=1e-10)


def test_effective_sample_size_of_an_autoregression():
    """n (1 - a) / (1 + a), known in closed form."""
    for correlation in (-0.5, 0.0, 0.6):
        found = effective_sample_size(autoregressive(2000, 16, correlation, seed=1)).numpy()
        # The variance of the time's estimate by Geyer's window, of about 10 autocorrelation times: 2 (2 W + 1) / n relative (Sokal).
        window = 10 * max(1.0, (1 + correlation) / (1 - correlation))
        error = math.sqrt(2 * (2 * window + 1) / (2000 * 16))
        np.testing.assert_allclose(found, 2000 * 16 * (1 - correlation) / (1 + correlation), rtol=4 * error)


def test_dimensions_are_counted_apart():
    values = torch.cat([autoregressive(100, 4, 0.0, dim=1), autoregressive(100, 4, 0.95, dim=1, spread=1.0)], dim=2)
    for measure in (split_r_hat, effective_sample_size):
        torch.testing.assert_close(measure(values), torch.cat([measure(values[..., :1]), measure(values[..., 1:])]))
    assert split_r_hat(values)[0] < 1.05 < 1.3 < split_r_hat(values)[1]


def test_order_of_chains_and_units_do_not_matter():
    values = autoregressive(100, 4, 0.5)
    for measure in (split_r_hat, effective_sample_size):
        torch.testing.assert_close(measure(values), measure(5 - 3 * values[:, [2, 0, 3, 1]]))


def test_nothing_to_split_is_not_a_number():
    for values in (torch.randn((3, 4, 2)), torch.empty((10, 0, 2)), torch.ones((10, 4, 2))):
        assert split_r_hat(values).isnan().all()
        assert effective_sample_size(values).isnan().all()
    stuck = torch.randn((1, 4, 2)).expand(10, 4, 2)
    assert (split_r_hat(stuck) == math.inf).all()


FINE = {"sampler": "some", "n_samples": 10, "off_manifold": 0.0, "acceptance": 0.8, "step_size": 0.1, "unmoved": 0.0}


@pytest.mark.parametrize(
    ("name", "at", "beyond", "words"),
    [
        ("acceptance", ACCEPTANCE_RANGE[0], ACCEPTANCE_RANGE[0] - 1e-6, "too large"),
        ("acceptance", ACCEPTANCE_RANGE[1], ACCEPTANCE_RANGE[1] + 1e-6, "so small"),
        ("unmoved", TOLERATED_SHARE, TOLERATED_SHARE + 1e-6, "never moved"),
        ("off_manifold", TOLERATED_SHARE, TOLERATED_SHARE + 1e-6, "off the manifold"),
        ("r_hat", TOLERATED_R_HAT, TOLERATED_R_HAT + 1e-6, "have not mixed"),
        ("r_hat", 1.0, math.inf, "R-hat inf"),
    ],
)
def test_warnings_fire_beyond_their_thresholds(name, at, beyond, words):
    assert Diagnostics(**FINE).warnings() == []
    assert Diagnostics(**FINE | {name: at}).warnings() == []
    (warning,) = Diagnostics(**FINE | {name: beyond}).warnings()
    assert warning.startswith("some: ")
    assert words in warning


def test_all_that_is_wrong_is_told():
    assert len(Diagnostics("some", 10, off_manifold=1.0, acceptance=0.1, unmoved=1.0).warnings()) == 3


def test_chains_that_all_move_and_stay_at_home_are_warned_of():
    """The paper's chains on real slices: a sound acceptance, none unmoved, and each still where it began."""
    found = Diagnostics("some", 10, acceptance=0.80, unmoved=0.00, r_hat=24.0, effective_centroids=1.0, home=1.0)
    alone, apart = found.warnings()
    assert "100% of the chains end nearest to the image that they began at, and every sample is a variation of one training image" in alone
    assert "have not mixed (R-hat 24, where 1.1 may)" in apart


@pytest.mark.parametrize(
    ("centroids", "home", "warned"),
    [
        (1.0, None, True),
        (1.0, 0.95, True),
        (1.0, 0.5, False),
        (1.49, None, True),
        (1.5, None, False),
        (8.0, 1.0, False),
        (None, 1.0, False),
    ],
)
def test_variations_of_one_image_are_warned_of(centroids, home, warned):
    """Of chains, where they stay there too: those that come to another image's place have left their own."""
    found = Diagnostics("some", 10, effective_centroids=centroids, home=home).warnings()
    assert ["a variation of one training image" in text for text in found] == [True] * warned
    assert all(("of the chains end nearest" in text) == (home is not None) for text in found)


def test_only_a_law_of_algorithm_1_s_metric_is_that_of_the_posteriors():
    """The manifold that holds people left out has one covariance for all."""
    (calibrated,) = Diagnostics("riemannian", 10, effective_centroids=1.0).warnings()
    assert calibrated == "riemannian: every sample is a variation of one training image."
    (paper,) = Diagnostics("riemannian", 10, effective_centroids=1.0, rho=0.3).warnings()
    assert paper.endswith("so short that the law is that of the training images' posteriors, times rho / sqrt(D).")


def test_a_sampler_without_chains_is_warned_of_by_where_it_draws_alone():
    assert Diagnostics("normal", 10, off_manifold=0.05).warnings() == []
    assert Diagnostics("normal", 10).warnings() == []
    (warning,) = Diagnostics("normal", 10, off_manifold=1.0).warnings()
    assert "off the manifold" in warning


def test_json_takes_it():
    numbers = Diagnostics("some", 10, acceptance=0.5, r_hat=math.nan, ess=math.inf, unmoved=0.0, traced=3).as_dict()
    assert numbers == {"sampler": "some", "n_samples": 10, "acceptance": 0.5, "r_hat": None, "ess": None, "unmoved": 0.0, "traced": 3}
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers
