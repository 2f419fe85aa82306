"""What an audit compares where no model is known: a cohort that something else has made, and the real people whom it may show."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...augment import console
from ...augment.commands.alike import ranged, sized
from ...augment.commands.check import require_sound_cohort
from ...augment.fitting.training_images import people_in
from ...augment.release.copying import FEWEST_PEOPLE
from ...augment.release.synthetic_cohort import source_of
from ...datasets.cohort import Cohort, CohortError
from ...datasets.common.errors import DataError, UsageError
from ...datasets.identity import participant_of
from ...datasets.layouts.participants import read_ids
from ...datasets.readers import Source, read_cohort
from ...datasets.splits import Split
from ...datasets.together import joined
from ...datasets.transforms import Preparation
from .material import AuditedClass, People


def read_foreign(
    folders: Sequence[Path], source: Source, preparation: Preparation, trained_on: Path | None
) -> tuple[Cohort, Preparation, list[list[AuditedClass]]]:
    """The real cohort, how images are prepared, and the classes of each synthetic cohort that the real one has too.

    Parameters
    ----------
    folders : sequence of Path
        Cohorts, as any layout has them.
    source : Source
        The real cohort.
    preparation : Preparation
        With a size, or the synthetic images' own is taken.
    trained_on : Path, optional
        Who the generator was trained on: a ``split.json``, a table of participants, or a list of their ids. By default everybody.

    Raises
    ------
    UsageError
        If the real cohort is synthetic, or the others have images of different sizes and none is asked for.
    DataError
        If the cohorts share no class, or a class has too few people to be copied.
    """
    real = read_cohort(source)
    if real.synthetic:
        raise UsageError(f"{source.data} is synthetic; --data is the real cohort that the images may show.")
    real, _ = require_sound_cohort(real, sized=True, minimum=1)
    in_training = _in_training(real, trained_on)
    cohorts = {str(folder): read_cohort(source_of(str(folder), replace(source, table=None, drop_copies=None))) for folder in folders}
    for made in cohorts.values():
        if made.problems:
            raise CohortError(made.name, made.problems)
    preparation = sized(preparation, real, cohorts)
    found = []
    for folder, made in cohorts.items():
        labels = [label for label in made.labels if label in real.labels]
        if not labels:
            theirs, ours = (", ".join(cohort.labels) for cohort in (made, real))
            raise DataError(f"{folder} has the classes {theirs}, and {source.data} {ours}: none is in both.")
        if left_out := sorted(set(made.labels) - set(labels)):
            console.warn(f"{folder} has images of {', '.join(left_out)}, of whom {source.data} has nobody: they are not looked at.")
        found.append([_class(label, made, real, in_training, preparation) for label in labels])
    return real, preparation, found


def _class(label: str, made: Cohort, real: Cohort, in_training: NDArray[np.bool_], preparation: Preparation) -> AuditedClass:
    of_class = (real.table["label"] == label).to_numpy()
    # Who may be one person with somebody trained on is nobody to compare with.
    known = real.table["participant_id"].isin(joined(real.table["participant_id"][in_training], real.alike)).to_numpy()
    training, held_out = (real.where(of_class & side) for side in (in_training, ~known))
    people = len(set(people_in(training.table, training.alike)))
    if people < FEWEST_PEOPLE:
        raise DataError(f"{people} real people of {label} may have been trained on; an audit takes {FEWEST_PEOPLE} or more.")
    synthetic = People.of(made.of_class(label), ranged(preparation, made))
    trained_on = People.of(training, preparation)
    nobody = People(trained_on.images[np.zeros(0, dtype=int)], ())
    return AuditedClass(label, None, synthetic, trained_on, People.of(held_out, preparation) if len(held_out) else nobody)


def _in_training(real: Cohort, trained_on: Path | None) -> NDArray[np.bool_]:
    if trained_on is None:
        return np.ones(len(real), dtype=bool)
    ids = real.table["participant_id"].astype(str)
    if trained_on.suffix == ".json":
        split = Split.load(trained_on, real)
        return ids.isin(split.side(real, "train").table["participant_id"]).to_numpy()
    if not trained_on.is_file():
        raise DataError(f"There is no file {trained_on}; give --trained-on a split.json, or a table or a list of participants.")
    named = {participant_of(name): name for name in sorted(set(read_ids(trained_on)))}
    if unknown := [name for person, name in named.items() if person not in set(ids)]:
        raise DataError(f"{trained_on} names {len(unknown)} who are not in {real.name}, such as '{unknown[0]}'; give its own ids.")
    return ids.isin(list(named)).to_numpy()
