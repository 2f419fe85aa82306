"""Samplers without a geometry: the prior, the aggregated posterior, a mixture of Gaussians, and a prior that was learnt."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...datasets.common.errors import UsageError
from ..autoencoders import LearntPrior
from ..draws import normal, random_rows, weighted_rows
from ..posterior import Posterior, log_standard_normal
from .diagnostics import Diagnostics, Tick
from .laws import CHUNK, log_mixture


@dataclass(frozen=True)
class Normal:
    """The VAE's prior, N(0, I), in the space of ``codes`` ``(n, D)``."""

    codes: Tensor

    name = "normal"
    n_steps = 1

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``."""
        z = normal((n, self.codes.shape[1]), generator, self.codes)
        on_iteration()
        return z, Diagnostics(self.name, n)

    def log_density(self, z: Tensor) -> Tensor:
        """log p(z) in nats, ``(n,)``."""
        return log_standard_normal(z.double())


@dataclass(frozen=True)
class AggregatedPosterior:
    """Draw a training image, then z from its q(z|x): the baseline that a sampler has to beat."""

    posterior: Posterior

    name = "posterior"
    n_steps = 1

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``."""
        z = self.posterior[random_rows(len(self.posterior), n, generator, self.posterior.mean)].sample(generator)
        on_iteration()
        return z, Diagnostics(self.name, n)

    def log_density(self, z: Tensor) -> Tensor:
        """log p(z) in nats, ``(n,)``."""
        posterior = self.posterior.to(torch.float64)
        # The expanded square, as a matrix product: counted from the codes' mean, so that it keeps its digits.
        centre = posterior.mean.mean(dim=0)
        means, precisions = posterior.mean - centre, posterior.precision
        weights = torch.cat([precisions, -2 * means * precisions], dim=1)
        constants = (means.square() * precisions + posterior.log_var + math.log(2 * math.pi)).sum(dim=1)
        parts = []
        for some in (z.double() - centre).split(max(1, CHUNK // len(posterior))):
            squares = torch.addmm(constants, torch.cat([some.square(), some], dim=1), weights.T)
            parts.append(squares.mul_(-0.5).logsumexp(dim=1))
        return torch.cat(parts) - math.log(len(posterior))


@dataclass(frozen=True)
class GaussianMixture:
    """Full-covariance Gaussian mixture fitted on the codes (Ghosh et al. 2020; the paper's ex-post density, 10 components).

    Parameters
    ----------
    weights, means, cholesky : torch.Tensor
        ``(m,)``, ``(m, D)`` and ``(m, D, D)``: the components, with their covariances' lower Cholesky factors.
    """

    weights: Tensor
    means: Tensor
    cholesky: Tensor

    name = "gmm"
    n_steps = 1

    @classmethod
    def fit(cls, codes: Tensor, *, n_components: int | None = None, seed: int = 0) -> "GaussianMixture":
        """Fit by EM on codes ``(n, D)``; by default 10 components, or as many as there are codes.

        Raises
        ------
        UsageError
            If there are fewer codes than components.
        """
        from sklearn.mixture import GaussianMixture as Fitted

        n_components = min(10, len(codes)) if n_components is None else n_components
        if not 1 <= n_components <= len(codes):
            raise UsageError(f"A mixture fitted on {len(codes)} images has from 1 to {len(codes)} components, not {n_components}.")
        # scikit-learn's seeds have 32 bits.
        mixture = Fitted(n_components, covariance_type="full", random_state=seed % 2**32).fit(codes.double().cpu().numpy())

        def as_codes(array: np.ndarray | None) -> Tensor:
            return torch.as_tensor(np.asarray(array), dtype=codes.dtype, device=codes.device)

        # In float64: of fewer codes than dimensions a covariance is singular but for scikit-learn's 1e-6, which float32 can lose.
        cholesky = np.linalg.cholesky(np.asarray(mixture.covariances_))
        return cls(as_codes(mixture.weights_), as_codes(mixture.means_), as_codes(cholesky))

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``, in random order of components."""
        component = weighted_rows(self.weights, n, generator)
        noise = normal((n, self.means.shape[1]), generator, self.means)
        z = self.means[component] + torch.einsum("nij,nj->ni", self.cholesky[component], noise)
        on_iteration()
        return z, Diagnostics(self.name, n)

    def log_density(self, z: Tensor) -> Tensor:
        """log p(z) in nats, ``(n,)``."""
        return log_mixture(z.double(), self.weights.double(), self.means.double(), self.cholesky.double())


@dataclass(frozen=True)
class Vamp:
    """The prior that ``model`` has learnt, in the space of ``codes`` ``(n, D)``; the model is in evaluation mode."""

    codes: Tensor
    model: LearntPrior

    name = "vamp"
    n_steps = 1

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``."""
        z = self.model.sample_prior(n, generator).to(self.codes.dtype)
        on_iteration()
        return z, Diagnostics(self.name, n)

    @torch.no_grad()
    def log_density(self, z: Tensor) -> Tensor:
        """log p(z) in nats, ``(n,)``."""
        return self.model.log_prior(z.to(self.codes.dtype)).double()
