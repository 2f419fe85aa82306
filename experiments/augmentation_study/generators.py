"""The generators of an augmentation study: fitted in each run on its training side, or given as ``augment fit`` wrote them.

Given ones bring their split along, because another split would test on participants that they have seen.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from ...augment.fitting.model import FittedModel
from ...augment.fitting.model_folders import load_models
from ...augment.fitting.plan import FitPlan
from ...datasets.cohort import Cohort
from ...datasets.common.errors import DataError, LeakageError, UsageError
from ...datasets.common.words import listed
from ...datasets.splits import Split
from ...datasets.transforms import Preparation
from ..engine.generators import fitted_once
from ..engine.study_folder import digest, seed_of
from ..engine.systems import System
from .config import AugmentationConfig, GivenGenerators
from .method import Run


def describe_given(folder: Path, cohort: Cohort, systems: Mapping[str, System], preparation: Preparation) -> GivenGenerators:
    """What a study's configuration says of generators that were fitted before.

    Parameters
    ----------
    folder : Path
        Of models, with their ``split.json``.
    cohort : Cohort
        The study's.
    systems : mapping
        The study's, by the names of its methods.
    preparation : Preparation
        The study's, its size settled.

    Raises
    ------
    DataError
        If a class has no model, or the split is missing or leaves out a participant.
    UsageError
        If the models are not those that the methods name, or make other images than the study tests on.
    """
    models = load_models(folder, cohort.labels)
    split = Split.load(folder / "split.json", cohort)
    trained = [method for method, system in systems.items() if system.trained_as != system.model]
    if trained:
        raise UsageError(f"The models in {folder} are trained already: leave out of '{trained[0]}' what changes the training.")
    wanted = {system.model for system in systems.values()}
    for model in models.values():
        foreign = wanted - {model.config.model}
        if foreign:
            raise UsageError(f"{folder} holds a {model.config.model} of {model.config.label}; leave out methods of {min(foreign)}.")
        theirs = vars(model.config.preparation)
        differing = [f"{name} {theirs[name]}" for name, value in vars(preparation).items() if value != theirs[name]]
        if differing:
            raise UsageError(f"The models in {folder} make images of {', '.join(differing)}; give the study the same.")
    return GivenGenerators(split.digest, {label: _identity(model) for label, model in models.items()})


def split_of_given(cohort: Cohort, config: AugmentationConfig) -> Split:
    """The split of generators that were given; raise a ``DataError`` if it has changed since."""
    given, folder = _given(config)
    split = Split.load(folder / "split.json", cohort)
    if split.digest != given.split:
        raise _changed(folder / "split.json")
    return split


def given_generator(label: str, config: AugmentationConfig) -> FittedModel:
    """The given model of a class; raise a ``DataError`` if it has changed since."""
    given, folder = _given(config)
    model = load_models(folder, [label])[label]
    if _identity(model) != given.models[label]:
        raise _changed(folder)
    return model


def generator_of(system: System, label: str, run: Run) -> FittedModel:
    """The model of a class in a run: given, or else fitted once, kept in the study's folder, and shared by the samplers."""
    context, config = run.context, run.context.config
    if config.generators is not None:
        return given_generator(label, config)
    place = place_of_fitted(context.folder, run.number, system, run.data.classes.index(label), run.size)
    seed = seed_of(config.seed, {"run": run.number, "of": "generators"})
    settings = replace(system.fit_settings(context.fit_settings()), seed=seed)
    return fitted_once(place, FitPlan(run.data.cohort, run.split, label, settings, config.data.cohort.digest))


def place_of_fitted(folder: Path, run: int, system: System, index: int, size: str | None = None) -> Path:
    """Where a study keeps the model of its ``index``-th class that was fitted in a run, of a size where it has several."""
    of_run = f"run-{run:03d}" if size is None else f"run-{run:03d}-size-{size}"
    return folder / "generators" / of_run / f"{re.sub(r'[^A-Za-z0-9=+._-]', '-', system.trained_as)}-{index}"


def check_no_leakage(model: FittedModel, split: Split, external: Iterable[str] = ()) -> None:
    """Raise a ``LeakageError`` if a model was trained on a participant of validation or test, or selected by one of test.

    Also for models fitted elsewhere: the model knows its participants by salted hashes.

    Parameters
    ----------
    model : FittedModel
    split : Split
        Of the study.
    external : iterable of str
        Participants of external test cohorts.
    """
    people = model.config.participants
    trained = {who for who, side in split.sides.items() if side in ("validation", "test") and people.trained_on(who)}
    selected = {who for who, side in split.sides.items() if side == "test" and people.seen(who)}
    found = sorted(trained | selected | {who for who in external if people.seen(who)})
    if found:
        raise LeakageError(
            f"The model of class {model.config.label} has seen participants that are tested here: {listed(found)}; "
            "fit it on this study's training side."
        )


def _given(config: AugmentationConfig) -> tuple[GivenGenerators, Path]:
    """The given generators, and their folder."""
    if config.generators is None or config.where.generators is None:
        raise DataError("The study has no generators that were fitted before; give --generators.")
    return config.generators, Path(config.where.generators)


def _identity(model: FittedModel) -> str:
    """Of the weights, and of the plan that says with what metric, on whom, and of which images they were fitted."""
    return digest([model.config.plan, model.digest])


def _changed(path: Path) -> DataError:
    return DataError(f"{path} has changed since the study was started; restore it, or start another study.")
