"""How each sampler is fitted on latents. The keywords are its settings, and ``None`` leaves one to the sampler."""

import math
from dataclasses import fields, replace
from typing import Annotated, Any, Literal

from ...datasets.common.errors import UsageError
from ..autoencoders import LearntMetric, LearntPrior
from ..geometry.metric import LEAST_GIVEN, MOST_GIVEN
from ..settings import Between
from .latents import Latents, manifold_of
from .laws import Gaussian, Kernels, Mixture
from .left_out import FEWEST, People, choose_kernels, choose_manifold, choose_mixture
from .manifold import HOLDS, Manifold
from .own_metric import OwnMetric
from .plain import AggregatedPosterior, GaussianMixture, Normal, Vamp
from .published import RiemannianPaper, RiemannianReleased
from .riemannian import Riemannian
from .two_stage import TwoStage

Reach = Annotated[float, Between(LEAST_GIVEN, MOST_GIVEN)] | Literal["auto"]
CHAIN = tuple(f.name for f in fields(Riemannian) if f.name not in ("metric", "log_threshold"))
N_ITERATIONS = 100  # of a chain of which something else is set


def riemannian(
    latents: Latents,
    seed: int,
    *,
    reach: Reach | None = None,
    holds: Annotated[float, Between(0, 1)] | None = None,
    n_iterations: int | None = None,
    n_leapfrog: int | None = None,
    n_warm_up: int | None = None,
    target_acceptance: float | None = None,
    log_threshold: float | None = None,
) -> Manifold | Riemannian:
    """The manifold that holds people left out; with a number for its reach, or settings of a chain, the law of Algorithm 1's metric."""
    assert latents.metric is not None
    assert latents.posterior is not None
    chain = _given(
        n_iterations=n_iterations,
        n_leapfrog=n_leapfrog,
        n_warm_up=n_warm_up,
        target_acceptance=target_acceptance,
        log_threshold=log_threshold,
    )
    if reach is None and holds is not None and latents.reach is not None:
        raise UsageError(
            "The model was fitted with a reach of its own (--rho or --rho-scale), at which riemannian draws, and there is no share that it "
            "holds; give reach=auto beside holds."
        )
    if reach is None:
        reach = latents.reach or (1.0 if chain else "auto")
    if reach != "auto":
        if holds is not None:
            raise UsageError("The share of people that the manifold holds is a setting of the reach auto; leave one of the two out.")
        if set(chain) & set(CHAIN):
            # Who sets a chain shall have one, also where the law could be drawn directly.
            chain = {"n_iterations": N_ITERATIONS} | chain
        return Riemannian(replace(latents.metric, rho=latents.metric.rho * reach / (latents.reach or 1.0)), **chain)
    if chain:
        raise UsageError(f"At the reach auto there is no chain to set {', '.join(chain)} of; give a number as reach.")
    assert latents.manifold is not None
    if holds is None or (holds == HOLDS and latents.manifold.log_threshold > -math.inf):
        return latents.manifold
    choice = choose_manifold(latents.posterior.mean, latents.metric.centroids, latents.person, holds=holds)
    if choice.settings["log_threshold"] is None:
        raise UsageError(_why_it_cannot_tell(latents, len(choice.scores), holds))
    return manifold_of(latents.posterior, latents.metric, choice.settings)


def _why_it_cannot_tell(latents: Latents, n_left_out: int, holds: float) -> str:
    """Why nobody knows what holds a share of people, of whom so many were left out."""
    if n_left_out:
        most = math.floor(1000 * n_left_out / (n_left_out + 1)) / 10
        return f"{n_left_out} training people cannot tell what holds {holds:.1%}; ask for at most {most}%."
    if (n := len(People.of(latents.codes, latents.person))) < FEWEST:
        return f"{n} training people cannot tell what a manifold holds; leave out holds."
    assert latents.metric is not None
    return (
        f"A manifold of {len(latents.metric.centroids)} centroids cannot tell what it holds: with some people left out there is none of "
        "them; fit with more --centroids, or leave out holds."
    )


def gaussian(latents: Latents, seed: int) -> Gaussian:
    """One Gaussian, its covariance shrunk."""
    return Gaussian.fit(latents.codes)


def kde(latents: Latents, seed: int, *, width: float | None = None) -> Kernels:
    """Kernels of the width that is best for people left out, unless it is given."""
    settings = latents.chosen.get("kde") or choose_kernels(latents.codes, latents.person).settings if width is None else {"width": width}
    return Kernels.fit(latents.codes, **settings)


def mixture(latents: Latents, seed: int, *, n_components: int | None = None, covariance: Literal["full", "diag"] | None = None) -> Mixture:
    """A mixture of as many Gaussians as are best for people left out, unless their number is given."""
    given = _given(n_components=n_components, covariance=covariance)
    settings = {} if "n_components" in given else latents.chosen.get("mixture") or choose_mixture(latents.codes, latents.person).settings
    return Mixture.fit(latents.codes, **{**settings, **given}, seed=seed)


def riemannian_paper(
    latents: Latents,
    seed: int,
    *,
    n_iterations: int = RiemannianPaper.n_iterations,
    n_leapfrog: int = RiemannianPaper.n_leapfrog,
    step_size: float = RiemannianPaper.step_size,
) -> RiemannianPaper:
    """Algorithm 2 in the metric of the posteriors."""
    assert latents.metric is not None
    return RiemannianPaper(latents.metric, n_iterations, n_leapfrog, step_size)


def riemannian_released(
    latents: Latents,
    seed: int,
    *,
    n_iterations: int = RiemannianReleased.n_iterations,
    n_leapfrog: int = RiemannianReleased.n_leapfrog,
    step_size: float = RiemannianReleased.step_size,
) -> RiemannianReleased:
    """The released sampler, which starts at any posterior's mean."""
    assert latents.metric is not None
    assert latents.posterior is not None
    return RiemannianReleased(latents.metric, latents.posterior.mean, n_iterations, n_leapfrog, step_size)


def normal(latents: Latents, seed: int) -> Normal:
    """The prior N(0, I)."""
    return Normal(latents.codes)


def gmm(latents: Latents, seed: int, *, n_components: int | None = None) -> GaussianMixture:
    """Ten Gaussians, or as many as are asked for, fitted on the codes."""
    return GaussianMixture.fit(latents.codes, n_components=n_components, seed=seed)


def posterior(latents: Latents, seed: int) -> AggregatedPosterior:
    """The posteriors of the training images."""
    assert latents.posterior is not None
    return AggregatedPosterior(latents.posterior)


def vamp(latents: Latents, seed: int) -> Vamp:
    """The prior that the model has learnt."""
    assert isinstance(latents.autoencoder, LearntPrior)
    return Vamp(latents.codes, latents.autoencoder)


def two_stage(latents: Latents, seed: int, *, n_training_steps: int = 1000) -> TwoStage:
    """A second VAE on the codes."""
    return TwoStage.fit(latents.codes, latents.posterior_of_codes, person=latents.person, n_training_steps=n_training_steps, seed=seed)


def own_metric(
    latents: Latents,
    seed: int,
    *,
    n_iterations: int = OwnMetric.n_iterations,
    n_leapfrog: int = OwnMetric.n_leapfrog,
    n_warm_up: int = OwnMetric.n_warm_up,
    target_acceptance: float = OwnMetric.target_acceptance,
) -> OwnMetric:
    """The metric that the model has learnt."""
    assert isinstance(latents.autoencoder, LearntMetric)
    return OwnMetric(latents.autoencoder, n_iterations, n_leapfrog, n_warm_up, target_acceptance)


def _given(**settings: Any) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}
