"""The generators of a study: fitted in each run on its training side, or given as ``augment fit`` wrote them.

Given ones bring their split along, because another split would test on participants that they have seen.
"""

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...augment.fitting.fit import fit_class
from ...augment.fitting.model import FittedModel
from ...augment.fitting.model_folders import load_models
from ...augment.fitting.plan import FitPlan
from ...augment.fitting.settings import FitSettings
from ...datasets.cohort import Cohort
from ...datasets.common.errors import DataError, LeakageError, UsageError
from ...datasets.splits import Split
from ...datasets.transforms import Preparation
from .study_folder import digest, seed_of
from .study_images import Prepared, make_once
from .study_settings import fit_settings_of
from .systems import System


def describe_given(folder: Path, cohort: Cohort, methods: Sequence[str], preparation: Preparation) -> dict[str, Any]:
    """What a study's configuration says of generators that were fitted before.

    Parameters
    ----------
    folder : Path
        Of models, with their ``split.json``.
    cohort : Cohort
        The study's.
    methods : sequence of str
        The study's.
    preparation : Preparation
        The study's, its size settled.

    Returns
    -------
    dict
        ``folder``, absolute, and ``digests``: of the split, and of each class's model.

    Raises
    ------
    DataError
        If a class has no model, or the split is missing or leaves out a participant.
    UsageError
        If the models are not those that the methods name, or make other images than the study tests on.
    """
    models = load_models(folder, cohort.labels)
    split = Split.load(folder / "split.json", cohort)
    systems = {method: System.parse(method) for method in methods if ":" in method}
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
    return {
        "folder": str(folder.resolve()),
        "digests": {"split": split.digest, "models": {label: _identity(model) for label, model in models.items()}},
    }


def split_of_given(cohort: Cohort, config: Mapping[str, Any]) -> Split:
    """The split of generators that were given; raise a ``DataError`` if it has changed since."""
    folder = Path(config["where"]["generators"])
    split = Split.load(folder / "split.json", cohort)
    if split.digest != config["generators"]["split"]:
        raise _changed(folder / "split.json")
    return split


def given_generator(label: str, config: Mapping[str, Any]) -> FittedModel:
    """The given model of a class; raise a ``DataError`` if it has changed since."""
    folder = Path(config["where"]["generators"])
    model = load_models(folder, [label])[label]
    if _identity(model) != config["generators"]["models"][label]:
        raise _changed(folder)
    return model


def generator_of(
    system: System, label: str, data: Prepared, split: Split, config: Mapping[str, Any], run: int, folder: Path
) -> FittedModel:
    """The model of a class in a run: given, or else fitted once, kept in the study's folder, and shared by the samplers."""
    if config.get("generators"):
        return given_generator(label, config)
    place = place_of_fitted(folder, run, system, data.classes.index(label))
    settings = replace(system.fit_settings(fit_settings_of(config)), seed=seed_of(config["seed"], {"run": run, "of": "generators"}))
    return fitted_once(place, data.cohort, split, label, settings, config["data"]["digest"])


def fitted_once(
    place: Path, cohort: Cohort, split: Split, label: str, settings: FitSettings, data_digest: str, resume_folder: Path | None = None
) -> FittedModel:
    """The model in ``place``, fitted if it is not there; ``resume_folder`` keeps the state of its training until then.

    Raises
    ------
    DataError
        If the one that is there is of another plan.
    """
    plan = FitPlan(cohort, split, label, settings, data_digest)
    make_once(place, lambda temporary: fit_class(plan, resume_folder=resume_folder).save(temporary))
    if resume_folder is not None:
        shutil.rmtree(resume_folder, ignore_errors=True)
    model = FittedModel.load(place)
    if model.config.plan != plan.digest:
        raise DataError(f"{place} was fitted with other settings, data, split or version of tinycohort than this study's; delete it.")
    return model


def place_of_fitted(folder: Path, run: int, system: System, index: int) -> Path:
    """Where a study keeps the model of its ``index``-th class that was fitted in a run."""
    return folder / "generators" / f"run-{run:03d}" / f"{re.sub(r'[^A-Za-z0-9=+._-]', '-', system.trained_as)}-{index}"


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
        named = ", ".join(found[:10]) + (f" and {len(found) - 10} more" if len(found) > 10 else "")
        raise LeakageError(
            f"The model of class {model.config.label} has seen participants that are tested here: {named}; "
            "fit it on this study's training side."
        )


def _identity(model: FittedModel) -> str:
    """Of the weights, and of the plan that says with what metric, on whom, and of which images they were fitted."""
    return digest([model.config.plan, model.digest])


def _changed(path: Path) -> DataError:
    return DataError(f"{path} has changed since the study was started; restore it, or start another study.")
