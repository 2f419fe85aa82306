"""The cohort's table: the order that does not hang on the source's."""

import numpy as np
import pandas as pd
import pytest

from tinycohort.datasets.cohort import Cohort
from tinycohort.datasets.identity import place_of_id


@pytest.mark.parametrize(
    "ids",
    [
        ["mnist-train-2", "mnist-train-10", "mnist-train-100"],
        ["OAS1_9001_MR1", "OAS1_9001_MR2", "OAS1_9010_MR1"],
        ["train9-ffffffff", "train10-00000000"],
        ["", "1", "01", "2", "12", "a", "a-1"],
        ["9" * 5000, "1" + "0" * 5000],
        ["scan", "scan#2", "scan#10"],
    ],
)
def test_ids_are_sorted_by_their_numbers(ids):
    given = np.random.default_rng(0).permutation(ids).tolist()
    if ids[1] == "1":
        ids = ["", "01", "1", *ids[3:]]  # equal numbers by their letters
    assert sorted(given, key=place_of_id) == ids


def test_rows_come_into_one_order_with_all_that_they_say():
    people, images = ["p2", "p10", "p2", "p1"], ["b", "a", "a", "c"]
    table = pd.DataFrame({"image_id": images, "participant_id": people, "image": range(4), "label": "A", "age": [20, 100, 21, 10]})
    for seed in range(3):
        mixed = table.sample(frac=1, random_state=seed).reset_index(drop=True)
        found = Cohort("c", mixed, "memory").in_order().table
        assert found["image"].tolist() == [3, 2, 0, 1]
        assert found["age"].tolist() == [10, 21, 20, 100]
        assert found.index.tolist() == [0, 1, 2, 3]
