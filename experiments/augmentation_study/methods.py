"""The methods of an augmentation study by name: the baselines, a line each, and by one rule every generator, as ``model:sampler``."""

from collections.abc import Mapping, Sequence

from ...augment.autoencoders import AUTOENCODERS
from ...augment.samplers.registry import SAMPLERS
from ...classifiers.augmentation import classical
from ...datasets.cohort import Cohort
from ...datasets.common.errors import DataError, UsageError
from ..engine.systems import System
from .baselines import covariates, original, require_covariates, resampled, weighted
from .method import Method
from .morphs import morphs
from .synthetic import synthetic

METHODS: dict[str, Method] = {
    "original": Method("the real images as they are", original),
    "resampled": Method("the real images, repeated until every class has as many", resampled()),
    "weighted": Method("the real images, every class of the same weight in the loss", weighted),
    "classical": Method("as resampled; moved, bent, brightened and roughened at random", resampled(classical)),
    "covariates": Method("age and sex, and no image", covariates, require=require_covariates),
    "morph": Method(
        "pairs of people of a class, moved to where they meet and blended; mixed with real ones as --mode says", morphs, generates=True
    ),
}
DEFAULT_METHODS = ("original", "resampled", "weighted", "classical", "vae:posterior", "vae:auto", "covariates")


def method_of(text: str) -> Method:
    """The method called ``text``; raise a ``UsageError`` if there is none."""
    if text in METHODS:
        return METHODS[text]
    if ":" in text:
        return synthetic(System.parse(text))
    raise UsageError(
        f"There is no method '{text}'; choose of {', '.join(METHODS)}, or model:sampler with a model of "
        f"{', '.join(AUTOENCODERS)} and a sampler of {', '.join(SAMPLERS)}."
    )


def systems_of(methods: Sequence[str]) -> Mapping[str, System]:
    """The systems of those methods that have one, by their names."""
    found = {text: method_of(text).system for text in methods}
    return {text: system for text, system in found.items() if system is not None}


def default_methods(cohort: Cohort) -> tuple[str, ...]:
    """Those of ``DEFAULT_METHODS`` for which a cohort has what they need."""
    return tuple(name for name in DEFAULT_METHODS if _suits(name, cohort))


def require_methods(methods: Sequence[str], cohort: Cohort, tests: Sequence[Cohort]) -> None:
    """Raise a ``DataError`` if the cohort, or one that is tested, lacks what a method needs."""
    for name in methods:
        method_of(name).require(cohort, tests)


def _suits(name: str, cohort: Cohort) -> bool:
    try:
        method_of(name).require(cohort, ())
    except DataError:
        return False
    return True
