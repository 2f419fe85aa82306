"""Latent samplers by name. A sampler is fitted from posteriors and draws latents: ``sample(n, generator) -> (z, diagnostics)``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..datasets.errors import UsageError
from .diagnostics import Diagnostics
from .metric import RiemannianMetric
from .posterior import Posterior
from .riemannian import Riemannian, RiemannianPaper, RiemannianReleased, Tick, off_manifold

DEFAULT_SAMPLER = "riemannian"


class Sampler(Protocol):
    """What every latent sampler offers."""

    @property
    def name(self) -> str:
        """As users type it."""
        ...

    @property
    def n_steps(self) -> int:
        """How often ``on_iteration`` will be called."""
        ...

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = ...) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``; the generator is on the device of the posteriors."""
        ...


@dataclass(frozen=True)
class Normal:
    """The VAE's prior, N(0, I)."""

    metric: RiemannianMetric

    name = "normal"
    n_steps = 1

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``."""
        like = self.metric.centroids
        z = torch.randn((n, self.metric.dim), generator=generator, device=like.device, dtype=like.dtype)
        on_iteration()
        return z, Diagnostics(self.name, n, off_manifold(self.metric, z))


@dataclass(frozen=True)
class AggregatedPosterior:
    """Draw a training image, then z from its q(z|x): the baseline that a sampler has to beat."""

    metric: RiemannianMetric
    posterior: Posterior

    name = "posterior"
    n_steps = 1

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``."""
        index = torch.randint(len(self.posterior), (n,), generator=generator, device=self.posterior.mean.device)
        z = self.posterior[index].sample(generator)
        on_iteration()
        return z, Diagnostics(self.name, n, off_manifold(self.metric, z))


@dataclass(frozen=True)
class GaussianMixture:
    """Full-covariance Gaussian mixture fitted on the posterior means (Ghosh et al. 2020; the paper's ex-post density, 10 components).

    Parameters
    ----------
    weights, means, covariances : numpy.ndarray
        ``(m,)``, ``(m, D)``, ``(m, D, D)``.
    """

    metric: RiemannianMetric
    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    name = "gmm"
    n_steps = 1

    @classmethod
    def fit(cls, metric: RiemannianMetric, posterior: Posterior, *, n_components: int = 10, seed: int = 0) -> "GaussianMixture":
        """Fit by EM; a cohort of fewer images than components gets one component an image at most."""
        from sklearn.mixture import GaussianMixture as Mixture

        means = posterior.mean.double().cpu().numpy()
        mixture = Mixture(min(n_components, len(means)), covariance_type="full", random_state=seed, reg_covar=1e-6).fit(means)
        return cls(metric, np.asarray(mixture.weights_), np.asarray(mixture.means_), np.asarray(mixture.covariances_))

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``, in random order of components."""
        like = self.metric.centroids
        draw = {"generator": generator, "device": like.device, "dtype": like.dtype}
        as_like = {"device": like.device, "dtype": like.dtype}
        component = torch.multinomial(torch.as_tensor(self.weights, **as_like), n, replacement=True, generator=generator)
        factors = torch.as_tensor(np.linalg.cholesky(self.covariances), **as_like)
        noise = torch.randn((n, self.metric.dim), **draw)
        z = torch.as_tensor(self.means, **as_like)[component] + torch.einsum("nij,nj->ni", factors[component], noise)
        on_iteration()
        return z, Diagnostics(self.name, n, off_manifold(self.metric, z))


# name -> how it is fitted from (metric, posterior, seed=...), and the names of its settings
_CHAIN_SETTINGS = ("n_iterations", "n_leapfrog", "step_size")
SAMPLERS: dict[str, tuple[Callable[..., Sampler], tuple[str, ...]]] = {
    "normal": (lambda metric, posterior, seed: Normal(metric), ()),
    "gmm": (GaussianMixture.fit, ("n_components",)),
    "posterior": (lambda metric, posterior, seed: AggregatedPosterior(metric, posterior), ()),
    "riemannian": (
        lambda metric, posterior, seed, **settings: Riemannian(metric, **settings),
        ("n_iterations", "n_leapfrog", "n_warm_up", "target_acceptance", "log_threshold"),
    ),
    "riemannian-paper": (lambda metric, posterior, seed, **settings: RiemannianPaper(metric, **settings), _CHAIN_SETTINGS),
    "riemannian-released": (
        lambda metric, posterior, seed, **settings: RiemannianReleased(metric, posterior.mean, **settings),
        _CHAIN_SETTINGS,
    ),
}


def fit_sampler(name: str, metric: RiemannianMetric, posterior: Posterior, *, seed: int = 0, **settings: Any) -> Sampler:
    """The sampler called ``name``, fitted on the posteriors of the training images.

    Parameters
    ----------
    name : str
        A key of ``SAMPLERS``.
    metric : RiemannianMetric
        Of the same model; the plain samplers need it to say how many of their draws lie off the manifold.
    posterior : Posterior
        Of the training images, ``(n, D)``, on the metric's device.
    seed : int
        For a fit that is itself random (``gmm``).
    **settings
        Of that sampler; ``None`` means its default.

    Raises
    ------
    UsageError
        For an unknown name, or a setting that the sampler does not have.
    """
    if name not in SAMPLERS:
        raise UsageError(f"There is no sampler '{name}'; choose one of: {', '.join(SAMPLERS)}.")
    fit, known = SAMPLERS[name]
    given = {key: value for key, value in settings.items() if value is not None}
    foreign = sorted(set(given) - set(known))
    if foreign:
        takes = f"it takes {', '.join(known)}" if known else "it takes none"
        raise UsageError(f"The sampler '{name}' has no setting {', '.join(foreign)}; {takes}.")
    return fit(metric, posterior, seed=seed, **given)
