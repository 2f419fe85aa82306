"""On whom an augmentation study compares methods, and with how many images: its protocol, and the split of a run."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from ...datasets.cohort import Cohort
from ...datasets.common.errors import UsageError
from ...datasets.splits import Split, official_sides, sides_of_rows, split_cohort
from ...datasets.together import one_name_each
from ...datasets.training_sizes import LEFT_OUT, of_class_size
from ..engine.study_images import TEST

Protocol = Literal["resampled", "paper"]
ALL = "all"  # the size of a training side of a usual split


@dataclass(frozen=True)
class Protocols:
    """What is compared, and how.

    Parameters
    ----------
    protocol : {"resampled", "paper"}
        A new split and new generators in every run, or one of each for all runs.
    n_synthetic : int
        Images per class of ``synthetic-only`` (the paper: 2,000).
    enlarge : float
        Where real images are part, each class gets this many times the images of the largest class of the real training set.
    limit : dict
        From class to how many of its training participants are kept; validation and test are left alone.
    least_steps : int
        Every CNN gets at least so many optimisation steps, by more epochs where its training set is small: the paper's 50 epochs are 100
        steps on 200 real images and 1,000 on 4,000 synthetic ones, and a comparison of the two would reward the longer training. 0 for
        the paper's way.
    stratum : str
        Also score the test participants for whom this holds, such as ``age>=60``; empty for none.
    external_only : True or None
        Test on the external cohort alone: who would be on the test side is trained on. ``None`` is no, because a configuration leaves it
        out: studies from before there was a choice stay what they are.
    proportion : "1:1" or None
        Of a study of several sizes: as many people of every class. ``None`` is the cohort's proportion.
    """

    protocol: Protocol = "resampled"
    n_synthetic: int = 2000
    enlarge: float = 2.0
    limit: dict[str, int] = field(default_factory=dict)
    least_steps: int = 1000
    stratum: str = ""
    external_only: Literal[True] | None = None
    proportion: Literal["1:1"] | None = None

    def __post_init__(self) -> None:
        if self.protocol not in ("resampled", "paper"):
            raise UsageError(f"--protocol is resampled or paper, not '{self.protocol}'.")
        if self.external_only not in (None, True):
            raise UsageError(f"external_only is true or is left out, not {self.external_only}.")
        if self.proportion not in (None, "1:1"):
            raise UsageError(f"--proportion is 1:1 or is left out, not '{self.proportion}'.")
        if self.n_synthetic < 1 or not 1 <= self.enlarge < math.inf or min(self.limit.values(), default=1) < 1:
            raise UsageError("A study needs at least 1 synthetic image, 1 participant in each limit, and may not shrink the training set.")


def require_size(size: str) -> None:
    """Raise a ``UsageError`` if this is not a number of people, nor ``all``."""
    if size != ALL and not re.fullmatch("[1-9][0-9]*", size):
        raise UsageError(f"--sizes are numbers of people of the smallest class, or {ALL}: 10,20,50,{ALL}, not '{size}'.")


def people_of_size(size: str) -> float:
    """How many people of the smallest class that is; the usual splits have most."""
    return math.inf if size == ALL else int(size)


def require_consistent(protocols: Protocols, *, external: bool, generators: bool, sizes: bool) -> None:
    """Raise a ``UsageError`` for what does not go together, whether options ask for it or a configuration file."""
    if protocols.external_only and not external:
        raise UsageError("--external-only goes with --test-data, the cohort to test on.")
    if generators and protocols.protocol != "paper":
        raise UsageError("--generators goes with --protocol paper: new splits would test on participants that the models have seen.")
    if generators and protocols.limit:
        raise UsageError("--generators does not go with --limit: the models have seen the participants that it leaves out.")
    if protocols.proportion and not sizes:
        raise UsageError("--proportion goes with --sizes, so many people of the smallest class.")
    if sizes and protocols.protocol == "paper":
        raise UsageError("--sizes goes with --protocol resampled: every run draws other people to learn from.")
    if sizes and (protocols.limit or protocols.external_only):
        raise UsageError(f"--sizes says who is trained on: leave out {'--limit' if protocols.limit else '--external-only'}.")


def require_splits(cohort: Cohort, protocols: Protocols, sizes: Sequence[str] = ()) -> None:
    """Raise a ``UsageError`` if a run cannot have the split that it shall have.

    A new split of a cohort with official sides would train on the published test side. With one split for all, runs tell of the seeds
    alone: that is the paper's protocol, and it gives no verdict. Few people of the other sides can be drawn anew, and those sides tested.
    """
    for size in sizes or (ALL,):
        if size != ALL:
            of_class_size(cohort, int(size), 0, equal=protocols.proportion is not None)
        elif protocols.protocol == "resampled" and sides_of_rows(cohort) is not None:
            leave = f"leave out --sizes {ALL}" if sizes else "give --protocol paper (no verdict), or --sizes"
            raise UsageError(f"{cohort.name} has official sides, so no run may have a split of its own; {leave}.")


def people_drawn(cohort: Cohort, *, tested_too: bool = False) -> dict[str, int]:
    """Of each class how many people runs draw to learn from or to test: with official sides not those of the test side.

    ``tested_too`` is where these are taught, because people of another cohort alone are tested.
    """
    sides = {} if tested_too else official_sides(cohort) or {}
    people = cohort.table.assign(person=one_name_each(cohort.table["participant_id"], cohort.alike))
    drawn = people[[sides.get(who) != TEST for who in people["participant_id"]]]
    return {str(label): int(n) for label, n in drawn.groupby("label")["person"].nunique().items()}


def split_of(cohort: Cohort, protocols: Protocols, seed: int, given: Split | None = None, size: str | None = None) -> Split:
    """The split of a run, drawn unless it is given.

    Training participants beyond a class's limit are on a side of their own; where only an external cohort is tested, the test side is
    trained on. Of a size, so many people of the smallest class are learnt from, and everybody else is tested.

    Raises
    ------
    UsageError
        If there can be no such split (``require_splits``).
    """
    require_splits(cohort, protocols, () if size is None else (size,))
    if size not in (None, ALL):
        return of_class_size(cohort, int(size), seed, equal=protocols.proportion is not None)
    split = given or split_cohort(cohort, seed=seed)
    sides, fractions = dict(split.sides), dict(split.fractions)
    if protocols.external_only:
        sides = {who: "train" if side == TEST else side for who, side in sides.items()}
        fractions["train"] += fractions.pop(TEST, 0.0)
    label_of = dict(zip(cohort.table["participant_id"], cohort.table["label"], strict=True))
    for label, limit in protocols.limit.items():
        people = sorted(who for who, side in sides.items() if side == "train" and label_of[who] == label)
        order = np.random.default_rng(seed).permutation(len(people))
        sides |= {people[i]: LEFT_OUT for i in order[limit:]}
    return replace(split, sides=sides, fractions={**fractions, LEFT_OUT: 0.0})
