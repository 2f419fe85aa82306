"""The manifold that holds people left out: its geometry, its law's constant and its draws."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from grids import chi_squared, grid, seeded
from scipy.stats import chi2, norm
from torch import Tensor

from tinycohort.augment.geometry.metric import RiemannianMetric
from tinycohort.augment.samplers.crowds import Crowd, log_constants
from tinycohort.augment.samplers.laws import Whitening
from tinycohort.augment.samplers.manifold import BLOCK, MIXED, N_PROPOSALS, Manifold
from tinycohort.datasets.common.errors import UsageError

LEVEL = 1e-4  # of every test; seeds are fixed
SHIFT, SCALE = torch.tensor([3.0, -1.0, 0.5], dtype=torch.float64), torch.tensor([2.0, 0.7, 1.2], dtype=torch.float64)

each_crowding = pytest.mark.parametrize("crowding", [2, 3, 5])
each_cut = pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut"])


def codes_of(n: int, dim: int, seed: int = 0) -> Tensor:
    """Two crowds apart, correlated, away from 0, in units of their own."""
    z = torch.randn((n, dim), generator=seeded(seed), dtype=torch.float64)
    z[: n // 3] += 2.5
    return SHIFT[:dim] + z * SCALE[:dim]


def made(crowding: int, dim: int, *, cut: bool = False, width: float = 0.6) -> Manifold:
    codes = codes_of(15, dim)
    manifold = Manifold.fit(codes, codes[::2], crowding=crowding, width=width * math.sqrt(crowding))
    return manifold.cut(float(manifold.log_whole(codes).median())) if cut else manifold


def box(manifold: Manifold) -> tuple[Tensor, Tensor]:
    """Centre and half sides of where all of the law lies."""
    reach = manifold.crowd.centroids.abs().amax() + 5 * manifold.crowd.spread
    return manifold.whitening.mean, reach * manifold.whitening.factor.square().sum(dim=1).sqrt()


def constant_by_tuples(crowd: Crowd) -> float:
    """log of the integral of (sum omega)^m, as the sum over all tuples of people."""
    total = 0.0
    for people in itertools.product(range(len(crowd.centroids)), repeat=crowd.crowding):
        chosen = crowd.centroids[list(people)]
        total += math.exp(-float((chosen - chosen.mean(dim=0)).square().sum()) / (2 * crowd.width**2))
    return math.log(total) + crowd.centroids.shape[1] / 2 * math.log(2 * math.pi * crowd.width**2 / crowd.crowding)


@pytest.mark.parametrize("crowding", [2, 3, 4])
def test_a_power_of_the_sum_is_a_sum_over_tuples_of_people(crowding):
    crowd = Crowd(torch.randn((3, 2), generator=seeded(0), dtype=torch.float64), crowding, 0.8)
    y = 2 * torch.randn((20, 2), generator=seeded(1), dtype=torch.float64)
    total = torch.zeros(20, dtype=torch.float64)
    for people in itertools.product(range(3), repeat=crowding):
        chosen = crowd.centroids[list(people)]
        mean = chosen.mean(dim=0)
        total += (-((chosen - mean).square().sum() + crowding * (y - mean).square().sum(dim=1)) / (2 * 0.8**2)).exp()
    assert torch.allclose(crowd.log_volume(y), total.log(), rtol=1e-10)


@pytest.mark.parametrize("dim", [1, 3, 16])
def test_the_constant_of_pairs_is_closed(dim):
    crowd = Crowd(torch.randn((6, dim), generator=seeded(0), dtype=torch.float64), 2, 0.9)
    ((log_constant, error),) = log_constants([crowd], 10, seeded(0))
    assert log_constant == pytest.approx(constant_by_tuples(crowd), abs=1e-9)
    assert error == 0


@pytest.mark.parametrize(("crowding", "dim", "square"), [(3, 2, 1.0), (4, 16, 0.85), (5, 3, 0.1), (8, 16, 1.15)])
def test_errors_of_constants_by_importance_are_honest(crowding, dim, square):
    """z-scores against the sum over all tuples, over many seeds; laws that share their proposals too."""
    k = 3 if crowding == 8 else 5
    centroids = torch.randn((k, dim), generator=seeded(0), dtype=torch.float64)
    crowd = Crowd(centroids, crowding, math.sqrt(square * (crowding - 1)))
    other = Crowd(centroids, crowding + 1, crowd.width)
    exact = constant_by_tuples(crowd)
    scores = []
    for seed in range(300):
        estimates = log_constants([crowd, other], 1000, seeded(seed)) if seed % 2 else log_constants([crowd], 1000, seeded(seed))
        log_constant, error = estimates[0]
        assert 0 < error < 0.2
        scores.append(math.expm1(log_constant - exact) / error)
    z = torch.tensor(scores)
    assert abs(float(z.mean())) * math.sqrt(len(z)) < norm.ppf(1 - LEVEL / 2)
    # Within a tenth of a standard normal's spread, beyond chance.
    assert chi2.ppf(LEVEL, len(z)) * 0.8 < float(z.square().sum()) < chi2.ppf(1 - LEVEL, len(z)) * 1.2


@each_crowding
@each_cut
@pytest.mark.parametrize("dim", [1, 2])
def test_the_density_integrates_to_1(crowding, cut, dim):
    manifold = made(crowding, dim, cut=cut)
    points, volume = grid(*box(manifold), 500)
    kept = math.exp(manifold.log_kept)
    ((_, error),) = log_constants([manifold.crowd], N_PROPOSALS, seeded(0))
    error += math.sqrt((1 - kept) / kept / N_PROPOSALS) * 1.5  # the proposals of many people are worth fewer draws
    mass = float(manifold.log_density(points).exp().sum()) * volume
    assert mass == pytest.approx(1, abs=1e-3 + norm.ppf(1 - LEVEL) * error)
    assert (kept < 1) == cut


@each_crowding
@each_cut
@pytest.mark.parametrize("dim", [2, 3])
def test_draws_follow_the_density(crowding, cut, dim):
    manifold = made(crowding, dim, cut=cut)
    z, diagnostics = manifold.sample(20_000, seeded(1))
    bins, finer = (14, 30) if dim == 2 else (8, 10)
    # The expected counts are the density's own, so that its constant does not matter.
    assert chi_squared(z, manifold.log_density, *box(manifold), bins=bins, finer=finer) > LEVEL
    assert manifold.inside(z).all()
    if crowding > 2:
        assert diagnostics.r_hat < MIXED
        assert diagnostics.traced == 64
    else:
        assert diagnostics.r_hat is None


@pytest.mark.parametrize("crowding", [3, 5])
def test_gibbs_steps_leave_the_law_as_it_is(crowding):
    """From draws of the law, by rejection from a box, one step leads to draws of the law."""
    manifold = made(crowding, 2)
    centre, half = box(manifold)
    z = centre + half * (2 * torch.rand((800_000, 2), generator=seeded(0), dtype=torch.float64) - 1)
    log_density = manifold.log_whole(z)
    # A bound from a fine grid, with some room.
    bound = manifold.log_whole(grid(centre, half, 400)[0]).amax() + 0.05
    assert log_density.amax() < bound
    exact = z[torch.rand(len(z), generator=seeded(1), dtype=torch.float64).log() < log_density - bound]
    assert len(exact) > 10_000
    stepped = manifold.whitening.back(manifold.crowd.step(manifold.whitening.to(exact), seeded(2)))
    for draws in (exact, stepped):
        assert chi_squared(draws, manifold.log_whole, centre, half, bins=14, finer=30) > LEVEL


@each_crowding
def test_the_law_is_uniform_on_the_manifold(crowding):
    """sqrt det G is its density, but for a constant; G is symmetric and positive definite."""
    manifold = made(crowding, 3)
    z, _ = manifold.sample(50, seeded(0))
    tensor = manifold.tensor(z)
    assert torch.equal(tensor, tensor.mT)
    assert (torch.linalg.eigvalsh(tensor) > 0).all()
    constant = 0.5 * torch.logdet(tensor) - manifold.log_whole(z)
    assert torch.allclose(constant, constant[0].expand(50), atol=1e-9)


def test_at_half_the_dimensions_it_is_the_metric_of_the_paper():
    codes = torch.randn((7, 4), generator=seeded(0), dtype=torch.float64)
    std = 0.4
    whitening = Whitening(codes.mean(dim=0), std * torch.eye(4, dtype=torch.float64))
    manifold = Manifold(whitening, Crowd(whitening.to(codes), 2, 0.9), 0.0)
    metric = RiemannianMetric(codes, torch.full_like(codes, std**-2), rho=math.sqrt(2) * manifold.crowd.width, lam=1e-30)
    z = codes + 0.2
    assert torch.allclose(manifold.tensor(z).diagonal(dim1=1, dim2=2), metric.tensor(z), rtol=1e-9)


def test_a_cut_that_would_leave_nothing_is_lowered_and_none_is_none():
    manifold = made(2, 2)
    assert manifold.cut(None) is manifold
    highest = manifold.cut(math.inf)
    assert 0.05 < math.exp(highest.log_kept) < 0.2
    assert manifold.inside(manifold.sample(500, seeded(0))[0]).all()


@pytest.mark.parametrize(("crowding", "width"), [(0, 1.0), (1, 1.0), (2, 0.0), (2, math.inf), (2, math.nan)])
def test_what_is_no_law_is_refused(crowding, width):
    with pytest.raises(UsageError, match="crowding"):
        Manifold.fit(codes_of(5, 2), codes_of(5, 2), crowding=crowding, width=width)


@each_crowding
@each_cut
def test_the_same_seed_gives_the_same_draws_and_no_other_generator_is_asked(crowding, cut):
    before = torch.get_rng_state()
    manifold, again = made(crowding, 2, cut=cut), made(crowding, 2, cut=cut)
    assert (manifold.log_norm, manifold.log_kept) == (again.log_norm, again.log_kept)
    ticks: list[int] = []
    z, diagnostics = manifold.sample(30, seeded(3), lambda: ticks.append(1))
    assert torch.equal(z, again.sample(30, seeded(3))[0])
    assert not torch.equal(z, manifold.sample(30, seeded(4))[0])
    assert torch.equal(torch.get_rng_state(), before)
    assert len(ticks) == manifold.n_steps == (BLOCK if crowding > 2 else 1)
    assert z.shape == (30, 2)
    assert (diagnostics.sampler, diagnostics.n_samples, diagnostics.off_manifold) == ("riemannian", 30, 0.0)
    assert diagnostics.effective_centroids > 1
    assert manifold.sample(1, seeded(0))[0].shape == (1, 2)


@pytest.mark.parametrize("crowding", [2, 3, 32])
@pytest.mark.parametrize("case", ["few", "line", "wide", "plane", "same", "tiny", "huge", "constant", "far"])
def test_odd_codes(case, crowding):
    """Densities and draws are finite, in the codes' own dtype."""
    shape = {"few": (3, 8), "line": (20, 1), "wide": (30, 64)}.get(case, (12, 5))
    codes = torch.randn(shape, generator=seeded(0))
    if case == "plane":
        codes[:, 3:] = codes[:, :2]
    if case == "same":
        codes = codes[:1].expand(12, 5).clone()
    if case == "constant":
        codes[:, 2] = 0.3
    if case == "far":
        codes[0] += 1000
    codes = codes * {"tiny": 1e-12, "huge": 1e12}.get(case, 1.0)
    manifold = Manifold.fit(codes, codes, crowding=crowding, width=math.sqrt(max(1, crowding - 1)))
    cut = manifold.cut(float(manifold.log_whole(codes).amin()))
    z, _ = cut.sample(70, seeded(1))
    assert z.dtype == torch.float32
    assert z.isfinite().all()
    assert manifold.log_density(codes).isfinite().all()
    ((_, error),) = log_constants([manifold.crowd], N_PROPOSALS, seeded(0))
    assert error < 0.3
    if case == "same":
        assert torch.allclose(z, codes[0].expand(70, 5))


