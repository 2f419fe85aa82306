"""Modes as texts, and what they refuse."""

import pytest

from tinycohort.datasets.common.errors import UsageError
from tinycohort.experiments.augmentation_study.mode import MIXINGS, Mode


@pytest.mark.parametrize(
    "text",
    [
        *MIXINGS,
        "resampled+synthetic enlarge=4",
        "real+synthetic enlarge=1.5",
        "synthetic-only n=300 choose=supported",
        "synthetic-only n=1000000",
    ],
)
def test_a_mode_is_its_text(text: str):
    assert str(Mode.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not ''"),
        ("synthetic", "--mode is resampled\\+synthetic, real\\+synthetic or synthetic-only, not 'synthetic'"),
        ("synthetic-only enlarge=2", "has no real images that could be enlarged"),
        ("real+synthetic n=300", "give that, and not n"),
        ("synthetic-only n=0", "at least 1 synthetic image"),
        ("real+synthetic enlarge=0.5", "may not shrink"),
        ("real+synthetic enlarge=inf", "may not shrink"),
        ("real+synthetic enlarge=nan", "may not shrink"),
        ("real+synthetic enlarge=much", "is a number"),
        ("synthetic-only choose=best", "choose of the mode 'synthetic-only' is supported or confident"),
        ("synthetic-only mixing=real", "has no setting mixing"),
    ],
)
def test_what_is_no_mode_is_told(text: str, told: str):
    with pytest.raises(UsageError, match=told):
        Mode.parse(text)
