"""Shortest paths in a Riemannian metric along the edges of a graph (Dijkstra): distance maps over a plane, and where to begin a curve.

A graph finds what ``geodesics.geodesics`` cannot look for, the global minimum, but only among its own paths, which are as long as
the geodesic or longer. A grid has so many directions: by steps of up to 4 cells 48, so that in a metric c I a distance is at most
0.8 % too long; in one that stretches an axis to twice the other it is at most 2.7 %, to four times 8 %. A path along an axis or a
diagonal is exact, but for the midpoint rule.
"""

from math import gcd

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from sklearn.neighbors import kneighbors_graph
from torch import Tensor

from .geodesics import Metric, affine, curve_length, flat, resample

REACH = 4  # cells that a step of a grid's path may go along an axis
PIECES = 16  # of an edge between neighbours, along which the metric changes


def distance_maps(metric: Metric, starts: Tensor, across: Tensor, up: Tensor) -> Tensor:
    """Riemannian distances (Eq. 4) from each start to the points of a grid, ``(s, len(across), len(up))``.

    Parameters
    ----------
    metric : Metric
        In two dimensions.
    starts : torch.Tensor
        ``(s, 2)``, inside of the grid, not only on it.
    across, up : torch.Tensor
        The grid's first and second coordinates, rising, 2 or more each.
    """
    grid = torch.cartesian_prod(across, up)
    numbers = np.arange(len(grid)).reshape(len(across), len(up))
    edges = [_shifted(numbers, right, rise) for right in range(REACH + 1) for rise in range(-REACH, REACH + 1) if _new_way(right, rise)]
    cell = torch.stack([across[1] - across[0], up[1] - up[0]])
    for number, start in enumerate(starts, start=len(grid)):
        near = ((grid - start).abs() <= REACH * cell).all(1).nonzero()[:, 0].numpy()
        edges.append(np.stack([np.full_like(near, number), near], axis=1))
    distances, _ = _shortest(metric, torch.cat([grid, starts]), np.concatenate(edges), range(len(grid), len(grid) + len(starts)), 2)
    return torch.as_tensor(distances[:, : len(grid)]).reshape(len(starts), len(across), len(up))


def paths_through(
    metric: Metric, starts: Tensor, ends: Tensor, stations: Tensor, *, n_segments: int = 128, n_neighbours: int = 10
) -> Tensor:
    """Shortest paths from ``starts`` to ``ends`` that go from one station to a near one, evenly spaced, ``(p, T + 1, D)``.

    Parameters
    ----------
    metric : Metric
        Any.
    starts, ends : torch.Tensor
        ``(p, D)``.
    stations : torch.Tensor
        ``(m, D)``: latents, as of training images.
    n_segments : int
        T.
    n_neighbours : int
        Nearest others that a point is joined to. Where they lead nowhere, the path is the straight line.
    """
    p = len(starts)
    points = torch.cat([starts, ends, stations])
    graph = kneighbors_graph(points.numpy(), min(n_neighbours, len(points) - 1)).tocoo()
    _, before = _shortest(metric, points, np.stack([graph.row, graph.col], axis=1), range(p), PIECES)
    paths = []
    for pair in range(p):
        visited = [p + pair]
        while before[pair, visited[-1]] >= 0:
            visited.append(before[pair, visited[-1]])
        corners = points[visited[::-1]] if visited[-1] == pair else torch.stack([starts[pair], ends[pair]])
        fine = affine(corners[:-1], corners[1:], PIECES)
        paths.append(resample(flat, torch.cat([fine[:, :-1].flatten(0, 1), corners[-1:]])[None], n_segments))
    return torch.cat(paths)


def _shortest(metric: Metric, points: Tensor, edges: np.ndarray, sources: range, n_segments: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances ``(s, n)`` from ``sources`` along ``edges`` ``(e, 2)``, either way; the point before each, negative for none."""
    lengths = curve_length(metric, affine(points[edges[:, 0]], points[edges[:, 1]], n_segments)).numpy()
    # To scipy an edge of length 0 is none, and two people may have one code.
    lengths = np.maximum(lengths, np.finfo(float).tiny)
    graph = coo_array((lengths, (edges[:, 0], edges[:, 1])), shape=(len(points), len(points)))
    return dijkstra(graph.tocsr(), directed=False, indices=list(sources), return_predecessors=True)


def _new_way(right: int, rise: int) -> bool:
    """Whether a step goes where no shorter one does, and is not one of those already counted, backwards."""
    return gcd(right, abs(rise)) == 1 and (right > 0 or rise > 0)


def _shifted(numbers: np.ndarray, right: int, rise: int) -> np.ndarray:
    """Edges ``(e, 2)`` between the points of a grid and those ``right`` and ``rise`` cells on."""
    rows, columns = numbers.shape
    here = numbers[: rows - right, max(0, -rise) : columns - max(0, rise)]
    there = numbers[right:, max(0, rise) : columns - max(0, -rise)]
    return np.stack([here.ravel(), there.ravel()], axis=1)
