"""The command ``augment verify``: compute again what a model, a cohort or a study says of itself, and tell what does not match.

It finds accidents. It is no signature: who alters a folder on purpose can write its manifest anew.
"""

import io
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..augment import console
from ..augment.fitting.model import FittedModel
from ..augment.fitting.model_config import ModelConfig
from ..augment.fitting.model_folders import model_folders
from ..augment.release.description import DESCRIPTION, ClassRecord
from ..augment.release.participants_table import PARTICIPANTS
from ..augment.release.prepared_cohort import is_prepared
from ..augment.release.synthetic_cohort import SyntheticCohort, may_be_synthetic
from ..datasets.check import examine
from ..datasets.cohort import Cohort
from ..datasets.common.custody import differences, is_sealed
from ..datasets.common.errors import DataError, TinycohortError
from ..datasets.common.files import MANIFEST
from ..datasets.common.words import listed, times
from ..datasets.readers import Source, read_cohort
from ..datasets.splits import Split
from ..datasets.synthetic_mark import is_marked
from .augmentation_study import report as augmentation_report
from .augmentation_study.config import AugmentationConfig
from .augmentation_study.effects import RUNS, effects_of_results, read_effects
from .augmentation_study.predictions import has_own_file, predictions_path, require_own_file
from .augmentation_study.results import read_tidy_results
from .engine.results_file import EFFECTS, FIGURE, RESULTS, TABLE, is_bound, is_published
from .engine.study_folder import all_runs, is_study
from .fidelity_study import report as fidelity_report
from .fidelity_study.config import FidelityConfig
from .fidelity_study.results import read_scores
from .studies import config_of, results_table

_NAMED = 20  # files that differ, of a folder, before the rest is counted


class Finding(NamedTuple):
    """What was looked at in a folder, what was found, and whether it matches; ``None`` where there was nothing to compare with."""

    place: str
    what: str
    found: str
    matches: bool | None


def verify(path: Path, *, models: Path | None = None, data: str | None = None) -> bool:
    """Verify a folder and show what was found.

    Parameters
    ----------
    path : Path
        A model, a folder of models, a synthetic or a prepared cohort, or a study.
    models : Path, optional
        For a cohort, the models that it is said to be drawn from.
    data : str, optional
        For models and a study, where the cohort lies that they are said to be fitted on.

    Returns
    -------
    bool
        Whether all that could be compared matches.
    """
    findings = list(findings_of(path, models=models, data=data))
    answers = {True: "matches", False: "DOES NOT MATCH", None: "not compared"}
    console.show_table(
        "findings", f"{path}", ("where", "what", "verdict", "found"), [(f.place, f.what, answers[f.matches], f.found) for f in findings]
    )
    wrong = sum(finding.matches is False for finding in findings)
    if wrong:
        console.say(f"{wrong} of {len(findings)} do not match: do not use it before you know why.")
    else:
        console.say("All that could be compared matches. This finds accidents; it is no signature.")
    return not wrong


def findings_of(path: Path, *, models: Path | None = None, data: str | None = None) -> Iterator[Finding]:
    """What ``verify`` shows.

    Raises
    ------
    DataError
        If the folder is nothing that tinycohort writes.
    """
    if is_study(path):
        yield from _of_study(path, data)
    elif folders := model_folders(path):
        for folder in folders:
            yield from _of_model(folder, data)
    elif is_prepared(path):
        yield from _of_prepared(path)
    elif may_be_synthetic(path):
        yield from _of_cohort(path, models)
    else:
        raise DataError(
            f"{path} is neither a model, nor a folder of models, a synthetic or a prepared cohort, or a study; give one of these."
        )


def _of_files(folder: Path) -> Iterator[Finding]:
    """A folder and its manifest."""
    place, what = folder.name, "files"
    if not is_sealed(folder):
        yield Finding(place, what, f"it carries no {MANIFEST}: it is from before there was one, or has lost it", None)
        return
    try:
        found = differences(folder)
    except DataError as error:
        yield Finding(place, what, str(error), False)
        return
    for difference in found[:_NAMED]:
        yield Finding(place, what, f"{difference.file} {difference.what}", False)
    if len(found) > _NAMED:
        yield Finding(place, what, f"and {len(found) - _NAMED} more", False)
    if not found:
        yield Finding(place, what, f"every file is as {MANIFEST} has it, and there is no other", True)


