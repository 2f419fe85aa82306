"""Distances along graphs: never below the true ones, above them by no more than the docstring says."""

import numpy as np
import pytest
import torch

from tinycohort.augment.geometry.geodesics import curve_length, flat, geodesics, resample
from tinycohort.augment.geometry.shortest_paths import distance_maps, paths_through

AXIS = torch.linspace(-1, 1, 41, dtype=torch.float64)
GRID = torch.cartesian_prod(AXIS, AXIS)
CENTRE = torch.zeros(1, 2, dtype=torch.float64)


@pytest.mark.parametrize(("stretch", "worst"), [(1.0, 0.0076), (2.0, 0.0275), (4.0, 0.083)])
def test_in_a_constant_metric_a_map_errs_as_little_as_it_says(stretch, worst):
    scale = torch.tensor([1.0, stretch], dtype=torch.float64)
    found = distance_maps(lambda z: scale.square().expand_as(z), CENTRE, AXIS, AXIS)[0]
    truth = (GRID * scale).norm(dim=1).reshape(41, 41)
    excess = (found / truth - 1)[truth > 0]
    assert excess.min() > -1e-9
    assert 0.8 * worst < excess.max() < worst
    for exact in (found[20], found[:, 20], found.diagonal()):
        assert exact.amax() > 0
    torch.testing.assert_close(found.diagonal(), truth.diagonal())
    torch.testing.assert_close(found[20], truth[20])


def test_a_start_need_not_be_on_the_grid():
    start = torch.tensor([[0.013, -0.377]], dtype=torch.float64)
    found = distance_maps(flat, start, AXIS, AXIS)[0].flatten()
    truth = (GRID - start).norm(dim=1)
    assert (found / truth - 1).min() > -1e-9
    assert (found / truth - 1).max() < 0.008


def test_in_the_half_plane_a_map_has_the_known_distances():
    up = torch.linspace(0.5, 2.5, 81, dtype=torch.float64)
    start = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    found = distance_maps(lambda z: z[:, 1:].square().reciprocal().expand_as(z), start, AXIS, up)[0].flatten()
    points = torch.cartesian_prod(AXIS, up)
    truth = torch.arccosh(1 + (points - start).square().sum(1) / (2 * points[:, 1]))
    far = truth > 0.1
    excess = (found / truth - 1)[far]
    assert excess.min() > -1e-3  # the midpoint rule
    # Cells of 0.05 x 0.025: the graph's directions are those of a metric stretched twice.
    assert excess.max() < 0.0275


def test_maps_from_two_points_give_their_distance_either_way():
    def bumpy(z):
        return (1 + 5 * torch.exp(-20 * z.square().sum(1, keepdim=True))).expand_as(z)

    points = torch.tensor([[-0.8, -0.1], [0.7, 0.2]], dtype=torch.float64)
    there, back = distance_maps(bumpy, points, AXIS, AXIS)
    both = there + back
    # Along the shortest path the two add up to its length, which the geodesic's undercuts by little.
    bow = points.mean(0) + torch.tensor([[0.0, 0.5]])
    initial = resample(flat, torch.stack([points[0], bow[0], points[1]])[None], 128)
    shortest = geodesics(bumpy, initial).length
    assert -1e-3 < float(both.min() / shortest - 1) < 0.0076


def test_a_path_goes_along_stations_where_that_is_short():
    """Stations on a half circle, and a metric that is large away from it."""
    angles = torch.linspace(0, np.pi, 30, dtype=torch.float64)
    stations = torch.stack([torch.cos(angles), torch.sin(angles)], dim=1)

    def trench(z):
        return (1e-2 + 1e4 * (z.norm(dim=1, keepdim=True) - 1).square()).expand_as(z)

    paths = paths_through(trench, stations[:1], stations[-1:], stations, n_segments=60, n_neighbours=4)
    assert paths.shape == (1, 61, 2)
    assert torch.equal(paths[0, 0], stations[0])
    torch.testing.assert_close(paths[0, -1], stations[-1])
    assert (paths[0].norm(dim=1) - 1).abs().max() < 0.01
    assert float(curve_length(flat, paths)[0]) == pytest.approx(np.pi, rel=0.01)


def test_a_path_is_straight_where_no_station_helps_or_leads_on():
    draws = torch.Generator().manual_seed(0)
    near = 0.01 * torch.randn(10, 2, generator=draws, dtype=torch.float64)
    far = near + 5
    ends = (near[:1], far[:1])
    for stations, n_neighbours in ((torch.cat([near, far]), 3), (torch.cat([near, far]), 50)):
        paths = paths_through(flat, *ends, stations, n_segments=8, n_neighbours=n_neighbours)
        torch.testing.assert_close(paths[0], torch.lerp(ends[0], ends[1], torch.linspace(0, 1, 9, dtype=torch.float64)[:, None]))
