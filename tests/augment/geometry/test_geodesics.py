"""Curves of least length against known geometries: flat, constant, and the hyperbolic half-plane."""

import numpy as np
import pytest
import torch

from tinycohort.augment.autoencoders import RHVAE
from tinycohort.augment.geometry.geodesics import affine, curve_energy, curve_length, flat, geodesics, potential, resample
from tinycohort.augment.geometry.metric import RiemannianMetric
from tinycohort.augment.networks import Architecture

STARTS = torch.tensor([[0.0, 1.0], [0.0, 1.0], [-3.0, 0.2]], dtype=torch.float64)
ENDS = torch.tensor([[2.0, 1.0], [0.0, 5.0], [3.0, 0.5]], dtype=torch.float64)


def half_plane(z):
    """The hyperbolic half-plane y > 0: I / y^2."""
    return z[:, 1:].square().reciprocal().expand_as(z)


def hyperbolic_distance(starts, ends):
    return torch.arccosh(1 + (ends - starts).square().sum(1) / (2 * starts[:, 1] * ends[:, 1]))


def wiggly(starts, ends, seed=0, n_segments=64):
    lines = affine(starts, ends, n_segments)
    bump = torch.sin(torch.linspace(0, np.pi, n_segments + 1, dtype=starts.dtype))[:, None]
    return lines + 0.3 * bump * torch.randn(lines[:, :1].shape, generator=torch.Generator().manual_seed(seed), dtype=starts.dtype)


def test_in_flat_space_geodesics_are_straight_and_lengths_euclidean():
    found = geodesics(flat, wiggly(STARTS, ENDS))
    torch.testing.assert_close(found.points, affine(STARTS, ENDS, 64), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.length, (ENDS - STARTS).norm(dim=1))
    torch.testing.assert_close(curve_length(flat, affine(STARTS, ENDS, 3)), (ENDS - STARTS).norm(dim=1))


def test_in_a_constant_metric_the_distance_is_mahalanobis():
    tensor = torch.tensor([[3.0, 1.0], [1.0, 0.5]], dtype=torch.float64)
    found = geodesics(lambda z: tensor.expand(len(z), 2, 2), wiggly(STARTS, ENDS))
    moved = ENDS - STARTS
    torch.testing.assert_close(found.length, ((moved @ tensor) * moved).sum(1).sqrt())
    torch.testing.assert_close(found.points, affine(STARTS, ENDS, 64), atol=1e-5, rtol=0)


@pytest.mark.parametrize("pace", [None, flat])
def test_in_the_half_plane_geodesics_are_circles_of_known_length(pace):
    found = geodesics(half_plane, affine(STARTS, ENDS, 256), pace=pace)
    torch.testing.assert_close(found.length, hyperbolic_distance(STARTS, ENDS), rtol=3e-4, atol=0)
    assert found.residual.max() < 1e-4
    # Half circles around a point of the axis y = 0; the second is a vertical line.
    for start, end, points in zip(STARTS[[0, 2]], ENDS[[0, 2]], found.points[[0, 2]], strict=True):
        centre = (end.square().sum() - start.square().sum()) / (2 * (end[0] - start[0]))
        radii = torch.hypot(points[:, 0] - centre, points[:, 1])
        torch.testing.assert_close(radii, radii[:1].expand_as(radii), rtol=5e-3, atol=0)
    assert found.points[1, :, 0].abs().max() < 1e-3


def test_the_error_falls_with_the_square_of_the_segments():
    segments = np.array([32, 64, 128, 256])
    truth = hyperbolic_distance(STARTS[2:], ENDS[2:])
    lengths = [geodesics(half_plane, affine(STARTS[2:], ENDS[2:], int(n)), n_modes=24).length for n in segments]
    errors = [float((length - truth).abs()) for length in lengths]
    slope, _ = np.polyfit(np.log(segments), np.log(errors), 1)
    assert slope == pytest.approx(-2, abs=0.1)


def test_a_diagonal_and_the_matrix_of_it_are_one_metric():
    lines = affine(STARTS, ENDS, 32)
    torch.testing.assert_close(curve_energy(lambda z: torch.diag_embed(half_plane(z)), lines), curve_energy(half_plane, lines))
    torch.testing.assert_close(curve_length(lambda z: torch.diag_embed(half_plane(z)), lines), curve_length(half_plane, lines))


