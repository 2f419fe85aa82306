"""Latent samplers by name. A sampler is fitted from posteriors and draws latents: ``sample(n, generator) -> (z, diagnostics)``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..datasets.errors import UsageError
from .autoencoders import Autoencoder, GaussianAutoencoder, LearntMetric, LearntPrior
from .diagnostics import Diagnostics
from .metric import RiemannianMetric
from .posterior import Posterior
from .riemannian import OwnMetric, Riemannian, RiemannianPaper, RiemannianReleased, Tick, off_manifold
from .two_stage import TwoStage

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


@dataclass(frozen=True)
class Vamp:
    """The prior that ``model`` has learnt, in the space of ``codes`` ``(n, D)``; the model is in evaluation mode."""

    codes: Tensor
    model: LearntPrior
    metric: RiemannianMetric | None = None

    name = "vamp"
    n_steps = 1

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``."""
        z = self.model.sample_prior(n, generator).to(self.codes.dtype)
        on_iteration()
        return z, _plain_diagnostics(self.name, z, self.metric)


def _plain_diagnostics(name: str, z: Tensor, metric: RiemannianMetric | None) -> Diagnostics:
    return Diagnostics(name, len(z), None if metric is None else off_manifold(metric, z))


@dataclass(frozen=True, eq=False)
class Latents:
    """What samplers are fitted from: all that a fitted model knows of its latents.

    Parameters
    ----------
    codes : torch.Tensor
        ``(n, D)`` of the training images.
    autoencoder : Autoencoder
        What decodes them; its type says which samplers can be used.
    posterior, metric : optional
        Of the training images, for a ``GaussianAutoencoder``.
    """

    codes: Tensor
    autoencoder: Autoencoder
    posterior: Posterior | None = None
    metric: RiemannianMetric | None = None

    @property
    def posterior_of_codes(self) -> Posterior | None:
        """The posterior, where it is one of codes: a flow that follows it leads to another space."""
        return self.posterior if self.posterior is not None and torch.equal(self.posterior.mean, self.codes) else None

    @property
    def metric_of_codes(self) -> RiemannianMetric | None:
        """The metric, where it is one of the space of codes."""
        return None if self.posterior_of_codes is None else self.metric


@dataclass(frozen=True)
class Entry:
    """How a sampler is fitted, and on which models.

    Parameters
    ----------
    fit : callable
        From ``(latents, seed, **settings)``.
    title, source : str
        What it is, in a few words, and whose it is: for ``augment models``.
    settings : tuple of str
        Names that ``fit`` takes.
    needs : type
        What an autoencoder must be.
    """

    fit: Callable[..., Sampler]
    title: str
    source: str
    settings: tuple[str, ...] = ()
    needs: type = Autoencoder

    @property
    def in_base_space(self) -> bool:
        """Whether it draws as the posteriors do, so that a flow has still to follow."""
        return self.needs is GaussianAutoencoder


_CHAIN = ("n_iterations", "n_leapfrog", "step_size")
SAMPLERS: dict[str, Entry] = {
    "riemannian": Entry(
        lambda latents, seed, **settings: Riemannian(latents.metric, **settings),
        "uniform on the manifold, on a support of finite volume",
        "Chadebec and Allassonniere 2022, Sec. 4.5",
        ("n_iterations", "n_leapfrog", "n_warm_up", "target_acceptance", "log_threshold"),
        GaussianAutoencoder,
    ),
    "riemannian-paper": Entry(
        lambda latents, seed, **settings: RiemannianPaper(latents.metric, **settings),
        "Algorithm 2 to the letter",
        "Chadebec and Allassonniere 2022",
        _CHAIN,
        GaussianAutoencoder,
    ),
    "riemannian-released": Entry(
        lambda latents, seed, **settings: RiemannianReleased(latents.metric, latents.posterior.mean, **settings),
        "the law of the authors' released sampler",
        "Chadebec and Allassonniere 2022, their code",
        _CHAIN,
        GaussianAutoencoder,
    ),
    "normal": Entry(lambda latents, seed: Normal(latents.codes, latents.metric_of_codes), "N(0, I)", "Kingma and Welling 2014"),
    "gmm": Entry(
        lambda latents, seed, **settings: GaussianMixture.fit(latents.codes, latents.metric_of_codes, seed=seed, **settings),
        "mixture of 10 Gaussians fitted on the codes",
        "Ghosh et al. 2020",
        ("n_components",),
    ),
    "posterior": Entry(
        lambda latents, seed: AggregatedPosterior(latents.posterior, latents.metric),
        "a training image's posterior",
        "the aggregated posterior: Makhzani et al. 2015",
        needs=GaussianAutoencoder,
    ),
    "vamp": Entry(
        lambda latents, seed: Vamp(latents.codes, latents.autoencoder, latents.metric_of_codes),
        "the prior that the model has learnt",
        "Tomczak and Welling 2018",
        needs=LearntPrior,
    ),
    "two-stage": Entry(
        lambda latents, seed, **settings: TwoStage.fit(
            latents.codes, latents.posterior_of_codes, latents.metric_of_codes, seed=seed, **settings
        ),
        "a second VAE, fitted on the codes",
        "Dai and Wipf 2019",
        ("n_training_steps",),
    ),
    "own-metric": Entry(
        lambda latents, seed, **settings: OwnMetric(latents.autoencoder, latents.metric_of_codes, **settings),
        "where the metric that the model has learnt sees data",
        "Chadebec et al. 2020",
        ("n_iterations", "n_leapfrog", "n_warm_up", "target_acceptance"),
        LearntMetric,
    ),
}


def samplers_for(kind: type[Autoencoder]) -> list[str]:
    """Names of the samplers that a model of this type can be sampled with."""
    return [name for name, entry in SAMPLERS.items() if issubclass(kind, entry.needs)]


def check_sampler(name: str, kind: type[Autoencoder], model: str) -> None:
    """Raise a ``UsageError`` if there is no such sampler, or the model of this type and name cannot be sampled with it."""
    if name not in SAMPLERS:
        raise UsageError(f"There is no sampler '{name}'; choose one of: {', '.join(SAMPLERS)}.")
    if not issubclass(kind, SAMPLERS[name].needs):
        lacks = {GaussianAutoencoder: "Gaussian posterior", LearntPrior: "prior of its own", LearntMetric: "metric of its own"}
        raise UsageError(
            f"The sampler '{name}' needs a model with a {lacks[SAMPLERS[name].needs]}, which {model} has not; "
            f"for it choose one of: {', '.join(samplers_for(kind))}."
        )


def fit_sampler(name: str, latents: Latents, *, seed: int = 0, **settings: Any) -> Sampler:
    """The sampler called ``name``, fitted on the latents of the training images.

    Parameters
    ----------
    name : str
        A key of ``SAMPLERS``.
    latents : Latents
        Of a fitted model.
    seed : int
        For a fit that is itself random (``gmm``, ``two-stage``).
    **settings
        Of that sampler; ``None`` means its default.

    Raises
    ------
    UsageError
        For an unknown name, a setting that the sampler does not have, or a model that it does not serve.
    """
    kind = type(latents.autoencoder)
    check_sampler(name, kind, f"the model {kind.__name__}")
    entry = SAMPLERS[name]
    given = {key: value for key, value in settings.items() if value is not None}
    foreign = sorted(set(given) - set(entry.settings))
    if foreign:
        takes = f"it takes {', '.join(entry.settings)}" if entry.settings else "it takes none"
        raise UsageError(f"The sampler '{name}' has no setting {', '.join(foreign)}; {takes}.")
    return entry.fit(latents, seed=seed, **given)
