"""Studies of fidelity on the toy at tiny size: what is trained on, what is scored against what, what is chosen, and what is told."""

import copy
import itertools
import json
import re
import shutil
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from folders import tree
from matplotlib.text import Text
from scipy.ndimage import gaussian_filter

from tinycohort.augment.fitting.model import FittedModel
from tinycohort.augment.fitting.settings import FitSettings
from tinycohort.augment.fitting.training import TrainingSettings
from tinycohort.augment.samplers import left_out
from tinycohort.datasets.common.errors import DataError, GateError, UsageError
from tinycohort.datasets.readers import Source
from tinycohort.datasets.spaces import ImageSpace
from tinycohort.datasets.transforms import Preparation
from tinycohort.experiments.engine.results_file import PUBLISHED
from tinycohort.experiments.engine.study_config import RunContext
from tinycohort.experiments.engine.study_folder import all_runs, claim, read_config, run_path, seed_of, write_run
from tinycohort.experiments.fidelity import features
from tinycohort.experiments.fidelity_study import command
from tinycohort.experiments.fidelity_study.cell import (
    FLOOR_KEY,
    _keep_pictures,
    cells_of,
    decoded,
    pictures_path,
    run_cell,
    split_of,
)
from tinycohort.experiments.fidelity_study.config import FidelityConfig, Grid, Scoring
from tinycohort.experiments.fidelity_study.data import StudyData, inception, load_extractor
from tinycohort.experiments.fidelity_study.figures import _pictures, draw_samples, draw_scores
from tinycohort.experiments.fidelity_study.plans import RECONSTRUCTIONS, plan_of
from tinycohort.experiments.fidelity_study.report import _tables, write_report
from tinycohort.experiments.fidelity_study.results import FLOOR, ranks, results_of
from tinycohort.experiments.publish import publish
from tinycohort.experiments.verify import findings_of

DETAILED = "vae:posterior detail=mosaic"
SYSTEMS = ("vae:normal", "vae:riemannian n_centroids=2 n_iterations=3 n_warm_up=3", "ae:gmm n_components=2")
FIT = FitSettings(
    latent_dim=2,
    channels=2,
    model_settings={"likelihood": "fixed"},
    preparation=Preparation(scaling="none"),
    training=TrainingSettings(steps=6, jitter=0.0, precision="fp32", device="cpu"),
)


