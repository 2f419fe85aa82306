"""What arms are worth against their reference: sentences, families of comparisons, and what a file of them gives back."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tinycohort.datasets.cohort import Cohort
from tinycohort.datasets.common.errors import DataError
from tinycohort.experiments.augmentation_study.cell import count_people
from tinycohort.experiments.augmentation_study.config import Grid
from tinycohort.experiments.augmentation_study.effects import (
    PEOPLE_AND_RUNS,
    RUNS,
    effects_of_predictions,
    effects_of_results,
    headlines,
    judged,
    read_effects,
    shares_drawn,
    told_effects,
)
from tinycohort.experiments.augmentation_study.grid import primary_of
from tinycohort.experiments.augmentation_study.predictions import of_whole_test_sets, tidy_predictions
from tinycohort.experiments.augmentation_study.protocols import Protocols, people_drawn
from tinycohort.experiments.augmentation_study.report import effects_table
from tinycohort.experiments.engine.pairs import paired

BASE = np.array([0.70, 0.72, 0.68, 0.71, 0.69, 0.70])
NOISE = np.array([0.001, -0.001, 0.002, -0.002, 0.001, -0.001])
ARMS = ("resampled", "weighted", "morph", "vae:auto")


def config_of(grid: Grid | None = None, protocol: str = "resampled") -> Any:
    grid = grid or Grid(ARMS, ("synthetic-only",), 6)
    data = SimpleNamespace(classes=("AD", "CN"))
    return SimpleNamespace(protocols=Protocols(protocol=protocol), grid=grid, data=data, primary=primary_of(grid), planned=())  # type: ignore[arg-type]


def results_of(scores: dict[str, Any], **places: str) -> pd.DataFrame:
    """Rows of ``results.csv``; every test side has a quarter of the people who are learnt from."""
    mode = {"morph": "synthetic-only", "vae:auto": "synthetic-only"}
    rows = [
        {"run": run, "method": method, "mode": mode.get(method, "real"), "roc_auc": value, "balanced_accuracy": value, "test_set": "test"}
        | {"n_test": 20, "n_fitted_on": 80, **places}
        for method, values in scores.items()
        for run, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def verdicts_of(results: pd.DataFrame, config: Any, score: str = "roc_auc") -> dict[str, str]:
    found = judged(effects_of_results(results, config), config)
    return dict(found.loc[found["score"] == score, ["method", "verdict"]].itertuples(index=False, name=None))


def test_the_sentences():
    arms = {"resampled": BASE, "weighted": BASE + 10 * NOISE, "morph": BASE - 0.05 + NOISE, "vae:auto": BASE + 0.05 + NOISE}
    told = verdicts_of(results_of(arms), config_of())
    assert told["vae:auto"] == (
        "helps: +5.0 points [+4.7, +5.3] ROC AUC over `resampled`, p < 0.001 (6 runs); a difference of 0.4 points is seen with 80 % power"
    )
    assert told["morph"].startswith("hurts: −5.0 points [−5.3, −4.7] ROC AUC over `resampled`, corrected p < 0.001 (6 runs)")
    assert told["weighted"].startswith("no difference seen: +0.0 points [")
    assert told["weighted"].endswith("points would have been seen with 80 % power")


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        (BASE, "all runs differ alike, which tells no spread"),
        (BASE + 0.02, "all runs differ alike, which tells no spread"),
        ((BASE + 0.05 + NOISE)[:4], "it takes 5 runs, and there are 4"),
        (BASE[:1] + 0.1, "it takes 5 runs, and there is 1"),
        ([math.nan], "it takes 5 runs, and there are 0"),
    ],
)
def test_what_gives_no_verdict_has_no_interval_either(scores: Any, told: str):
    config = config_of()
    found = judged(effects_of_results(results_of({"resampled": BASE, "vae:auto": scores}), config), config)
    assert (found["verdict"] == f"no verdict: {told}").all()
    assert found[["se", "low", "high", "p", "p_holm", "seen"]].isna().all(axis=None)
    assert told in told_effects(found)["verdict"].iloc[0]


def test_a_finished_study_is_not_interim_where_a_run_has_no_score():
    scores = {"resampled": BASE, "vae:auto": BASE + 0.05 + NOISE, "morph": BASE + 0.05 + NOISE}
    results, config = results_of(scores), config_of()
    results.loc[(results["run"] == 2) & (results["method"] != "morph"), ["roc_auc", "balanced_accuracy"]] = math.nan
    told = verdicts_of(results, config)
    assert told["vae:auto"].startswith("helps: +5.0 points")
    assert "(5 runs, 1 more without a score)" in told["vae:auto"]
    unfinished = results[(results["run"] != 5) | (results["method"] != "morph")]
    assert verdicts_of(unfinished, config)["morph"].startswith("no verdict: it takes 5 runs")
    unfinished = results_of(scores)[lambda rows: (rows["run"] != 5) | (rows["method"] != "morph")]
    assert verdicts_of(unfinished, config)["morph"].startswith("interim, no verdict yet: ")
    # Nor where nobody of the stratum is tested in a run, of whom there are no predictions.
    predictions = predictions_of({"resampled": 0.5, "vae:auto": 3.0})
    some = predictions.assign(test_set="test, age>=60")[predictions["run"] != 2]
    found = judged(effects_of_predictions(pd.concat([predictions, some]), config), config)
    assert found[["n", "finished"]].to_numpy().tolist() == [[6, 6], [6, 6], [5, 6], [5, 6]]
    assert not found["interim"].any()
    assert found["verdict"].str.contains("5 runs, 1 more without a score, 20 AD and 20 CN tested").tolist() == [False, False, True, True]


def test_runs_overlap_by_people_and_not_by_their_images():
    results, config = results_of({"resampled": BASE, "vae:auto": BASE + 10 * NOISE}), config_of()
    by_images = effects_of_results(results, config)
    # Everybody has one image, or those who are tested have several.
    people = {"n_train_AD": 30, "n_train_CN": 50, "n_test_AD": 8, "n_test_CN": 12}
    assert effects_of_results(results.assign(**people), config).equals(by_images)
    assert effects_of_results(results.assign(**people, n_test=60), config).equals(by_images)


def test_of_several_visits_those_in_the_stratum_alone_are_averaged(tmp_path):
    table = pd.DataFrame(
        [("a1", "a", "AD", 58), ("a2", "a", "AD", 61), ("b1", "b", "CN", 50), ("c1", "c", "CN", 70), ("c2", "c", "CN", 71)],
        columns=["image_id", "participant_id", "label", "age"],
    )
    said = {"a1": [0.1, 0.9], "a2": [0.8, 0.2], "b1": [0.3, 0.7], "c1": [0.2, 0.8], "c2": [0.4, 0.6]}
    runs = [{"key": {"run": 0, "method": "original", "mode": "real"}, "result": {"predictions": {"test": said}}}]
    data: Any = SimpleNamespace(cohort=SimpleNamespace(table=table, alike=()), external={}, classes=("AD", "CN"))
    found = tidy_predictions(runs, tmp_path, data, "age>=60")
    whole, inside = (found[found["test_set"] == name] for name in ("test", "test, age>=60"))
    assert whole[["participant_id", "n_images", "p_AD"]].to_numpy().tolist() == [
        ["a", 2, 0.45],
        ["b", 1, 0.3],
        ["c", 2, pytest.approx(0.3)],
    ]
    assert inside[["participant_id", "n_images", "p_AD"]].to_numpy().tolist() == [["a", 1, 0.8], ["c", 2, pytest.approx(0.3)]]
    assert of_whole_test_sets(found, data).equals(whole)
    assert tidy_predictions(runs, tmp_path, data).equals(whole)


def test_who_may_be_one_person_is_tested_as_one(tmp_path):
    table = pd.DataFrame(
        [("a1", "a", "AD"), ("b1", "b", "AD"), ("c1", "c", "CN"), ("d1", "d", "CN")], columns=["image_id", "participant_id", "label"]
    )
    said = {"a1": [0.1, 0.9], "b1": [0.5, 0.5], "c1": [0.2, 0.8], "d1": [0.4, 0.6]}
    runs = [{"key": {"run": 0, "method": "original", "mode": "real"}, "result": {"predictions": {"test": said}}}]
    alike = (("a", "b"), ("b", "c"))  # of which the second pair has two labels: each is tested as of its own class
    data: Any = SimpleNamespace(cohort=SimpleNamespace(table=table, alike=alike), external={}, classes=("AD", "CN"))
    found = tidy_predictions(runs, tmp_path, data)
    assert found[["participant_id", "n_images", "p_AD"]].to_numpy().tolist() == [["a", 2, pytest.approx(0.3)], ["c", 1, 0.2], ["d", 1, 0.4]]
    assert count_people(table, alike[:1], ("AD", "CN", "MCI")) == {"AD": 1, "CN": 2, "MCI": 0}
    cohort = Cohort("c", table.assign(image=None), "c", alike=alike[:1])
    assert people_drawn(cohort) == {"AD": 1, "CN": 2}


def test_no_interval_reaches_beyond_what_scores_can_differ_by():
    scores = {"resampled": [0.0, 1, 0, 1, 0], "vae:auto": [1.0, 0, 1, 0, 1]}
    found = judged(effects_of_results(results_of(scores), config_of()), config_of())
    assert (found["low"] == -1).all()
    assert (found["high"] == 1).all()
    assert found["verdict"].str.endswith("no difference would be seen with 80 % power: the study is too small").all()


def test_a_primary_comparison_at_several_sizes_is_corrected_for_them():
    grid = Grid(ARMS, ("synthetic-only",), 6, sizes=("10", "20"))
    config = config_of(grid)
    generator = np.random.default_rng(0)
    parts = [
        results_of({arm: BASE + generator.normal(0, 0.01, 6) for arm in ARMS} | {"vae:auto": BASE + 0.02 + 5 * NOISE}, size=size)
        for size in ("10", "20")
    ]
    found = judged(effects_of_results(pd.concat(parts), config), config)
    primary = found[found["primary"]]
    assert list(primary["size"]) == ["10", "20"]
    assert set(primary["method"]) == {"vae:auto"}
    assert min(primary["p_holm"]) == pytest.approx(2 * min(primary["p"]))
    # Who leaves out a size after a look is corrected for it all the same; and so is who adds one.
    began = replace(grid, sizes=("10", "20"), methods=(*ARMS, "ae:normal"))
    for now, *then in ((("20",), ("10", "20")), (("20", "10"), ("20",)), (("20",), ("10",)), (("20",), ("20",), ("20", "10"))):
        changed = config_of(replace(grid, sizes=now))
        changed.planned = tuple(replace(began, sizes=sizes) for sizes in then)
        fewer = judged(effects_of_results(parts[1], changed), changed)
        row = fewer[fewer["primary"]].iloc[0]
        assert row["p_holm"] == pytest.approx(2 * row["p"])
        assert row["seen"] == found[found["primary"] & (found["size"] == "20")]["seen"].iloc[0]
        least = fewer[~fewer["primary"] & (fewer["score"] == "roc_auc")].sort_values("p").iloc[0]
        assert least["p_holm"] == pytest.approx(min(1, 3 * least["p"]))  # morph, weighted, and what was left out
    first, second = headlines(found, config)
    assert first.startswith("10 of the smallest class, vae:auto synthetic-only: ")
    assert second.startswith("20 of the smallest class, vae:auto synthetic-only: ")


def predictions_of(arms: dict[str, float], n: int = 40, runs: int = 6) -> pd.DataFrame:
    """Everybody is tested in every run; an arm's scores part the classes by so much."""
    generator, rows = np.random.default_rng(1), []
    truth = np.arange(n) % 2
    for run in range(runs):
        shared = generator.normal(size=n)
        for method, apart in arms.items():
            p = 1 / (1 + np.exp(-(shared + apart * truth + 0.1 * generator.normal(size=n))))
            mode = "real" if method in ("resampled", "weighted") else "synthetic-only"
            for person in range(n):
                label = ("CN", "AD")[truth[person]]
                of_person = {"participant_id": f"p{person:03d}", "label": label, "p_AD": p[person], "p_CN": 1 - p[person]}
                rows.append({"run": run, "method": method, "mode": mode, "test_set": "test", **of_person})
    return pd.DataFrame(rows)