def test_scale_and_shift_of_the_codes_change_nothing_else():
    manifold = made(5, 3, cut=True)
    codes = codes_of(15, 3)
    other = Manifold.fit(10 * codes - 4, 10 * codes[::2] - 4, crowding=5, width=manifold.crowd.width)
    assert torch.allclose(other.log_whole(10 * codes - 4), manifold.log_whole(codes) - 3 * math.log(10), atol=1e-6)


def test_many_draws_take_little_memory(frugal):
    """20,000 of 1,000 centroids: the distances between all of them would take 160 MB."""
    codes = torch.randn((1000, 16), generator=seeded(0))
    for crowding, n in ((2, 20_000), (4, 10_500)):
        manifold = Manifold.fit(codes, codes, crowding=crowding, width=math.sqrt(crowding - 1)).cut(-30.0)
        assert manifold.sample(n, seeded(0))[0].shape == (n, 16)


def test_the_threshold_is_that_of_the_law_before_it_is_cut():
    manifold = made(2, 2, cut=True)
    whole = replace(manifold, log_threshold=-math.inf, log_kept=0.0)
    z, _ = whole.sample(40_000, seeded(5))
    share, kept = float(manifold.inside(z).double().mean()), math.exp(manifold.log_kept)
    assert share == pytest.approx(kept, abs=norm.ppf(1 - LEVEL) * math.sqrt(kept * (1 - kept) * (1 / N_PROPOSALS + 1 / 40_000)))
    assert torch.equal(manifold.log_density(z).isfinite(), manifold.inside(z))
    assert torch.allclose(manifold.log_density(z[manifold.inside(z)]), whole.log_density(z[manifold.inside(z)]) - manifold.log_kept)


@pytest.mark.parametrize("seed", range(6))
def test_what_a_cut_keeps_is_never_more_than_all(seed):
    """Shares are summed in floats: a manifold that holds everybody was once told to hold 1.0000000000000002 of its law."""
    codes = codes_of(15, 3, seed)
    whole = Manifold.fit(codes, codes, crowding=2 + seed % 3, width=1.0).cut(-1e9)
    assert -1e-9 < whole.log_kept <= 0
