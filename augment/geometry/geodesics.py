"""Curves between latents: their energy and length (Eq. 4), and those of the least length, in any Riemannian metric.

A metric is a function from points ``(n, D)`` to the tensor G there, ``(n, D, D)``, or to its diagonal ``(n, D)``, differentiable:
``RiemannianMetric.tensor`` is one. A curve is given by its points at T + 1 equidistant times from 0 to 1, ``(..., T + 1, D)``.

Two problems of the paper are one here. A geodesic minimises the length of Eq. 4 in G. Eq. 12 minimises the integral of V = 1 / sqrt det G
along a curve, which is its length in the metric V^2 I (``potential``). As printed, over dt at any speed, it has no solution: a curve that
jumps to where V is smallest and waits there comes as near to that value as one likes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Metric = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Curves:
    """Curves of little length.

    Parameters
    ----------
    points : torch.Tensor
        ``(p, T + 1, D)``.
    length : torch.Tensor
        ``(p,)``: of each, in the metric that it was sought in.
    residual : torch.Tensor
        ``(p,)``: norm of the gradient that is left of the log of what was minimised; 0 at a minimum.
    """

    points: Tensor
    length: Tensor
    residual: Tensor


def curve_energy(metric: Metric, points: Tensor) -> Tensor:
    """Integral of |gamma'|_G^2 over [0, 1], ``(...)``, of curves ``(..., T + 1, D)``; at least the squared length.

    By the midpoint rule: the error falls with T^-2.
    """
    return (points.shape[-2] - 1) * _squared_steps(metric, points).sum(-1)


def curve_length(metric: Metric, points: Tensor) -> Tensor:
    """Integral of |gamma'|_G (Eq. 4), ``(...)``, of curves ``(..., T + 1, D)``: however fast it is gone through. By the midpoint rule."""
    return _squared_steps(metric, points).sqrt().sum(-1)


def affine(starts: Tensor, ends: Tensor, n_segments: int = 128) -> Tensor:
    """Straight lines ``(p, T + 1, D)`` from ``starts`` to ``ends``, ``(p, D)`` each."""
    return torch.lerp(starts[:, None], ends[:, None], _times(n_segments, starts)[:, None])


def flat(z: Tensor) -> Tensor:
    """The Euclidean metric: ones, ``(n, D)``."""
    return torch.ones_like(z)


def potential(log_volume: Callable[[Tensor], Tensor], reference: float = 0.0) -> Metric:
    """The metric V^2 I, with V = exp(reference - log sqrt det G(z)), whose length is the integral of Eq. 12 times exp(reference).

    Parameters
    ----------
    log_volume : callable
        log sqrt det G, ``(n,)``, at ``(n, D)``.
    reference : float
        A volume at which V is to be 1: in many dimensions V itself may exceed what a float holds. The minimisers do not depend on it.
    """
    return lambda z: torch.exp(2 * (reference - log_volume(z)))[:, None].expand_as(z)


