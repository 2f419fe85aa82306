"""Sampling uniformly on the manifold: p(z) proportional to sqrt det G(z) (Sec. 4.5, Algorithm 2), under three laws, and a fourth.

``riemannian`` with a reach
    Exact and proper. With tau = 0 the law of Algorithm 2 does not decay: a chain that mixes well leaves the data for good. Sec. 4.5
    has the remedy, the uniform law on a set of finite volume; here A = {z : max_i omega_i(z) >= threshold}. While the centroids are
    isolated it is the equal mixture of N(c_i, rho^2 / D Sigma_i) and is drawn directly; where they overlap by chains whose step adapts.
    Without a reach, ``riemannian`` is the law of ``manifold.py``.
``riemannian-paper``
    Algorithm 2 to the letter: no support, 100 iterations of 10 leapfrog steps of 0.01.
``riemannian-released``
    What the authors' released sampler does: it follows another gradient, draws momenta of standard deviation 0.5 against an
    energy of unit mass, and saturates the determinant, so its law is not Eq. 20 but is more concentrated on the peaks.
``own-metric``
    For a model that has learnt a metric: p(z) proportional to sqrt det G^-1(z) on a support (Chadebec et al. 2020).
"""

import math
from dataclasses import dataclass, replace

import torch
from scipy.stats import chi2
from torch import Tensor

from ...datasets.common.errors import UsageError
from .. import hmc
from ..draws import normal, random_rows, uniform, weighted_rows
from ..geometry.metric import RiemannianMetric
from ..geometry.support import CHUNK_MATRICES, default_log_threshold, effective_centroids, off_manifold
from .chains import BLOCK, STEP_JITTER, check_adaptation, check_lengths, draw_rows, locate, run_chains
from .diagnostics import Diagnostics, Tick

ISOLATED_DRAWS = 2000
MOST_AT_ONCE = 100_000  # isolated draws
DIRECT_SHARE = 0.2  # of the draws that rejection must keep: less, and the centroids overlap


