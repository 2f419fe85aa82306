"""Latent samplers by name. A sampler is fitted from posteriors and draws latents: ``sample(n, generator) -> (z, diagnostics)``."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...datasets.common.errors import UsageError
from ..autoencoders import Autoencoder, GaussianAutoencoder, LearntMetric, LearntPrior
from ..settings import Settings, read_settings, require_values, settings_of
from . import fits
from .latents import Latents, Sampler

AUTO = "auto"  # the law that is best for people left out (law_scores.py)
DEFAULT_SAMPLER = AUTO


@dataclass(frozen=True)
class Entry:
    """How a sampler is fitted, and on which models.

    Parameters
    ----------
    fit : callable
        From ``(latents, seed, *, ...)``, whose keywords are the sampler's settings.
    title, source : str
        What it is, in a few words, and whose it is: for ``augment models``.
    needs : type
        What an autoencoder must be.
    in_metric : bool
        Whether it looks at the metric of the posteriors, so that the metric's settings are settings of it too.
    as_published : bool
        Whether its images are the paper's, to which nothing is added unless it is asked for.
    """

    fit: Callable[..., Sampler]
    title: str
    source: str
    needs: type = Autoencoder
    in_metric: bool = False
    as_published: bool = False

    @cached_property
    def settings(self) -> Settings:
        """What can be set, by name."""
        return settings_of(self.fit)

    @property
    def in_base_space(self) -> bool:
        """Whether it draws as the posteriors do, so that a flow has still to follow."""
        return self.needs is GaussianAutoencoder


SAMPLERS: dict[str, Entry] = {
    "riemannian": Entry(
        fits.riemannian,
        "uniform on the manifold that holds 90 % of people left out; with a reach, on that of Algorithm 1's metric",
        "after Chadebec and Allassonniere 2022, Sec. 4.5",
        GaussianAutoencoder,
        in_metric=True,
    ),
    "gaussian": Entry(fits.gaussian, "one Gaussian, its covariance shrunk", "Ledoit and Wolf 2004"),
    "kde": Entry(fits.kde, "a Gaussian around every code, its width chosen", "Rosenblatt 1956"),
    "mixture": Entry(fits.mixture, "mixture of as many Gaussians as are best", "Dempster et al. 1977"),
    "riemannian-paper": Entry(
        fits.riemannian_paper,
        "Algorithm 2 to the letter: with isolated centroids, posteriors times rho / sqrt(D)",
        "Chadebec and Allassonniere 2022",
        GaussianAutoencoder,
        in_metric=True,
        as_published=True,
    ),
    "riemannian-released": Entry(
        fits.riemannian_released,
        "the law of the authors' released sampler",
        "Chadebec and Allassonniere 2022, their code",
        GaussianAutoencoder,
        in_metric=True,
        as_published=True,
    ),
    "normal": Entry(fits.normal, "N(0, I)", "Kingma and Welling 2014"),
    "gmm": Entry(fits.gmm, "mixture of 10 Gaussians fitted on the codes", "Ghosh et al. 2020"),
    "posterior": Entry(
        fits.posterior, "a training image's posterior", "the aggregated posterior: Makhzani et al. 2015", GaussianAutoencoder
    ),
    "vamp": Entry(fits.vamp, "the prior that the model has learnt", "Tomczak and Welling 2018", LearntPrior),
    "two-stage": Entry(fits.two_stage, "a second VAE, fitted on the codes", "Dai and Wipf 2019"),
    "own-metric": Entry(fits.own_metric, "where the metric that the model has learnt sees data", "Chadebec et al. 2020", LearntMetric),
}


def samplers_for(kind: type[Autoencoder]) -> list[str]:
    """Names of the samplers that a model of this type can be sampled with."""
    return [name for name, entry in SAMPLERS.items() if issubclass(kind, entry.needs)]


def require_sampler(name: str) -> None:
    """Raise a ``UsageError`` if there is no such sampler."""
    if name not in SAMPLERS:
        raise UsageError(f"There is no sampler '{name}'; choose one of: {AUTO}, {', '.join(SAMPLERS)}.")


def check_sampler(name: str, kind: type[Autoencoder], model: str) -> None:
    """Raise a ``UsageError`` if there is no such sampler, or the model of this type and name cannot be sampled with it."""
    if name == AUTO:
        return
    require_sampler(name)
    if not issubclass(kind, SAMPLERS[name].needs):
        lacks = {GaussianAutoencoder: "Gaussian posterior", LearntPrior: "prior of its own", LearntMetric: "metric of its own"}
        raise UsageError(
            f"The sampler '{name}' needs a model with a {lacks[SAMPLERS[name].needs]}, and {model} has none; "
            f"for it choose one of: {', '.join(samplers_for(kind))}."
        )


def read_sampler_settings(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """Settings of a sampler from texts such as ``reach=1``; raise a ``UsageError`` for one that cannot be."""
    if texts and name == AUTO:
        require_none(text.partition("=")[0] for text in texts)
    if texts:
        require_sampler(name)
    return read_settings(SAMPLERS[name].settings, texts, f"the sampler '{name}'") if texts else {}


def require_none(names: Iterable[str]) -> None:
    """Raise a ``UsageError`` if something is set of ``auto``."""
    if given := ", ".join(names):
        raise UsageError(f"The sampler auto chooses its settings, and takes no {given}; name the sampler that it is a setting of.")


def fit_sampler(name: str, latents: Latents, *, seed: int = 0, **settings: Any) -> Sampler:
    """The sampler called ``name``, fitted on the latents of the training images.

    Parameters
    ----------
    name : str
        A key of ``SAMPLERS``.
    latents : Latents
        Latents of a fitted model.
    seed : int
        For a fit that is itself random (``gmm``, ``mixture``, ``two-stage``).
    **settings
        Settings of that sampler; ``None`` means its default.

    Raises
    ------
    UsageError
        For an unknown name, a setting that the sampler does not have, or a model that it does not serve.
    """
    kind = type(latents.autoencoder)
    check_sampler(name, kind, f"the model {kind.__name__}")
    entry = SAMPLERS[name]
    given = {key: value for key, value in settings.items() if value is not None}
    require_values(given, entry.settings, f"the sampler '{name}'")
    return entry.fit(latents, seed=seed, **given)
