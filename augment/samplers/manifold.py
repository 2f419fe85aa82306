"""A Riemannian manifold that holds people whom the model has not seen, and the uniform law on it.

Eq. 7 gives every centroid its own posterior's covariance, a hundredth of the variance between people: then each centroid is an island. Here
all have S, the shrunk covariance of the codes:

    omega_i(z) = exp(-(z - c_i)^T S^-1 (z - c_i) / rho^2)          G(z) = (sum_i omega_i(z))^(2 m / D) S^-1

so that sqrt det G is (sum_i omega_i)^m, but for a constant. The *crowding* m says how the volume grows where people crowd together: as
Eq. 7 sums the centroids it is D / 2, with weights that are normalised (Hauberg, Freifeld and Black 2012) it would be 0.
rho = sqrt(2) ``width``. Both are chosen by how probable they make people who are left out (``left_out.py``); ``crowds.py`` has the law's
constant and its draws. The manifold is cut where its volume is low, so that it still holds the share ``holds`` of people left out.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...datasets.common.errors import UsageError
from ..draws import weighted_rows
from .crowds import Crowd, log_constants, proposals
from .diagnostics import Diagnostics, Tick, effective_sample_size, split_r_hat
from .laws import Whitening

HOLDS = 0.9  # of people left out
N_PROPOSALS = 4000  # for the constant of the law, and for how much of it is cut
MOST_AT_ONCE = 10_000  # draws
BALLAST = 4  # proposals for each chain to start at
LEAST_KEPT = 0.1  # of the law lies on the manifold, however it is cut
TRACED_CHAINS = 64
BLOCK, MOST_BLOCKS = 25, 20  # Gibbs steps between two looks at R-hat, and how often it is looked at
MIXED = 1.05  # R-hat


@dataclass(frozen=True, eq=False)
class Manifold:
    """The uniform law on the calibrated manifold; the sampler ``riemannian`` at its own reach.

    Parameters
    ----------
    whitening : Whitening
        Coordinates in which the training codes are white: S, and where they lie.
    crowd : Crowd
        The metric's centroids, whitened, with m and the width: rho / sqrt(2), in standard deviations of the codes.
    log_norm : float
        log of the integral of (sum omega)^m over the whole space of codes.
    log_threshold : float
        The manifold is where the density of the law on the whole space is at least this; -inf for everywhere.
    log_kept : float
        log of the share of that law which lies on the manifold.
    dtype : torch.dtype
        Type of the draws.
    """

    whitening: Whitening
    crowd: Crowd
    log_norm: float
    log_threshold: float = -math.inf
    log_kept: float = 0.0
    dtype: torch.dtype = torch.float32

    name = "riemannian"

    @classmethod
    def fit(cls, codes: Tensor, centroids: Tensor, *, crowding: int, width: float) -> "Manifold":
        """The manifold of codes ``(n, D)`` with ``centroids`` ``(k, D)``, not cut yet."""
        if crowding < 2 or not 0 < width < math.inf:
            raise UsageError(f"The crowding is a whole number above 1 and the width a finite one above 0, not {crowding} and {width}.")
        whitening = Whitening.of(codes)
        crowd = Crowd(whitening.to(centroids), crowding, width)
        ((log_constant, _),) = log_constants([crowd], N_PROPOSALS, _own_generator())
        return cls(whitening, crowd, log_constant + whitening.log_det, dtype=codes.dtype)

    def cut(self, log_threshold: float | None) -> "Manifold":
        """The part with at least the threshold's density; all, without one.

        A threshold that would leave hardly any of the law, ``LEAST_KEPT``, is lowered: then the part holds more of them.
        """
        if log_threshold is None:
            return self
        y, log_weights = self._weighted(N_PROPOSALS, _own_generator())
        densities, order = self._log_whole(y).sort(descending=True)
        shares = log_weights.softmax(dim=0)[order].cumsum(dim=0)
        # Where people lie apart, each left out may be more probable than any draw.
        log_threshold = min(log_threshold, float(densities[(shares < LEAST_KEPT).sum()]))
        kept = min(1.0, float(shares[(densities >= log_threshold).sum() - 1]))  # a sum of all shares may round to more
        return replace(self, log_threshold=log_threshold, log_kept=math.log(kept))

    @property
    def n_steps(self) -> int:
        """Steps of a chain at least, or one direct draw, for a progress bar."""
        return 1 if self.crowd.direct else BLOCK

    def tensor(self, z: Tensor) -> Tensor:
        """G(z), ``(n, D, D)`` in float64, without the constant that makes its volume a density."""
        inverse = torch.cholesky_inverse(self.whitening.factor)
        log_volume = self.crowd.log_volume(self.whitening.to(z))
        return (2 / z.shape[1] * log_volume).exp()[:, None, None] * inverse

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
        """Draw ``n`` latents ``(n, D)`` on the manifold, with diagnostics; what lies beside it is drawn again."""
        kept: list[Tensor] = []
        traces: list[Tensor] = []
        while (lacking := n - sum(map(len, kept))) > 0:
            n_drawn = min(MOST_AT_ONCE, max(TRACED_CHAINS, math.ceil(lacking / math.exp(self.log_kept))))
            y = self._draw(n_drawn, generator, traces, (lambda: None) if kept else on_iteration)
            kept.append(y[self._log_whole(y) >= self.log_threshold])
        y = torch.cat(kept)[:n]
        found = Diagnostics(self.name, n, off_manifold=0.0, effective_centroids=self.crowd.effective_centroids(y))
        if traces:
            worst = max(traces, key=_r_hat)
            found = replace(found, r_hat=_r_hat(worst), ess=float(effective_sample_size(worst).amin()), traced=worst.shape[1])
        return self.whitening.back(y).to(self.dtype), found

    def _log_whole(self, y: Tensor) -> Tensor:
        """Log density, of codes, at whitened coordinates."""
        return self.crowd.log_volume(y) - self.log_norm

    def _weighted(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """``n`` whitened draws of the law before it is cut, by their log weights ``(n,)``."""
        if self.crowd.direct:
            y = self.crowd.draw(n, generator)
            return y, torch.zeros_like(y[:, 0])
        y, log_proposal = proposals([self.crowd], n, generator)
        return y, self.crowd.log_volume(y) - log_proposal

    def _draw(self, n: int, generator: torch.Generator, traces: list[Tensor], on_iteration: Tick) -> Tensor:
        """``n`` whitened draws of the law before it is cut; of chains, which run until they have mixed, a trace is added to ``traces``."""
        if self.crowd.direct:
            on_iteration()
            return self.crowd.draw(n, generator)
        y, log_weights = self._weighted(BALLAST * n, generator)
        y = y[weighted_rows(log_weights.softmax(dim=0), n, generator)]
        trace: list[Tensor] = []
        for block in range(MOST_BLOCKS):
            for _ in range(BLOCK):
                y = self.crowd.step(y, generator)
                trace.append(y[:TRACED_CHAINS])
                if block == 0:
                    on_iteration()
            if _r_hat(torch.stack(trace)) < MIXED:
                break
        traces.append(torch.stack(trace))
        return y


def _own_generator() -> torch.Generator:
    """The same whenever a model is loaded: the law's constant, and the share of it that is cut, are numbers of the model."""
    return torch.Generator().manual_seed(0)


def _r_hat(trace: Tensor) -> float:
    return float(split_r_hat(trace).amax())
