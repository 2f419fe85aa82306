"""The augmentation study on a tiny cohort: what is compared, what is refused, and what is written."""

import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_studies import compute, request, those_predicted, write_cohort

from tinycohort.augment.fitting.settings import FitSettings
from tinycohort.classifiers.covariates import CovariateClassifier
from tinycohort.classifiers.training import ClassifierSettings
from tinycohort.datasets.common.errors import DataError, UsageError
from tinycohort.datasets.readers import Source, read_cohort
from tinycohort.datasets.training_sizes import LEFT_OUT
from tinycohort.experiments.augmentation_study import command as evaluate
from tinycohort.experiments.augmentation_study.baselines import balanced_rows
from tinycohort.experiments.augmentation_study.cell import lengthened, run_cell
from tinycohort.experiments.augmentation_study.config import Grid
from tinycohort.experiments.augmentation_study.grid import cells_of, staggered
from tinycohort.experiments.augmentation_study.methods import method_of
from tinycohort.experiments.augmentation_study.predictions import read_predictions
from tinycohort.experiments.augmentation_study.protocols import Protocols, split_of
from tinycohort.experiments.augmentation_study.report import write_report
from tinycohort.experiments.augmentation_study.results import EXPLAINED
from tinycohort.experiments.engine import page
from tinycohort.experiments.engine.study_folder import all_runs
from tinycohort.experiments.engine.study_images import Prepared, stratum


def test_every_cell_has_scores_on_every_test_set(study: Path):
    results = pd.read_csv(study / "results.csv")
    assert len(results) == 2 * (3 + 2) * 2  # runs x (baselines + one generating method in two modes) x (all, 60 and over)
    assert set(results["test_set"]) == {"test", "test, age>=60"}
    assert results.loc[results["test_set"] == "test", "balanced_accuracy"].between(0, 1).all()
    # Of 44 participants a fifth is tested on: 3 of AD, 6 of CN.
    assert set(results.loc[results["test_set"] == "test", "n_test"]) == {9}


def test_the_training_set_is_topped_up_or_replaced(study: Path):
    counts = {(run["key"]["method"], run["key"]["mode"]): run["result"]["notes"]["n_train"] for run in all_runs(study)}
    real = counts["original", "real"]
    assert real["AD"] < real["CN"]
    assert counts["vae:riemannian", "real+synthetic"] == {"AD": 2 * real["CN"], "CN": 2 * real["CN"]}
    assert counts["vae:riemannian", "synthetic-only"] == {"AD": 12, "CN": 12}


def test_predictions_are_of_the_test_side_and_differ_between_runs(study: Path):
    runs = all_runs(study)
    tested = {run["key"]["run"]: those_predicted(study, run) for run in runs}
    assert tested[0] != tested[1]
    for run in runs:
        assert those_predicted(study, run) == tested[run["key"]["run"]]
        predicted = read_predictions(study, run, ["AD", "CN"])
        assert ((predicted["p_AD"] + predicted["p_CN"] - 1).abs() < 1e-3).all()