def test_of_predictions_it_is_the_paired_test_of_people_and_runs():
    predictions, config = predictions_of({"resampled": 0.5, "weighted": 0.5, "vae:auto": 3.0}), config_of()
    found = judged(effects_of_predictions(predictions, config), config)
    assert set(found["test"]) == {PEOPLE_AND_RUNS}
    row = found[found["primary"]].iloc[0]
    ours, theirs = (predictions[predictions["method"] == method] for method in ("vae:auto", "resampled"))
    expected = paired(ours, theirs, ("AD", "CN"))
    assert (row["difference"], row["se"], row["df"]) == (expected.estimate, expected.se, expected.df)
    assert (row["low"], row["high"]) == pytest.approx(expected.interval())
    assert row["p"] == pytest.approx(expected.p)
    assert row["seen"] == pytest.approx(expected.detectable())
    # What is corrected for its number sees less: as much as Holm's first step would, of the three that are planned.
    other = found[(found["method"] == "weighted") & (found["score"] == "balanced_accuracy")].iloc[0]
    theirs, ours = (predictions[predictions["method"] == method] for method in ("resampled", "weighted"))
    assert other["seen"] == pytest.approx(paired(ours, theirs, ("AD", "CN"), "balanced_accuracy").detectable(0.05 / 3))
    assert row["verdict"].startswith("helps: ")
    assert effects_of_predictions(predictions, config_of(protocol="paper")).empty


