"""The Riemannian metric that a VAE's posteriors carry (Eq. 7), its volume element (Eq. 5) and the gradient of that.

With centroids c_i, precisions s_i = diag(Sigma_i^-1) and

    omega_i(z) = exp(-sum_d s_id (z_d - c_id)^2 / rho^2)
    g_d(z)     = sum_i s_id omega_i(z) + lambda exp(-tau |z|^2)        G(z) = diag(g_1 .. g_D)

everything below is a matrix product: nothing of size n x k x D is made, and no autograd graph. Rows of ``z`` are taken in
chunks, so that memory is O(n D + k D) and one chunk of weights omega stays in the processor's cache.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...datasets.common.errors import UsageError
from ..posterior import Posterior
from .centroids import choose_centroids

# Weights omega held at once. 2**18 floats are 1 MiB: they stay in a core's second-level cache between the four passes over them.
CHUNK_WEIGHTS_CPU = 2**18
CHUNK_WEIGHTS_GPU = 2**26
SMALLEST, LARGEST = 1e-15, 1e15  # reaches, whose squares and the inverses of these are float32
LEAST_GIVEN, MOST_GIVEN = 1e-10, 1e10  # of those that are asked for, with a distance between people to be multiplied by


@dataclass(frozen=True)
class Volume:
    """Volume element of the metric at n points.

    Parameters
    ----------
    log : torch.Tensor
        ``(n,)``: log sqrt det G(z).
    gradient : torch.Tensor
        ``(n, D)``: its gradient in z.
    log_proximity : torch.Tensor
        ``(n,)``: log max_i omega_i(z), 0 on a centroid and falling with the distance from the nearest one.
    """

    log: Tensor
    gradient: Tensor
    log_proximity: Tensor


@dataclass(frozen=True, eq=False)
class RiemannianMetric:
    """G(z) of Eq. 7, diagonal.

    Parameters
    ----------
    centroids : torch.Tensor
        ``(k, D)``: posterior means c_i.
    precisions : torch.Tensor
        ``(k, D)``: s_i, positive.
    rho : float
        Reach of a centroid, in units of its posterior's standard deviation.
    lam : float
        Value of the metric far from every centroid; positive.
    tau : float
        Decay of ``lam`` with |z|^2. At 0 (the paper: below machine precision) the volume of the whole space is infinite.
    """

    centroids: Tensor
    precisions: Tensor
    rho: float
    lam: float
    tau: float = 0.0
    _offset: Tensor = field(init=False, repr=False)
    _to_log_omega: Tensor = field(init=False, repr=False)
    _log_omega_constant: Tensor = field(init=False, repr=False)
    _to_gradient: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.centroids.ndim != 2 or self.centroids.shape != self.precisions.shape:
            shapes = f"{tuple(self.centroids.shape)} and {tuple(self.precisions.shape)}"
            raise ValueError(f"centroids and precisions must be (k, D) and alike, not {shapes}")
        # Lambda is no reach, which is squared, and need only be a number beside the precisions.
        least = torch.finfo(self.centroids.dtype).tiny
        if not (SMALLEST < self.rho < LARGEST and least <= self.lam < LARGEST and 0 <= self.tau < LARGEST):
            raise UsageError(
                f"rho lies between {SMALLEST:g} and {LARGEST:g}, lambda between {least:g} and {LARGEST:g}, and tau from 0 to {LARGEST:g}, "
                f"and not at {self.rho}, {self.lam} and {self.tau}."
            )
        if not (self.centroids.isfinite().all() and self.precisions.isfinite().all() and (self.precisions > 0).all()):
            raise UsageError(
                "The posteriors' means and precisions must be finite, and precisions above 0; "
                "the model that gave these has diverged: train it again, with a smaller learning rate."
            )
        # The expanded square s z^2 - 2 s c z + s c^2 loses digits as |z| grows against sigma: count z from the centroids' mean.
        offset = self.centroids.mean(dim=0)
        centred = self.centroids - offset
        weighted = self.precisions * centred
        scale = -1.0 / self.rho**2
        object.__setattr__(self, "_offset", offset)
        object.__setattr__(self, "_to_log_omega", (scale * torch.cat([self.precisions, -2 * weighted], dim=1)).T.contiguous())
        object.__setattr__(self, "_log_omega_constant", scale * (weighted * centred).sum(dim=1))
        object.__setattr__(self, "_to_gradient", torch.cat([weighted, self.precisions], dim=1) / self.rho**2)
        if not all(part.isfinite().all() for part in (self._to_log_omega, self._log_omega_constant, self._to_gradient)):
            raise UsageError(
                "The posteriors' means and precisions are so large that the metric is no number; the model that gave these has diverged: "
                "train it again, with a smaller learning rate."
            )

    @classmethod
    def from_posterior(
        cls,
        posterior: Posterior,
        *,
        n_centroids: int | None = None,
        selection: str = "k-medoids",
        lam: float = 0.01,
        tau: float = 0.0,
        rho: float | None = None,
        rho_scale: float = 1.0,
        seed: int = 0,
    ) -> "RiemannianMetric":
        """The metric of trained posteriors (Algorithm 1).

        Parameters
        ----------
        posterior : Posterior
            Posteriors of the training images, ``(n, D)``.
        n_centroids : int, optional
            k; by default ``min(n, 1000)`` (Appendix F: it takes 1,000 and more on large data sets).
        selection : str
            How centroids are chosen among the means: see ``centroids.choose_centroids``.
        lam, tau : float
            As in Eq. 7; the paper's text has 0.01 and 0.
        rho : float, optional
            By default ``max_i min_{j != i} |c_i - c_j|`` (Euclidean), times ``rho_scale``.
        seed : int
            For k-medoids and random choice.

        Raises
        ------
        UsageError
            For fewer than two distinct centroids without an explicit ``rho``, and for numbers that make no metric.
        """
        k = min(len(posterior), 1000) if n_centroids is None else n_centroids
        chosen = torch.as_tensor(choose_centroids(posterior.mean.double().cpu().numpy(), k, method=selection, seed=seed))
        centroids = posterior[chosen.to(posterior.mean.device)]
        if not 0 < rho_scale < math.inf:
            raise UsageError(f"The scale of rho must be a finite number above 0, not {rho_scale}.")
        reach = rho_scale * largest_nearest_distance(centroids.mean) if rho is None else rho
        if rho is None and reach == 0:
            raise UsageError(
                f"The metric needs at least two different centroids to set rho, and got {len(centroids)} at one place; "
                "train on more images, or give --rho."
            )
        return cls(centroids.mean, centroids.precision, rho=reach, lam=lam, tau=tau)

    @property
    def dim(self) -> int:
        """Number of latent dimensions D."""
        return self.centroids.shape[1]

    @property
    def log_mean_std(self) -> Tensor:
        """``(D,)``: log of the geometric mean over the centroids of the posterior standard deviations."""
        return -0.5 * self.precisions.log().mean(dim=0)

    def to(self, *args, **kwargs) -> "RiemannianMetric":
        """The same metric on another device or in another dtype, as ``torch.Tensor.to``."""
        return RiemannianMetric(self.centroids.to(*args, **kwargs), self.precisions.to(*args, **kwargs), self.rho, self.lam, self.tau)

    def tensor(self, z: Tensor) -> Tensor:
        """Diagonal of G(z), ``(n, D)``, for ``z`` of shape ``(n, D)`` (Eq. 7)."""
        return torch.cat([self._diagonal(rows, _exp_(self.log_omega(rows))) for rows in self._chunks(z)])

    def log_volume(self, z: Tensor) -> Tensor:
        """log sqrt det G(z), ``(n,)`` (Eq. 5)."""
        return 0.5 * self.tensor(z).log().sum(dim=1)

    def log_proximity(self, z: Tensor) -> Tensor:
        """log max_i omega_i(z), ``(n,)``, at most 0."""
        return torch.cat([self.log_omega(rows).amax(dim=1) for rows in self._chunks(z)])

    def volume(self, z: Tensor) -> Volume:
        """Log-volume, its gradient and the proximity to the centroids at once, for ``z`` of shape ``(n, D)``."""
        # Made beforehand: small results kept between the chunks' large arrays would leave the heap in pieces, of twice the memory.
        volume = Volume(z.new_empty(len(z)), torch.empty_like(z), z.new_empty(len(z)))
        columns = (self._chunks(column) for column in (volume.log, volume.gradient, volume.log_proximity))
        for rows, *places in zip(self._chunks(z), *columns, strict=True):
            for place, values in zip(places, self._volume(rows), strict=True):
                place.copy_(values)
        return volume

    def _volume(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        log_omega = self.log_omega(z)
        proximity = log_omega.amax(dim=1)
        omega = _exp_(log_omega)
        diagonal = self._diagonal(z, omega)
        inverse = diagonal.reciprocal()
        # grad_d = -1/2 sum_e (1/g_e) sum_i s_ie omega_i 2 s_id (z_d - c_id) / rho^2: the sum over e comes first, as R.
        ratios = omega.mul_(inverse @ self.precisions.T)
        pulled, pulling = (ratios @ self._to_gradient).split(self.dim, dim=1)
        gradient = pulled - pulling * (z - self._offset)
        if self.tau > 0:
            gradient = gradient - self.tau * self._background(z) * z * inverse.sum(dim=1, keepdim=True)
        return 0.5 * diagonal.log().sum(dim=1), gradient, proximity

    def log_omega(self, z: Tensor) -> Tensor:
        """log omega_i(z), ``(n, k)`` at once; rounding may push the expanded square below 0, and log omega above it."""
        centred = z - self._offset
        features = torch.cat([centred.square(), centred], dim=1)
        return torch.addmm(self._log_omega_constant, features, self._to_log_omega).clamp_(max=0)

    def _diagonal(self, z: Tensor, omega: Tensor) -> Tensor:
        return omega @ self.precisions + self._background(z)

    def _background(self, z: Tensor) -> Tensor | float:
        if self.tau == 0:
            return self.lam
        return self.lam * torch.exp(-self.tau * z.square().sum(dim=1, keepdim=True))

    def _chunks(self, z: Tensor) -> tuple[Tensor, ...]:
        weights = CHUNK_WEIGHTS_GPU if z.is_cuda else CHUNK_WEIGHTS_CPU
        return z.split(max(1, weights // self.centroids.shape[0]))


def _exp_(log_omega: Tensor) -> Tensor:
    """In place. Below the smallest normal number exp takes 30 times longer on a CPU, and 1e-38 is as good as 0 beside lambda."""
    return log_omega.clamp_(min=math.ceil(math.log(torch.finfo(log_omega.dtype).tiny))).exp_()


def nearest_distances(points: Tensor) -> Tensor:
    """min_{j != i} |p_i - p_j|, ``(k,)`` in float64, for ``points`` of shape ``(k, D)``; infinite for a single one."""
    # By differences: the expanded square would not give 0 for two points at one place.
    distances = torch.cdist(points.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return distances.fill_diagonal_(math.inf).amin(dim=1)


def largest_nearest_distance(points: Tensor) -> float:
    """max_i min_{j != i} |p_i - p_j| for ``points`` of shape ``(k, D)``: rho of Algorithm 1. 0 for fewer than two points."""
    return float(nearest_distances(points).amax()) if len(points) > 1 else 0.0