def _of_model(folder: Path, data: str | None) -> Iterator[Finding]:
    place, files = folder.name, list(_of_files(folder))
    yield from files
    if any(finding.matches is False for finding in files):
        return
    try:
        model = FittedModel.load(folder)
    except DataError as error:
        yield Finding(place, "contents", str(error), False)
        return
    shape = times(model.config.space.shape)
    yield Finding(place, "weights", f"a {model.config.model} of {model.config.label}, {shape}, SHA-256 {model.digest[:16]}", True)
    yield from _of_split(folder.parent / "split.json", place, model.config)
    yield _of_data(place, model.config.data["read_as"], model.config.data.get("digest"), data)


def _of_split(file: Path, place: str, config: ModelConfig) -> Iterator[Finding]:
    """The split beside a model: is it the one, and do the salted hashes find its participants on the right sides?"""
    if not file.is_file():
        yield Finding(place, "split", f"there is no {file.name} beside it", None)
        return
    try:
        split = Split.load(file)
    except TinycohortError as error:
        yield Finding(place, "split", str(error), False)
        return
    same = split.digest == config.split.get("digest")
    yield Finding(place, "split", f"{file.name} is {'that' if same else 'not that'} which the model was fitted on", same)
    people = config.participants
    seen = {who: "train" if people.trained_on(who) else "validation" for who in split.sides if people.seen(who)}
    known = len(seen) == len(people.train) + len(people.validation)
    misplaced = sorted(who for who, side in seen.items() if split.sides[who] != side)
    told = f"{len(people.train)} trained on and {len(people.validation)} selected by"
    if misplaced:
        told = f"the model has seen {len(misplaced)} who are on another side, such as {misplaced[0]}"
    elif not known:
        told += f", of whom {file.name} has {len(seen)}"
    yield Finding(place, "participants", told, known and not misplaced)


def _of_data(place: str, read_as: Mapping[str, Any], digest: str | None, data: str | None) -> Finding:
    if data is None or not digest:
        return Finding(place, "data", "name the data with --data to have their digest computed again", None)
    try:
        cohort = read_cohort(Source(**read_as).moved({"data": data}))
        found = examine(cohort, progress=console.tracked(f"reading {cohort.name}")).digest
    except (TinycohortError, TypeError) as error:
        return Finding(place, "data", str(error), False)
    same = found == digest
    return Finding(place, "data", f"SHA-256 {found[:16]}" + ("" if same else f", and not {digest[:16]}"), same)


def _of_cohort(folder: Path, models: Path | None) -> Iterator[Finding]:
    place, files = folder.name, list(_of_files(folder))
    yield from files
    if any(finding.matches is False for finding in files):
        return
    try:
        cohort, made = read_cohort(folder), SyntheticCohort.read(folder)
    except TinycohortError as error:
        yield Finding(place, "contents", f"its description or its table is not what `augment generate` writes ({error})", False)
        return
    yield _of_table(place, made, cohort)
    yield _of_marks(place, made, cohort)
    yield from _of_origin(place, made.description.classes, models)


def _of_prepared(folder: Path) -> Iterator[Finding]:
    """Real images in the form of synthetic ones: is all as it was written, and does nothing say that it is synthetic?"""
    place, files = folder.name, list(_of_files(folder))
    yield from files
    if any(finding.matches is False for finding in files):
        return
    try:
        cohort = read_cohort(folder)
        marked = [image for image in cohort.table["image"] if isinstance(image, str) and is_marked(Path(image))]
    except TinycohortError as error:
        yield Finding(place, "contents", str(error), False)
        return
    real = not (marked or cohort.synthetic)
    yield Finding(place, "marks", "all say that they are of real people" if real else "some say that they are synthetic", real)


def _of_table(place: str, made: SyntheticCohort, cohort: Cohort) -> Finding:
    """Are there as many rows of each class, with the seed and the model, as the description has it?"""
    same = made.table_agrees()
    images = ", ".join(f"{n} of {label}" for label, n in made.counts().items())
    trouble = f"; {len(cohort.problems)} problems, which `augment check` lists" if cohort.problems else ""
    differs = "" if same else f", not as {DESCRIPTION} has it"
    return Finding(place, PARTICIPANTS, images + differs + trouble, same and not cohort.problems)


def _of_marks(place: str, made: SyntheticCohort, cohort: Cohort) -> Finding:
    """Does everything say that it is synthetic: the description, every row, and every image?"""
    lacking = made.unmarked(Path(image) for image in cohort.table["image"] if isinstance(image, str))
    return Finding(
        place,
        "marks",
        f"not said to be synthetic by {listed(lacking, most=3)}" if lacking else "all say that they are synthetic",
        not lacking,
    )


