"""Latent laws with a density, fitted on the codes of the training images: one Gaussian, kernels, a mixture.

All three see the codes in the coordinates of their shrunk covariance (``Whitening``), in which a law needs few numbers and is never
singular.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...datasets.common.errors import UsageError
from ..draws import normal, random_rows, weighted_rows
from .diagnostics import Diagnostics, Tick

RIDGE = 1e-6  # of the mean variance: codes that all lie in a plane have a covariance of full rank all the same
COLLAPSED = 0.01  # of the mean variance
WIDENED_BY = 1 / 3  # of D codes with the whole variance, which each component has besides its own: so that none of a few is singular
STARTS = 5  # of EM, of which the best end is taken: one alone misses modes that lie apart in one dimension of many
MANY = 1000  # codes, of which one start does as well
CHUNK = 2**18  # distances held at once: 2 MiB, which stay in a core's cache


@dataclass(frozen=True, eq=False)
class Whitening:
    """The coordinates y = L^-1 (z - mean), in which codes have the identity for a covariance, in float64.

    Parameters
    ----------
    mean : torch.Tensor
        ``(D,)``.
    factor : torch.Tensor
        ``(D, D)``: L, the lower Cholesky factor of the covariance S.
    """

    mean: Tensor
    factor: Tensor

    @classmethod
    def of(cls, codes: Tensor) -> "Whitening":
        """Whitening of codes ``(n, D)``, by the covariance that Ledoit and Wolf 2004 shrink towards a multiple of the identity."""
        points = codes.double()
        mean = points.mean(dim=0)
        centred = points - mean
        variance = centred.square().mean(dim=0)
        typical = variance.mean() + torch.finfo(torch.float32).tiny
        # The shrinkage would give a unit that has collapsed the variance of the others: it takes part as if it had that already.
        scale = torch.where(variance < COLLAPSED * typical, (variance / typical).clamp(min=RIDGE).sqrt(), 1.0)
        covariance = scale[:, None] * ledoit_wolf(centred / scale) * scale
        return cls(mean, torch.linalg.cholesky(covariance + torch.diag(torch.full_like(mean, RIDGE * float(typical)))))

    @property
    def log_det(self) -> float:
        """log |det L|: what a log density of y loses as one of z."""
        return float(self.factor.diagonal().log().sum())

    def to(self, z: Tensor) -> Tensor:
        """Whitened coordinates ``(n, D)`` of codes ``(n, D)``."""
        return torch.linalg.solve_triangular(self.factor, (z.double() - self.mean).T, upper=False).T

    def back(self, y: Tensor) -> Tensor:
        """Codes ``(n, D)`` of whitened coordinates ``(n, D)``."""
        return self.mean + y @ self.factor.T


@dataclass(frozen=True, eq=False)
class Gaussian:
    """One Gaussian, with the codes' mean and shrunk covariance."""

    whitening: Whitening
    dtype: torch.dtype = torch.float32

    name = "gaussian"
    n_steps = 1

    @classmethod
    def fit(cls, codes: Tensor) -> "Gaussian":
        """The law fitted on codes ``(n, D)``."""
        return cls(Whitening.of(codes), codes.dtype)

    def log_density(self, z: Tensor) -> Tensor:
        """log p(z) in nats, ``(n,)`` in float64."""
        return log_normal(self.whitening.to(z)) - self.whitening.log_det

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``."""
        z = self.whitening.back(normal((n, len(self.whitening.mean)), generator, self.whitening.mean))
        on_iteration()
        return z.to(self.dtype), Diagnostics(self.name, n)


@dataclass(frozen=True, eq=False)
class Kernels:
    """A Gaussian around every code, all of the codes' shrunk covariance, ``width`` times as wide.

    Parameters
    ----------
    whitening : Whitening
        Coordinates in which the codes are white.
    centres : torch.Tensor
        ``(n, D)``: the codes, whitened.
    width : float
        Width of a kernel, in standard deviations of the codes.
    dtype : torch.dtype
        Type of the draws.
    """

    whitening: Whitening
    centres: Tensor
    width: float
    dtype: torch.dtype = torch.float32

    name = "kde"
    n_steps = 1

    def __post_init__(self) -> None:
        if not 0 < self.width < math.inf:
            raise UsageError(f"The kernels' width is a finite number above 0, not {self.width}.")

    @classmethod
    def fit(cls, codes: Tensor, *, width: float) -> "Kernels":
        """The law fitted on codes ``(n, D)``."""
        whitening = Whitening.of(codes)
        return cls(whitening, whitening.to(codes), width, codes.dtype)

    def log_density(self, z: Tensor) -> Tensor:
        """log p(z) in nats, ``(n,)`` in float64."""
        return self.log_densities(z, (self.width,))[0]

    def log_densities(self, z: Tensor, widths: Sequence[float]) -> Tensor:
        """The same with each of ``w`` widths, ``(w, n)``."""
        n, dim = self.centres.shape
        log_widths = torch.tensor(widths, dtype=torch.float64, device=self.centres.device).log()[:, None]
        log_norms = math.log(n) + dim * (0.5 * math.log(2 * math.pi) + log_widths) + self.whitening.log_det
        return log_sums_of_kernels(self.whitening.to(z), self.centres, widths) - log_norms

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``."""
        index = random_rows(len(self.centres), n, generator, self.centres)
        z = self.whitening.back(self.centres[index] + self.width * normal((n, self.centres.shape[1]), generator, self.centres))
        on_iteration()
        return z.to(self.dtype), Diagnostics(self.name, n)