def request(**changes) -> command.StudyRequest:
    plain = command.StudyRequest(
        plan="low-data",
        source=Source("rings-and-discs"),
        fit=FIT,
        scoring=Scoring(n_samples=60, measures=("frechet", "kid")),
        systems=SYSTEMS,
        sizes=(40, 80),
        runs=2,
        command="augment study low-data",
    )
    return replace(plain, **changes)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """What takes most of the time of a fit and of its features, and is tested by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(left_out, "FOLDS", 3)
        patch.setattr(features, "LEAST_STEPS", 8)
        patch.setattr(features, "LEAST_EPOCHS", 1)
        yield


def compute(folder: Path, config: FidelityConfig) -> Path:
    """All cells in this process: what workers do is tested with the engine."""
    configuration = claim(folder, config)
    for key in cells_of(config.grid):
        seed = seed_of(config.seed, key)
        result = json.loads(json.dumps(run_cell(key, seed, folder)).replace("NaN", "null"))
        write_run(folder, configuration, key, seed, {"result": result, "record": {"seconds": 1.0}})
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = compute(tmp_path_factory.mktemp("studies") / "low-data", command.configuration_of(request()))
    write_report(folder)
    return folder


def test_every_number_stands_beside_the_floor(study: Path):
    table = pd.read_csv(study / "results.csv")
    assert len(table) == (1 + 2 * 2 * 3) * 2  # (the floor + runs x sizes x systems) x measures
    assert set(table["measure"]) == {"Fréchet classifier distance", "kid"}
    assert set(table["images"]) == {60}
    assert table["passport"].nunique() == 1
    assert set(table.loc[table["row"] == FLOOR, "side"]) == {"test"}
    assert table["value"].notna().all()


def test_what_is_published_gives_the_same_table_and_figure(study: Path, tmp_path: Path):
    out = tmp_path / "published"
    publish(study, out)
    assert set(tree(out)) == set(PUBLISHED) - {"effects.csv"}
    for name in ("config.toml", "table.md"):
        assert (out / name).read_bytes() == (study / name).read_bytes(), name
    results, own = (pd.read_csv(folder / "results.csv", dtype=str, keep_default_na=False) for folder in (out, study))
    pd.testing.assert_frame_equal(results.drop(columns="plan"), own)
    assert {finding.what: finding.matches for finding in findings_of(out)} == {
        "files": True,
        "runs": None,
        "results.csv": True,
        "table.md": True,
        "data": None,
    }
    before = tree(out)
    write_report(out)
    assert tree(out) == before
    text = (out / "results.csv").read_text(encoding="utf-8")
    (out / "results.csv").write_text(text.replace(",float32,", ",bfloat16,"), encoding="utf-8")
    with pytest.raises(DataError, match="not that of its digest"):
        write_report(out)


def test_nobody_of_the_test_or_the_validation_side_is_trained_on(study: Path):
    data = StudyData.load(RunContext(study, FidelityConfig.load(study)))
    official = {side: set(data.split.side(data.cohort, side).table["participant_id"]) for side in ("train", "validation", "test")}
    seen: dict[tuple[int, int], set[str]] = {}
    for run in (0, 1):
        for n in (40, 80):
            split = split_of({"run": run, "n": n}, data)
            sides = {side: set(split.side(data.cohort, side).table["participant_id"]) for side in ("train", "validation", "test")}
            seen[run, n] = sides["train"] | sides["validation"]
            assert (len(sides["train"]), len(sides["validation"])) == (n * 4 // 5, n // 5)
            assert seen[run, n] <= official["train"]
            assert sides["test"] == official["test"]
    assert seen[0, 40] < seen[0, 80] != seen[1, 80]
    # And the models say so themselves: two for each run and size, whatever the number of samplers.
    folders = list((study / "models").glob("[!.]*"))
    assert len(folders) == 2 * 2 * 2
    for folder in folders:
        people = FittedModel.load(folder).config.participants
        assert not any(people.seen(who) for who in official["test"] | official["validation"])
        assert sum(people.seen(who) for who in official["train"]) in (40, 80)
    assert not list((study / "models").glob(".fitting-*"))


def test_the_reference_is_the_test_side_and_the_floor_other_real_images(study: Path):
    context = RunContext(study, FidelityConfig.load(study))
    data = StudyData.load(context)
    (test, labels), (held_out, _) = data.real("test"), data.real("validation")
    assert len(test) == len(held_out) == len(labels) == 60
    pixels = {side: {image.numpy().tobytes() for image in images} for side, images in (("test", test), ("validation", held_out))}
    assert not pixels["test"] & pixels["validation"]
    # Of 8 bit, as published: the toy is written in 256 greys.
    assert torch.equal((255 * test).round() / 255, test)
    extractor = load_extractor("cohort", context)
    assert extractor.passport.frechet == "Fréchet classifier distance"
    assert asdict(extractor.passport)["weights"] == next(iter(all_runs(study)))["result"]["passports"]["cohort"]["weights"]


def test_a_cell_that_is_computed_again_is_the_same(study: Path, tmp_path):
    again = tmp_path / "study"
    shutil.copytree(study, again)
    key = next(run["key"] for run in all_runs(again) if run["key"]["sampler"].startswith("riemannian"))
    kept = json.loads(run_path(again, key).read_text())
    shutil.rmtree(again / "cache")
    shutil.rmtree(again / "models")
    found = json.loads(json.dumps(run_cell(key, kept["seed"], again)).replace("NaN", "null"))
    assert found["scores"] == kept["result"]["scores"]
    assert found["generators"] == kept["result"]["generators"]


def test_the_report_tells_ranks_the_floor_and_what_is_missing(study: Path, tmp_path):
    text = (study / "table.md").read_text()
    assert "## Fréchet classifier distance, features cohort: 60 images each" in text
    assert "| system | 40 | 80 |" in text
    assert text.count(f"| {FLOOR} |") == 2
    assert "FID" not in text.replace("FID.", ""), "a distance of the cohort's classifier is no FID"
    page = (study / "report.html").read_text()
    assert page.count("data:image/png") == 3  # the figure, and samples at each size
    for name in ("figure", "samples-40", "samples-80"):
        assert (study / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    partial = tmp_path / "partial"
    shutil.copytree(study, partial)
    for path in (partial / "runs").glob("*gaussian*"):
        path.unlink()
    for run in all_runs(partial):
        if run["key"]["model"] == "ae" or run["key"] == FLOOR_KEY:
            run_path(partial, run["key"]).unlink()
    write_report(partial)
    text = (partial / "table.md").read_text()
    assert "## Not there yet: 5 cells" in text
    assert "| ae:gmm n_components=2 | – | – |" in text
    assert f"| {FLOOR} | – | – |" in text
    assert "5 cells are not there yet" in (partial / "report.html").read_text()


def test_a_study_is_verified_with_its_generators(study: Path, tmp_path):
    again = shutil.copytree(study, tmp_path / "study")
    findings = list(findings_of(again))
    assert [finding.what for finding in findings] == ["runs", "results.csv", "table.md", *["files"] * 8, "data"]
    assert [finding.matches for finding in findings] == [True] * 11 + [None]
    weights = sorted((again / "models").glob("[!.]*/model.safetensors"))[0]
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    table = again / "results.csv"
    table.write_text(table.read_text().replace("60", "61", 1))
    wrong = [(finding.place, finding.found) for finding in findings_of(again) if finding.matches is False]
    assert wrong == [
        ("study", "not what the runs give; draw it anew with `augment report`"),
        (f"models/{weights.parent.name}", "model.safetensors has another content"),
    ]


def test_two_centroids_are_shown_beside_what_lies_around_them(study: Path):
    (path,) = (path for path in (study / "pictures").glob("*n=40_run=0*riemannian*"))
    with np.load(path) as content:
        names = content.files
        assert content["all/samples"].shape == (12, 32, 32)
        assert content["all/nearest\ntraining image"].shape == (12, 32, 32)
    assert sum("centroid" in name for name in names) == 2


def test_images_are_decoded_bit_by_bit(study: Path):
    model = FittedModel.load(next((study / "models").glob("*model=vae*")))
    sizes = [len(part) for part in decoded(model, torch.zeros(600, 2), torch.device("cpu"))]
    assert sizes == [256, 256, 88]


def test_too_few_to_score_by_is_told_before_there_is_a_folder(fakes, tmp_path):
    data = Source(str(fakes.study(tmp_path / "few.npz", counts={"AD": 30, "CN": 30})))
    with pytest.raises(DataError, match=r"takes 10 images on the test and on the validation side, .* has 6 .all.: take a larger cohort.$"):
        command.configuration_of(request(source=data, sizes=(20,)))
    with pytest.raises(DataError, match=r"has 3 .AD., 3 .CN.: take a larger cohort, or leave out --per-class"):
        command.configuration_of(request(source=data, sizes=(20,), scoring=Scoring(per_class=True)))


def test_pictures_of_slices_are_upright(tmp_path):
    images = torch.zeros((1, 1, 4, 6))
    images[..., -1] = 1  # the top, in a world whose second axis points upwards
    affine = tuple(map(tuple, np.diag([1.8, 1.0, 1.8, 1.0]).tolist()))  # of a coronal slice: its own voxels are squares
    for name, space in (("world", ImageSpace((4, 6), affine, flat_axis=1)), ("picture", ImageSpace((4, 6)))):
        _keep_pictures(tmp_path / name, FLOOR_KEY, {"all": {"samples": images}}, space)
        (found,) = _pictures(tmp_path / name, FLOOR_KEY).values()
        assert torch.equal(found.pixels, images)
        assert found.space == space


def test_per_class_and_against_reconstructions(tmp_path):
    plan = request(plan="neighbours", systems=("vae:posterior", DETAILED, "vae:reconstruction"), sizes=(60,), runs=1)
    config = command.configuration_of(replace(plan, scoring=replace(plan.scoring, per_class=True, n_samples=20)))
    folder = compute(tmp_path / "study", config)
    write_report(folder)
    table = pd.read_csv(folder / "results.csv")
    assert set(table["label"]) == {"disc", "ring", "together"}
    assert set(table["side"]) == {"test", RECONSTRUCTIONS}
    assert set(table.loc[table["label"] == "together", "images"]) == {40}
    assert len(list((folder / "models").glob("[!.]*"))) == 2
    run = next(run for run in all_runs(folder) if run["key"]["sampler"] == "posterior")["result"]
    assert set(run["generators"]) == {"disc", "ring"}
    assert run["sizes"] == {"test": {"disc": 20, "ring": 20}, RECONSTRUCTIONS: {"disc": 20, "ring": 20}}
    text = (folder / "table.md").read_text()
    assert "class ring, against reconstructions of training images: 20 images each, 60 training images" in text
    # Reconstructions are, but for which of them are taken, what they are compared with.
    means = table[(table["side"] == RECONSTRUCTIONS) & (table["label"] == "together")].groupby("row")["value"].mean()
    assert means[DETAILED] != means["vae:posterior"]
    assert means["vae:reconstruction"] < table.loc[(table["side"] == "test") & (table["row"] == "vae:reconstruction"), "value"].mean()


def test_more_reconstructions_than_there_are_training_images_are_refused():
    with pytest.raises(UsageError, match=r"There are 32 training images to reconstruct, .* give --samples 32 or less"):
        command.configuration_of(request(systems=("vae:reconstruction",), sizes=(40, 80)))
    with pytest.raises(UsageError, match=r"There are 16 training images to reconstruct, .* larger --sizes"):
        command.configuration_of(request(systems=("vae:reconstruction",), sizes=(20, 80)))


def test_what_is_accepted_has_training_images_enough_to_reconstruct_in_every_run(tmp_path):
    """Of people with one image to three, of whom each run draws others, and who may be one person."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(120), rng.integers(1, 4, 120))
    fields = gaussian_filter(rng.normal(size=(len(owner), 16, 16)), sigma=(0, 1.5, 1.5))
    fields = (fields - fields.min((1, 2), keepdims=True)) / np.ptp(fields, axis=(1, 2), keepdims=True)
    for who in (0, 4, 8):
        own = owner == who + 2
        fields[own] = (fields[owner == who][0] + 0.03 * rng.normal(size=fields[own].shape)).clip(0, 1)
    names, labels = np.array([f"p{who:03d}" for who in owner]), np.array(["AD", "CN"])[owner % 2]
    np.savez(tmp_path / "x.npz", images=fields.astype(np.float32), labels=labels, participants=names)
    asked = request(source=Source(str(tmp_path / "x.npz")), systems=("vae:reconstruction",), sizes=(12,), scoring=Scoring(n_samples=20))
    accepted = []
    for seed in (1, 2):
        with suppress(UsageError):
            accepted.append(command.configuration_of(replace(asked, seed=seed)))
    assert [config.seed for config in accepted] == [2]
    for config in accepted:
        study = StudyData.load(RunContext(tmp_path / str(config.seed), config))
        assert study.prepared.cohort.alike
        splits = [split_of(key, study) for key in cells_of(config.grid) if key != FLOOR_KEY]
        assert all(len(study.training_images(split, "all").images) >= study.sizes["all"] for split in splits)


