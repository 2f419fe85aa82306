"""What a report says of given scores: verdicts, corrections, reservations."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tinycohort.experiments.augmentation_study.config import Grid
from tinycohort.experiments.augmentation_study.effects import effects_of_results, judged
from tinycohort.experiments.augmentation_study.grid import cells_of, primary_of
from tinycohort.experiments.augmentation_study.protocols import Protocols
from tinycohort.experiments.augmentation_study.results import Section, explained, reservations, sections_of, tidy_results
from tinycohort.experiments.engine import page
from tinycohort.experiments.engine.statistics import corrected_t_test, holm, paired_differences
from tinycohort.experiments.engine.study_folder import seed_of

GRID = Grid(("original", "resampled", "vae:gmm"), ("real+synthetic",), 6)


CELLS = cells_of(GRID)


def told(cells: list[dict] = CELLS, external_only: bool = False, **changes) -> tuple[list[str], dict[str, Section]]:
    """What a report says of runs with made-up scores and no predictions, whose test sides have a fifth of the people."""
    own = {} if external_only else {"test": 60, "test, age>=60": 12}
    runs = []
    for key in cells:
        score = {"original": 0.6, "resampled": 0.7, "vae:gmm": 0.65}[key["method"]] + 0.01 * (seed_of(0, key) % 5)
        n_test = own | {"external: other": 40}
        result = {"scores": {name: {"balanced_accuracy": score, "roc_auc": score / 2} for name in n_test}, "n_test": n_test}
        runs.append({"key": key, "configuration": "", "record": {}, "result": result | {"n_fitted_on": 200, "notes": {}, "history": []}})
    protocols = Protocols(external_only=external_only or None, **changes)
    config: Any = SimpleNamespace(protocols=protocols, grid=GRID, data=SimpleNamespace(classes=()), primary=primary_of(GRID), planned=())
    results = tidy_results(runs)
    effects = judged(effects_of_results(results, config), config)
    return reservations(results, config), {section.title: section for section in sections_of(results, effects, config)}


def test_a_stratum_overlaps_as_its_whole_test_side_does():
    _, sections = told()
    for title in ("test", "test, age>=60"):
        for row in sections[title].effects.to_dict("records"):
            differences = paired_differences(sections[title].table, row["score"], "resampled")
            expected = corrected_t_test(differences[row["method"]], 0.3)
            assert (row["low"], row["high"], row["p"]) == pytest.approx((expected.low, expected.high, expected.p))


def test_the_primary_comparison_is_corrected_for_nothing_and_the_others_for_one_another():
    _, sections = told()
    effects = sections["test"].effects
    primary = effects[effects["primary"]]
    assert primary[["method", "against", "score"]].to_numpy().tolist() == [["vae:gmm", "resampled", "roc_auc"]]
    assert (primary["p"] == primary["p_holm"]).all()
    secondary = effects[~effects["primary"] & (effects["score"] == "balanced_accuracy")]
    assert len(secondary) == 2
    assert secondary["p_holm"].to_numpy() == pytest.approx(holm(secondary["p"]))
    # Nobody said in advance that it would be those of 60 and over.
    assert not sections["test, age>=60"].effects["primary"].any()


def test_why_there_is_no_verdict_is_said():
    _, sections = told()
    for title, section in sections.items():
        assert section.effects["verdict"].str.startswith("no verdict: ").all() == title.startswith("external")
    reserved, sections = told(protocol="paper")
    assert "one split" in reserved[0]
    assert all(section.effects["verdict"].str.startswith("no verdict: ").all() for section in sections.values())
    few = [key for key in CELLS if key["run"] < 4]
    _, sections = told(few)
    assert (sections["test"].effects["verdict"] == "no verdict: it takes 5 runs, and there are 4").all()
    assert sections["test"].effects[["low", "high", "p", "p_holm", "seen"]].isna().all(axis=None)


def test_missing_cells_are_counted_whatever_else_is_there():
    of_another_grid = [{"run": run, "method": "vae:gmm", "mode": "synthetic-only"} for run in range(4)]
    reserved, sections = told(CELLS[:-2] + of_another_grid)
    assert reserved[0] == "Unfinished: 16 of 18 cells are there; all that follows is preliminary, and verdicts count when all are there."
    # What an earlier start computed in a mode that this one leaves out is shown all the same, after what is asked for.
    assert list(sections["test"].layout["method"]) == ["original", "resampled", "vae:gmm real+synthetic", "vae:gmm synthetic-only"]


def test_a_method_alone_is_compared_with_nothing():
    _, sections = told([key for key in CELLS if key["method"] == "original"])
    assert [len(section.effects) for section in sections.values()] == [0, 0, 0]


def test_only_methods_of_a_table_and_poor_fits_are_told():
    results = pd.DataFrame(
        [("original", np.nan, np.nan), ("a", 0.03, 0.4), ("a", 0.2, 0.5), ("b", -0.2, np.nan), ("b", -0.2, np.nan)],
        columns=["method", "explained_validation_AD", "explained_validation_CN"],
    )
    assert explained(results, {"original", "a"}) == {"a of AD": {0.03, 0.2}, "a of CN": {0.4, 0.5}}
    (sentence,) = page.poor_fits(explained(results, {"a", "b"}))
    assert "those of a of AD (1 of 2 fits, down to 3%), b of AD (down to -20%)." in sentence
    assert page.poor_fits({"a": {0.1, 0.9}}) == page.poor_fits({}) == []