@pytest.mark.parametrize("seed", range(5))
def test_the_energy_is_at_least_the_squared_length_and_equals_it_on_geodesics_alone(seed):
    points = torch.rand(4, 17, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
    assert (curve_energy(half_plane, points) > curve_length(half_plane, points).square()).all()
    found = geodesics(half_plane, affine(points[:, 0], points[:, -1], 128))
    torch.testing.assert_close(curve_energy(half_plane, found.points), found.length.square(), rtol=1e-3, atol=0)


def test_the_length_is_the_same_however_a_curve_is_gone_through():
    times = torch.linspace(0, 1, 2001, dtype=torch.float64)

    def circle(t):
        return torch.stack([torch.cos(np.pi * t), 1.5 + torch.sin(np.pi * t)], dim=1)[None]

    steady, hurried = circle(times), circle(times**3)
    torch.testing.assert_close(curve_length(half_plane, hurried), curve_length(half_plane, steady), rtol=1e-5, atol=0)
    assert curve_energy(half_plane, hurried) > 1.5 * curve_energy(half_plane, steady)
    again = resample(flat, hurried, 100)
    steps = again.diff(dim=1).norm(dim=2)
    assert steps.max() / steps.min() < 1 + 1e-3
    assert torch.equal(again[:, 0], hurried[:, 0])
    torch.testing.assert_close(again[:, -1], hurried[:, -1])
    torch.testing.assert_close(curve_length(half_plane, again), curve_length(half_plane, steady), rtol=1e-3, atol=0)


def test_the_pace_decides_the_speed_and_not_the_curve():
    by_energy = geodesics(half_plane, affine(STARTS, ENDS, 256))
    even = geodesics(half_plane, affine(STARTS, ENDS, 256), pace=flat)
    torch.testing.assert_close(even.length, by_energy.length, rtol=3e-4, atol=0)
    steps = even.points.diff(dim=1).norm(dim=2)
    assert (steps.amax(1) / steps.amin(1)).max() < 1.05
    steps = by_energy.points.diff(dim=1).norm(dim=2)
    assert (steps.amax(1) / steps.amin(1)).max() > 2


def test_there_and_back_is_the_same_curve():
    there = geodesics(half_plane, affine(STARTS, ENDS))
    back = geodesics(half_plane, affine(ENDS, STARTS))
    torch.testing.assert_close(back.points.flip(1), there.points, atol=1e-4, rtol=0)


def test_a_batch_is_its_curves_one_by_one():
    together = geodesics(half_plane, affine(STARTS, ENDS))
    for pair in range(3):
        alone = geodesics(half_plane, affine(STARTS[pair : pair + 1], ENDS[pair : pair + 1]))
        torch.testing.assert_close(together.points[pair], alone.points[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("reference", [0.0, 300.0])
def test_curves_of_eq_12_are_geodesics_where_the_volume_is_the_height(reference):
    """With sqrt det G = y, V^2 I is the metric of the half-plane; a reference keeps what would overflow within floats."""
    by_potential = potential(lambda z: z[:, 1].log() + reference, reference)
    found = geodesics(by_potential, affine(STARTS, ENDS, 256), pace=flat)
    torch.testing.assert_close(found.length, hyperbolic_distance(STARTS, ENDS), rtol=3e-4, atol=0)


def test_economy_shortens_a_curve_in_the_pace_at_little_cost():
    plain = geodesics(half_plane, affine(STARTS[2:], ENDS[2:], 256), pace=flat)
    thrifty = geodesics(half_plane, affine(STARTS[2:], ENDS[2:], 256), pace=flat, economy=0.05)
    gained = curve_length(flat, plain.points) / curve_length(flat, thrifty.points) - 1
    lost = thrifty.length / plain.length - 1
    assert 0 < float(lost) < 0.05 * float(gained)


def test_in_a_metric_of_posteriors_a_geodesic_is_shorter_than_the_straight_line():
    draws = torch.Generator().manual_seed(0)
    centroids = torch.randn(30, 3, generator=draws, dtype=torch.float64)
    metric = RiemannianMetric(centroids, 20 * torch.rand(30, 3, generator=draws, dtype=torch.float64) + 5, rho=1.5, lam=0.01)
    lines = affine(centroids[:4], centroids[4:8], 256)
    found = geodesics(metric.tensor, lines)
    assert (found.length < curve_length(metric.tensor, lines)).all()
    assert torch.equal(found.points[:, 0], lines[:, 0])
    torch.testing.assert_close(found.points[:, -1], lines[:, -1])


def test_a_learnt_metric_is_a_metric_too():
    torch.manual_seed(0)
    model = RHVAE(Architecture("conv", (16, 16), 2, 2)).double()
    model.kept_centroids[:3] = torch.tensor([[0.0, 0.0], [1.0, 0.5], [-1.0, 1.0]])
    model.kept_factors[:3] = torch.tensor([[2.0, 0.0], [0.5, 1.0]])
    model.n_kept.fill_(3)

    def metric(z):
        return torch.linalg.inv(model.inverse_metric(z))

    lines = affine(torch.tensor([[-2.0, -1.0]]).double(), torch.tensor([[2.0, -1.0]]).double(), 64)
    found = geodesics(metric, lines)
    assert found.length < 0.99 * curve_length(metric, lines)
    assert found.residual < 1e-3
