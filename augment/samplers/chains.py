"""Chains of a sampler run side by side, and what their traces say."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ...datasets.common.errors import UsageError
from .. import hmc
from ..draws import random_rows
from ..geometry.metric import RiemannianMetric
from ..geometry.support import effective_centroids, nearest_centroids, off_manifold
from .diagnostics import Diagnostics, Tick, effective_sample_size, split_r_hat

TRACED_CHAINS = 64  # enough for R-hat and ESS, and bounded memory for 100,000 latents
BLOCK, MOST_BLOCKS = 100, 5  # transitions between two looks at R-hat, and how many looks
MIXED = 1.05  # R-hat
STEP_JITTER = 0.3  # near a centroid the law is Gaussian, and without jitter adaptation may settle on a multiple of half its period


Step = Callable[[hmc.State], tuple[hmc.State, hmc.Info]]


def check_lengths(n_iterations: int, n_leapfrog: int, step_size: float = 1.0) -> None:
    if n_iterations < 1 or n_leapfrog < 1 or not step_size > 0:
        raise UsageError("The chains need at least 1 iteration, 1 leapfrog step and a step size above 0.")


def check_adaptation(n_warm_up: int, target_acceptance: float) -> None:
    if n_warm_up < 0:
        raise UsageError(f"The number of warm-up transitions cannot be {n_warm_up}.")
    if not 0 < target_acceptance < 1:
        raise UsageError(f"The target acceptance lies between 0 and 1, not at {target_acceptance}.")


def draw_rows(points: Tensor, n: int, generator: torch.Generator) -> Tensor:
    return points[random_rows(len(points), n, generator, points)]


def run_chains(
    name: str,
    step: Step,
    state: hmc.State,
    start: Tensor,
    n_iterations: int,
    on_iteration: Tick,
    *,
    until_mixed: bool = False,
) -> tuple[hmc.State, Diagnostics]:
    """Run all chains and gather what the steps report; if ``until_mixed``, as often again as R-hat asks for."""
    acceptance = 0.0
    trace: list[Tensor] = []
    for _ in range(MOST_BLOCKS if until_mixed else 1):
        first = not trace
        for _ in range(n_iterations):
            state, info = step(state)
            acceptance += float(info.acceptance.mean())
            trace.append(state.z[:TRACED_CHAINS])
            if first:
                on_iteration()
        if float(split_r_hat(torch.stack(trace)).amax()) < MIXED:
            break
    chains = torch.stack(trace)
    unmoved = float((state.z == start).all(dim=1).double().mean())
    diagnostics = Diagnostics(
        sampler=name,
        n_samples=len(start),
        acceptance=acceptance / len(trace),
        unmoved=unmoved,
        r_hat=float(split_r_hat(chains).amax()),
        ess=float(effective_sample_size(chains).amin()),
        traced=chains.shape[1],
    )
    return state, diagnostics


def locate(
    diagnostics: Diagnostics, metric: RiemannianMetric, start: Tensor, end: Tensor, log_threshold: float | None = None
) -> Diagnostics:
    """Add how far the chains came, how many of them left the manifold, and how many are still where they began."""
    nearest, last = (nearest_centroids(metric, z) for z in (start, end))
    distance = ((end - start).square() * metric.precisions[nearest]).mean(dim=1).sqrt()
    return replace(
        diagnostics,
        off_manifold=off_manifold(metric, end, log_threshold),
        distance=float(distance.median()),
        home=float((nearest == last).double().mean()),
        effective_centroids=effective_centroids(metric, end),
        rho=metric.rho,
    )