def test_a_cell_that_fails_is_told_and_stops_no_other(tmp_path):
    config = command.configuration_of(request(systems=("ae:gmm n_components=1000", "ae:normal"), sizes=(40,), runs=1))
    with pytest.raises(GateError, match="1 runs failed"):
        command.run(config, tmp_path / "study")
    text = (tmp_path / "study/table.md").read_text()
    assert "## Runs that failed" in text
    assert "has from 1 to 32 components, not 1000" in text
    assert "ae:gmm n_components=1000 | – | – |" in text
    assert len(all_runs(tmp_path / "study")) == 2


def test_a_folder_that_was_begun_with_another_seed_scores_by_nothing_of_it(tmp_path):
    """Who is scored under one seed may have trained the classifier of another."""
    first, second = (command.configuration_of(request(seed=seed)) for seed in (0, 1))
    for config, folder in ((first, "study"), (second, "study"), (second, "fresh")):
        command.prepare_real_side(RunContext(tmp_path / folder, config, "cpu"))
    digests = [load_extractor("cohort", RunContext(tmp_path / folder, second, "cpu")).passport for folder in ("study", "fresh")]
    assert digests[0] == digests[1] != load_extractor("cohort", RunContext(tmp_path / "study", first, "cpu")).passport


def test_what_is_there_is_not_computed_again(study: Path, tmp_path, monkeypatch):
    folder = tmp_path / "study"
    shutil.copytree(study, folder)
    before = {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if {"runs", "models", "test", "classifier"} & {path.parent.name, path.parent.parent.name}
    }
    asked = []
    monkeypatch.setattr(
        "tinycohort.experiments.engine.runs.do_jobs", lambda job, folder, tasks, **how: (x for x in [asked.extend(tasks)] if x)
    )
    command.run(FidelityConfig.load(folder), folder)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    # One task list a model: its systems are done in turn.
    models = [{(key["run"], key["n"], key["model"]) for key, _ in task} for task in asked]
    assert all(len(shared) == 1 for shared in models)
    assert len(models) == 1 + 2 * 2 * 2
    with pytest.raises(UsageError, match=r"started with other settings: scoring\.n_samples was 60, is 50"):
        command.run(command.configuration_of(request(scoring=Scoring(n_samples=50, measures=("frechet", "kid")))), folder)


