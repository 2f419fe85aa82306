"""The methods of an augmentation study by name: a source of images, and changes of them, as ``resampled+classical``.

Sources are the baselines, a line each, and by one rule every generator, as ``model:sampler``.
"""

from collections.abc import Mapping, Sequence

from ...augment.autoencoders import AUTOENCODERS
from ...augment.samplers.registry import SAMPLERS
from ...classifiers.augmentation import CHANGES
from ...datasets.cohort import Cohort
from ...datasets.common.errors import DataError, UsageError
from ..engine.systems import System
from .baselines import covariates, original, require_covariates, resampled, weighted
from .method import Method, Source
from .morphs import morphs
from .synthetic import synthetic

SOURCES: dict[str, Source] = {
    "original": Source("the real images as they are", original),
    "resampled": Source("the real images, repeated until every class has as many", resampled),
    "weighted": Source("the real images, every class of the same weight in the loss", weighted),
    "covariates": Source("age and sex, and no image", covariates, require=require_covariates, has_images=False),
    "morph": Source(
        "pairs of people of a class, moved to where they meet and blended; mixed with real ones as --mode says", morphs, generates=True
    ),
}
CHANGED = {  # what is done to every batch, of ``CHANGES``
    "classical": "moved, bent, brightened and roughened at random",
    "mixup": "pairs of images, and their labels, added in random shares (Zhang et al. 2018)",
}
SHORT = {"classical": "resampled+classical"}  # names that stand for others
BASELINE = "resampled+classical"  # what a synthetic cohort has to beat
DEFAULT_METHODS = (
    "original",
    "resampled",
    "weighted",
    BASELINE,
    "morph+classical",
    "vae:auto+classical detail=mosaic",
    "covariates",
)


def method_of(text: str) -> Method:
    """The method that a text names: ``source``, or ``source+change``, and settings of a generator behind it.

    Raises
    ------
    UsageError
        If there is no such source, change or setting, or they do not go together.
    """
    first, *settings = SHORT.get(text, text).split() or [""]
    name, *changes = first.split("+")
    if late := [change for change in CHANGES if any(word.endswith(f"+{change}") for word in settings)]:
        raise UsageError(f"In '{text}' a change stands behind a setting; write '{first}+{late[0]}', and settings after it.")
    unknown = [change for change in changes if change not in CHANGES]
    if unknown:
        raise UsageError(f"There is no change '{unknown[0]}' in '{text}'; choose of {', '.join(CHANGES)}.")
    if len(set(changes)) < len(changes):
        raise UsageError(f"'{text}' has a change twice; name each once.")
    source = _source_of(name, settings, text)
    if changes and not source.has_images:
        raise UsageError(f"'{name}' has no images that {changes[0]} could change; leave that out.")
    return Method(source, tuple(changes))


def _source_of(name: str, settings: Sequence[str], text: str) -> Source:
    if ":" in name:
        return synthetic(System.parse(" ".join([name, *settings])))
    if name not in SOURCES:
        raise UsageError(
            f"There is no method '{text}'; choose of {', '.join(SOURCES)}, or model:sampler with a model of "
            f"{', '.join(AUTOENCODERS)} and a sampler of {', '.join(SAMPLERS)}; with any of them, +{' or +'.join(CHANGES)}."
        )
    if settings:
        raise UsageError(f"'{name}' has no settings; leave out {' '.join(settings)}.")
    return SOURCES[name]


def systems_of(methods: Sequence[str]) -> Mapping[str, System]:
    """The systems of those methods that have one, each once, by the name of its first method."""
    found: dict[str, System] = {}
    for text in methods:
        system = method_of(text).source.system
        if system is not None and system not in found.values():
            found[text] = system
    return found


def default_methods(cohort: Cohort) -> tuple[str, ...]:
    """Those of ``DEFAULT_METHODS`` for which a cohort has what they need."""
    return tuple(name for name in DEFAULT_METHODS if _suits(name, cohort))


def require_methods(methods: Sequence[str], cohort: Cohort, tests: Sequence[Cohort]) -> None:
    """Raise a ``DataError`` if the cohort, or one that is tested, lacks what a method needs."""
    for name in methods:
        method_of(name).source.require(cohort, tests)


def _suits(name: str, cohort: Cohort) -> bool:
    try:
        method_of(name).source.require(cohort, ())
    except DataError:
        return False
    return True
