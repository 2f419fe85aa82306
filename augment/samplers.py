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
    """The VAE's prior, N(0, I), in the space of ``codes`` ``(n, D)``."""

    codes: Tensor
    metric: RiemannianMetric | None = None

    name = "normal"
    n_steps = 1

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``."""
        like = self.codes
        z = torch.randn((n, like.shape[1]), generator=generator, device=like.device, dtype=like.dtype)
        on_iteration()
        return z, _plain_diagnostics(self.name, z, self.metric)


@dataclass(frozen=True)
class AggregatedPosterior:
    """Draw a training image, then z from its q(z|x): the baseline that a sampler has to beat."""

    posterior: Posterior
    metric: RiemannianMetric | None = None

    name = "posterior"
    n_steps = 1

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``."""
        index = torch.randint(len(self.posterior), (n,), generator=generator, device=self.posterior.mean.device)
        z = self.posterior[index].sample(generator)
        on_iteration()
        return z, _plain_diagnostics(self.name, z, self.metric)


@dataclass(frozen=True)
class GaussianMixture:
    """Full-covariance Gaussian mixture fitted on the codes (Ghosh et al. 2020; the paper's ex-post density, 10 components).

    Parameters
    ----------
    weights, means, cholesky : torch.Tensor
        ``(m,)``, ``(m, D)`` and ``(m, D, D)``: the components, with their covariances' lower Cholesky factors.
    metric : RiemannianMetric, optional
        To say how many draws lie off the manifold.
    """

    weights: Tensor
    means: Tensor
    cholesky: Tensor
    metric: RiemannianMetric | None = None

    name = "gmm"
    n_steps = 1

    @classmethod
    def fit(cls, codes: Tensor, metric: RiemannianMetric | None, *, n_components: int | None = None, seed: int = 0) -> "GaussianMixture":
        """Fit by EM on codes ``(n, D)``; by default 10 components, or as many as there are codes.

        Raises
        ------
        UsageError
            If there are fewer codes than components.
        """
        from sklearn.mixture import GaussianMixture as Mixture

        n_components = min(10, len(codes)) if n_components is None else n_components
        if not 1 <= n_components <= len(codes):
            raise UsageError(f"A mixture fitted on {len(codes)} images has from 1 to {len(codes)} components, not {n_components}.")
        # scikit-learn's seeds have 32 bits.
        mixture = Mixture(n_components, covariance_type="full", random_state=seed % 2**32).fit(codes.double().cpu().numpy())

        def as_codes(array: np.ndarray | None) -> Tensor:
            return torch.as_tensor(np.asarray(array), dtype=codes.dtype, device=codes.device)

        # In float64: of fewer codes than dimensions a covariance is singular but for scikit-learn's 1e-6, which float32 can lose.
        cholesky = np.linalg.cholesky(np.asarray(mixture.covariances_))
        return cls(as_codes(mixture.weights_), as_codes(mixture.means_), as_codes(cholesky), metric)

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``, in random order of components."""
        component = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn((n, self.means.shape[1]), generator=generator, device=self.means.device, dtype=self.means.dtype)
        z = self.means[component] + torch.einsum("nij,nj->ni", self.cholesky[component], noise)
        on_iteration()
        return z, _plain_diagnostics(self.name, z, self.metric)


def _plain_diagnostics(name: str, z: Tensor, metric: RiemannianMetric | None) -> Diagnostics:
    return Diagnostics(name, len(z), None if metric is None else off_manifold(metric, z))


@dataclass(frozen=True)
class Entry:
    """How a sampler is fitted.

    Parameters
    ----------
    fit : callable
        From ``(codes, metric, posterior, seed, **settings)``.
    settings : tuple of str
        Names that ``fit`` takes.
    needs_posterior : bool
        Whether it is for Gaussian posteriors only: those that carry a metric.
    """

    fit: Callable[..., Sampler]
    settings: tuple[str, ...] = ()
    needs_posterior: bool = False


_CHAIN = ("n_iterations", "n_leapfrog", "step_size")
SAMPLERS: dict[str, Entry] = {
    "riemannian": Entry(
        lambda codes, metric, posterior, seed, **settings: Riemannian(metric, **settings),
        ("n_iterations", "n_leapfrog", "n_warm_up", "target_acceptance", "log_threshold"),
        needs_posterior=True,
    ),
    "riemannian-paper": Entry(
        lambda codes, metric, posterior, seed, **settings: RiemannianPaper(metric, **settings), _CHAIN, needs_posterior=True
    ),
    "riemannian-released": Entry(
        lambda codes, metric, posterior, seed, **settings: RiemannianReleased(metric, codes, **settings), _CHAIN, needs_posterior=True
    ),
    "normal": Entry(lambda codes, metric, posterior, seed: Normal(codes, metric)),
    "gmm": Entry(
        lambda codes, metric, posterior, seed, **settings: GaussianMixture.fit(codes, metric, seed=seed, **settings), ("n_components",)
    ),
    "posterior": Entry(lambda codes, metric, posterior, seed: AggregatedPosterior(posterior, metric), needs_posterior=True),
}


def fit_sampler(
    name: str, codes: Tensor, metric: RiemannianMetric | None = None, posterior: Posterior | None = None, *, seed: int = 0, **settings: Any
) -> Sampler:
    """The sampler called ``name``, fitted on the latents of the training images.

    Parameters
    ----------
    name : str
        A key of ``SAMPLERS``.
    codes : torch.Tensor
        ``(n, D)``; the means, if the posterior is Gaussian.
    metric, posterior : optional
        Of a model with a Gaussian posterior. The plain samplers use the metric only to say how many of their draws lie off the manifold.
    seed : int
        For a fit that is itself random (``gmm``).
    **settings
        Of that sampler; ``None`` means its default.

    Raises
    ------
    UsageError
        For an unknown name, a setting that the sampler does not have, or a model without the posterior that it needs.
    """
    if name not in SAMPLERS:
        raise UsageError(f"There is no sampler '{name}'; choose one of: {', '.join(SAMPLERS)}.")
    entry = SAMPLERS[name]
    if entry.needs_posterior and (metric is None or posterior is None):
        usable = ", ".join(other for other, its in SAMPLERS.items() if not its.needs_posterior)
        raise UsageError(f"The sampler '{name}' needs a model with a Gaussian posterior (such as vae); for this one choose: {usable}.")
    given = {key: value for key, value in settings.items() if value is not None}
    foreign = sorted(set(given) - set(entry.settings))
    if foreign:
        takes = f"it takes {', '.join(entry.settings)}" if entry.settings else "it takes none"
        raise UsageError(f"The sampler '{name}' has no setting {', '.join(foreign)}; {takes}.")
    return entry.fit(codes, metric, posterior, seed=seed, **given)
