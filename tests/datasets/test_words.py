"""Sizes and lists as sentences tell them."""

import pytest

from tinycohort.datasets.common.words import listed, times


@pytest.mark.parametrize(
    ("n", "options", "told"),
    [
        (0, {}, ""),
        (2, {}, "0, 1"),
        (3, {"most": 3}, "0, 1, 2"),
        (5, {"most": 3}, "0, 1, 2 and 2 more"),
        (5, {"most": 3, "separator": "; "}, "0; 1; 2; and 2 more"),
        (12, {}, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"),
    ],
)
def test_a_list_names_some_and_counts_the_rest(n, options, told):
    assert listed(range(n), **options) == told


def test_a_size():
    assert times((80, 96)) == "80 x 96"
    assert times(reversed((80, 96))) == "96 x 80"
