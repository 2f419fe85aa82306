"""Interpolation between latents of a model with a metric, by curves of three kinds (Fig. 1).

``affine``
    The straight line.
``geodesic``
    The shortest curve in G (Eq. 4). G is large where there are data, so a geodesic goes around them where it can.
``eq12``
    The least integral of V = 1 / sqrt det G along the curve (Eq. 12): it keeps to the data.

For the last two, the shortest is taken of the local minima that are found from the straight line and from the shortest path through
centroids and points around them. It need not be the global one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...datasets.common.seeds import seeded_generator
from .geodesics import Metric, affine, curve_energy, curve_length, flat, geodesics, potential, resample
from .metric import RiemannianMetric
from .shortest_paths import paths_through
from .support import default_log_threshold

TITLES = {"affine": "affine", "geodesic": "geodesic (Eq. 4)", "eq12": "Eq. 12"}
KINDS = tuple(TITLES)
COLOURS = {"affine": "0.35", "geodesic": "C3", "eq12": "C0"}
SPREAD = 2.0  # standard deviations of the codes: how far around them stations lie in which a path leaves the data
PER_REACH, FEWEST_SEGMENTS, MOST_SEGMENTS = 4, 128, 1024
ECONOMY = {"geodesic": 0.0, "eq12": 0.01}  # near centroids V is as good as 0, in many dimensions
NOT_FOUND = 1e-2  # relative slope that tells of a minimum not reached


@dataclass(frozen=True)
class Cost:
    """What a curve costs.

    Parameters
    ----------
    pair : int
        From 0.
    kind : str
        One of ``KINDS``.
    length, energy : float
        Length (Eq. 4) and energy, the energy at constant Euclidean speed.
    euclidean : float
        Length in flat space.
    eq12 : float
        Integral of Eq. 12, in units of the straight line's.
    off_manifold : float
        Share of the curve off the manifold, as whoever asks for the costs says where that is.
    residual : float
        Slope that is left of the log of what was minimised.
    """

    pair: int
    kind: str
    length: float
    energy: float
    euclidean: float
    eq12: float
    off_manifold: float
    residual: float


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
    points: dict[str, Tensor]
    residual: dict[str, Tensor]

    def steps(self, n: int) -> dict[str, Tensor]:
        """``n`` latents on each curve, ends included and evenly spaced, by kind: ``(p, n, D)``."""
        return {kind: resample(flat, curves, n - 1) for kind, curves in self.points.items()}

    def costs(self, off_manifold: Callable[[Tensor], Tensor] | None = None) -> list[Cost]:
        """Costs of every curve, pair by pair.

        Parameters
        ----------
        off_manifold : callable, optional
            Which of latents ``(..., D)`` lie off the manifold, bool ``(...)``; by default those outside of the metric's support.
        """
        some = next(iter(self.points.values()))
        straight = affine(some[:, 0], some[:, -1], some.shape[1] - 1)
        by_potential = _potential(self.metric, straight)
        found = []
        for kind, curves in self.points.items():
            columns = (
                curve_length(self.metric.tensor, curves),
                curve_energy(self.metric.tensor, curves),
                curve_length(flat, curves),
                curve_length(by_potential, curves) / curve_length(by_potential, straight),
                (outside_support(self.metric, curves) if off_manifold is None else off_manifold(curves)).double().mean(1),
                self.residual[kind],
            )
            found += [Cost(pair, kind, *map(float, numbers)) for pair, numbers in enumerate(zip(*columns, strict=True))]
        return sorted(found, key=lambda cost: cost.pair)


def interpolate(
    metric: RiemannianMetric,
    starts: Tensor,
    ends: Tensor,
    kinds: Sequence[str] = KINDS,
    *,
    seed: int = 0,
    on_curve: Callable[[str], None] = lambda message: None,
) -> Interpolation:
    """Curves from ``starts`` to ``ends``.

    Parameters
    ----------
    metric : RiemannianMetric
        Metric of the space of ``starts`` and ``ends``.
    starts, ends : torch.Tensor
        ``(p, D)``; a start is not its end.
    kinds : sequence of str
        One of ``KINDS``.
    seed : int
        Seed of the points around the centroids that paths may begin from.
    on_curve : callable
        Told which curves are sought next.
    """
    metric, starts, ends = metric.to(torch.float64), starts.double(), ends.double()
    straight = affine(starts, ends, _resolution(metric, starts, ends))
    metrics: dict[str, Metric] = {"geodesic": metric.tensor, "eq12": _potential(metric, straight)}
    around = metric.centroids
    noise = torch.randn(around.shape, generator=seeded_generator(seed, "stations"), dtype=around.dtype)
    stations = torch.cat([around, around.mean(0) + SPREAD * around.std(0) * noise])
    points: dict[str, Tensor] = {}
    residual: dict[str, Tensor] = {}
    for kind in kinds:
        if kind == "affine":
            points[kind], residual[kind] = straight, torch.zeros(len(starts))
            continue
        on_curve(f"seeking {TITLES[kind]}, {len(starts)} curve{'s' if len(starts) > 1 else ''}")
        path = paths_through(metrics[kind], starts, ends, stations, n_segments=straight.shape[1] - 1)
        found = geodesics(metrics[kind], torch.cat([straight, path]), pace=flat, economy=ECONOMY[kind])
        lengths = found.length.reshape(2, -1)
        chosen = torch.arange(len(starts)) + len(starts) * lengths.argmin(0)
        points[kind], residual[kind] = found.points[chosen], found.residual[chosen]
    return Interpolation(metric, points, residual)


def outside_support(metric: RiemannianMetric, z: Tensor) -> Tensor:
    """Whether latents ``(..., D)`` lie outside of the metric's support, that ``riemannian`` with a reach draws on: bool, ``(...)``."""
    return (metric.log_proximity(z.flatten(0, -2)) < default_log_threshold(metric.dim)).reshape(z.shape[:-1])


def _resolution(metric: RiemannianMetric, starts: Tensor, ends: Tensor) -> int:
    """Segments of which even the narrowest centroid's reach holds several: a curve would leap over it otherwise."""
    reach = metric.rho / float(metric.precisions.amax().sqrt())
    wanted = PER_REACH * float((ends - starts).norm(dim=1).amax()) / reach
    return min(max(math.ceil(wanted), FEWEST_SEGMENTS), MOST_SEGMENTS)


def _potential(metric: RiemannianMetric, straight: Tensor) -> Metric:
    """That of Eq. 12, with V = 1 where the straight lines have it largest."""
    return potential(metric.log_volume, float(metric.log_volume(straight.flatten(0, 1)).min()))
