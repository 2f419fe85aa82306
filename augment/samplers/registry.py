"""Latent samplers by name. A sampler is fitted from posteriors and draws latents: ``sample(n, generator) -> (z, diagnostics)``."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from ...datasets.common.errors import UsageError
from ..autoencoders import Autoencoder, GaussianAutoencoder, LearntMetric, LearntPrior
from .latents import Latents, Sampler, manifold_of
from .laws import Gaussian, Kernels, Mixture
from .left_out import People, choose_kernels, choose_manifold, choose_mixture
from .manifold import HOLDS, Manifold
from .own_metric import OwnMetric
from .plain import AggregatedPosterior, GaussianMixture, Normal, Vamp
from .published import RiemannianPaper, RiemannianReleased
from .riemannian import Riemannian
from .two_stage import TwoStage

AUTO = "auto"  # the law that is best for people left out (law_scores.py)
DEFAULT_SAMPLER = AUTO


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
    return manifold_of(latents.posterior, latents.metric, settings)


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