def geodesics(
    metric: Metric,
    initial: Tensor,
    *,
    pace: Metric | None = None,
    economy: float = 0.0,
    n_modes: int = 64,
    max_iterations: int = 500,
    tolerance: float = 1e-6,
) -> Curves:
    """Curves of the least length near ``initial``, with the same ends (Eq. 4).

    However fast it is gone through, a curve is as long: what is minimised is length(metric)^2 energy(pace) / length(pace)^2, which is
    that of the shortest curve at constant speed in ``pace``. With the metric itself, the default, this is the energy. Where the metric
    varies by orders of magnitude, such a curve leaps through what is cheap in a few steps; ``flat`` shares them out evenly in space.

    A curve is the straight line plus a sine series, whose modes are orthonormal in the energy of flat space: so far as the metric is
    flat, L-BFGS is there in one step. There are fewer modes than segments, so that no curve leaps over what lies between the points
    at which it feels the metric. The minimum is a local one: begin elsewhere to look for others (``shortest_paths.py``).

    Parameters
    ----------
    metric : Metric
        Differentiable; positive definite.
    initial : torch.Tensor
        ``(p, T + 1, D)``, better in float64. What is finer than the modes is lost.
    pace : Metric, optional
        In which the curves shall have constant speed.
    economy : float
        Weight of the log of the length in ``pace``, beside that of the length in ``metric``, which is minimised: at 0.01 a curve that is
        1 % longer in the latter is preferred if it is 2.7 times shorter in the former. Where a metric is as good as 0, curves stray
        at no cost otherwise.
    n_modes : int
        Modes of the series; at most T - 1 are used.
    max_iterations : int
        Iterations of L-BFGS, on all curves together.
    tolerance : float
        Largest entry of the gradient at which to stop.
    """
    straight = affine(initial[:, 0], initial[:, -1], initial.shape[1] - 1)
    modes = _sines(initial, min(n_modes, initial.shape[1] - 2))
    # At equidistant times the modes are orthogonal, so that this is the least-squares fit.
    weights = (modes.T @ (initial - straight).detach() / modes.square().sum(0)[:, None]).requires_grad_()
    optimiser = torch.optim.LBFGS(
        [weights], max_iter=max_iterations, history_size=20, tolerance_grad=tolerance, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        points = straight + modes @ weights
        if pace is None:
            minimised = curve_energy(metric, points)
        else:
            shape = curve_length(metric, points).square() * curve_length(pace, points).pow(2 * economy)
            minimised = shape * curve_energy(pace, points) / curve_length(pace, points).square()
        # Of logarithms, so that short and long curves, in whatever units, weigh alike.
        return minimised.log().sum()

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = objective()
        loss.backward()
        return loss

    optimiser.step(closure)
    (gradient,) = torch.autograd.grad(objective(), weights)
    points = (straight + modes @ weights).detach()
    return Curves(points, curve_length(metric, points), gradient.flatten(1).norm(dim=1))


def resample(metric: Metric, points: Tensor, n_segments: int) -> Tensor:
    """The curves ``(p, T + 1, D)`` at constant speed in ``metric``, in ``n_segments`` pieces of the same length."""
    lengths = _squared_steps(metric, points).sqrt()
    passed = torch.cat([torch.zeros_like(lengths[:, :1]), lengths.cumsum(1)], dim=1)
    wanted = passed[:, -1:] * _times(n_segments, points)
    after = torch.searchsorted(passed, wanted.contiguous()).clamp(1, points.shape[1] - 1)
    low, high = passed.gather(1, after - 1), passed.gather(1, after)
    share = ((wanted - low) / (high - low).clamp(min=torch.finfo(points.dtype).tiny)).clamp(0, 1)[..., None]
    rows = torch.arange(len(points), device=points.device)[:, None]
    return torch.lerp(points[rows, after - 1], points[rows, after], share)


def _squared_steps(metric: Metric, points: Tensor) -> Tensor:
    """Squared lengths of the segments, ``(..., T)``, each in the metric at its middle."""
    steps = points.diff(dim=-2)
    middles = points[..., :-1, :] + 0.5 * steps
    tensor = metric(middles.flatten(0, -2))
    moved = steps.flatten(0, -2)
    if tensor.ndim == 2:
        squared = (tensor * moved.square()).sum(1)
    else:
        squared = torch.einsum("ni,nij,nj->n", moved, tensor, moved)
    return squared.reshape(steps.shape[:-1])


def _times(n_segments: int, like: Tensor) -> Tensor:
    return torch.linspace(0, 1, n_segments + 1, dtype=like.dtype, device=like.device)


def _sines(like: Tensor, n_modes: int) -> Tensor:
    """sqrt(2) sin(k pi t) / (k pi) for k = 1 .. ``n_modes`` at the times of a curve, ``(T + 1, n_modes)``."""
    frequencies = math.pi * torch.arange(1, n_modes + 1, dtype=like.dtype, device=like.device)
    return math.sqrt(2) * torch.sin(_times(like.shape[1] - 1, like)[:, None] * frequencies) / frequencies
