"""The exact law of Algorithm 1's metric: drawn directly where centroids are isolated, by chains where they overlap."""

import pytest
import torch
from grids import chi_squared, seeded
from torch import Tensor

from tinycohort.augment.geometry.metric import RiemannianMetric
from tinycohort.augment.samplers.chains import BLOCK, MIXED
from tinycohort.augment.samplers.riemannian import Riemannian

LEVEL = 1e-4  # of every test; seeds are fixed
APART = torch.tensor([[0.0, 0.0], [6.0, 1.0], [1.0, 7.0], [8.0, 8.0], [9.0, 8.6]], dtype=torch.float64)
CLOSE = torch.tensor([[0.0, 0.0], [1.0, 0.3], [0.6, 1.1], [1.8, 1.2]], dtype=torch.float64)


def metric_of(centroids: Tensor, rho: float, lam: float = 0.01) -> RiemannianMetric:
    precisions = 0.5 + torch.rand(centroids.shape, generator=seeded(0), dtype=torch.float64) * 2
    return RiemannianMetric(centroids, precisions, rho=rho, lam=lam)


def p_value(riemannian: Riemannian, z: Tensor) -> float:
    def log_density(points: Tensor) -> Tensor:
        outside = riemannian.metric.log_proximity(points) < riemannian.limit
        return riemannian.metric.log_volume(points).masked_fill(outside, -torch.inf)

    low, high = riemannian.metric.centroids.amin(dim=0), riemannian.metric.centroids.amax(dim=0)
    return chi_squared(z, log_density, (low + high) / 2, (high - low) / 2 + 4 * riemannian.metric.rho, bins=20, finer=40)


@pytest.mark.parametrize(("rho", "lam"), [(0.6, 1e-4), (1.0, 1e-3), (0.8, 0.01)])
def test_isolated_centroids_are_drawn_directly(rho, lam):
    riemannian = Riemannian(metric_of(APART, rho, lam))
    ticks: list[int] = []
    z, diagnostics = riemannian.sample(20_000, seeded(1), lambda: ticks.append(1))
    assert p_value(riemannian, z) > LEVEL
    assert (diagnostics.acceptance, diagnostics.r_hat, diagnostics.off_manifold) == (None, None, 0.0)
    assert len(ticks) == riemannian.n_steps
    # Each of the first three, which lie alone, has the same mass, however wide it is.
    counts = torch.bincount(torch.cdist(z, APART).argmin(dim=1), minlength=5)[:3]
    assert float(counts.max() / counts.min()) < 1.1


@pytest.mark.parametrize("rho", [2.0, 4.0])
def test_where_centroids_overlap_chains_run_until_they_have_mixed(rho):
    """In many dimensions the volume of an overlap is far from the isolated law's; on the plane the law must be told from it too."""
    riemannian = Riemannian(metric_of(CLOSE, rho))
    start, log_weights = riemannian._isolated(3000, seeded(0))
    weights = (log_weights - log_weights.amax()).exp()
    chosen = start[torch.multinomial(weights, 3000, replacement=True, generator=seeded(1))]
    z, diagnostics = riemannian._chains(chosen, seeded(2), lambda: None)
    assert p_value(riemannian, z) > LEVEL
    assert diagnostics.r_hat < MIXED
    # By rejection the same law is drawn.
    assert p_value(riemannian, riemannian.sample(20_000, seeded(1))[0]) > LEVEL


def test_a_crowd_of_many_dimensions_goes_by_chains():
    centroids = torch.randn((20, 8), generator=seeded(3), dtype=torch.float64)
    riemannian = Riemannian(metric_of(centroids, 3.0))
    z, diagnostics = riemannian.sample(200, seeded(1))
    assert diagnostics.acceptance > 0.5
    assert diagnostics.r_hat < MIXED
    assert diagnostics.off_manifold == 0
    assert diagnostics.effective_centroids > 5
    # The mass lies in the middle of the crowd, where isolated centroids would draw far outside of it.
    assert float((z - centroids.mean(dim=0)).norm(dim=1).mean()) < float(riemannian._isolated(2000, seeded(0))[0].norm(dim=1).mean())


def test_a_draw_off_the_support_by_rounding_has_no_weight():
    """Of narrow float32 posteriors far from 0 some draws near the edge are outside: they must not be preferred to all others."""
    centroids = 3 * torch.randn((50, 16), generator=seeded(0))
    riemannian = Riemannian(RiemannianMetric(centroids, torch.full((50, 16), 1e4), rho=4.0, lam=0.01))
    z, log_weights = riemannian._isolated(40_000, seeded(1))
    outside = riemannian.metric.log_proximity(z) < riemannian.limit
    assert outside.any()
    assert (log_weights[outside] == -torch.inf).all()
    assert log_weights[~outside].isfinite().all()
    assert riemannian.sample(12_000, seeded(1))[1].off_manifold == 0


def test_a_number_of_iterations_is_that_of_the_chains():
    riemannian = Riemannian(metric_of(APART, 0.6), n_iterations=4, n_warm_up=3)
    ticks: list[int] = []
    z, diagnostics = riemannian.sample(50, seeded(1), lambda: ticks.append(1))
    assert len(ticks) == riemannian.n_steps == 7
    assert Riemannian(metric_of(APART, 0.6), n_warm_up=3).n_steps == 3 + BLOCK
    assert diagnostics.acceptance is not None
    assert z.shape == (50, 2)
