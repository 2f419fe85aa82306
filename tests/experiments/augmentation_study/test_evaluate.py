"""The augmentation study on a tiny cohort: what is compared, what is refused, and what is written."""

import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny_studies import compute, request, write_cohort

from tinycohort.augment.commands.fit import FitRequest, fit_models
from tinycohort.augment.fitting.model_config import Participants
from tinycohort.augment.fitting.settings import FitSettings
from tinycohort.augment.fitting.training import TrainingSettings
from tinycohort.classifiers.covariates import CovariateClassifier
from tinycohort.classifiers.training import ClassifierSettings
from tinycohort.datasets.common.custody import seal
from tinycohort.datasets.common.errors import DataError, LeakageError, UsageError
from tinycohort.datasets.readers import Source, read_cohort
from tinycohort.datasets.splits import Split, split_cohort
from tinycohort.datasets.training_sizes import LEFT_OUT
from tinycohort.datasets.transforms import Preparation
from tinycohort.experiments.augmentation_study import command as evaluate
from tinycohort.experiments.augmentation_study.baselines import balanced_rows
from tinycohort.experiments.augmentation_study.cell import lengthened, run_cell, split_of_run
from tinycohort.experiments.augmentation_study.config import AugmentationConfig, Grid
from tinycohort.experiments.augmentation_study.effects import effects_of_results, judged
from tinycohort.experiments.augmentation_study.generators import check_no_leakage, generator_of
from tinycohort.experiments.augmentation_study.grid import cells_of, primary_of, staggered
from tinycohort.experiments.augmentation_study.method import Run
from tinycohort.experiments.augmentation_study.methods import method_of
from tinycohort.experiments.augmentation_study.predictions import read_predictions
from tinycohort.experiments.augmentation_study.protocols import Protocols, split_of
from tinycohort.experiments.augmentation_study.report import write_report
from tinycohort.experiments.augmentation_study.results import EXPLAINED, Section, explained, reservations, sections_of, tidy_results
from tinycohort.experiments.engine import page
from tinycohort.experiments.engine.launch import HowToRun
from tinycohort.experiments.engine.runs import Outcome
from tinycohort.experiments.engine.statistics import corrected_t_test, holm, paired_differences
from tinycohort.experiments.engine.study_config import RunContext
from tinycohort.experiments.engine.study_folder import all_runs, claim, seed_of
from tinycohort.experiments.engine.study_images import Prepared, stratum
from tinycohort.experiments.engine.systems import System


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("data") / "cohort", {"AD": 14, "CN": 30})