def test_a_cell_computed_again_has_the_same_scores(study: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(study, copy, ignore=shutil.ignore_patterns("cache", "generators"))
    key = {"run": 1, "method": "vae:riemannian", "mode": "real+synthetic"}
    kept = next(run for run in all_runs(study) if run["key"] == key)
    again = run_cell(key, kept["seed"], copy)
    assert again["scores"]["test"] == pytest.approx(kept["result"]["scores"]["test"], nan_ok=True)


def test_the_report_stands_by_itself(study: Path):
    page = (study / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") >= 4
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "vae:riemannian" in page
    assert "synthetic-only" in page
    table = (study / "table.md").read_text(encoding="utf-8")
    assert "Against `weighted`, in points:" in table
    assert "vae:riemannian real+synthetic: no verdict: it takes 5 runs with a score of both, and there are 2." in table


def test_a_study_of_a_method_that_draws_without_a_model(cohort: Path, tmp_path: Path):
    study = tmp_path / "study"
    compute(study, evaluate.configuration_of(request(cohort, methods=("original", "morph"), runs=1)))
    write_report(study)
    assert not (study / "generators").exists()
    page = (study / "report.html").read_text(encoding="utf-8")
    (nearest,) = re.findall(r"<td>morph</td><td>AD</td><td>–</td><td>–</td><td>–</td><td>(.*?)</td><td>–</td><td>–</td>", page)
    assert float(nearest) > 0
    assert EXPLAINED not in "".join(pd.read_csv(study / "results.csv").columns)


@pytest.mark.parametrize("enough", [1.1, -1e9])
def test_the_report_tells_poor_fits_under_the_tables_of_their_methods(study: Path, tmp_path: Path, monkeypatch, enough: float):
    copy = shutil.copytree(study, tmp_path / "copy", ignore=shutil.ignore_patterns("cache", "generators"))
    monkeypatch.setattr(page, "EXPLAINS_LITTLE", enough)
    write_report(copy)
    sections = {
        "table.md": (copy / "table.md").read_text(encoding="utf-8").split("\n## "),
        "report.html": (copy / "report.html").read_text(encoding="utf-8").split("<h2>"),
    }
    for name, parts in sections.items():
        tables = [part for part in parts if part.startswith("test")]
        assert len(tables) == 2, name
        for part in tables:
            before, *after = part.split("Poor fits: ")
            assert len(after) == (enough > 1), name
            if after:
                assert "vae:riemannian" in before, "the table comes first"
                # Of the runs that the table has: one tests nobody of a class who is 60 or older.
                of_fits = r"\(2 of 2 fits, down" if part.startswith("test\n") or part.startswith("test<") else r"\((2 of 2 fits, )?down"
                assert re.search(rf"vae:riemannian of AD {of_fits} to -?\d+%\), vae:riemannian of CN {of_fits}", after[0])


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_the_report_renders(study: Path, tmp_path: Path):
    picture = tmp_path / "report.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
    place = [
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1100,1600",
        f"--screenshot={picture}",
        f"file://{study / 'report.html'}",
    ]
    subprocess.run(["chromium", *options, *place], check=True, capture_output=True, timeout=120)
    from PIL import Image

    grey = np.asarray(Image.open(picture).convert("L"))
    assert grey.std() > 10  # text, tables and plots on a white page


def test_protocol_paper_shares_split_and_generators_and_gives_no_verdict(cohort: Path, tmp_path: Path):
    folder = tmp_path / "paper"
    asked = request(cohort, methods=("original", "vae:posterior"), protocols=Protocols(protocol="paper", least_steps=0, n_synthetic=8))
    compute(folder, evaluate.configuration_of(asked))
    write_report(folder)
    tested = [those_predicted(folder, run) for run in all_runs(folder)]
    assert all(people == tested[0] for people in tested)
    assert [path.name for path in (folder / "generators").iterdir()] == ["run-000"]
    table = (folder / "table.md").read_text(encoding="utf-8")
    assert table.count("No verdicts: all runs have one split") == 1
    assert "vae:posterior resampled+synthetic: no verdict: " in table or "vae:posterior real+synthetic: no verdict: " in table


def test_a_limit_takes_training_participants_only(cohort: Path):
    data = read_cohort(cohort)
    free, bound = (split_of(data, Protocols(limit=limit), seed=3) for limit in ({}, {"AD": 4}))
    for side in ("validation", "test"):
        assert set(free.side(data, side).table["participant_id"]) == set(bound.side(data, side).table["participant_id"])
    assert bound.side(data, "train").counts() == {"AD": 4, "CN": free.side(data, "train").counts()["CN"]}
    assert len(bound.side(data, LEFT_OUT)) == free.side(data, "train").counts()["AD"] - 4


def test_predictions_are_told_by_participant(cohort: Path, tmp_path: Path):
    several = shutil.copytree(cohort, tmp_path / "several")
    (several / "participants.tsv").unlink()
    with np.load(several / "images.npz") as kept:
        arrays = {name: np.concatenate([value, value[:20]]) for name, value in kept.items()}
    arrays["images"][44:] *= 0.9
    np.savez(several / "images.npz", **arrays)
    folder = tmp_path / "study"
    protocols = Protocols(least_steps=0)
    compute(folder, evaluate.configuration_of(request(several, methods=("original", "weighted"), protocols=protocols)))
    write_report(folder)
    found = pd.read_csv(folder / "predictions.csv")
    assert list(found.columns) == ["run", "method", "mode", "test_set", "participant_id", "label", "n_images", "p_AD", "p_CN"]
    assert found["n_images"].isin([1, 2]).all()
    assert len(found) == 2 * 2 * 9
    (run, *_) = all_runs(folder)
    predictions = read_predictions(folder, run, ["AD", "CN"])
    one = found[(found["run"] == 0) & (found["method"] == run["key"]["method"]) & (found["n_images"] == 2)].iloc[0]
    images = predictions[predictions["image_id"].str.partition("#")[0] == one["participant_id"]]
    assert len(images) == 2
    assert [one["p_AD"], one["p_CN"]] == pytest.approx(images[["p_AD", "p_CN"]].mean().tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("method", "what"),
    [
        ("nothing", "no method"),
        ("vae:nothing", "no sampler"),
        ("nothing:gmm", "no model"),
        ("vae:riemannian rho=x", "is a number, not .x."),
        ("vae:gmm rhoo=1", "no setting rhoo"),
        ("ae:riemannian", "Gaussian"),
    ],
)
def test_unknown_methods_are_refused(method: str, what: str):
    with pytest.raises(UsageError, match=what):
        method_of(method)


@pytest.mark.parametrize(
    "wrong",
    [{"protocol": "half"}, {"n_synthetic": 0}, {"enlarge": 0.5}, {"enlarge": math.nan}, {"limit": {"AD": 0}}, {"external_only": False}],
)
def test_protocols_that_cannot_be(wrong: dict):
    with pytest.raises(UsageError):
        Protocols(**wrong)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"runs": 0}, UsageError, "1 or more, not 0"),
        ({"modes": ("half",)}, UsageError, "--mode is .* not 'half'"),
        ({"protocols": Protocols(limit={"XX": 3})}, UsageError, "--limit names XX, and the classes are AD, CN"),
        ({"networks": ("no.such.module:f",)}, UsageError, "cannot be imported"),
        ({"protocols": Protocols(stratum="aeg>=60")}, UsageError, "names no column"),
        ({"protocols": Protocols(stratum="age>=200")}, UsageError, "holds for nobody"),
        ({"source": Source("/nowhere")}, DataError, "no file or folder /nowhere"),
        (
            {"source": Source("its own", kept=("CN",))},
            UsageError,
            "cohort has one class, and classifiers learn to tell classes apart; give --label-column",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_a_run(cohort: Path, changes: dict, error: type[Exception], says: str):
    asked = request(cohort, **changes)
    asked = replace(asked, source=replace(asked.source, data=asked.source.data.replace("its own", str(cohort))))
    with pytest.raises(error, match=says):
        evaluate.configuration_of(asked)


def test_official_sides_have_one_split_and_no_verdict(tmp_path: Path):
    """A new split per run would train on the published test side."""
    folder = write_cohort(tmp_path / "cohort", {"AD": 20, "CN": 20})
    table = pd.read_csv(folder / "participants.tsv", sep="\t").assign(split=(["train"] * 7 + ["test"] * 3) * 4)
    table.to_csv(folder / "participants.tsv", sep="\t", index=False)
    asked = request(folder, methods=("original",))
    with pytest.raises(UsageError, match="has official sides, so no run may have a split of its own; give --protocol paper"):
        evaluate.configuration_of(asked)
    config = evaluate.configuration_of(replace(asked, protocols=replace(asked.protocols, protocol="paper")))
    data = Prepared.load(tmp_path / "study", config.data)
    split = split_of(data.cohort, Protocols(protocol="paper"), 0)
    assert set(data.side(split, "test").table["split"]) == {"test"}
    assert len(data.side(split, "test").table) == 12
    with pytest.raises(UsageError, match="has official sides"):
        split_of(data.cohort, Protocols(), 0)


def test_a_benchmark_s_root_is_where_the_data_lie(cohort: Path, tmp_path: Path):
    asked = request(cohort, methods=("original",), protocols=Protocols(protocol="paper", least_steps=0))
    asked = replace(asked, source=Source("rings-and-discs"), fit=FitSettings(latent_dim=2, channels=2))
    toy = evaluate.configuration_of(asked)
    # What was not asked for is not in the configuration: studies that were started before keep their digests.
    assert toy.content()["data"]["source"] == {"suffix": "T1w"}
    assert toy.content()["where"] == {"source": {"data": "rings-and-discs"}}
    cohort = replace(toy.data.cohort, source=Source("mnist", root="$MNIST"))
    rooted = replace(toy, data=replace(toy.data, cohort=cohort)).content()
    assert rooted["where"]["source"] == {"data": "mnist", "root": "$MNIST"}
    assert rooted["data"]["source"] == {"suffix": "T1w"}


def test_topping_up_to_balance_alone_needs_nothing_of_the_largest_class(cohort: Path, tmp_path: Path):
    asked = request(cohort, methods=("original", "vae:posterior"), runs=1, protocols=Protocols(least_steps=0, enlarge=1.0))
    compute(tmp_path / "study", evaluate.configuration_of(asked))
    counts = {run["key"]["method"]: run["result"]["notes"]["n_train"] for run in all_runs(tmp_path / "study")}
    assert counts["vae:posterior"] == {"AD": counts["original"]["CN"], "CN": counts["original"]["CN"]}


@pytest.mark.parametrize("jobs", [2, 3, 8])
def test_runs_that_share_generators_are_begun_at_different_ones(jobs: int):
    cells = cells_of(Grid(tuple(f"vae:gmm steps={n}" for n in range(1, 16)), ("synthetic-only",), 20))
    found = staggered(cells)
    assert [key["run"] for key in found] == [key["run"] for key in cells]
    assert sorted(map(str, found)) == sorted(map(str, cells))
    # Processes in step with each other, a run each, as long as no generator is fitted yet.
    for step in range(15 // jobs):
        assert len({found[15 * run + step]["method"] for run in range(jobs)}) == jobs


def test_balanced_rows_repeat_whole_rounds_first():
    labels = np.array([0] * 3 + [1] * 7)
    rows = balanced_rows(labels, np.random.default_rng(0))
    assert np.bincount(labels[rows]).tolist() == [7, 7]
    assert sorted(np.bincount(rows, minlength=10)[:3].tolist()) == [2, 2, 3]
    assert np.bincount(rows, minlength=10)[3:].tolist() == [1] * 7


@pytest.mark.parametrize(("n", "passes"), [(200, 20), (216, 10), (1500, 3), (4000, None)])
def test_small_training_sets_get_as_many_steps_and_no_more_looks_at_validation(n: int, passes: int | None):
    found = lengthened(ClassifierSettings(), n, 1000)
    assert found == replace(ClassifierSettings(), passes=passes)
    assert found.epochs * (passes or 1) * math.ceil(n / found.batch_size) >= 1000
    assert lengthened(ClassifierSettings(), n, 0) == ClassifierSettings()


def test_a_stratum_is_compared_and_never_evaluated():
    table = pd.DataFrame({"age": [50, 60, None, 70], "sex": ["F", "M", "F", "F"]})
    assert stratum(table, "age>=60").tolist() == [False, True, False, True]
    assert stratum(table, "age!=60").tolist() == [True, False, False, True]
    assert stratum(table, "age>=60 & sex==F").tolist() == [False, False, False, True]
    for wrong in ("age", "age>=old", "height>1", "__import__('os').system('true')"):
        with pytest.raises(UsageError):
            stratum(table, wrong)


def test_covariates_learn_age_and_survive_missing_values():
    rng = np.random.default_rng(0)
    ages = np.concatenate([rng.normal(75, 5, 40), rng.normal(45, 5, 80)])
    table = pd.DataFrame({"age": ages, "sex": ["F", "M"] * 60, "label": ["AD"] * 40 + ["CN"] * 80})
    table.loc[[0, 50], "age"] = np.nan
    table.loc[3, "sex"] = None
    probabilities = CovariateClassifier.fit(table, ("AD", "CN")).predict(table)
    assert probabilities.sum(axis=1) == pytest.approx(1)
    right = (probabilities.argmax(axis=1) == (table["label"] == "CN")).to_numpy()
    assert right[1:50].mean() > 0.95
    with pytest.raises(DataError):
        CovariateClassifier.fit(table[["label"]], ("AD", "CN"))


def test_a_sex_in_numbers_is_the_same_beside_a_missing_one():
    table = pd.DataFrame({"label": ["AD", "CN"] * 10, "sex": [1, 2] * 10})
    found = CovariateClassifier.fit(table, ("AD", "CN")).predict(pd.DataFrame({"sex": [1, 2, None]}))
    assert found[0, 0] > 0.8
    assert found[1, 1] > 0.8
    assert np.allclose(found[2], 0.5, atol=0.01)
    learnt = CovariateClassifier.fit(pd.concat([table, table.assign(sex=None)]).infer_objects(), ("AD", "CN"))
    assert learnt.predict(table)[0, 0] > 0.8


def test_covariates_pass_over_ages_that_are_no_numbers():
    table = pd.DataFrame({"age": ["90+", "old"] * 20, "sex": ["F", "M"] * 20, "label": ["AD", "CN"] * 20})
    found = CovariateClassifier.fit(table, ("AD", "CN"))
    assert found.columns == ("sex",)
    assert (found.predict(table).argmax(axis=1) == [0, 1] * 20).all()
    with pytest.raises(DataError, match="Nobody to be trained on has an age that is a number, or a sex"):
        CovariateClassifier.fit(table[["age", "label"]], ("AD", "CN"))