def test_people_of_another_cohort_are_told_by_the_share_that_runs_learn_from():
    config = config_of()
    predictions = predictions_of({"resampled": 0.5, "vae:auto": 3.0}).assign(test_set="external: other")
    counts, people = {"n_train_AD": [8, 8, 8], "n_train_CN": [16, 20, 16]}, {"AD": 20, "CN": 40}
    drawn = shares_drawn(pd.DataFrame({"run": range(3), **counts}), people)
    assert drawn == {None: 0.5}
    # Most people are no help, where of the few of a class nearly all are in every run.
    assert shares_drawn(pd.DataFrame({"run": [0], "n_train_AD": [14], "n_train_CN": [14]}), {"AD": 20, "CN": 1000}) == {None: 0.7}
    found = judged(effects_of_predictions(predictions, config, drawn), config)
    row = found[found["primary"]].iloc[0]
    ours, theirs = (predictions[predictions["method"] == method] for method in ("vae:auto", "resampled"))
    assert row["se"] == paired(ours, theirs, ("AD", "CN"), drawn=0.5).se
    # Of runs that did not count whom they learn from, and of those that all learn from everybody, nothing is told.
    for unknown, why in (
        (shares_drawn(pd.DataFrame({"run": [0, 1]}), people), "its runs did not count whom they learn from"),
        ({None: 1.0}, "the runs do not draw who is learnt from"),
    ):
        found = judged(effects_of_predictions(predictions, config, unknown), config)
        assert found["verdict"].eq(f"no verdict: {why}").all()
    sizes = shares_drawn(pd.DataFrame({"run": range(3), "size": ["10", "20", "20"], **counts}), people)
    assert sizes == {"10": 0.4, "20": 0.5}


