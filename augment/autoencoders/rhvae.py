"""The Riemannian Hamiltonian variational autoencoder: an HVAE whose dynamics follow a metric that is learnt beside it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import ParamSpec

import torch
import torch.nn.functional as F
from torch import Tensor

from ...datasets.common.errors import UsageError
from .. import hmc
from ..draws import normal
from ..networks import Architecture
from .base import LearntMetric
from .hvae import CHUNK, HVAE, Tempering, evaluating, some_rows
from .likelihood import Likelihood

P = ParamSpec("P")


def in_float32(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Matrix products in float32 under autocast too: in bf16, G^-1 is no longer positive definite where lambda is all that makes it so."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return function(*args, **kwargs)

    return wrapped


@dataclass(frozen=True, eq=False)
class KernelMetric:
    """G^-1(z) = sum_i M_i omega_i(z) + lambda I, with omega_i(z) = exp(-|z - c_i|^2 / T^2).

    Parameters
    ----------
    centroids : torch.Tensor
        ``(k, D)``: c_i.
    products : torch.Tensor
        ``(k, D, D)``: M_i = L_i L_i^T, positive semi-definite.
    temperature, lam : float
        T and lambda.
    """

    centroids: Tensor
    products: Tensor
    temperature: float
    lam: float

    def weights(self, z: Tensor) -> Tensor:
        """omega_i at ``z`` ``(n, D)``: ``(n, k)``."""
        return torch.exp(-(z[:, None] - self.centroids).square().sum(2) / self.temperature**2)

    @in_float32
    def inverse(self, weights: Tensor) -> Tensor:
        """G^-1, ``(n, D, D)``, of ``weights`` ``(n, k)``."""
        identity = torch.eye(self.centroids.shape[1], dtype=weights.dtype, device=weights.device)
        return (weights @ self.products.flatten(1)).unflatten(1, identity.shape) + self.lam * identity

    @in_float32
    def pull(self, z: Tensor, weights: Tensor, matrix: Tensor) -> Tensor:
        """-1/2 sum_de A_de grad (G^-1)_de for symmetric A, ``(n, D, D)``, held constant: ``(n, D)``, without an array n x k x D.

        By d omega_i / dz = -2 omega_i (z - c_i) / T^2 it is sum_i omega_i <A, M_i> (z - c_i) / T^2.
        """
        shares = weights * (matrix.flatten(1) @ self.products.flatten(1).T)
        return (shares.sum(1, keepdim=True) * z - shares @ self.centroids) / self.temperature**2


@dataclass(frozen=True, eq=False)
class Point:
    """What the dynamics need to know of ``state.z``, computed once: omega ``(n, k)``, G^-1 = C C^T with C lower, and G, ``(n, D, D)``."""

    state: hmc.State
    weights: Tensor
    inverse: Tensor
    cholesky: Tensor
    tensor: Tensor

    @classmethod
    def at(cls, z: Tensor, log_density: hmc.LogDensity, metric: KernelMetric) -> "Point":
        """With one Cholesky factor and one inverse."""
        weights = metric.weights(z)
        inverse = metric.inverse(weights)
        # Without checks: what is not finite goes on into the loss, which training refuses with a word on what to do.
        cholesky, _ = torch.linalg.cholesky_ex(inverse)
        return cls(hmc.init(z, log_density), weights, inverse, cholesky, torch.cholesky_inverse(cholesky))

    def log_det(self) -> Tensor:
        """log det G, ``(n,)``."""
        return -2 * self.cholesky.diagonal(dim1=1, dim2=2).log().sum(1)

    def momentum(self, noise: Tensor) -> Tensor:
        """N(0, G) of N(0, I), ``(n, D)``: C^-T noise."""
        return torch.linalg.solve_triangular(self.cholesky.mT, noise[..., None], upper=True)[..., 0]

    def kinetic(self, rho: Tensor) -> Tensor:
        """-log N(rho; 0, G) without its constant, ``(n,)``: (rho^T G^-1 rho + log det G) / 2."""
        return 0.5 * (_times(self.cholesky.mT, rho).square().sum(1) + self.log_det())


@dataclass(frozen=True)
class Solver:
    """When a fixed point counts as found: its relative change is at most ``tolerance``, or after ``max_iterations``."""

    tolerance: float
    max_iterations: int

    def solve(self, iteration: Callable[[Tensor], Tensor], start: Tensor) -> tuple[Tensor, Tensor]:
        """A fixed point ``(n, D)`` and its residual ``(n,)``: the last change, its largest entry against 1 + the largest of the point.

        Row by row the iteration goes on as long as it contracts. Momenta enter their own equation squared: where a step is too long,
        iterates would grow beyond any float in a few rounds, so such a row stays where it is and its residual tells.
        """
        point, residual = start, torch.full_like(start[:, 0], math.inf)
        for _ in range(self.max_iterations):
            proposal = iteration(point)
            change = ((proposal - point).abs().amax(1) / (1 + point.abs().amax(1))).detach()
            contracts = change < residual
            point, residual = torch.where(contracts[:, None], proposal, point), change
            if not (contracts & (change > self.tolerance)).any():
                break
        return point, residual


def generalised_leapfrog(
    point: Point, rho: Tensor, log_density: hmc.LogDensity, metric: KernelMetric, step_size: Tensor, solver: Solver
) -> tuple[Point, Tensor, Tensor]:
    """One step for H(z, rho) = U(z) + log det G(z) / 2 + rho^T G^-1(z) rho / 2 (Girolami and Calderhead 2011, Eq. 16 to 18).

    Two implicit halves and an explicit one: reversible and volume-preserving as far as the fixed points are exact. U is evaluated once, at
    the new point, and G^-1 inverted once: the fixed points need neither.

    Returns
    -------
    point, rho
        At the end.
    residual : torch.Tensor
        ``(n,)``: the larger of the two fixed points'.
    """
    half = 0.5 * step_size
    z = point.state.z
    # grad_z H = -grad log p + pull(G - rho rho^T): only rho rho^T changes from one iterate to the next.
    known = rho + half * (point.state.gradient - metric.pull(z, point.weights, point.tensor))
    rho, residual = solver.solve(lambda rho: known + half * metric.pull(z, point.weights, _outer(rho)), known)
    pushed = in_float32(torch.einsum)("kij,nj->nki", metric.products, rho)

    @in_float32
    def drift(z: Tensor) -> Tensor:
        """G^-1(z) rho, without G^-1."""
        return torch.einsum("nk,nki->ni", metric.weights(z), pushed) + metric.lam * rho

    departure = z + half * _times(point.inverse, rho)
    z, other_residual = solver.solve(lambda z: departure + half * drift(z), departure + half * (departure - z))
    end = Point.at(z, log_density, metric)
    rho = rho + half * (end.state.gradient - metric.pull(z, end.weights, end.tensor - _outer(rho)))
    return end, rho, torch.maximum(residual, other_residual)


class RHVAE(HVAE, LearntMetric):
    """An HVAE in a learnt geometry (Chadebec, Mantoux and Allassonniere 2020).

    Beside the encoder a metric network gives each image a lower triangular matrix L with a positive diagonal. They make

        G^-1(z) = sum_i L_i L_i^T exp(-|z - c_i|^2 / T^2) + lambda I

    with the images' posterior means as centroids c_i. Momenta are N(0, G(z_0) / beta_0), and ``leapfrogs`` generalised leapfrog steps,
    tempered as those of the HVAE, follow U(z) + log det G(z) / 2 + rho^T G^-1(z) rho / 2. The negative bound is -log p(x|z_K) + beta KL,

        KL = E [|z_K|^2 + rho_K^T G^-1(z_K) rho_K + log det G(z_K) - log det G(z_0)] / 2 - log det Sigma / 2 - D.

    While training, the sum runs over the images of the batch, so that a gradient reaches both networks. For everything else the model
    keeps ``n_centroids`` of them, drawn anew from the training images and encoded before each epoch: the metric's cost depends neither on
    the epoch nor on the number of images. Before the first epoch there is one centroid, at the origin, with L = I.

    Codes are where the flow in the kept metric takes the posterior's mean from rest.

    Parameters
    ----------
    architecture : Architecture
        Architecture of both networks, and of the metric network's body.
    leapfrogs, step_size, tempering, beta_zero, beta, likelihood
        As of the HVAE. Steps begin ten times shorter: momenta gain what the likelihood's slope gives them in a step, and enter their own
        equation squared, so that at 0.01 a third of the fixed points of a trained small model were not found.
    temperature : float
        T, in units of the prior's standard deviation.
    regularisation : float
        lambda: G^-1 far from every centroid.
    n_centroids : int
        How many centroids are kept, at most.
    tolerance : float
        Largest relative change of a fixed point that counts as none. What remained, the largest of the batch, is the term ``residual``.
    max_iterations : int
        Largest number of iterations of a fixed point.
    """

    title = "RHVAE: HVAE with a learnt metric"
    source = "Chadebec et al. 2020"
    replayable = False  # its solver goes on until it has converged

    kept_centroids: Tensor
    kept_factors: Tensor
    n_kept: Tensor

    def __init__(
        self,
        architecture: Architecture,
        *,
        leapfrogs: int = 3,
        step_size: float = 0.001,
        tempering: Tempering = "fixed",
        beta_zero: float = 0.3,
        beta: float = 1.0,
        likelihood: Likelihood = "calibrated",
        temperature: float = 1.5,
        regularisation: float = 0.01,
        n_centroids: int = 100,
        tolerance: float = 1e-5,
        max_iterations: int = 20,
    ):
        super().__init__(
            architecture,
            leapfrogs=leapfrogs,
            step_size=step_size,
            tempering=tempering,
            beta_zero=beta_zero,
            beta=beta,
            likelihood=likelihood,
        )
        for name, value in (("temperature", temperature), ("regularisation", regularisation), ("tolerance", tolerance)):
            if not 0 < value < math.inf:
                raise UsageError(f"{name} must be above 0 and finite, not {value}.")
        if n_centroids < 1 or max_iterations < 1:
            raise UsageError(f"n_centroids and max_iterations must be 1 or more, not {n_centroids} and {max_iterations}.")
        self.temperature = temperature
        self.regularisation = regularisation
        self.solver = Solver(tolerance, max_iterations)
        dim = architecture.latent_dim
        self.metric_network = replace(architecture, latent_dim=dim * (dim + 1) // 2).encoder(1)
        factors = torch.zeros(n_centroids, dim, dim)
        factors[0] = torch.eye(dim)
        self.register_buffer("kept_centroids", torch.zeros(n_centroids, dim))
        self.register_buffer("kept_factors", factors)
        self.register_buffer("n_kept", torch.ones((), dtype=torch.int64))

    def factors(self, x: Tensor) -> Tensor:
        """L of images, ``(n, D, D)`` float32: lower triangular, its diagonal positive."""
        entries = self.metric_network(x)[0].float()
        dim = self.architecture.latent_dim
        # softplus where the paper takes the exponential, which overflows on an image unlike any in training.
        diagonal, below = F.softplus(entries[:, :dim]), entries[:, dim:]
        rows, columns = torch.tril_indices(dim, dim, offset=-1, device=x.device)
        factors = torch.diag_embed(diagonal)
        return factors.index_put((torch.arange(len(x), device=x.device)[:, None], rows, columns), below)

    def inverse_metric(self, z: Tensor) -> Tensor:
        metric = self.kept_metric()
        return metric.inverse(metric.weights(z))

    def centroids(self) -> Tensor:
        return self.kept_centroids[: int(self.n_kept)]

    def kept_metric(self) -> KernelMetric:
        """That of the centroids kept since the epoch began."""
        return self._metric(self.centroids(), self.kept_factors[: int(self.n_kept)])

    def loss(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        base = self.base(x)
        noise = normal(base.mean.shape, generator, base.mean)
        metric = self._metric(base.mean, self.factors(x)) if self.training else self.kept_metric()
        log_density = self.log_density(x)
        start = Point.at(base.sample(generator), log_density, metric)
        rho = start.momentum(noise) / self.alphas().prod()
        end, rho, residual = self.riemannian_flow(start, rho, log_density, metric)
        z = end.state.z
        reconstruction = self.reconstruction(x, end.state).mean()
        kl = (0.5 * (z.square() - base.log_var - 2).sum(1) + end.kinetic(rho) - 0.5 * start.log_det()).mean()
        return {"loss": reconstruction + self.beta * kl, "reconstruction": reconstruction, "kl": kl, "residual": residual.amax()}

    def flow(self, x: Tensor, z: Tensor, rho: Tensor) -> tuple[Tensor, Tensor]:
        """(z_K, rho_K) from (z_0, rho_0), all ``(n, D)``, in the metric that is kept."""
        log_density, metric = self.log_density(x), self.kept_metric()
        end, rho, _ = self.riemannian_flow(Point.at(z, log_density, metric), rho, log_density, metric)
        return end.state.z, rho

    def riemannian_flow(self, point: Point, rho: Tensor, log_density: hmc.LogDensity, metric: KernelMetric) -> tuple[Point, Tensor, Tensor]:
        """End of the flow, its momentum ``(n, D)``, and the largest residual of all its steps ``(n,)``."""
        residuals = []
        for alpha in self.alphas():
            point, rho, residual = generalised_leapfrog(point, rho, log_density, metric, self.step_sizes(), self.solver)
            rho = alpha * rho
            residuals.append(residual)
        return point, rho, torch.stack(residuals).amax(0)

    @torch.no_grad()
    def before_epoch(self, images: Tensor, generator: torch.Generator) -> None:
        super().before_epoch(images, generator)
        chunks = images[some_rows(len(images), len(self.kept_centroids), generator)].split(CHUNK)
        with evaluating(self):
            means = torch.cat([self.base(chunk).mean for chunk in chunks])
            factors = torch.cat([self.factors(chunk) for chunk in chunks])
        self.kept_centroids.zero_()[: len(means)] = means
        self.kept_factors.zero_()[: len(means)] = factors
        self.n_kept.fill_(len(means))

    def _metric(self, centroids: Tensor, factors: Tensor) -> KernelMetric:
        return KernelMetric(centroids, _squares(factors), self.temperature, self.regularisation)


@in_float32
def _squares(factors: Tensor) -> Tensor:
    """L L^T, ``(n, D, D)``."""
    return factors @ factors.mT


@in_float32
def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """``(n, D, D)`` times ``(n, D)``."""
    return (matrix @ vector[..., None])[..., 0]


def _outer(vector: Tensor) -> Tensor:
    return vector[:, :, None] * vector[:, None, :]
