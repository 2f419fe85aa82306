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
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from scipy.stats import chi2
from torch import Tensor

from ..datasets.errors import UsageError
from . import hmc
from .autoencoders import LearntMetric
from .diagnostics import Diagnostics, effective_sample_size, split_r_hat
from .metric import RiemannianMetric, largest_nearest_distance, nearest_distances

TRACED_CHAINS = 64  # enough for R-hat and ESS, and bounded memory for 100,000 latents
DETERMINANT_CLAMP = 1e10
CHUNK_MATRICES = 2**22  # entries of n x D x D or n x k x D matrices held at once: 16 MiB in float32
BLOCK, MOST_BLOCKS = 100, 5  # transitions between two looks at R-hat, and how many looks
MIXED = 1.05  # R-hat
ISOLATED_DRAWS = 2000
MOST_AT_ONCE = 100_000  # isolated draws
DIRECT_SHARE = 0.2  # of the draws that rejection must keep: less, and the centroids overlap
STEP_JITTER = 0.3  # near a centroid the law is Gaussian, and without jitter adaptation may settle on a multiple of half its period

Tick = Callable[[], None]
Step = Callable[[hmc.State], tuple[hmc.State, hmc.Info]]


def default_log_threshold(dim: int, kept: float = 0.99) -> float:
    """Log of the default threshold of the support A in ``dim`` dimensions.

    Near an isolated centroid, lambda being negligible, p is N(c, rho^2 / D Sigma), so -D log omega follows a chi-squared law with D
    degrees of freedom: A keeps the share ``kept`` of it. exp of this is 0.135 at D = 16 and 0.010 at D = 2.
    """
    return -float(chi2.ppf(kept, dim)) / dim


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
        Of the adaptation.
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
        _check_lengths(BLOCK if self.n_iterations is None else self.n_iterations, self.n_leapfrog)
        _check_adaptation(self.n_warm_up, self.target_acceptance)
        if self.log_threshold is not None and not self.log_threshold < 0:
            raise UsageError("The support's threshold lies between 0 and 1: at 1 only the centroids themselves are inside.")

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
            return self._chains(_draw_rows(self.metric.centroids, n, generator), generator, on_iteration)
        n_drawn = min(max(ISOLATED_DRAWS, 4 * n), MOST_AT_ONCE)
        draws, log_weights = self._isolated(n_drawn, generator)
        weights = (log_weights - log_weights.amax()).exp()
        if float(weights.mean()) < DIRECT_SHARE:
            start = draws[torch.multinomial(weights, n, replacement=True, generator=generator)]
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
        draw = {"generator": generator, "device": metric.centroids.device, "dtype": metric.centroids.dtype}
        index = torch.randint(len(metric.centroids), (n,), generator=generator, device=metric.centroids.device)
        # -D log omega follows a chi-squared law: by its quantiles no draw lies off the support.
        uniform = torch.rand((n, 1), **draw).double().cpu().numpy() * chi2.cdf(-dim * self.limit, dim)
        radius = torch.as_tensor(chi2.ppf(uniform, dim), device=metric.centroids.device).sqrt().to(metric.centroids.dtype)
        direction = torch.randn((n, dim), **draw)
        direction = direction / direction.norm(dim=1, keepdim=True)
        width = metric.rho / math.sqrt(dim)
        z = metric.centroids[index] + width * radius * direction * metric.precisions[index].rsqrt()
        log_density = []
        for rows in z.split(max(1, CHUNK_MATRICES // len(metric.centroids))):
            log_omega = metric.log_omega(rows)
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

        state, diagnostics = _run(
            self.name, step, state, start / width, self.n_iterations or BLOCK, on_iteration, until_mixed=self.n_iterations is None
        )
        z = state.z * width
        return z, _locate(replace(diagnostics, step_size=step_size), self.metric, start, z, log_threshold)


@dataclass(frozen=True)
class RiemannianPaper:
    """Algorithm 2 to the letter: exact HMC for sqrt det G on the whole space, from centroids, with a fixed step."""

    metric: RiemannianMetric
    n_iterations: int = 100
    n_leapfrog: int = 10
    step_size: float = 0.01

    name = "riemannian-paper"

    def __post_init__(self) -> None:
        _check_lengths(self.n_iterations, self.n_leapfrog, self.step_size)

    @property
    def n_steps(self) -> int:
        """Transitions in all, for a progress bar."""
        return self.n_iterations

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``, one chain each, with diagnostics."""

        def log_density(z: Tensor) -> tuple[Tensor, Tensor]:
            volume = self.metric.volume(z)
            return volume.log, volume.gradient

        def step(state: hmc.State) -> tuple[hmc.State, hmc.Info]:
            return hmc.step(state, log_density, step_size=self.step_size, n_leapfrog=self.n_leapfrog, generator=generator)

        start = _draw_rows(self.metric.centroids, n, generator)
        state, diagnostics = _run(self.name, step, hmc.init(start, log_density), start, self.n_steps, on_iteration)
        return state.z, _locate(replace(diagnostics, step_size=self.step_size), self.metric, start, state.z)


@dataclass(frozen=True)
class RiemannianReleased:
    """The law of the authors' released sampler, reproduced to compare with (not to recommend).

    Where it departs from Algorithm 2: its gradient lacks the 1/2 of the log-volume and counts lambda once per centroid; momenta are
    0.5 N(0, I) under an energy of unit mass, so the chain is not invariant for p; det G is clamped at 1e10; acceptance is a quotient
    of two exponentials, where 0/0 rejects; rho leaves out the last centroid; chains start on any training mean.

    Parameters
    ----------
    metric : RiemannianMetric
        Of Eq. 7; its rho is replaced.
    means : torch.Tensor
        ``(n, D)`` posterior means of the training images.
    n_iterations, n_leapfrog, step_size
        As in Algorithm 2.
    """

    metric: RiemannianMetric
    means: Tensor
    n_iterations: int = 100
    n_leapfrog: int = 10
    step_size: float = 0.01

    name = "riemannian-released"
    momentum_std = 0.5

    def __post_init__(self) -> None:
        _check_lengths(self.n_iterations, self.n_leapfrog, self.step_size)

    @property
    def n_steps(self) -> int:
        """Transitions in all, for a progress bar."""
        return self.n_iterations

    def log_density(self) -> hmc.LogDensity:
        """The saturated log-density and the gradient that the release follows."""
        k = len(self.metric.centroids)
        density = replace(self.metric, rho=float(nearest_distances(self.metric.centroids)[: k - 1].amax()) if k > 1 else self.metric.rho)
        slope = replace(density, lam=k * density.lam)

        def log_density(z: Tensor) -> tuple[Tensor, Tensor]:
            determinant = torch.exp(2 * density.log_volume(z)).clamp(max=DETERMINANT_CLAMP)
            return 0.5 * determinant.log(), 2 * slope.volume(z).gradient

        return log_density

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``, one chain each, with diagnostics."""
        log_density = self.log_density()

        def step(state: hmc.State) -> tuple[hmc.State, hmc.Info]:
            draw = {"generator": generator, "device": state.z.device, "dtype": state.z.dtype}
            momentum = self.momentum_std * torch.randn(state.z.shape, **draw)
            uniform = torch.rand(state.log_p.shape, **draw)
            proposal, end = hmc.leapfrog(state, momentum, log_density, self.step_size, self.n_leapfrog)
            energy = 0.5 * momentum.square().sum(1) - state.log_p
            end_energy = 0.5 * end.square().sum(1) - proposal.log_p
            ratio = torch.exp(-end_energy) / torch.exp(-energy)
            accepted = uniform < ratio
            return hmc.select(accepted, proposal, state), hmc.Info(ratio.nan_to_num(0).clamp(max=1), accepted, end_energy - energy)

        start = _draw_rows(self.means, n, generator)
        state, diagnostics = _run(self.name, step, hmc.init(start, log_density), start, self.n_steps, on_iteration)
        return state.z, _locate(replace(diagnostics, step_size=self.step_size), self.metric, start, state.z)


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
        _check_lengths(self.n_iterations, self.n_leapfrog)
        _check_adaptation(self.n_warm_up, self.target_acceptance)

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
        start = _draw_rows(self.learnt.centroids(), n, generator)
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

        state, diagnostics = _run(self.name, step, state, start, self.n_iterations, on_iteration)
        z = state.z
        distance = float((z - start).square().mean(dim=1).sqrt().median())
        return z, replace(diagnostics, step_size=step_size, distance=distance)


def _accepted(draws: Tensor, log_weights: Tensor, generator: torch.Generator) -> Tensor:
    """Rejection: those of the draws ``(n, D)`` that follow the weighted law; weights are even, and their largest bounds them."""
    uniform = torch.rand(len(draws), generator=generator, device=draws.device, dtype=draws.dtype)
    return draws[uniform.log() < log_weights - log_weights.amax()]


def off_manifold(metric: RiemannianMetric, z: Tensor, log_threshold: float | None = None) -> float:
    """Share of the latents ``(n, D)`` outside the support A (by default that of ``default_log_threshold``)."""
    limit = default_log_threshold(metric.dim) if log_threshold is None else log_threshold
    return float((metric.log_proximity(z) < limit).double().mean())


def _check_lengths(n_iterations: int, n_leapfrog: int, step_size: float = 1.0) -> None:
    if n_iterations < 1 or n_leapfrog < 1 or not step_size > 0:
        raise UsageError("The chains need at least 1 iteration, 1 leapfrog step and a step size above 0.")


def _check_adaptation(n_warm_up: int, target_acceptance: float) -> None:
    if n_warm_up < 0:
        raise UsageError(f"The number of warm-up transitions cannot be {n_warm_up}.")
    if not 0 < target_acceptance < 1:
        raise UsageError(f"The target acceptance lies between 0 and 1, not at {target_acceptance}.")


def _draw_rows(points: Tensor, n: int, generator: torch.Generator) -> Tensor:
    return points[torch.randint(len(points), (n,), generator=generator, device=points.device)]


def _run(
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


def _locate(
    diagnostics: Diagnostics, metric: RiemannianMetric, start: Tensor, end: Tensor, log_threshold: float | None = None
) -> Diagnostics:
    """Add how far the chains came, how many of them left the manifold, and how many are still where they began."""
    nearest, last = (_nearest(metric, z) for z in (start, end))
    distance = ((end - start).square() * metric.precisions[nearest]).mean(dim=1).sqrt()
    return replace(
        diagnostics,
        off_manifold=off_manifold(metric, end, log_threshold),
        distance=float(distance.median()),
        home=float((nearest == last).double().mean()),
        effective_centroids=effective_centroids(metric, end),
        rho=metric.rho,
    )


def _nearest(metric: RiemannianMetric, z: Tensor) -> Tensor:
    return torch.cat([torch.cdist(rows, metric.centroids).argmin(dim=1) for rows in z.split(4096)])


def effective_centroids(metric: RiemannianMetric, z: Tensor) -> float:
    """exp of the entropy of the weights omega at latents ``(n, D)``, on average: about how many centroids each is near to."""
    total = 0.0
    for rows in z.split(max(1, CHUNK_MATRICES // len(metric.centroids))):
        log_p = metric.log_omega(rows).log_softmax(dim=1)
        total += float((-(log_p.exp() * log_p).sum(dim=1)).exp().sum())
    return total / len(z)