@dataclass(frozen=True, eq=False)
class Mixture:
    """A Gaussian mixture, each component with a share of the codes' whole covariance besides its own.

    The share, ``WIDENED_BY`` D m / n and at most 1, keeps components of few codes from being singular.

    Parameters
    ----------
    whitening : Whitening
        Coordinates in which the codes are white.
    weights, means, cholesky : torch.Tensor
        ``(m,)``, ``(m, D)`` and ``(m, D, D)``: the components, whitened, with their covariances' lower Cholesky factors.
    dtype : torch.dtype
        Type of the draws.
    """

    whitening: Whitening
    weights: Tensor
    means: Tensor
    cholesky: Tensor
    dtype: torch.dtype = torch.float32

    name = "mixture"
    n_steps = 1

    @classmethod
    def fit(cls, codes: Tensor, *, n_components: int, covariance: str = "full", seed: int = 0) -> "Mixture":
        """The mixture fitted on codes ``(n, D)`` by EM.

        Raises
        ------
        UsageError
            If there are fewer codes than components, or no such kind of ``covariance`` (``full`` or ``diag``, whitened).
        """
        from sklearn.mixture import GaussianMixture

        if covariance not in ("full", "diag"):
            raise UsageError(f"The covariance of a mixture's components is full or diag, not '{covariance}'.")
        if not 1 <= n_components <= len(codes):
            raise UsageError(f"A mixture fitted on {len(codes)} images has from 1 to {len(codes)} components, not {n_components}.")
        whitening = Whitening.of(codes)
        widened_by = min(1.0, WIDENED_BY * codes.shape[1] * n_components / len(codes))
        one = n_components == 1  # of which there is nothing to look for
        fitted = GaussianMixture(
            n_components,
            covariance_type=covariance,
            reg_covar=widened_by,
            init_params="random" if one else "kmeans",
            n_init=1 if one else min(STARTS, math.ceil(MANY / len(codes))),
            random_state=seed % 2**32,
        ).fit(whitening.to(codes).cpu().numpy())
        covariances = np.asarray(fitted.covariances_)
        cholesky = np.linalg.cholesky(covariances) if covariance == "full" else np.sqrt(covariances)[..., None] * np.eye(codes.shape[1])
        parts = (torch.as_tensor(np.asarray(part), device=codes.device) for part in (fitted.weights_, fitted.means_, cholesky))
        return cls(whitening, *parts, dtype=codes.dtype)

    def log_density(self, z: Tensor) -> Tensor:
        """log p(z) in nats, ``(n,)`` in float64."""
        y = self.whitening.to(z)
        return log_mixture(y, self.weights, self.means, self.cholesky) - self.whitening.log_det

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``, in random order of components."""
        component = weighted_rows(self.weights, n, generator)
        y = normal((n, self.means.shape[1]), generator, self.means)
        for number, (mean, factor) in enumerate(zip(self.means, self.cholesky, strict=True)):
            own = component == number
            y[own] = mean + y[own] @ factor.T
        z = self.whitening.back(y)
        on_iteration()
        return z.to(self.dtype), Diagnostics(self.name, n)


def log_normal(y: Tensor) -> Tensor:
    """log N(y; 0, I), ``(n,)`` of ``(n, D)``."""
    return -0.5 * (y.square().sum(dim=1) + y.shape[1] * math.log(2 * math.pi))


def log_mixture(z: Tensor, weights: Tensor, means: Tensor, cholesky: Tensor) -> Tensor:
    """log sum_m w_m N(z; mean_m, L_m L_m^T), ``(n,)`` of ``(n, D)``."""
    parts = []
    for weight, mean, factor in zip(weights, means, cholesky, strict=True):
        y = torch.linalg.solve_triangular(factor, (z - mean).T, upper=False).T
        parts.append(weight.log() + log_normal(y) - factor.diagonal().log().sum())
    return torch.stack(parts).logsumexp(dim=0)


def squared_distances(y: Tensor, centres: Tensor) -> Iterator[Tensor]:
    """``(n, k)`` of ``(n, D)`` and ``(k, D)``, in bounded memory: ``(.., k)`` for one part of the rows after another.

    By the expanded square: of whitened coordinates, which are of the size of 1.
    """
    squares = centres.square().sum(dim=1)
    for rows in y.split(max(1, CHUNK // len(centres))):
        yield torch.addmm(rows.square().sum(dim=1, keepdim=True) + squares, rows, centres.T, alpha=-2).clamp_(min=0)


def log_sums_of_kernels(y: Tensor, centres: Tensor, widths: Sequence[float]) -> Tensor:
    """log sum_i exp(-|y - c_i|^2 / (2 width^2)), ``(w, n)`` of ``(n, D)``, ``(k, D)`` and ``w`` widths; bounded memory."""
    sums = y.new_empty((len(widths), len(y)))
    done = 0
    for distances in squared_distances(y, centres):
        nearest = distances.amin(dim=1, keepdim=True)
        farther = nearest - distances
        for width, place in zip(widths, sums[:, done : done + len(distances)], strict=True):
            # logsumexp, whose largest term is that of the nearest centre at every width.
            scale = 0.5 / width**2
            place.copy_((farther * scale).exp_().sum(dim=1).log_() - scale * nearest[:, 0])
        done += len(distances)
    return sums


def log_sum_of_kernels(y: Tensor, centres: Tensor, width: float) -> Tensor:
    """The same of one ``width``, ``(n,)``."""
    return log_sums_of_kernels(y, centres, (width,))[0]


def ledoit_wolf(centred: Tensor) -> Tensor:
    """The shrunk covariance ``(D, D)`` of points ``(n, D)`` with a mean of 0; scikit-learn's takes ten times as long for a small cohort."""
    n, dim = centred.shape
    covariance = centred.T @ centred / n
    mean = covariance.trace() / dim
    spread = covariance.square().sum() - dim * mean.square()
    noise = (centred.square().sum(dim=1).square().sum() / n - covariance.square().sum()) / n
    share = (noise / spread).clamp(max=1) if spread > 0 else 1.0
    return (1 - share) * covariance + share * mean * torch.eye(dim, dtype=centred.dtype, device=centred.device)