def _of_origin(place: str, classes: Mapping[str, ClassRecord], models: Path | None) -> Iterator[Finding]:
    without = [label for label, told in classes.items() if not told.model]
    if without:
        yield Finding(
            place, "models", f"{', '.join(without)}: made of people, without a model, so that there is none to compare with", None
        )
    classes = {label: told for label, told in classes.items() if told.model}
    if not classes:
        return
    if models is None:
        yield Finding(place, "models", "name the models with --models to see whether it was drawn from them", None)
        return
    loaded: dict[str, FittedModel] = {}
    for folder in model_folders(models):
        try:
            model = FittedModel.load(folder)
        except DataError as error:
            yield Finding(place, "models", str(error), False)
            continue
        loaded[model.config.label] = model
    for label, told in classes.items():
        if label not in loaded:
            yield Finding(place, "models", f"{models} has no model of {label}", False)
            continue
        model, config = loaded[label], loaded[label].config
        digests = {
            "model": model.digest,
            "participants": config.participants.digest,
            "split": config.split.get("digest", ""),
            "tested": config.split.get("tested", ""),
            "data": config.data.get("digest", ""),
        }
        # An earlier version did not record them all.
        differing = [name for name, digest in digests.items() if getattr(told, name) not in ("", digest)]
        found = f"the digest of {', '.join(differing)} is another" if differing else f"that of {models}, as are its people, split and data"
        yield Finding(place, f"model of {label}", found, not differing)


def _of_study(folder: Path, data: str | None) -> Iterator[Finding]:
    place, config = folder.name, config_of(folder)
    if is_published(folder):
        yield from _of_published(folder, config)
    else:
        yield from _of_runs(folder, config)
    # The generators of a study of fidelity, and those of an augmentation study.
    for place_of_models in (folder / "models", *sorted(folder.glob("generators/*"))):
        for model in model_folders(place_of_models):
            yield from (finding._replace(place=model.relative_to(folder).as_posix()) for finding in _of_files(model))
    yield _of_data(place, vars(config.data.cohort.source), config.data.cohort.digest, data)


def _of_runs(folder: Path, config: AugmentationConfig | FidelityConfig) -> Iterator[Finding]:
    place = folder.name
    try:
        runs = all_runs(folder)
    except TinycohortError as error:
        yield Finding(place, "runs", str(error), False)
        return
    yield Finding(place, "runs", f"{len(runs)} results, each with its own digest and that of config.toml", True)
    yield from _of_predictions(folder, [run for run in runs if has_own_file(run)])
    if runs and (folder / RESULTS).is_file():
        yield _of_results(folder, runs)
    if runs and (folder / EFFECTS).is_file() and isinstance(config, AugmentationConfig):
        yield _of_effects(folder, runs, config)
    if runs and (folder / TABLE).is_file():
        yield _of_tables(folder, runs, config)


def _of_predictions(folder: Path, runs: Sequence[dict[str, Any]]) -> Iterator[Finding]:
    """The predictions that lie beside runs, which may be left out."""
    if not runs:
        return
    there = [run for run in runs if predictions_path(folder, run["key"]).is_file()]
    try:
        for run in there:
            require_own_file(folder, run)
    except TinycohortError as error:
        yield Finding(folder.name, "predictions", str(error), False)
        return
    lacking = len(runs) - len(there)
    found = f"those of {lacking} of {len(runs)} runs are not in it" if lacking else f"{len(runs)} files, as their runs wrote them"
    yield Finding(folder.name, "predictions", found, None if lacking else True)


def _of_published(folder: Path, config: AugmentationConfig | FidelityConfig) -> Iterator[Finding]:
    """A study of which only its results are kept: are they of its configuration, and is its table theirs?"""
    place = folder.name
    yield from _of_files(folder)
    told = ", ".join(name for name in (RESULTS, EFFECTS, FIGURE) if (folder / name).is_file())
    yield Finding(place, "runs", f"runs, predictions and models are no longer in it, against which {told} could be compared", None)
    of_effects: list[Finding] = []
    try:
        if isinstance(config, FidelityConfig):
            scores = read_scores(folder)
            bound, table = is_bound(scores.scores), fidelity_report.table_of(scores, config)
        else:
            results = read_tidy_results(folder, config)
            effects = read_effects(folder, results, config)
            bound, table = is_bound(results), augmentation_report.table_of(results, effects, config)
            if (folder / EFFECTS).is_file():
                of_effects = [_of_published_effects(folder, effects, effects_of_results(results, config))]
        kept = (folder / TABLE).read_text(encoding="utf-8")
    except (TinycohortError, OSError, AttributeError, LookupError, TypeError, ValueError) as error:
        yield Finding(place, RESULTS, str(error), False)
        return
    yield Finding(place, RESULTS, "of the configuration beside it" if bound else "it tells no configuration", bound or None)
    yield from of_effects
    same = table == kept
    given = f"{RESULTS} and {EFFECTS} give" if (folder / EFFECTS).is_file() else f"{RESULTS} gives"
    found = f"as {given} it" if same else f"not what {given}; one of them was changed: compare them with what was published"
    yield Finding(place, TABLE, found, same)


