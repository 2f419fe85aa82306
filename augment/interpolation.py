"""Interpolation between latents of a model with a metric, by curves of three kinds (Fig. 1).

``affine``
    The straight line.
``geodesic``
    The shortest curve in G (Eq. 4). G is large where there are data, so a geodesic goes around them where it can.
``eq12``
    The least integral of V = 1 / sqrt det G along the curve (Eq. 12): it keeps to the data.

Of the last two the shortest of the local minima is taken that are found from the straight line and from the shortest path through
centroids and points around them. It need not be the global one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import pandas as pd
import torch
from torch import Tensor

from ..datasets.seeds import seeded_generator
from .geodesics import Metric, affine, curve_energy, curve_length, flat, geodesics, potential, resample
from .metric import RiemannianMetric
from .riemannian import default_log_threshold
from .shortest_paths import paths_through

Kind = Literal["affine", "geodesic", "eq12"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TITLES: dict[Kind, str] = {"affine": "affine", "geodesic": "geodesic (Eq. 4)", "eq12": "Eq. 12"}
SPREAD = 2.0  # standard deviations of the codes: how far around them stations lie in which a path leaves the data
NOT_FOUND = 1e-2  # relative slope that tells of a minimum not reached


@dataclass(frozen=True, eq=False)
class Interpolation:
    """Curves between p pairs of latents, at constant Euclidean speed.

    Parameters
    ----------
    metric : RiemannianMetric
        In float64.
    points : dict
        By kind, ``(p, T + 1, D)``.
    residual : dict
        By kind, ``(p,)``: slope that is left of the log of what was minimised.
    """

    metric: RiemannianMetric
    points: dict[Kind, Tensor]
    residual: dict[Kind, Tensor]

    def steps(self, n: int) -> dict[Kind, Tensor]:
        """``n`` latents on each curve, ends included and evenly spaced, by kind: ``(p, n, D)``."""
        return {kind: resample(flat, curves, n - 1) for kind, curves in self.points.items()}

    def table(self) -> pd.DataFrame:
        """A row a curve: its pair (from 0), kind, and what it costs.

        ``length`` and ``energy`` are those of Eq. 4, the energy at constant Euclidean speed; ``euclidean`` is the length in flat space;
        ``eq12`` the integral of Eq. 12, in units of the straight line's; ``off_manifold`` the share that lies outside of the manifold's
        support; ``residual`` as above.
        """
        some = next(iter(self.points.values()))
        straight = affine(some[:, 0], some[:, -1], some.shape[1] - 1)
        by_potential = _potential(self.metric, straight)
        rows = []
        for kind, curves in self.points.items():
            costs = {
                "length": curve_length(self.metric.tensor, curves),
                "energy": curve_energy(self.metric.tensor, curves),
                "euclidean": curve_length(flat, curves),
                "eq12": curve_length(by_potential, curves) / curve_length(by_potential, straight),
                "off_manifold": outside_support(self.metric, curves).double().mean(1),
                "residual": self.residual[kind],
            }
            rows += [
                {"pair": pair, "curve": kind} | {name: float(cost[pair]) for name, cost in costs.items()} for pair in range(len(curves))
            ]
        return pd.DataFrame(rows).sort_values("pair", kind="stable", ignore_index=True)


def interpolate(
    metric: RiemannianMetric, starts: Tensor, ends: Tensor, kinds: Sequence[Kind] = KINDS, *, seed: int = 0, n_segments: int = 256
) -> Interpolation:
    """Curves from ``starts`` to ``ends``.

    Parameters
    ----------
    metric : RiemannianMetric
        Of the space of ``starts`` and ``ends``.
    starts, ends : torch.Tensor
        ``(p, D)``; a start is not its end.
    kinds : sequence of str
        Of ``KINDS``.
    seed : int
        Of the points around the centroids that paths may begin from.
    n_segments : int
        T.
    """
    metric, starts, ends = metric.to(torch.float64), starts.double(), ends.double()
    straight = affine(starts, ends, n_segments)
    metrics: dict[Kind, Metric] = {"geodesic": metric.tensor, "eq12": _potential(metric, straight)}
    around = metric.centroids
    noise = torch.randn(around.shape, generator=seeded_generator(seed, "stations"), dtype=around.dtype)
    stations = torch.cat([around, around.mean(0) + SPREAD * around.std(0) * noise])
    points: dict[Kind, Tensor] = {}
    residual: dict[Kind, Tensor] = {}
    for kind in kinds:
        if kind == "affine":
            points[kind], residual[kind] = straight, torch.zeros(len(starts))
            continue
        path = paths_through(metrics[kind], starts, ends, stations, n_segments=n_segments)
        found = geodesics(metrics[kind], torch.cat([straight, path]), pace=flat)
        lengths = found.length.reshape(2, -1)
        chosen = torch.arange(len(starts)) + len(starts) * lengths.argmin(0)
        points[kind], residual[kind] = found.points[chosen], found.residual[chosen]
    return Interpolation(metric, points, residual)


def outside_support(metric: RiemannianMetric, z: Tensor) -> Tensor:
    """Whether latents ``(..., D)`` lie outside of the support that the sampler ``riemannian`` draws on: bool, ``(...)``."""
    return (metric.log_proximity(z.flatten(0, -2)) < default_log_threshold(metric.dim)).reshape(z.shape[:-1])


def _potential(metric: RiemannianMetric, straight: Tensor) -> Metric:
    """That of Eq. 12, with V = 1 where the straight lines have it largest."""
    return potential(metric.log_volume, float(metric.log_volume(straight.flatten(0, 1)).min()))
