"""Labels as they are spelled: classes are kept or left out whatever their case, and one class in two spellings is told."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from .cohort import Cohort
from .common.errors import UsageError


def class_of(label: str) -> str:
    """Return what spellings of a class have in common that differ by case, blanks or Unicode form only, as ``AD`` and ``ad ``."""
    return " ".join(unicodedata.normalize("NFC", label).split()).casefold()


def spellings(labels: Iterable[str]) -> list[list[tuple[str, int]]]:
    """Return, of each class that is spelled in several ways, the ways and how often each occurs, the commonest first."""
    ways: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for label in labels:
        ways[class_of(label)][label] += 1
    return [sorted(counts.items(), key=lambda way: (-way[1], way[0])) for _, counts in sorted(ways.items()) if len(counts) > 1]


def of_classes(cohort: Cohort, classes: Sequence[str]) -> Cohort:
    """Leave out the images of all other classes, with what is wrong with people who have no others; unlabelled images stay, to be told.

    Raises
    ------
    UsageError
        If no image is of one of the classes.
    """
    there = {class_of(label) for label in cohort.labels}
    unknown = next((name for name in classes if class_of(name) not in there), None)
    if unknown is not None:
        raise UsageError(f"--classes names '{unknown}', and the labels of {cohort.name} are: {', '.join(cohort.labels) or 'none'}.")
    wanted = {class_of(name) for name in classes}
    kept = cohort.where(np.array([pd.isna(label) or class_of(str(label)) in wanted for label in cohort.table["label"]]))
    gone = set(cohort.table["participant_id"]) - set(kept.table["participant_id"])
    return replace(
        kept,
        problems=tuple(problem for problem in cohort.problems if problem.participant not in gone),
        remarks=tuple(remark for remark in cohort.remarks if remark.participant not in gone),
    )
