"""Smaller training sets of a cohort, for studies of how much data a method needs.

``of_training_size`` leaves the other sides of a split what they are; ``of_class_size`` tests on everybody else.
"""

from collections.abc import Mapping, Sized
from dataclasses import replace

import numpy as np

from .cohort import Cohort
from .common.errors import UsageError
from .splits import Split, official_sides, people_by_label
from .together import on_the_first

LEFT_OUT = "left out"  # the side of those who are on none of the others
VALIDATION_SHARE = 5  # one in so many of a training set of limited size selects (Appendix D)


def of_training_size(split: Split, cohort: Cohort, n: int, seed: int) -> Split:
    """The split with ``n`` of its training participants, for the studies of Fig. 4 and 11; its test side is left as it is.

    A fifth of the ``n`` becomes the validation side; all others, and the validation side that there was, are on the side ``LEFT_OUT``.
    Who may be one person (``Cohort.alike``) with somebody on the training side is not on the validation side, but left out.
    Both sides keep the classes' shares, and of one seed a smaller training set is part of a larger one's, side by side.

    Parameters
    ----------
    split : Split
        Sides of the cohort's participants.
    cohort : Cohort
        Sound: every participant has one label.
    n : int
        Participants; where each image is one, as in a benchmark, images.
    seed : int
        Seed of the choice of who is taken.

    Raises
    ------
    UsageError
        If there are not so many, or fewer than 5 are asked for.
    DataError
        If a side would have nobody of a class but who may be on another under another name.
    """
    label_of = dict(zip(cohort.table["participant_id"], cohort.table["label"], strict=True))
    pool = np.array(sorted(who for who, side in split.sides.items() if side == "train"), dtype=object)
    if not VALIDATION_SHARE <= n <= len(pool):
        raise UsageError(f"A training set of {cohort.name} has from {VALIDATION_SHARE} to {len(pool)} participants, not {n}.")
    labels = np.array([label_of[who] for who in pool])
    rank, share = np.empty(len(pool), dtype=int), np.empty(len(pool))
    generator = np.random.default_rng(seed)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        rank[own] = generator.permutation(len(own))
        share[own] = (rank[own] + 0.5) / len(own)
    # By how much of its class came before: wherever this order is cut, the classes have their shares.
    order = np.argsort(share, kind="stable")
    selects = rank[order] % VALIDATION_SHARE == VALIDATION_SHARE - 1
    validation = pool[order[selects]][: n // VALIDATION_SHARE]
    train = pool[order[~selects]][: n - len(validation)]
    sides = {who: side if side == "test" else LEFT_OUT for who, side in split.sides.items()}
    sides |= dict.fromkeys(train, "train") | dict.fromkeys(validation, "validation")
    sides = on_the_first(sides, label_of, cohort.alike, ("train", "validation"), LEFT_OUT)
    counts = {side: sum(other == side for other in sides.values()) for side in ("train", "validation", "test", LEFT_OUT)}
    return replace(split, sides=sides, fractions={side: count / len(sides) for side, count in counts.items()}, seed=seed)


def of_class_size(cohort: Cohort, size: int, seed: int, *, equal: bool = False) -> Split:
    """A split that learns from few people, and is tested on everybody else: ``size`` of the smallest class, others in proportion.

    A fifth of those who are learnt from becomes the validation side. Of a cohort with official sides the test side is on the side
    ``LEFT_OUT``: it is published to be tested on once. So is who may be one person (``Cohort.alike``) with somebody who is learnt from.

    Parameters
    ----------
    cohort : Cohort
        Sound: every participant has one label.
    size : int
        Participants of the smallest class on the training and validation sides together, 5 or more.
    seed : int
        Seed of the choice; of one seed a smaller training set is part of a larger one's, side by side.
    equal : bool
        As many of every class, instead of the cohort's proportions.

    Raises
    ------
    UsageError
        If a class has nobody left to be tested, or fewer than 5 are asked for.
    DataError
        If a side would have nobody of a class but who may be on another under another name.
    """
    official = official_sides(cohort) or {}
    held_back = {who for who, side in official.items() if side == "test"}
    classes = {label: [who for who in people if who not in held_back] for label, people in people_by_label(cohort).items()}
    if empty := [label for label, people in classes.items() if not people]:
        raise UsageError(f"{cohort.name} has nobody of class {empty[0]} but on its official test side, which nobody learns from.")
    counts = counts_of(classes, size, equal=equal)
    sides = dict.fromkeys(held_back, LEFT_OUT)
    generator = np.random.default_rng(seed)
    for label, people in sorted(classes.items()):
        if not VALIDATION_SHARE <= counts[label] < len(people):
            raise UsageError(
                f"{cohort.name} has {len(people)} participants of class {label}, of whom from {VALIDATION_SHARE} to {len(people) - 1} can "
                f"be trained on and the others tested, not {counts[label]}; give other --sizes."
            )
        for rank, place in enumerate(generator.permutation(len(people))):
            learning = "validation" if rank % VALIDATION_SHARE == VALIDATION_SHARE - 1 else "train"
            sides[people[place]] = learning if rank < counts[label] else "test"
    label_of = {who: label for label, people in classes.items() for who in people}
    label_of |= dict.fromkeys(held_back, "")
    sides = on_the_first(sides, label_of, cohort.alike, ("train", "validation", "test"), LEFT_OUT)
    names = ("train", "validation", "test", LEFT_OUT)
    return Split(sides, {side: sum(other == side for other in sides.values()) / len(sides) for side in names}, seed)


def counts_of(classes: Mapping[str, Sized], size: int, *, equal: bool = False) -> dict[str, int]:
    """How many of each class's members go with ``size`` of the smallest: in proportion, or as many."""
    fewest = min(map(len, classes.values()))
    return {label: size if equal else round(size * len(people) / fewest) for label, people in classes.items()}