@pytest.mark.slow
def test_a_study_can_be_enlarged(tmp_path):
    for systems in (("ae:normal",), ("ae:normal", "ae:gmm")):
        command.run(command.configuration_of(request(systems=systems, sizes=(40,), runs=1)), tmp_path / "study")
    assert len(all_runs(tmp_path / "study")) == 3
    assert len(list((tmp_path / "study/models").glob("[!.]*"))) == 1


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"plan": "table-1"}, UsageError, "no study 'table-1'"),
        ({"systems": ("vae:nothing",)}, UsageError, "no sampler 'nothing'"),
        ({"sizes": (40, 701)}, UsageError, "from 5 to 700 participants, not 701"),
        ({"sizes": (4,)}, UsageError, "from 5 to 700 participants, not 4"),
        ({"runs": 0}, UsageError, "--runs is 1 or more, not 0"),
        ({"scoring": Scoring(features=("inception-768",))}, UsageError, "need --weights"),
        ({"scoring": Scoring(features=("vgg",))}, UsageError, "no features 'vgg'; choose among: cohort, inception-64"),
        ({"plan": "search", "systems": (), "scoring": Scoring(measures=("kid",))}, UsageError, "chooses settings by the Fréchet distance"),
        ({"source": Source("mnist", root="nowhere")}, DataError, "There is no folder nowhere"),
    ],
)
def test_what_cannot_be_studied_is_told_before_anything_is_computed(changes, error, says):
    with pytest.raises(error, match=says):
        command.configuration_of(request(**changes))


