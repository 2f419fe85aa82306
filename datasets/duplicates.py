"""Leaving the copies of a benchmark out, where they would be on two of its official sides."""

from dataclasses import replace

import numpy as np

from .check import array_of, look_in
from .cohort import Cohort, Problem
from .common.errors import UsageError
from .common.machine import SharedMemory
from .image_checks import Look
from .splits import SIDES, sides_drawn_apart, sides_of_rows
from .two_names import find_two_names


def without_copies(cohort: Cohort) -> Cohort:
    """Leave out of training what is also in validation or test, of validation what is in test, and copies that bear two labels altogether.

    No patient is left out: there, a copy says that a file is not whose it is said to be. Copies within one side and class stay:
    they are part of the benchmark as it is published, and leak nothing. Where validation will be drawn from training, for there is none, of
    those in training one stays. Brightness and contrast make no other image.

    Raises
    ------
    UsageError
        If the cohort has no official sides.
    DataError
        If some rows have none.
    """
    sides = sides_of_rows(cohort)
    if sides is None:
        raise UsageError(
            f"--drop-copies is for benchmarks with official sides; of {cohort.name}, mend the files that `augment check` names."
        )
    labels, people = cohort.table["label"].tolist(), cohort.table["participant_id"].tolist()
    apart = sides_drawn_apart(sides)
    groups: dict[str, list[int]] = {}
    memory = SharedMemory()
    looks = [look_in(cohort, memory, image) for image in cohort.table["image"]]
    found = find_two_names(cohort, [look if isinstance(look, Look) else None for look in looks], array_of)
    for row, content in enumerate(found.contents):
        if content is not None:
            groups.setdefault(content, []).append(row)
    keep = np.ones(len(cohort), dtype=bool)
    for rows in groups.values():
        last = max(SIDES.index(sides[row]) for row in rows)
        if len({labels[row] for row in rows}) > 1:
            keep[rows] = False
        else:
            keep[[row for row in rows if SIDES.index(sides[row]) < last]] = False
            if SIDES[last] in apart and len({people[row] for row in rows}) > 1:
                keep[rows[1:]] = False
    left_out = int((~keep).sum())
    told = Problem(cohort.name, cohort.source, f"{left_out} copies left out", "leave out --drop-copies to see which")
    return replace(cohort.where(keep), remarks=(*cohort.remarks, told) if left_out else cohort.remarks)
