"""Smaller training sets of a cohort, for studies of how much data a method needs: the other sides of the split stay what they are."""

from dataclasses import replace

import numpy as np

from .cohort import Cohort
from .common.errors import UsageError
from .splits import Split

LEFT_OUT = "left out"  # the side of those who are on none of the others
VALIDATION_SHARE = 5  # one in so many of a training set of limited size selects (Appendix D)


def of_training_size(split: Split, cohort: Cohort, n: int, seed: int) -> Split:
    """The split with ``n`` of its training participants, for the studies of Fig. 4 and 11; its test side is left as it is.

    A fifth of the ``n`` becomes the validation side; all others, and the validation side that there was, are on the side ``LEFT_OUT``.
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
    counts = {side: sum(other == side for other in sides.values()) for side in ("train", "validation", "test", LEFT_OUT)}
    return replace(split, sides=sides, fractions={side: count / len(sides) for side, count in counts.items()}, seed=seed)