def test_measures_that_look_at_voxels_are_none_of_a_study():
    with pytest.raises(UsageError, match="no measure 'ms-ssim'; choose among: frechet, kid, prd"):
        Scoring(measures=("ms-ssim",))
    with pytest.raises(UsageError, match="20 or more, not 5"):
        Scoring(n_samples=5)


def test_a_configuration_is_taken_elsewhere(study: Path, tmp_path):
    path = study / "config.toml"
    plain = command.read_configuration(path)
    assert plain.content() == read_config(study)
    with pytest.raises(UsageError, match="The study uses no weights: leave out --weights"):
        command.read_configuration(path, {"weights": "w.pth"})
    path = tmp_path / "with-weights.toml"
    path.write_text((study / "config.toml").read_text().replace("[where]\n", '[where]\nweights = "$INCEPTION"\n', 1))
    moved = command.read_configuration(path, {"data": "mnist", "root": "elsewhere", "weights": "w.pth"})
    where = moved.content()["where"]
    assert where["source"] == {"data": "mnist", "root": str(Path("elsewhere").resolve())}
    assert where["weights"] == str(Path("w.pth").resolve())
    # Where things are does not bind a study: the folder goes on.
    assert claim(study, moved) == claim(study, plain)
    assert [RunContext(study, moved, device).fit_settings().training.device for device in ("auto", "gpu")] == ["auto", "gpu"]
    (tmp_path / "config.toml").write_text("seed = 1\n")
    with pytest.raises(DataError, match="lacks data, where, scoring, fit, grid"):
        command.read_configuration(tmp_path / "config.toml")


