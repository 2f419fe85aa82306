"""Sampling uniformly in a metric that the model has learnt."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import hmc
from ..autoencoders import LearntMetric
from ..geometry.metric import largest_nearest_distance
from ..geometry.support import CHUNK_MATRICES
from .chains import STEP_JITTER, check_adaptation, check_lengths, draw_rows, run_chains
from .diagnostics import Diagnostics, Tick


@dataclass(frozen=True)
class OwnMetric:
    """HMC for sqrt det G^-1 of a metric that the model has learnt: large on the data, since such a metric's G is small there.

    Far from all centroids G^-1 is constant, so the law is proper only on a compact set (Chadebec et al. 2020, who leave the
    set open): here that of all codes no farther from the nearest centroid than the loneliest centroid is from its nearest
    neighbour (rho of Algorithm 1); with a single centroid, sqrt(D), the radius of the prior. The step adapts, as that of ``riemannian``.

    Parameters
    ----------
    learnt : LearntMetric
        With G^-1 and its centroids, on the device and in the dtype that the chains are to run in.
    n_iterations, n_leapfrog, n_warm_up, target_acceptance
        As of ``riemannian``.
    """

    learnt: LearntMetric
    n_iterations: int = 100
    n_leapfrog: int = 10
    n_warm_up: int = 100
    target_acceptance: float = 0.8

    name = "own-metric"

    def __post_init__(self) -> None:
        check_lengths(self.n_iterations, self.n_leapfrog)
        check_adaptation(self.n_warm_up, self.target_acceptance)

    @property
    def n_steps(self) -> int:
        """Transitions in all, for a progress bar."""
        return self.n_warm_up + self.n_iterations

    def log_density(self) -> hmc.LogDensity:
        """log sqrt det G^-1, ``-inf`` outside the support, and its gradient, by autograd."""
        centroids = self.learnt.centroids()
        k, dim = centroids.shape
        radius = largest_nearest_distance(centroids) or math.sqrt(dim)
        rows = max(1, CHUNK_MATRICES // (dim * max(k, dim)))

        def of_chunk(z: Tensor) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                z = z.detach().requires_grad_()
                # Without checks: a proposal that has left every float is rejected, as any other NaN.
                factor, _ = torch.linalg.cholesky_ex(self.learnt.inverse_metric(z))
                log_p = factor.diagonal(dim1=1, dim2=2).log().sum(1)
                (gradient,) = torch.autograd.grad(log_p.sum(), z)
            outside = torch.cdist(z.detach(), centroids).amin(1) > radius
            return log_p.detach().masked_fill(outside, -math.inf), gradient

        def log_density(z: Tensor) -> tuple[Tensor, Tensor]:
            parts = [of_chunk(chunk) for chunk in z.split(rows)]
            return torch.cat([log_p for log_p, _ in parts]), torch.cat([gradient for _, gradient in parts])

        return log_density

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``, one chain each, with diagnostics; the distance is in units of the codes."""
        log_density = self.log_density()
        start = draw_rows(self.learnt.centroids(), n, generator)
        state, step_size = hmc.warm_up(
            hmc.init(start, log_density),
            log_density,
            n_iterations=self.n_warm_up,
            n_leapfrog=self.n_leapfrog,
            step_size=0.1,
            target_acceptance=self.target_acceptance,
            generator=generator,
            jitter=STEP_JITTER,
            on_iteration=on_iteration,
        )

        def step(state: hmc.State) -> tuple[hmc.State, hmc.Info]:
            return hmc.step(state, log_density, step_size=step_size, n_leapfrog=self.n_leapfrog, generator=generator, jitter=STEP_JITTER)

        state, diagnostics = run_chains(self.name, step, state, start, self.n_iterations, on_iteration)
        z = state.z
        distance = float((z - start).square().mean(dim=1).sqrt().median())
        return z, replace(diagnostics, step_size=step_size, distance=distance)
