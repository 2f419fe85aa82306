"""Training sets of limited size: nested, stratified, and apart from the test side."""

import numpy as np
import pytest

from tinycohort.datasets.cohort import Cohort
from tinycohort.datasets.common.errors import UsageError
from tinycohort.datasets.layouts.table import cohort_table
from tinycohort.datasets.splits import split_cohort
from tinycohort.datasets.training_sizes import LEFT_OUT, of_class_size, of_training_size


def unequal(n: int = 1003) -> Cohort:
    """A cohort of four classes of very different size, on official sides."""
    labels = np.random.default_rng(1).choice(list("abcd"), n, p=[0.7, 0.2, 0.07, 0.03])
    sides = np.repeat(["train", "validation", "test"], [n - 150, 50, 100])
    rows = [
        {"image_id": f"i{row}", "participant_id": f"p{row}", "image": row, "label": str(label), "split": str(side)}
        for row, (label, side) in enumerate(zip(labels, sides, strict=True))
    ]
    return Cohort("toy", cohort_table(rows), "here", arrays=np.zeros((n, 8, 8), dtype=np.uint8))


def test_subsets_are_nested_stratified_and_a_fifth_selects():
    cohort = unequal()
    whole = split_cohort(cohort, seed=0)
    pool = whole.side(cohort, "train").table["label"].value_counts()
    smaller: dict[str, set[str]] = {"train": set(), "validation": set()}
    for n in (5, 20, 100, 333, 600, int(pool.sum())):
        part = of_training_size(whole, cohort, n, seed=7)
        found = {side: part.side(cohort, side).table for side in ("train", "validation", "test", LEFT_OUT)}
        assert len(found["train"]) + len(found["validation"]) == n
        assert n // 5 - 4 <= len(found["validation"]) <= n // 5
        for side, share in (("train", 0.8 * n), ("validation", 0.2 * n)):
            held = found[side]["label"].value_counts().reindex(pool.index, fill_value=0)
            assert (held - share * pool / pool.sum()).abs().max() <= 2
            people = set(found[side]["participant_id"])
            assert smaller[side] <= people
            smaller[side] = people
        # Who was kept to validate or to test by the cohort itself is never trained on.
        assert set(found["test"]["participant_id"]) == set(whole.side(cohort, "test").table["participant_id"])
        assert set(whole.side(cohort, "validation").table["participant_id"]) <= set(found[LEFT_OUT]["participant_id"])
    digests = [of_training_size(whole, cohort, 100, seed=seed).digest for seed in (7, 7, 8)]
    assert digests[0] == digests[1] != digests[2]


def test_a_size_that_cannot_be_is_told():
    cohort = unequal()
    split = split_cohort(cohort, seed=0)
    for n in (4, 854):
        with pytest.raises(UsageError, match=f"from 5 to 853 participants, not {n}"):
            of_training_size(split, cohort, n, seed=0)


def people(split, cohort, side):
    return split.side(cohort, side).table.groupby("label")["participant_id"].agg(set).to_dict()


def test_few_are_learnt_from_and_everybody_else_is_tested():
    """In the cohort's proportion; the official test side is let be; smaller training sets are part of larger ones."""
    cohort = unequal()
    official = set(cohort.table.loc[cohort.table["split"] == "test", "participant_id"])
    pool = cohort.table[~cohort.table["participant_id"].isin(official)]
    counts = pool["label"].value_counts()
    smaller = {side: {label: set() for label in counts.index} for side in ("train", "validation")}
    for size in (5, 11, 20):
        split = of_class_size(cohort, size, seed=3)
        found = {side: people(split, cohort, side) for side in ("train", "validation", "test", LEFT_OUT)}
        assert set().union(*found[LEFT_OUT].values()) == official
        for label, count in counts.items():
            learning = round(size * count / counts.min())
            assert len(found["train"][label]) + len(found["validation"][label]) == learning
            assert len(found["validation"][label]) == learning // 5
            assert len(found["test"][label]) == count - learning
            for side, before in smaller.items():
                assert before[label] <= found[side][label]
                before[label] = found[side][label]


def test_as_many_of_every_class():
    split = of_class_size(unequal(), 10, seed=0, equal=True)
    assert {label: len(found) for label, found in people(split, unequal(), "train").items()} == dict.fromkeys("abcd", 8)


def test_other_runs_learn_from_other_people():
    digests = [of_class_size(unequal(), 10, seed=seed).digest for seed in (7, 7, 8)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("size", [4, 400])
def test_somebody_of_every_class_is_left_to_be_tested(size: int):
    with pytest.raises(UsageError, match=rf"of whom from 5 to \d+ can be trained on and the others tested, not {size}; give other --sizes"):
        of_class_size(unequal(), size, seed=0, equal=True)