def test_a_published_configuration_names_the_weights_by_a_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("INCEPTION", str(tmp_path / "inception.safetensors"))
    with pytest.raises(DataError, match=f"no weights of InceptionV3 at {tmp_path}/inception.safetensors"):
        inception("inception-768", "$INCEPTION")


def test_a_model_that_has_learnt_nothing_is_told(study: Path):
    shares = {notes["explained_validation"] for run in all_runs(study) for notes in run["result"].get("generators", {}).values()}
    assert max(shares) < 0.1
    assert re.search(
        r"Poor fits: reconstructions explain less than 10% .* ae at 40 \(.* of .* fits, down to", (study / "table.md").read_text()
    )


def test_sizes_of_a_plan_that_the_cohort_has_not_are_left_out():
    assert command.configuration_of(request(sizes=())).grid.sizes == (0,)
    assert [key["n"] for key in cells_of(Grid("low-data", (0, 80, 40), 1, {"a": ("ae:gmm",)}))] == [0, 40, 80, 0]
    assert cells_of(Grid("low-data", (0,), 1, {"a": ("ae:gmm",)}))[0] == FLOOR_KEY


def cell(
    model: str, sampler: str, run: int, *, test: float, validation: float | None = None, weights: str = "w", floor: bool = False
) -> dict:
    """A finished cell with one measure; its blocks lie close around the value."""

    def number(value: float) -> dict:
        blocks = [value + 0.01 * (i - 2) for i in range(5)]
        return {"name": {"value": value, "low": None, "high": None, "of_blocks": False, "blocks": blocks, "better": "low"}}

    sides = {"test": {"all": number(test)}} | ({} if validation is None else {"validation": {"all": number(validation)}})
    passport = {
        "extractor": "x",
        "frechet": "name",
        "weights": weights,
        "resize": "none",
        "dtype": "float32",
        "dimension": 3,
        "versions": ["1"],
    }
    key = FLOOR_KEY if floor else {"run": run, "n": 40, "model": model, "sampler": sampler}
    result = {"scores": {"x": sides}, "passports": {"x": passport}, "sizes": {side: {"all": 60} for side in sides}}
    return {"key": key, "configuration": "", "record": {}, "result": result}


ROWS = {"chosen": ["ae:gmm n_components=2", "ae:gmm n_components=3"], "one": ["vae:normal"]}


def test_settings_are_chosen_by_the_validation_side_alone():
    runs = [
        cell("ae", "gmm n_components=2", 0, validation=1.0, test=9.0),
        cell("ae", "gmm n_components=2", 1, validation=3.0, test=9.5),
        # Better on test, and in one run on validation: not in the mean.
        cell("ae", "gmm n_components=3", 0, validation=2.0, test=1.0),
        cell("ae", "gmm n_components=3", 1, validation=2.5, test=1.0),
        cell("vae", "normal", 0, test=5.0, validation=4.0),
    ]
    chosen = results_of(runs, ROWS).chosen()
    assert set(chosen.loc[chosen["row"] == "chosen", "system"]) == {"ae:gmm n_components=2"}
    assert chosen[(chosen["row"] == "chosen") & (chosen["side"] == "test")]["value"].tolist() == [9.0, 9.5]
    assert chosen[(chosen["row"] == "one") & (chosen["side"] == "test")]["value"].tolist() == [5.0]