@pytest.fixture(scope="module")
def study(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "study"
    compute(folder, evaluate.configuration_of(request(cohort, modes=("real+synthetic", "synthetic-only"))))
    write_report(folder)
    return folder


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


def those_predicted(folder: Path, run: dict) -> set[str]:
    predicted = read_predictions(folder, run, ["AD", "CN"])
    return set(predicted.loc[predicted["test_set"] == "test", "image_id"])


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


def test_what_was_ever_planned_counts_though_it_is_left_out_after_a_look(study: Path, tmp_path: Path, monkeypatch):
    copy = shutil.copytree(study, tmp_path / "copy", ignore=shutil.ignore_patterns("cache", "*.html"))
    first = AugmentationConfig.load(copy)
    monkeypatch.setattr(evaluate.launch, "start", lambda study, *args, **how: claim(study.folder, study.config))
    evaluate.evaluate(first, tmp_path / "new")
    assert AugmentationConfig.load(tmp_path / "new").planned == (first.grid,)
    more = replace(first, grid=replace(first.grid, runs=3, methods=(*first.grid.methods[::-1], "morph")))
    less = replace(first, grid=replace(first.grid, methods=first.grid.methods[:-1]))
    for now, planned in ((more, [first]), (more, [first, more]), (less, [first, more]), (less, [first, more, less])):
        evaluate.evaluate(now, copy)
        kept = AugmentationConfig.load(copy)
        assert kept.grid == now.grid
        assert kept.planned == tuple(each.grid for each in planned)
    write_report(copy)
    lines = (copy / "table.md").read_text(encoding="utf-8").splitlines()
    (told,) = (line for line in lines if line.startswith("Changed when there were results"))
    gone = first.grid.methods[-1]
    assert told.startswith(
        f"Changed when there were results (methods left out: {gone}, morph). Verdicts are corrected for all that was ever"
    )
    # One that began to prepare its images before there was a result, and claims the folder now.
    claim(copy, replace(more, planned=(more.grid, replace(more.grid, runs=7))))
    kept = AugmentationConfig.load(copy)
    assert [grid.runs for grid in kept.planned] == [2, 3, 2, 7]
    evaluate.evaluate(more, copy)
    write_report(copy)
    told = (copy / "table.md").read_text(encoding="utf-8")
    assert "Changed when there were results (runs: 2 were planned, 3 are now). Verdicts" in told


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


def test_only_methods_of_a_table_and_poor_fits_are_told():
    results = pd.DataFrame(
        [("original", np.nan, np.nan), ("a", 0.03, 0.4), ("a", 0.2, 0.5), ("b", -0.2, np.nan), ("b", -0.2, np.nan)],
        columns=["method", "explained_validation_AD", "explained_validation_CN"],
    )
    assert explained(results, {"original", "a"}) == {"a of AD": {0.03, 0.2}, "a of CN": {0.4, 0.5}}
    (sentence,) = page.poor_fits(explained(results, {"a", "b"}))
    assert "those of a of AD (1 of 2 fits, down to 3%), b of AD (down to -20%)." in sentence
    assert page.poor_fits({"a": {0.1, 0.9}}) == page.poor_fits({}) == []


def test_the_report_tells_the_command_and_is_no_other_study_for_it(study: Path, tmp_path: Path):
    copy = shutil.copytree(study, tmp_path / "copy", ignore=shutil.ignore_patterns("cache", "generators"))
    config = evaluate.read_configuration(copy / "config.toml", ())
    before = claim(copy, config)
    config = replace(config, where=replace(config.where, command="augment evaluate --data 'a & b'"))
    assert claim(copy, config) == before
    write_report(copy)
    assert "augment evaluate --data &#39;a &amp; b&#39;" in (copy / "report.html").read_text(encoding="utf-8")


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


def test_a_generator_that_saw_a_tested_participant_is_refused(study: Path):
    config = evaluate.read_configuration(study / "config.toml", ())
    data = Prepared.load(study, config.data)
    split = split_of_run(data.cohort, config, 0)
    model = generator_of(System("vae", "normal"), "AD", Run(RunContext(study, config), data, split, 0, "synthetic-only", 0))
    check_no_leakage(model, split)
    tested = next(who for who, side in split.sides.items() if side == "test")
    leaky = replace(model, config=replace(model.config, participants=Participants.record([tested], [])))
    with pytest.raises(LeakageError, match=tested):
        check_no_leakage(leaky, split)
    selected = replace(model, config=replace(model.config, participants=Participants.record([], [tested])))
    with pytest.raises(LeakageError, match=tested):
        check_no_leakage(selected, split)


def test_an_external_test_cohort_is_scored_and_checked(cohort: Path, tmp_path: Path):
    other = write_cohort(tmp_path / "other", {"AD": 10, "CN": 12}, seed=9)
    asked = request(cohort, methods=("original",), runs=1, test_source=Source(str(other)))
    folder = tmp_path / "study"
    compute(folder, evaluate.configuration_of(asked))
    found = tidy_results(all_runs(folder))
    assert found.loc[found["test_set"].str.startswith("external"), "n_test"].max() == 22
    with pytest.raises(LeakageError):
        evaluate.configuration_of(replace(asked, test_source=Source(str(cohort))))


def test_an_external_test_cohort_with_the_same_images_under_other_names_is_refused(cohort: Path, tmp_path: Path):
    other = write_cohort(tmp_path / "other", {"AD": 14, "CN": 30}, seed=0)
    with np.load(other / "images.npz") as kept:
        arrays = dict(kept)
    arrays["participants"] = np.array([f"new-{i}" for i in range(44)])
    np.savez(other / "images.npz", **arrays)
    table = pd.read_csv(other / "participants.tsv", sep="\t").assign(participant_id=arrays["participants"])
    table.to_csv(other / "participants.tsv", sep="\t", index=False)
    with pytest.raises(LeakageError, match="under other names"):
        evaluate.configuration_of(request(cohort, test_source=Source(str(other))))


def test_an_external_cohort_can_be_the_only_test_set(cohort: Path, tmp_path: Path):
    other = write_cohort(tmp_path / "other", {"AD": 10, "CN": 12}, seed=9)
    protocols = Protocols(least_steps=0, external_only=True)
    methods = ("original", "covariates", "vae:posterior")
    config = evaluate.configuration_of(request(cohort, methods=methods, protocols=protocols, test_source=Source(str(other))))
    folder = tmp_path / "study"
    compute(folder, config)
    results = write_report(folder)
    assert results["test_set"].str.startswith("external: ").all()
    # 90 % of 44 are trained on: those of the test side too.
    assert set(results["n_fitted_on"]) == {44 - 4}
    assert set(results["n_test"]) == {22}
    assert "## external: " in (folder / "table.md").read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="--test-data"):
        evaluate.configuration_of(request(cohort, protocols=protocols))