def test_who_is_officially_tested_is_not_drawn_to_learn_from():
    who = [f"p{number // 2}" for number in range(16)]  # each with two images
    table = pd.DataFrame({"participant_id": who, "label": ["AD"] * 6 + ["CN"] * 10})
    cohort: Any = SimpleNamespace(table=table, name="mine", alike=())
    assert people_drawn(cohort) == {"AD": 3, "CN": 5}
    cohort.table = table.assign(split=["test"] * 2 + ["train"] * 6 + ["test"] * 2 + ["train"] * 4 + ["validation"] * 2)
    assert people_drawn(cohort) == {"AD": 2, "CN": 4}
    assert people_drawn(cohort, tested_too=True) == {"AD": 3, "CN": 5}


def test_too_few_people_give_no_verdict():
    config = config_of()
    found = judged(effects_of_predictions(predictions_of({"resampled": 0.5, "vae:auto": 3.0}, n=18), config), config)
    assert found["verdict"].str.startswith("no verdict: it takes 10 tested people of each class").all()


def test_both_tests_stand_side_by_side_for_people():
    config = config_of()
    by_people = effects_of_predictions(predictions_of({"resampled": 0.5, "vae:auto": 3.0}), config)
    by_runs = effects_of_results(results_of({"resampled": BASE, "vae:auto": BASE + 0.05 + NOISE}), config)
    found = judged(pd.concat([by_people, by_runs], ignore_index=True), config)
    (row,) = told_effects(found).to_dict("records")
    assert row["method"] == "vae:auto synthetic-only (primary)"
    assert row["p, by runs alone"] == "< 0.001"
    assert row["verdict"] == "helps"
    difference = found[(found["test"] == PEOPLE_AND_RUNS) & (found["score"] == "roc_auc")]["difference"].iloc[0]
    assert row["Δ ROC AUC"].startswith(f"+{100 * difference:.1f} [")
    (headline,) = headlines(found, config)
    assert f"+{100 * difference:.1f} points" in headline