def test_chosen_rows_keep_their_place_and_are_told_once_where_columns_agree():
    runs = [cell("ae", f"gmm n_components={n}", 0, validation=float(n), test=9.0) for n in (2, 3)]
    runs.append(cell("vae", "normal", 0, test=5.0, validation=4.0))
    results = results_of(runs, ROWS)
    assert results.chosen()["row"].unique().tolist() == list(ROWS)
    (table,) = (table for _, table in _tables(results, Grid("low-data", (40,), 1, ROWS), 700))
    assert table["chosen"].tolist() == ["ae:gmm n_components=2", "", ""]
    # At another size another is chosen: each column tells its own.
    for n, validation in ((2, 3.0), (3, 2.0)):
        runs.append(cell("ae", f"gmm n_components={n}", 0, validation=validation, test=8.0))
        runs[-1]["key"]["n"] = 80
    (table,) = (table for _, table in _tables(results_of(runs, ROWS), Grid("low-data", (40, 80), 1, ROWS), 700))
    assert [text.partition(": ")[2] for text in table.loc[0, ["40", "80"]]] == ["ae:gmm n_components=2", "ae:gmm n_components=3"]
    assert "chosen" not in table


def test_the_sheet_shows_what_a_row_chose_by_the_first_features_in_its_first_run(tmp_path: Path):
    runs = [cell("ae", f"gmm n_components={n}", run, validation=abs(n - 3), test=9.0) for n in (2, 3) for run in (0, 1)]
    for run in runs:  # by other features the other one is better
        of_others = copy.deepcopy(run["result"]["scores"]["x"])
        of_others["validation"]["all"]["name"]["value"] *= -1
        run["result"]["scores"]["y"], run["result"]["passports"]["y"] = of_others, run["result"]["passports"]["x"] | {"extractor": "y"}
    del runs[2]  # what is chosen has no run 0
    greys = [0.0, 0.25, 0.5, 0.75]
    for key, grey in zip([FLOOR_KEY, *(run["key"] for run in runs)], greys, strict=True):
        path = pictures_path(tmp_path, key)
        path.parent.mkdir(exist_ok=True)
        np.savez_compressed(path, **{"all/samples": np.full((3, 8, 8), 255 * grey, np.uint8)})
    results = results_of(runs, ROWS)
    assert set(results.chosen()["system"]) == {"ae:gmm n_components=2", "ae:gmm n_components=3"}
    sheet = draw_samples(tmp_path, results, 40, plan_of("benchmark"))
    assert sheet is not None
    shown = {float(np.round(image.get_array().mean(), 2)) for axis in sheet.axes for image in axis.images}
    assert shown == {0.0, 0.75}
    assert any("n_components=3" in text.get_text() for text in sheet.findobj(Text))


def test_scores_of_other_passports_are_never_put_together():
    runs = [cell("vae", "normal", 0, test=1.0), cell("vae", "normal", 1, test=3.0, weights="others")]
    results = results_of(runs, ROWS)
    assert len(results.passports) == 2
    assert results.scores.groupby("passport")["value"].mean().tolist() in ([1.0, 3.0], [3.0, 1.0])
    tables = dict(_tables(results, Grid("low-data", (40,), 1, ROWS), 700))
    assert {title.split(":")[0] for title in tables} == {f"features x of passport {name}" for name in results.passports}
    assert sorted(table["name"][1] for table in tables.values()) == ["1 (1)", "3 (1)"]


def test_ranks_share_what_the_noise_cannot_tell_apart():
    rows = {"a": ["vae:normal"], "b": ["vae:gmm"], "c": ["vae:posterior"]}
    runs = [cell("", "", 0, test=0.1, floor=True)]
    for run, (a, b, c) in enumerate([(1.0, 1.5, 4.0), (1.2, 1.1, 4.0)]):
        runs += [cell("vae", name, run, test=value) for name, value in (("normal", a), ("gmm", b), ("posterior", c))]
    results = results_of(runs, rows)
    (passport,) = results.passports.values()
    for floor in (results.floor, results.floor[:0], None):
        assert ranks(results.scores, floor, passport) == {"a": 1, "b": 1, "c": 3}