def _of_published_effects(folder: Path, kept: pd.DataFrame, again: pd.DataFrame) -> Finding:
    """The effects of a published study, as far as its results give them: those over people are made of what names them."""
    by_runs = kept[kept["test"] == RUNS].reset_index(drop=True)
    if not _same(by_runs, again, [name for name in by_runs if name in again]):
        return Finding(folder.name, EFFECTS, f"over runs alone not what {RESULTS} gives; compare both with what was published", False)
    if len(by_runs) < len(kept):
        return Finding(folder.name, EFFECTS, f"over runs alone as {RESULTS} gives it; over people nothing here can tell", None)
    return Finding(folder.name, EFFECTS, f"as {RESULTS} gives it", True)


def _of_results(folder: Path, runs: Sequence[dict[str, Any]]) -> Finding:
    """The table of a study, against what its runs give; a column that is new since it was drawn is no difference."""
    try:
        computed = results_table(folder, runs)
        kept = pd.read_csv(folder / RESULTS, dtype=str)
    except (TinycohortError, OSError, AttributeError, LookupError, TypeError, ValueError) as error:
        return Finding(folder.name, RESULTS, f"it, or what the runs give, cannot be read ({error})", False)
    again = pd.read_csv(io.StringIO(computed.to_csv(index=False)), dtype=str)
    same = set(kept) <= set(again) and kept.equals(again[list(kept)])
    found = "as the runs give it" if same else "not what the runs give; draw it anew with `augment report`"
    return Finding(folder.name, RESULTS, found, same)


def _of_effects(folder: Path, runs: Sequence[dict[str, Any]], config: AugmentationConfig) -> Finding:
    """The effects of a study, against what its runs and predictions give."""
    try:
        computed, why = augmentation_report.effects_again(folder, runs, config)
        kept = pd.read_csv(folder / EFFECTS, dtype=str, keep_default_na=False)
        again = pd.read_csv(io.StringIO(computed.to_csv(index=False)), dtype=str, keep_default_na=False)
        over_people = (kept["test"] != RUNS).any()
        kept = kept[kept["test"] == RUNS] if why else kept
        same = _same(kept, again, [name for name in kept if name in again or not why])
    except (TinycohortError, OSError, AttributeError, LookupError, TypeError, ValueError) as error:
        return Finding(folder.name, EFFECTS, f"it, or what the runs give, cannot be read ({error})", False)
    if not same:
        return Finding(folder.name, EFFECTS, "not what the runs give; draw it anew with `augment report`", False)
    if why and over_people:
        return Finding(folder.name, EFFECTS, f"as the runs give it; those over people were not compared ({why})", None)
    return Finding(folder.name, EFFECTS, "as the runs give it", True)


def _same(kept: pd.DataFrame, again: pd.DataFrame, columns: Iterable[Hashable]) -> bool:
    """Whether two tables say the same in some columns."""
    return len(kept) == len(again) and all(_alike(kept[name], again[name]) for name in columns)


def _alike(kept: pd.Series, again: pd.Series) -> bool:
    """Whether two columns say the same: another processor may have rounded the last digits otherwise."""
    numbers = [pd.to_numeric(column, errors="coerce").to_numpy(float) for column in (kept, again)]
    lacking = kept.isna().to_numpy() & again.isna().to_numpy()
    return bool((np.isclose(*numbers, rtol=1e-6, atol=1e-12) | (kept.to_numpy() == again.to_numpy()) | lacking).all())


def _of_tables(folder: Path, runs: Sequence[dict[str, Any]], config: AugmentationConfig | FidelityConfig) -> Finding:
    """The table of a study for people, against what its runs give."""
    try:
        if isinstance(config, FidelityConfig):
            again = fidelity_report.table_again(folder, runs, config)
        else:
            again = augmentation_report.table_again(folder, runs, config)
        same = again == (folder / TABLE).read_text(encoding="utf-8")
    except (TinycohortError, OSError, AttributeError, LookupError, TypeError, ValueError) as error:
        return Finding(folder.name, TABLE, f"it, or what it is made of, cannot be read ({error})", False)
    return Finding(
        folder.name, TABLE, "as the runs give it" if same else "not what the runs give; draw it anew with `augment report`", same
    )
