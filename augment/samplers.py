"""Latent samplers by name. A sampler is fitted from posteriors and draws latents: ``sample(n, generator) -> (z, diagnostics)``."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from ..datasets.errors import UsageError
from .autoencoders import Autoencoder, GaussianAutoencoder, LearntMetric, LearntPrior
from .diagnostics import Diagnostics
from .laws import CHUNK, Gaussian, Kernels, Mixture, log_mixture
from .left_out import People, choose_kernels, choose_manifold, choose_mixture
from .manifold import HOLDS, Manifold
from .metric import RiemannianMetric
from .posterior import Posterior, log_standard_normal
from .riemannian import OwnMetric, Riemannian, RiemannianPaper, RiemannianReleased, Tick
from .two_stage import TwoStage

AUTO = "auto"  # the law that is best for people left out (law_scores.py)
DEFAULT_SAMPLER = AUTO


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

    name = "normal"
    n_steps = 1

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``."""
        like = self.codes
        z = torch.randn((n, like.shape[1]), generator=generator, device=like.device, dtype=like.dtype)
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
        index = torch.randint(len(self.posterior), (n,), generator=generator, device=self.posterior.mean.device)
        z = self.posterior[index].sample(generator)
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
        for rows in (z.double() - centre).split(max(1, CHUNK // len(posterior))):
            squares = torch.addmm(constants, torch.cat([rows.square(), rows], dim=1), weights.T)
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
        return cls(as_codes(mixture.weights_), as_codes(mixture.means_), as_codes(cholesky))

    def sample(self, n: int, generator: torch.Generator, on_iteration: Tick = lambda: None) -> tuple[Tensor, Diagnostics]:
        """Draw ``n`` latents ``(n, D)``, in random order of components."""
        component = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn((n, self.means.shape[1]), generator=generator, device=self.means.device, dtype=self.means.dtype)
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
    person : torch.Tensor, optional
        ``(n,)`` whole numbers: codes with the same one are of the same person. By default each is somebody else's.
    reach : float, optional
        Of ``riemannian`` where a draw does not say it: a multiple of Algorithm 1's rho, which the metric has been given already.
    chosen : mapping
        From sampler to settings that were chosen for these latents, for which it need not look again.
    """

    codes: Tensor
    autoencoder: Autoencoder
    posterior: Posterior | None = None
    metric: RiemannianMetric | None = None
    person: Tensor | None = None
    reach: float | None = None
    chosen: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def posterior_of_codes(self) -> Posterior | None:
        """The posterior, where it is one of codes: a flow that follows it leads to another space."""
        return self.posterior if self.posterior is not None and torch.equal(self.posterior.mean, self.codes) else None

    @cached_property
    def manifold(self) -> Manifold | None:
        """The manifold that holds people left out, where the posteriors are."""
        if self.posterior is None or self.metric is None:
            return None
        settings = self.chosen.get("riemannian") or choose_manifold(self.posterior.mean, self.metric.centroids, self.person).settings
        return _manifold(self.posterior, self.metric, settings)


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


CHAIN = ("n_iterations", "n_leapfrog", "n_warm_up", "target_acceptance")
N_ITERATIONS = 100  # of a chain of which something else is set
_FIXED_CHAIN = ("n_iterations", "n_leapfrog", "step_size")


def parse_reach(text: str) -> float | Literal["auto"]:
    """``auto``, or a number above 0; raise a ``ValueError`` for anything else."""
    if text == AUTO:
        return AUTO
    reach = float(text)
    if not 0 < reach < math.inf:
        raise ValueError(text)
    return reach


def _riemannian(
    latents: Latents, seed: int, *, reach: float | Literal["auto"] | None = None, holds: float | None = None, **chain: Any
) -> Manifold | Riemannian:
    """The manifold that holds people left out; with a number for its reach, or settings of a chain, the law of Algorithm 1's metric."""
    assert latents.metric is not None
    assert latents.posterior is not None
    if reach is None:
        reach = latents.reach or (1.0 if chain else AUTO)
    if reach != AUTO:
        if holds is not None:
            raise UsageError("The share of people that the manifold holds is a setting of the reach auto; leave one of the two out.")
        if set(chain) & set(CHAIN):
            # Who sets a chain shall have one, also where the law could be drawn directly.
            chain = {"n_iterations": N_ITERATIONS} | chain
        return Riemannian(replace(latents.metric, rho=latents.metric.rho * reach / (latents.reach or 1.0)), **chain)
    if chain:
        raise UsageError(f"At the reach auto there is no chain to set {', '.join(chain)} of; give a number as --reach.")
    if holds is None or holds == HOLDS:
        assert latents.manifold is not None
        return latents.manifold
    if not 0 < holds < 1:
        raise UsageError(f"The share of people that the manifold holds lies between 0 and 1, not at {holds}.")
    settings = choose_manifold(latents.posterior.mean, latents.metric.centroids, latents.person, holds=holds).settings
    if settings["log_threshold"] is None:
        n = len(People.of(latents.codes, latents.person))
        raise UsageError(f"{n} training people cannot tell what holds {holds:.1%}; ask for at most {math.floor(1000 * n / (n + 1)) / 10}%.")
    return _manifold(latents.posterior, latents.metric, settings)


def _manifold(posterior: Posterior, metric: RiemannianMetric, settings: Mapping[str, Any]) -> Manifold:
    """With the settings that ``choose_manifold`` gives."""
    whole = Manifold.fit(posterior.mean, metric.centroids, crowding=settings["crowding"], width=settings["width"])
    return whole.cut(settings["log_threshold"])


def _kernels(latents: Latents, seed: int, *, width: float | None = None) -> Kernels:
    settings = latents.chosen.get("kde") or choose_kernels(latents.codes, latents.person).settings if width is None else {"width": width}
    return Kernels.fit(latents.codes, **settings)


def _mixture(latents: Latents, seed: int, **given: Any) -> Mixture:
    settings = {} if "n_components" in given else latents.chosen.get("mixture") or choose_mixture(latents.codes, latents.person).settings
    return Mixture.fit(latents.codes, **{**settings, **given}, seed=seed)


SAMPLERS: dict[str, Entry] = {
    "riemannian": Entry(
        _riemannian,
        "uniform on the manifold that holds 90 % of people left out; with a --reach, on that of Algorithm 1's metric",
        "after Chadebec and Allassonniere 2022, Sec. 4.5",
        ("reach", "holds", *CHAIN, "log_threshold"),
        GaussianAutoencoder,
    ),
    "gaussian": Entry(lambda latents, seed: Gaussian.fit(latents.codes), "one Gaussian, its covariance shrunk", "Ledoit and Wolf 2004"),
    "kde": Entry(_kernels, "a Gaussian around every code, its width chosen", "Rosenblatt 1956", ("width",)),
    "mixture": Entry(_mixture, "mixture of as many Gaussians as are best", "Dempster et al. 1977", ("n_components", "covariance")),
    "riemannian-paper": Entry(
        lambda latents, seed, **settings: RiemannianPaper(latents.metric, **settings),
        "Algorithm 2 to the letter: with isolated centroids, posteriors times rho / sqrt(D)",
        "Chadebec and Allassonniere 2022",
        _FIXED_CHAIN,
        GaussianAutoencoder,
    ),
    "riemannian-released": Entry(
        lambda latents, seed, **settings: RiemannianReleased(latents.metric, latents.posterior.mean, **settings),
        "the law of the authors' released sampler",
        "Chadebec and Allassonniere 2022, their code",
        _FIXED_CHAIN,
        GaussianAutoencoder,
    ),
    "normal": Entry(lambda latents, seed: Normal(latents.codes), "N(0, I)", "Kingma and Welling 2014"),
    "gmm": Entry(
        lambda latents, seed, **settings: GaussianMixture.fit(latents.codes, seed=seed, **settings),
        "mixture of 10 Gaussians fitted on the codes",
        "Ghosh et al. 2020",
        ("n_components",),
    ),
    "posterior": Entry(
        lambda latents, seed: AggregatedPosterior(latents.posterior),
        "a training image's posterior",
        "the aggregated posterior: Makhzani et al. 2015",
        needs=GaussianAutoencoder,
    ),
    "vamp": Entry(
        lambda latents, seed: Vamp(latents.codes, latents.autoencoder),
        "the prior that the model has learnt",
        "Tomczak and Welling 2018",
        needs=LearntPrior,
    ),
    "two-stage": Entry(
        lambda latents, seed, **settings: TwoStage.fit(latents.codes, latents.posterior_of_codes, seed=seed, **settings),
        "a second VAE, fitted on the codes",
        "Dai and Wipf 2019",
        ("n_training_steps",),
    ),
    "own-metric": Entry(
        lambda latents, seed, **settings: OwnMetric(latents.autoencoder, **settings),
        "where the metric that the model has learnt sees data",
        "Chadebec et al. 2020",
        CHAIN,
        LearntMetric,
    ),
}


def samplers_for(kind: type[Autoencoder]) -> list[str]:
    """Names of the samplers that a model of this type can be sampled with."""
    return [name for name, entry in SAMPLERS.items() if issubclass(kind, entry.needs)]


def check_sampler(name: str, kind: type[Autoencoder], model: str) -> None:
    """Raise a ``UsageError`` if there is no such sampler, or the model of this type and name cannot be sampled with it."""
    if name == AUTO:
        return
    if name not in SAMPLERS:
        raise UsageError(f"There is no sampler '{name}'; choose one of: {AUTO}, {', '.join(SAMPLERS)}.")
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
        For a fit that is itself random (``gmm``, ``mixture``, ``two-stage``).
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