def test_a_grid_that_has_become_smaller_leaves_the_other_cells_out(study: Path, tmp_path):
    again = shutil.copytree(study, tmp_path / "study")
    config = FidelityConfig.load(again)
    claim(again, replace(config, grid=replace(config.grid, sizes=(80,), runs=1)))
    table = write_report(again)
    assert set(table.loc[table["row"] != FLOOR, "n"]) == {80}
    assert set(table["run"]) == {0}
    assert "Left out: 9 finished cells of an earlier start" in (again / "table.md").read_text()
    assert next(finding for finding in findings_of(again) if finding.what == "results.csv").matches


@pytest.mark.parametrize("plan", ["low-data", "ablation"])
def test_a_study_without_distances_is_drawn_by_what_it_has(plan):
    panels = plan_of("ablation").panels
    rows = {title: ["vae:normal"] for panel in panels for title in panel.rows} if plan == "ablation" else ROWS
    results = results_of([cell("vae", "normal", 0, test=0.5)], rows)
    results = replace(results, scores=results.scores.assign(measure="recall"))
    figure = draw_scores(results, plan_of(plan), 700)
    assert figure.axes
    assert all("recall" in axis.get_title() for axis in figure.axes)


def test_reconstructions_of_fewer_images_are_told_by_size():
    runs = []
    for n, images in ((40, 32), (80, 64)):
        run = cell("vae", "normal", 0, test=1.0)
        run["key"]["n"] = n
        run["result"]["scores"]["x"] = {RECONSTRUCTIONS: run["result"]["scores"]["x"]["test"]}
        run["result"]["sizes"] = {RECONSTRUCTIONS: {"all": images}}
        runs.append(run)
    ((title, table),) = _tables(results_of(runs, ROWS), Grid("low-data", (40, 80), 1, ROWS), 700)
    assert "the fewer the images, the higher" in title
    assert list(table.columns)[:3] == ["system", "40 (32 images)", "80 (64 images)"]


@pytest.mark.parametrize("sizes", [(40,), (40, 80)])
def test_each_run_may_have_another_number_of_reconstructions(sizes):
    """People have several images, and each run draws others."""
    runs = []
    for run, n, name in itertools.product((0, 1), sizes, ("normal", "gmm")):
        made = cell("vae", name, run, test=1.0 if name == "normal" else 2.0)
        made["key"]["n"] = n
        made["result"]["scores"]["x"] = {RECONSTRUCTIONS: made["result"]["scores"]["x"]["test"]}
        made["result"]["sizes"] = {RECONSTRUCTIONS: {"all": (18, 11)[run]}}
        runs.append(made)
    rows = {"one": ["vae:normal"], "other": ["vae:gmm"]}
    ((title, table),) = _tables(results_of(runs, rows), Grid("low-data", sizes, 2, rows), 700)
    assert ": 11 to 18 images each; the fewer the images, the higher these distances are" in title
    for column in table.columns[1:]:
        assert [text[-3:] for text in table[column]] == ["(1)", "(2)"]
    if len(sizes) > 1:
        assert list(table.columns)[1:] == ["40 (11 to 18 images)", "80 (11 to 18 images)"]


def test_versions_that_differ_are_told(study: Path, tmp_path):
    again = shutil.copytree(study, tmp_path / "study")
    for number, path in enumerate(sorted((again / "runs").iterdir())):
        content = json.loads(path.read_text())
        content["record"]["versions"] = {"torch": f"2.{11 + number % 2}", "numpy": "2.0"}
        path.write_text(json.dumps(content))
    write_report(again)
    assert "The runs were computed with different versions: torch 2.11 and 2.12." in (again / "table.md").read_text()


@pytest.mark.parametrize(
    ("old", "new", "error", "says"),
    [
        ('plan = "low-data"', "", DataError, "'plan'"),
        ("n_samples =", "n_sample =", DataError, "n_sample"),
        ("latent_dim =", "latentdim =", DataError, "latentdim"),
        ('suffix = "T1w"', "suffix_ = 1", DataError, "suffix_"),
        ('plan = "low-data"', 'plan = "none"', UsageError, "no study 'none'"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(study: Path, tmp_path, old, new, error, says):
    text = (study / "config.toml").read_text()
    assert old in text
    (tmp_path / "config.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(error, match=says):
        command.read_configuration(tmp_path / "config.toml")
