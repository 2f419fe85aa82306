"""A Riemannian manifold that holds people whom the model has not seen, and the uniform law on it.

Eq. 7 gives every centroid its own posterior's covariance, a hundredth of the variance between people: then each centroid is an island. Here
all have S, the shrunk covariance of the aggregated posterior:

    omega_i(z) = exp(-(z - c_i)^T S^-1 (z - c_i) / rho^2)          G(z) = (sum_i omega_i(z))^(2 m / D) S^-1

so that sqrt det G is (sum_i omega_i)^m, but for a constant. The *crowding* m says how the volume grows where people crowd together: as
Eq. 7 sums the centroids it is D / 2, with weights that are normalised (Hauberg, Freifeld and Black 2012) it would be 0, and at 1 the volume
counts people. rho = sqrt(2) ``width``. Both are chosen by how probable they make codes that are left out (``left_out.py``).

For a whole m the power is a sum over all m-tuples of people, each of which is a Gaussian around their mean:

    (sum_i omega_i)^m = sum_(i_1 .. i_m) exp(-(sum_j |c_(i_j) - c|^2 + m |z - c|^2) / rho^2),    c the mean of c_(i_1) .. c_(i_m)

so the law draws people who are near to each other, and varies their mean: two of them directly, more by Gibbs steps, which need no
tuning. The manifold is cut where its volume is low, so that it still holds the share ``holds`` of people left out.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..datasets.errors import UsageError
from .diagnostics import Diagnostics, effective_sample_size, split_r_hat
from .laws import CHUNK, Whitening, log_normal, log_sum_of_kernels, squared_distances
from .posterior import Posterior

HOLDS = 0.9  # of people left out
N_PROPOSALS = 4000  # for the constant of the law
WIDER = 1.3  # variance of a proposal, in the law's own, which it must not fall below anywhere
LEAST_KEPT = 0.1  # of the law's draws lies on the manifold, however it is cut
TRACED_CHAINS = 64
BLOCK, MOST_BLOCKS = 25, 20  # Gibbs steps between two looks at R-hat, and how often it is looked at
MIXED = 1.05  # R-hat
BALLAST = 4  # proposals for each chain to start at

Tick = Callable[[], None]


@dataclass(frozen=True, eq=False)
class Manifold:
    """The uniform law on the calibrated manifold; the sampler ``riemannian`` at its own reach.

    Parameters
    ----------
    whitening : Whitening
        Of the training codes: S, and where they lie.
    centroids : torch.Tensor
        ``(k, D)``: of the metric, whitened.
    crowding : int
        m, 1 or more.
    width : float
        rho / sqrt(2), in standard deviations of the codes.
    log_norm, error : float
        log of the integral of (sum omega)^m over the whole space of codes, and its standard error.
    log_threshold : float
        The manifold is where the density of the law on the whole space is at least this; -inf for everywhere.
    log_kept : float
        log of the share of that law which lies on the manifold.
    holds : float
        The share of people left out that the threshold was set to hold.
    dtype : torch.dtype
        Of the draws.
    """

    whitening: Whitening
    centroids: Tensor
    crowding: int
    width: float
    log_norm: float
    error: float = 0.0
    log_threshold: float = -math.inf
    log_kept: float = 0.0
    holds: float = 1.0
    dtype: torch.dtype = torch.float32

    name = "riemannian"
    n_steps = BLOCK

    @classmethod
    def fit(cls, posterior: Posterior, centroids: Tensor, *, crowding: int, width: float) -> "Manifold":
        """The manifold of posteriors ``(n, D)`` with ``centroids`` ``(k, D)``, not cut yet."""
        whitening = Whitening.of(posterior.mean, posterior.std.square())
        whole = cls.over(whitening, whitening.to(centroids), crowding=crowding, width=width)
        return replace(whole, dtype=posterior.mean.dtype)

    @classmethod
    def over(cls, whitening: Whitening, centroids: Tensor, *, crowding: int, width: float, n_proposals: int = N_PROPOSALS) -> "Manifold":
        """The same of ``centroids`` that are whitened; so many ``n_proposals`` tell the law's constant."""
        if crowding < 1 or not 0 < width < math.inf:
            raise UsageError(f"The crowding is a whole number above 0 and the width a finite one above 0, not {crowding} and {width}.")
        unnormalised = cls(whitening, centroids, crowding, width, 0.0)
        log_norm, error = unnormalised._integral(n_proposals)
        return replace(unnormalised, log_norm=log_norm, error=error)

    def cut(self, log_threshold: float | None, holds: float) -> "Manifold":
        """The part with at least the threshold's density, which holds the share ``holds`` of people left out; all, without one.

        A threshold that would leave hardly any of the law, ``LEAST_KEPT``, is lowered: then the part holds more of them.
        """
        if log_threshold is None:
            return self
        # The same draws whenever a model is loaded: the share on the manifold is a number of the model.
        y, _ = self._draw(N_PROPOSALS, torch.Generator(self.centroids.device).manual_seed(0))
        densities = self._log_whole(y)
        # Of posteriors far wider than their means lie apart, those left out are more probable than any draw.
        log_threshold = min(log_threshold, float(densities.quantile(1 - LEAST_KEPT)))
        kept = float((densities >= log_threshold).double().mean())
        return replace(self, log_threshold=log_threshold, log_kept=math.log(kept), holds=holds)

    @property
    def rho(self) -> float:
        """Reach of a centroid (Eq. 7), in standard deviations of the codes."""
        return math.sqrt(2) * self.width

    def tensor(self, z: Tensor) -> Tensor:
        """G(z), ``(n, D, D)`` in float64, without the constant that makes its volume a density."""
        dim = self.centroids.shape[1]
        inverse = torch.cholesky_inverse(self.whitening.factor)
        log_sum = log_sum_of_kernels(self.whitening.to(z), self.centroids, self.width)
        return (2 * self.crowding / dim * log_sum).exp()[:, None, None] * inverse

    def log_whole(self, z: Tensor) -> Tensor:
        """log density ``(n,)`` at codes ``(n, D)`` of the law before it is cut."""
        return self._log_whole(self.whitening.to(z))

    def inside(self, z: Tensor) -> Tensor:
        """Which of the codes ``(n, D)`` lie on the manifold, ``(n,)``."""
        return self.log_whole(z) >= self.log_threshold

    def log_density(self, z: Tensor) -> Tensor:
        """log p(z) in nats, ``(n,)`` in float64; -inf off the manifold."""
        whole = self.log_whole(z)
        return torch.where(whole >= self.log_threshold, whole - self.log_kept, -math.inf)

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)`` on the manifold, with diagnostics."""
        kept, traces = [], None
        while sum(map(len, kept)) < n:
            lacking = n - sum(map(len, kept))
            y, trace = self._draw(math.ceil(lacking / math.exp(self.log_kept)) + 1, generator, on_iteration if not kept else lambda: None)
            traces = trace if traces is None else traces
            kept.append(y[self._log_whole(y) >= self.log_threshold])
        y = torch.cat(kept)[:n]
        diagnostics = Diagnostics(self.name, n, off_manifold=0.0, effective_centroids=self._effective_centroids(y))
        if traces is not None:
            r_hat, ess = float(split_r_hat(traces).amax()), float(effective_sample_size(traces).amin())
            diagnostics = replace(diagnostics, r_hat=r_hat, ess=ess, traced=traces.shape[1])
        return self.whitening.back(y).to(self.dtype), diagnostics

    def _log_whole(self, y: Tensor) -> Tensor:
        """Log density, of codes, at whitened coordinates."""
        return self.crowding * log_sum_of_kernels(y, self.centroids, self.width) - self.log_norm

    def _integral(self, n_proposals: int) -> tuple[float, float]:
        """log of the integral of (sum omega)^m, and its standard error: closed up to pairs, else by importance."""
        k, dim = self.centroids.shape
        if self.crowding <= 2:
            weights = math.log(k) if self.crowding == 1 else float(self._pair_weights().logsumexp(dim=0))
            return weights + 0.5 * dim * math.log(2 * math.pi * self.width**2 / self.crowding) + self.whitening.log_det, 0.0
        generator = torch.Generator(self.centroids.device).manual_seed(0)
        y, log_weights = self._proposals(n_proposals, generator)
        weights = (log_weights - log_weights.amax()).exp()
        error = float(weights.std() / weights.mean()) / math.sqrt(len(y))
        return float(log_weights.logsumexp(dim=0)) - math.log(len(y)), error

    def _pair_weights(self) -> Tensor:
        """log sum_j exp(-|c_i - c_j|^2 / (4 width^2)), ``(k,)``: how often each centroid is the first of a pair."""
        return log_sum_of_kernels(self.centroids, self.centroids, math.sqrt(2) * self.width)

    def _proposals(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws ``(n, D)``, half around pairs of people and half of one wide Gaussian, and their log weights ``(n,)``."""
        dim = self.centroids.shape[1]
        # Pairs as wide as m people are: where codes are Gaussian, of variance 1, the law of m has the variance (1 + width^2) / m.
        width = math.sqrt(max(2 * WIDER * (1 + self.width**2) / self.crowding - 1, self.width**2 / self.crowding * 2))
        pairs = replace(self, crowding=2, width=width, log_norm=0.0)
        pairs = replace(pairs, log_norm=pairs._integral(0)[0])
        wide = math.sqrt(WIDER)
        around, _ = pairs._draw(n // 2, generator)
        y = torch.cat([around, wide * _noise(n - n // 2, dim, generator)])
        gaussian = log_normal(y / wide) - dim * math.log(wide) - self.whitening.log_det
        log_proposal = torch.stack([pairs._log_whole(y), gaussian]).logsumexp(dim=0) - math.log(2)
        return y, self.crowding * log_sum_of_kernels(y, self.centroids, self.width) - log_proposal

    def _draw(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Tensor | None]:
        """``n`` whitened draws of the law before it is cut; of chains the trace ``(steps, chains, D)`` too."""
        if self.crowding <= 2:
            people = torch.randint(len(self.centroids), (n,), generator=generator, device=self.centroids.device)
            mean = self.centroids[people]
            if self.crowding == 2:
                first = self.centroids[torch.multinomial(self._pair_weights().softmax(dim=0), n, replacement=True, generator=generator)]
                mean = (first + self._chosen(first, math.sqrt(2) * self.width, 1, generator)) / 2
            on_iteration()
            return mean + self.width / math.sqrt(self.crowding) * _noise(n, mean.shape[1], generator), None
        y, log_weights = self._proposals(BALLAST * n, generator)
        y = y[torch.multinomial((log_weights - log_weights.amax()).exp(), n, replacement=True, generator=generator)]
        trace: list[Tensor] = []
        for _ in range(MOST_BLOCKS):
            for _ in range(BLOCK):
                mean = self._chosen(y, self.width, self.crowding, generator)
                y = mean + self.width / math.sqrt(self.crowding) * _noise(n, mean.shape[1], generator)
                trace.append(y[:TRACED_CHAINS])
                if len(trace) <= self.n_steps:
                    on_iteration()
            # Of a few draws R-hat says little; that of their traces is the same law's.
            if n < 2 or float(split_r_hat(torch.stack(trace)).amax()) < MIXED:
                break
        return y, torch.stack(trace)

    def _chosen(self, y: Tensor, width: float, n_people: int, generator: torch.Generator) -> Tensor:
        """The mean ``(n, D)`` of people drawn by how near they are to each ``y`` ``(n, D)``."""
        means = []
        for rows in y.split(max(1, CHUNK // len(self.centroids))):
            probabilities = torch.softmax(squared_distances(rows, self.centroids) * (-0.5 / width**2), dim=1)
            index = torch.multinomial(probabilities, n_people, replacement=True, generator=generator)
            means.append(self.centroids[index].mean(dim=1))
        return torch.cat(means)

    def _effective_centroids(self, y: Tensor) -> float:
        """exp of the entropy of omega at the draws, on average: about how many people each draw is a blend of."""
        total = 0.0
        for rows in y.split(max(1, CHUNK // len(self.centroids))):
            log_p = torch.log_softmax(squared_distances(rows, self.centroids) * (-0.5 / self.width**2), dim=1)
            total += float((-(log_p.exp() * log_p).sum(dim=1)).exp().sum())
        return total / len(y)


def _noise(n: int, dim: int, generator: torch.Generator) -> Tensor:
    return torch.randn((n, dim), generator=generator, dtype=torch.float64, device=generator.device)
