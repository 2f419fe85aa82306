"""Verdicts of a study: one primary comparison, secondary ones corrected, and sentences that say what would have been seen."""

import math
from dataclasses import replace

import pytest

from tinycohort.experiments.engine.pairs import Effect
from tinycohort.experiments.engine.verdicts import Comparison, verdicts

PEOPLE = {"AD": 70, "CN": 1239}


def effect(estimate: float, se: float = 0.01, df: float = 1e6, **changed) -> Effect:
    return replace(Effect(estimate, se, df, None, 20, 0, PEOPLE), **changed)


def test_the_primary_comparison_stands_by_itself_and_the_others_are_corrected():
    comparisons = [
        Comparison("a", "r", effect(0.022)),
        Comparison("b", "r", effect(0.022), primary=True),
        Comparison("c", "r", effect(-0.03)),
        Comparison("d", "r", effect(0.001)),
    ]
    table = verdicts(comparisons, "roc_auc").set_index("method")
    assert table.loc["b", "p_holm"] == table.loc["b", "p"] == pytest.approx(0.0278, abs=1e-4)
    assert table.loc["a", "p_holm"] == pytest.approx(2 * table.loc["a", "p"])
    assert table.loc["c", "p_holm"] == pytest.approx(3 * table.loc["c", "p"])
    claims = table["verdict"].str.split(":").str[0]
    assert claims.to_dict() == {"a": "no difference seen", "b": "helps", "c": "hurts", "d": "no difference seen"}
    # (1.96 + 0.84) standard errors, and (2.39 + 0.84) at 0.05 / 3.
    assert table["detectable"].tolist() == pytest.approx([0.03236, 0.02802, 0.03236, 0.03236], abs=1e-4)


def test_the_sentences():
    seen, missed = (
        verdicts([Comparison("a", "resampled", effect(estimate), primary=True)], "roc_auc")["verdict"].item() for estimate in (0.03, 0.004)
    )
    counts = "(20 runs; tested: 70 AD, 1,239 CN)"
    ending = "a difference of 2.8 points {} seen with 80 % power"
    assert seen == f"helps: +3.0 points [+1.0, +5.0] ROC AUC over `resampled`, p = 0.003 {counts}; {ending.format('is')}"
    expected = f"no difference seen: +0.4 points [−1.6, +2.4] ROC AUC over `resampled`, p = 0.689 {counts}; "
    assert missed == expected + ending.format("would have been")


def test_what_could_not_be_tested_says_why_and_counts_among_the_corrected():
    why = "it takes 5 runs with a score of both, and there are 2"
    untested = effect(0.1, math.nan, math.nan, n_runs=2, unpaired=1, why_untested=why)
    none = effect(math.nan, n_runs=0, why_untested="no run has a score of both")
    table = verdicts([Comparison("a", "r", untested), Comparison("b", "r", none), Comparison("c", "r", effect(0.025))], "balanced_accuracy")
    counts = "(2 runs, 1 more without a pair; tested: 70 AD, 1,239 CN)"
    assert table["verdict"][0] == f"no verdict: +10.0 points balanced accuracy over `r` {counts}; {why}"
    assert table["verdict"][1] == "no verdict: no run has a score of both"
    assert table[["low", "high", "p", "p_holm", "detectable"]][:2].isna().all(axis=None)
    assert table["p_holm"][2] == pytest.approx(3 * table["p"][2])


def test_a_study_that_can_see_nothing_says_so():
    (verdict,) = verdicts([Comparison("a", "r", effect(0.1, 0.6, 19))], "roc_auc")["verdict"]
    assert "[−100.0, +100.0]" in verdict
    assert verdict.endswith("no difference would be seen with 80 % power: the study is too small")


def test_there_is_one_primary_comparison():
    with pytest.raises(ValueError, match="one primary"):
        verdicts([Comparison("a", "r", effect(0), primary=True), Comparison("b", "r", effect(0), primary=True)], "roc_auc")