@dataclass(frozen=True)
class Riemannian:
    """The uniform law on the support A of Eq. 7: drawn directly where the centroids are isolated, else by HMC with an adapted step.

    Momenta are scaled, per latent dimension, by the posteriors' mean width (a diagonal mass): a unit that carries much
    information is narrow, an unused one has width 1, and one step size cannot fit both. The law gives every isolated centroid the same
    mass, since sqrt det Sigma^-1 times the volume of its Gaussian is a constant. Where they overlap, chains start at draws of the isolated
    law, each by how much of the volume lies there, and run until they have mixed.

    Parameters
    ----------
    metric : RiemannianMetric
        On the device where the chains run.
    n_iterations : int, optional
        Transitions of each chain (N of Algorithm 2), which then starts on a centroid drawn uniformly; its last state is the sample. By
        default none where the centroids are isolated, else as many as R-hat needs, up to ``MOST_BLOCKS`` hundred.
    n_leapfrog : int
        Leapfrog steps in a transition.
    n_warm_up : int
        Transitions in which the step adapts, before those.
    target_acceptance : float
        Acceptance that the step is adapted to.
    log_threshold : float, optional
        Log of the support's threshold, below 0; by default ``default_log_threshold(D)``.
    """

    metric: RiemannianMetric
    n_iterations: int | None = None
    n_leapfrog: int = 10
    n_warm_up: int = 100
    target_acceptance: float = 0.8
    log_threshold: float | None = None

    name = "riemannian"

    def __post_init__(self) -> None:
        check_lengths(BLOCK if self.n_iterations is None else self.n_iterations, self.n_leapfrog)
        check_adaptation(self.n_warm_up, self.target_acceptance)
        if self.log_threshold is not None and not self.log_threshold < 0:
            raise UsageError(
                "The setting log_threshold lies below 0, as the logarithm of a threshold does: at 0 only the centroids are inside."
            )

    @property
    def n_steps(self) -> int:
        """Transitions in all, for a progress bar."""
        return self.n_warm_up + (self.n_iterations or BLOCK)

    @property
    def limit(self) -> float:
        """Log of the support's threshold."""
        return default_log_threshold(self.metric.dim) if self.log_threshold is None else self.log_threshold

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``, with diagnostics."""
        if self.n_iterations is not None:
            return self._chains(draw_rows(self.metric.centroids, n, generator), generator, on_iteration)
        n_drawn = min(max(ISOLATED_DRAWS, 4 * n), MOST_AT_ONCE)
        draws, log_weights = self._isolated(n_drawn, generator)
        weights = (log_weights - log_weights.amax()).exp()
        if float(weights.mean()) < DIRECT_SHARE:
            start = draws[weighted_rows(weights, n, generator)]
            return self._chains(start, generator, on_iteration)
        kept = [_accepted(draws, log_weights, generator)]
        while sum(map(len, kept)) < n:
            kept.append(_accepted(*self._isolated(n_drawn, generator), generator))
        for _ in range(self.n_steps):
            on_iteration()
        z = torch.cat(kept)[:n]
        outside, near = off_manifold(self.metric, z, self.limit), effective_centroids(self.metric, z)
        return z, Diagnostics(self.name, n, outside, effective_centroids=near, rho=self.metric.rho)

    def _isolated(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws ``(n, D)`` of the law that isolated centroids have, and the log of the volume over their density ``(n,)``."""
        metric, dim = self.metric, self.metric.dim
        index = random_rows(len(metric.centroids), n, generator, metric.centroids)
        # -D log omega follows a chi-squared law: by its quantiles no draw lies off the support.
        inside = uniform((n, 1), generator, metric.centroids).double().cpu().numpy() * chi2.cdf(-dim * self.limit, dim)
        radius = torch.as_tensor(chi2.ppf(inside, dim), device=metric.centroids.device).sqrt().to(metric.centroids.dtype)
        direction = normal((n, dim), generator, metric.centroids)
        direction = direction / direction.norm(dim=1, keepdim=True)
        width = metric.rho / math.sqrt(dim)
        z = metric.centroids[index] + width * radius * direction * metric.precisions[index].rsqrt()
        log_density = []
        for some in z.split(max(1, CHUNK_MATRICES // len(metric.centroids))):
            log_omega = metric.log_omega(some)
            own = 0.5 * metric.precisions.log().sum(dim=1) + 0.5 * dim * log_omega
            log_density.append(own.masked_fill(log_omega < self.limit, -math.inf).logsumexp(dim=1))
        log_weights = metric.log_volume(z) - torch.cat(log_density)
        # Rounding puts a draw near the edge off the support, where its density is 0: it has no weight.
        return z, log_weights.masked_fill(log_weights.isposinf(), -math.inf)

    def _chains(self, start: Tensor, generator: torch.Generator, on_iteration: Tick) -> tuple[Tensor, Diagnostics]:
        log_threshold = self.limit
        # The local law is N(c, rho^2 / D Sigma): in these units it is close to a standard normal in every dimension.
        width = self.metric.rho / math.sqrt(self.metric.dim) * self.metric.log_mean_std.exp()

        def log_density(u: Tensor) -> tuple[Tensor, Tensor]:
            volume = self.metric.volume(u * width)
            outside = volume.log_proximity < log_threshold
            return volume.log.masked_fill(outside, -math.inf), volume.gradient * width

        state = hmc.init(start / width, log_density)
        state, step_size = hmc.warm_up(
            state,
            log_density,
            n_iterations=self.n_warm_up,
            n_leapfrog=self.n_leapfrog,
            step_size=0.5,
            target_acceptance=self.target_acceptance,
            generator=generator,
            jitter=STEP_JITTER,
            on_iteration=on_iteration,
        )

        def step(state: hmc.State) -> tuple[hmc.State, hmc.Info]:
            return hmc.step(state, log_density, step_size=step_size, n_leapfrog=self.n_leapfrog, generator=generator, jitter=STEP_JITTER)

        state, diagnostics = run_chains(
            self.name, step, state, start / width, self.n_iterations or BLOCK, on_iteration, until_mixed=self.n_iterations is None
        )
        z = state.z * width
        return z, locate(replace(diagnostics, step_size=step_size), self.metric, start, z, log_threshold)


def _accepted(draws: Tensor, log_weights: Tensor, generator: torch.Generator) -> Tensor:
    """Rejection: those of the draws ``(n, D)`` that follow the weighted law; weights are even, and their largest bounds them."""
    return draws[uniform((len(draws),), generator, draws).log() < log_weights - log_weights.amax()]
