"""On whom an augmentation study compares methods, and what goes with generated images: its protocol, modes, and the split of a run."""

import math
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from ...datasets.cohort import Cohort
from ...datasets.common.errors import UsageError
from ...datasets.splits import Split, sides_of_rows, split_cohort
from ...datasets.training_sizes import LEFT_OUT
from ..engine.study_images import TEST

Mode = Literal["resampled+synthetic", "real+synthetic", "synthetic-only"]
MODES: tuple[Mode, ...] = get_args(Mode)
DEFAULT_MODE: Mode = "resampled+synthetic"
Protocol = Literal["resampled", "paper"]


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
    """

    protocol: Protocol = "resampled"
    n_synthetic: int = 2000
    enlarge: float = 2.0
    limit: dict[str, int] = field(default_factory=dict)
    least_steps: int = 1000
    stratum: str = ""
    external_only: Literal[True] | None = None

    def __post_init__(self) -> None:
        if self.protocol not in ("resampled", "paper"):
            raise UsageError(f"--protocol is resampled or paper, not '{self.protocol}'.")
        if self.external_only not in (None, True):
            raise UsageError(f"external_only is true or is left out, not {self.external_only}.")
        if self.n_synthetic < 1 or not 1 <= self.enlarge < math.inf or min(self.limit.values(), default=1) < 1:
            raise UsageError("A study needs at least 1 synthetic image, 1 participant in each limit, and may not shrink the training set.")


def require_consistent(protocols: Protocols, *, external: bool, generators: bool) -> None:
    """Raise a ``UsageError`` for what does not go together, whether options ask for it or a configuration file."""
    if protocols.external_only and not external:
        raise UsageError("--external-only goes with --test-data, the cohort to test on.")
    if generators and protocols.protocol != "paper":
        raise UsageError("--generators goes with --protocol paper: new splits would test on participants that the models have seen.")
    if generators and protocols.limit:
        raise UsageError("--generators does not go with --limit: the models have seen the participants that it leaves out.")


def require_splits(cohort: Cohort, protocols: Protocols) -> None:
    """Raise a ``UsageError`` if runs shall have new splits, and the cohort has official sides.

    A new split would train on the published test side. With one split for all, runs tell of the seeds alone: that is the paper's protocol,
    and it gives no verdict.
    """
    if protocols.protocol == "resampled" and sides_of_rows(cohort) is not None:
        raise UsageError(f"{cohort.name} has official sides, so no run may have a split of its own; give --protocol paper (no verdict).")


def split_of(cohort: Cohort, protocols: Protocols, seed: int, given: Split | None = None) -> Split:
    """The split of a run, drawn unless it is given.

    Training participants beyond a class's limit are on a side of their own; where only an external cohort is tested, the test side is
    trained on.

    Raises
    ------
    UsageError
        If every run shall have a new split, and the cohort has official sides.
    """
    require_splits(cohort, protocols)
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