def test_a_file_of_effects_gives_the_same_verdicts(tmp_path: Path):
    config = config_of()
    results = results_of({"resampled": BASE, "weighted": BASE[:3], "vae:auto": BASE + 0.05 + NOISE})
    effects = effects_of_results(results, config)
    effects.to_csv(tmp_path / "effects.csv", index=False)
    again = read_effects(tmp_path, results, config)
    pd.testing.assert_frame_equal(judged(again, config), judged(effects, config))
    assert set(again["test"]) == {RUNS}
    # Of a study from before there was such a file, its results tell.
    pd.testing.assert_frame_equal(read_effects(tmp_path / "nowhere", results, config), effects)


def test_effects_of_another_study_are_told(tmp_path: Path):
    config, results = config_of(), results_of({"resampled": BASE, "vae:auto": BASE + 0.05 + NOISE}).assign(configuration="0123456789ab")
    effects = effects_table(results, None, None, config)
    effects.to_csv(tmp_path / "effects.csv", index=False)
    assert set(read_effects(tmp_path, results, config)["configuration"]) == {"0123456789ab"}
    effects.assign(configuration="123456789012").to_csv(tmp_path / "effects.csv", index=False)
    with pytest.raises(DataError, match=r"effects\.csv is of another configuration than the results\.csv beside it"):
        read_effects(tmp_path, results, config)


@pytest.mark.parametrize(("old", "new"), [("difference", "diff"), ("vae:auto", ""), ("0.05", "five"), (",0,6,", ",0,,")])
def test_a_damaged_file_of_effects_is_told(tmp_path: Path, old: str, new: str):
    config, results = config_of(), results_of({"resampled": BASE, "vae:auto": BASE + 0.05 + NOISE})
    effects_of_results(results, config).to_csv(tmp_path / "effects.csv", index=False)
    text = (tmp_path / "effects.csv").read_text(encoding="utf-8")
    (tmp_path / "effects.csv").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(DataError, match=r"effects\.csv .*restore it"):
        read_effects(tmp_path, results, config)