@pytest.fixture(scope="module")
def models(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``augment fit`` writes of the cohort."""
    folder = tmp_path_factory.mktemp("fitted") / "models"
    fit_models(FitRequest(Source(str(cohort)), [], FitSettings(latent_dim=2, channels=4, training=TrainingSettings(steps=8))), folder)
    return folder


PAPER = Protocols(protocol="paper", least_steps=0, n_synthetic=8)


def test_generators_that_were_fitted_before_are_used_on_their_split(cohort: Path, models: Path, tmp_path: Path):
    methods = ("original", "vae:posterior", "vae:gmm")
    config = evaluate.configuration_of(request(cohort, methods=methods, protocols=PAPER, generators=models))
    folder = tmp_path / "study"
    compute(folder, config)
    write_report(folder)
    tested = set(Split.load(models / "split.json").side(read_cohort(cohort), "test").table["image_id"])
    assert all(those_predicted(folder, run) == tested for run in all_runs(folder))
    assert not (folder / "generators").exists()
    assert (folder / "report.html").read_text(encoding="utf-8").count("Contact sheet of") == 2
    # Other models are another study, and models that have changed are refused.
    moved = shutil.copytree(models, tmp_path / "moved")
    assert claim(folder, evaluate.configuration_of(request(cohort, methods=methods, protocols=PAPER, generators=moved)))
    content = json.loads((moved / "AD/config.json").read_text(encoding="utf-8"))
    (moved / "AD/config.json").write_text(json.dumps(content | {"plan": "another"}), encoding="utf-8")
    seal(moved / "AD")
    key = {"run": 0, "method": "vae:gmm", "mode": "real+synthetic"}
    with pytest.raises(DataError, match="changed since"):
        run_cell(key, 0, folder)
    with pytest.raises(UsageError, match="generators"):
        claim(folder, evaluate.configuration_of(request(cohort, methods=methods, protocols=PAPER, generators=moved)))
    shutil.rmtree(moved)
    write_report(folder)  # without its sheets


def test_generators_that_have_seen_who_is_tested_are_refused(cohort: Path, models: Path, tmp_path: Path):
    # The split was exchanged after the fit.
    other = shutil.copytree(models, tmp_path / "other")
    split_cohort(read_cohort(cohort), seed=5).save(other / "split.json")
    with pytest.raises(LeakageError, match="has seen participants that are tested here"):
        evaluate.configuration_of(request(cohort, protocols=PAPER, generators=other))
    # The models come from the external cohort.
    external = write_cohort(tmp_path / "external", {"AD": 10, "CN": 12}, seed=9)
    fit_models(
        FitRequest(Source(str(external)), [], FitSettings(latent_dim=2, channels=4, training=TrainingSettings(steps=8))),
        tmp_path / "theirs",
    )
    split_cohort(read_cohort(cohort), seed=5).save(tmp_path / "theirs/split.json")
    asked = request(cohort, protocols=PAPER, generators=tmp_path / "theirs", test_source=Source(str(external)))
    with pytest.raises(LeakageError, match="p9-"):
        evaluate.configuration_of(asked)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"protocols": Protocols()}, UsageError, "--protocol paper"),
        ({"protocols": replace(PAPER, limit={"AD": 5})}, UsageError, "--limit"),
        ({"methods": ("ae:gmm",)}, UsageError, "leave out methods of ae"),
        ({"fit": FitSettings(preparation=Preparation(size=(8, 8)))}, UsageError, "size"),
        ({"generators": Path("/nowhere")}, DataError, "no fitted model"),
    ],
)
def test_given_generators_must_fit_the_study(cohort: Path, models: Path, changes: dict, error: type[Exception], says: str):
    with pytest.raises(error, match=says):
        evaluate.configuration_of(request(cohort, **({"protocols": PAPER, "generators": models} | changes)))


def test_given_generators_bring_a_split_with_all_sides(cohort: Path, models: Path, tmp_path: Path):
    other = shutil.copytree(models, tmp_path / "other")
    (other / "split.json").unlink()
    with pytest.raises(DataError, match="split"):
        evaluate.configuration_of(request(cohort, protocols=PAPER, generators=other))
    content = json.loads((models / "split.json").read_text(encoding="utf-8"))["sides"]
    content["train"] += content.pop("test")
    (other / "split.json").write_text(json.dumps({"sides": content}), encoding="utf-8")
    with pytest.raises(DataError, match="nobody on the side test"):
        evaluate.configuration_of(request(cohort, protocols=PAPER, generators=other))


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
    ],
)
def test_what_cannot_be_is_refused_before_a_run(cohort: Path, changes: dict, error: type[Exception], says: str):
    with pytest.raises(error, match=says):
        evaluate.configuration_of(request(cohort, **changes))


def test_images_stay_with_their_participants_when_the_table_is_sorted_or_changed(tmp_path: Path):
    cohort = write_cohort(tmp_path / "cohort", {"AD": 10, "CN": 12})
    config = evaluate.configuration_of(request(cohort, methods=("original",)))
    before = Prepared.load(tmp_path / "study", config.data)
    with np.load(cohort / "images.npz") as kept:
        arrays = {name: value[::-1] for name, value in kept.items()}
    np.savez(cohort / "images.npz", **arrays)
    after = Prepared.load(tmp_path / "study", config.data)
    assert list(after.cohort.table["participant_id"]) == list(before.cohort.table["participant_id"])[::-1]
    for who in ("p0-000", "p0-021"):
        pixels = [part.cohort.arrays[part.cohort.table.set_index("participant_id").loc[who, "image"]] for part in (before, after)]
        assert np.array_equal(*pixels)
    arrays["labels"] = np.where(arrays["labels"] == "AD", "CN", "AD")
    np.savez(cohort / "images.npz", **arrays)
    table = pd.read_csv(cohort / "participants.tsv", sep="\t")
    table["diagnosis"] = np.where(table["diagnosis"] == "AD", "CN", "AD")
    table.to_csv(cohort / "participants.tsv", sep="\t", index=False)
    with pytest.raises(DataError, match="changed"):
        Prepared.load(tmp_path / "study", config.data)


def test_a_study_goes_on_where_its_data_lie_elsewhere(cohort: Path, tmp_path: Path):
    here = evaluate.configuration_of(request(cohort))
    moved = shutil.copytree(cohort, tmp_path / "moved")
    there = evaluate.configuration_of(request(moved))
    assert here != there
    assert claim(tmp_path / "study", here) == claim(tmp_path / "study", there)
    other = evaluate.configuration_of(request(write_cohort(tmp_path / "other", {"AD": 10, "CN": 12}, seed=4)))
    with pytest.raises(UsageError, match="digest"):
        claim(tmp_path / "study", other)


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


def test_a_generator_of_another_plan_is_refused(study: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    config = evaluate.read_configuration(copy / "config.toml", ())
    config = replace(config, fit=replace(config.fit, latent_dim=3))
    data = Prepared.load(copy, config.data)
    run = Run(RunContext(copy, config), data, split_of_run(data.cohort, config, 0), 0, "synthetic-only", 0)
    with pytest.raises(DataError, match="other settings"):
        generator_of(System("vae", "normal"), "AD", run)


def test_topping_up_to_balance_alone_needs_nothing_of_the_largest_class(cohort: Path, tmp_path: Path):
    asked = request(cohort, methods=("original", "vae:posterior"), runs=1, protocols=Protocols(least_steps=0, enlarge=1.0))
    compute(tmp_path / "study", evaluate.configuration_of(asked))
    counts = {run["key"]["method"]: run["result"]["notes"]["n_train"] for run in all_runs(tmp_path / "study")}
    assert counts["vae:posterior"] == {"AD": counts["original"]["CN"], "CN": counts["original"]["CN"]}


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


def test_a_synthetic_cohort_is_no_test_data(cohort: Path, tmp_path: Path):
    other = write_cohort(tmp_path / "other", {"AD": 10, "CN": 12}, seed=9)
    with np.load(other / "images.npz") as kept:
        np.savez(other / "images.npz", **kept, synthetic=np.array(True))
    with pytest.raises(DataError, match="synthetic"):
        evaluate.configuration_of(request(cohort, test_source=Source(str(other))))


def test_a_report_is_redrawn_where_the_images_are_not(study: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(study, copy, ignore=shutil.ignore_patterns("cache", "*.html", "table.md"))
    text = (copy / "config.toml").read_text(encoding="utf-8")
    config = evaluate.read_configuration(copy / "config.toml", ())
    hidden = Path(config.data.cohort.source.data)
    away = hidden.with_name("away")
    hidden.rename(away)
    try:
        write_report(copy)
    finally:
        away.rename(hidden)
    assert "Against `weighted`" in (copy / "table.md").read_text(encoding="utf-8")
    assert text == (copy / "config.toml").read_text(encoding="utf-8")


def test_a_configuration_file_runs_no_code(study: Path, tmp_path: Path):
    path = tmp_path / "config.toml"
    text = (study / "config.toml").read_text(encoding="utf-8")
    path.write_text(text.replace("[grid]", '[grid]\nnetworks = ["os:system"]'), encoding="utf-8")
    with pytest.raises(UsageError, match="network"):
        evaluate.read_configuration(path, ())


@pytest.mark.parametrize(
    ("old", "new", "error", "says"),
    [
        ("protocol =", "protokol =", DataError, "protokol"),
        ("epochs = 3", 'epochs = "three"', DataError, "config.toml"),
        ("epochs = 3", "epochs = 0", UsageError, "at least 1 epoch"),
        ("latent_dim =", "latentdim =", DataError, "latentdim"),
        ("runs = 2", "", DataError, "runs"),
        ("runs = 2", 'runs = "2"', DataError, "config.toml"),
        ("runs = 2", "runs = 0", UsageError, "1 or more"),
        ('"synthetic-only"', '"half"', UsageError, "--mode is"),
        ('"original"', '"nothing"', UsageError, "no method 'nothing'"),
        ("seed = 0", 'seed = "x"', DataError, "no whole number"),
        ("seed = 0", "seed = 2020-02-02", DataError, "no study's configuration"),
        ('suffix = "T1w"', "suffix_ = 1", DataError, "suffix_"),
        ("[protocols]", "[protocols]\nexternal_only = true", UsageError, "--test-data"),
        ("[grid]", "[generators]\nsplit = 'x'\n\n[grid]", UsageError, "--protocol paper"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_before_anything_is_written(
    study: Path, tmp_path: Path, old: str, new: str, error: type[Exception], says: str
):
    text = (study / "config.toml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "config.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(error, match=says):
        evaluate.read_configuration(tmp_path / "config.toml", ())


def test_where_the_data_lie_is_written_when_they_are_there(study: Path, tmp_path: Path):
    copy = shutil.copytree(study, tmp_path / "copy", ignore=shutil.ignore_patterns("cache", "*.html"))
    next((copy / "runs").iterdir()).unlink()
    before = (copy / "config.toml").read_bytes()
    with pytest.raises(DataError, match="nowhere"):
        evaluate.evaluate(evaluate.read_configuration(copy / "config.toml", (), {"data": str(tmp_path / "nowhere")}), copy)
    assert (copy / "config.toml").read_bytes() == before
    with pytest.raises(UsageError, match="leave out --test-data"):
        evaluate.read_configuration(copy / "config.toml", (), {"test_data": "x"})


def test_each_start_has_its_own_device(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    told = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(
        "tinycohort.experiments.engine.launch.run_study", lambda study, **how: told.append(study.options) or Outcome(0, 0, ())
    )
    evaluate.evaluate(AugmentationConfig.load(study), study, HowToRun(device="cpu"))
    assert told == [{"device": "cpu"}]
    assert "device" not in (study / "config.toml").read_text()
    with pytest.raises(UsageError, match="No GPU that torch can use"):
        HowToRun(device="gpu")
    HowToRun(device="gpu", slurm=2)  # for nodes that have one
    with pytest.raises(UsageError, match="auto, cpu or gpu, not 'tpu'"):
        HowToRun(device="tpu")


def test_data_that_are_gone_are_told_once(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    copy = shutil.copytree(study, tmp_path / "copy", ignore=shutil.ignore_patterns("cache", "*.html"))
    config = evaluate.read_configuration(study / "config.toml", ())
    cohort = replace(config.data.cohort, source=replace(config.data.cohort.source, data=str(tmp_path / "nowhere")))
    config = replace(config, data=replace(config.data, cohort=cohort))
    # A finished study asks for nothing: its report is drawn without the images.
    evaluate.evaluate(config, copy)
    assert (copy / "report.html").is_file()
    monkeypatch.setattr("tinycohort.experiments.engine.launch.run_study", lambda *args, **options: pytest.fail("runs were begun"))
    next((copy / "runs").iterdir()).unlink()
    with pytest.raises(DataError, match="nowhere"):
        evaluate.evaluate(config, copy)


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


@pytest.mark.parametrize(("n", "epochs", "patience"), [(200, 1000, 100), (216, 500, 50), (4000, 50, 5)])
def test_small_training_sets_get_as_many_steps(n: int, epochs: int, patience: int):
    found = lengthened(ClassifierSettings(), n, 1000)
    assert (found.epochs, found.patience) == (epochs, patience)
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


def test_covariates_pass_over_ages_that_are_no_numbers():
    table = pd.DataFrame({"age": ["90+", "old"] * 20, "sex": ["F", "M"] * 20, "label": ["AD", "CN"] * 20})
    found = CovariateClassifier.fit(table, ("AD", "CN"))
    assert found.columns == ("sex",)
    assert (found.predict(table).argmax(axis=1) == [0, 1] * 20).all()
    with pytest.raises(DataError, match="Nobody to be trained on has an age that is a number, or a sex"):
        CovariateClassifier.fit(table[["age", "label"]], ("AD", "CN"))


def test_a_grid_that_has_become_smaller_leaves_the_other_runs_out(study: Path, tmp_path: Path):
    copy = shutil.copytree(study, tmp_path / "copy", ignore=shutil.ignore_patterns("cache", "generators"))
    config = evaluate.read_configuration(copy / "config.toml", ())
    claim(copy, replace(config, grid=replace(config.grid, runs=1, modes=("real+synthetic",))))
    table = write_report(copy)
    assert set(table["run"]) == {0}
    assert set(table["mode"]) == {"real", "real+synthetic"}
    assert "Left out: 6 finished cells of an earlier start" in (copy / "table.md").read_text()


@pytest.mark.parametrize("column", ["age", "split"])
def test_a_study_does_not_go_on_with_another_column_that_decides(cohort: Path, tmp_path: Path, column: str):
    folder = tmp_path / "study"
    mine = shutil.copytree(cohort, tmp_path / "cohort") if cohort.is_dir() else Path(shutil.copy(cohort, tmp_path / cohort.name))
    config = evaluate.configuration_of(request(mine, runs=1))
    claim(folder, config)
    assert len(Prepared.load(folder, config.data).cohort)
    table = next(mine.glob("*.[ct]sv"))
    content = pd.read_csv(table, sep=None, engine="python", dtype=str)
    content[column] = "train" if column == "split" else "99"
    content.to_csv(table, sep="\t" if table.suffix == ".tsv" else ",", index=False)
    with pytest.raises(DataError, match=f"The column {column} of .* has changed since the study began"):
        Prepared.load(folder, config.data)
    if column == "split":
        return  # the command itself would refuse to begin such a study
    with pytest.raises(DataError, match=rf"has other content \({column}\) than when the study began"):
        evaluate.evaluate(evaluate.configuration_of(request(mine, runs=1)), folder)
