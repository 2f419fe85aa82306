"""Studies by generators that were fitted before, and whom generators may have seen."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_studies import compute, request, those_predicted, write_cohort

from tinycohort.augment.commands.fit import FitRequest, fit_models
from tinycohort.augment.fitting.model_config import Participants
from tinycohort.augment.fitting.settings import FitSettings
from tinycohort.augment.fitting.training import TrainingSettings
from tinycohort.datasets.common.custody import seal
from tinycohort.datasets.common.errors import DataError, LeakageError, UsageError
from tinycohort.datasets.readers import Source, read_cohort
from tinycohort.datasets.splits import Split, split_cohort
from tinycohort.datasets.transforms import Preparation
from tinycohort.experiments.augmentation_study import command as evaluate
from tinycohort.experiments.augmentation_study.cell import run_cell, split_of_run
from tinycohort.experiments.augmentation_study.generators import check_no_leakage, generator_of
from tinycohort.experiments.augmentation_study.method import Run
from tinycohort.experiments.augmentation_study.protocols import Protocols
from tinycohort.experiments.augmentation_study.report import write_report
from tinycohort.experiments.engine.study_config import RunContext
from tinycohort.experiments.engine.study_folder import all_runs, claim
from tinycohort.experiments.engine.study_images import Prepared
from tinycohort.experiments.engine.systems import System


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


def test_a_generator_of_another_plan_is_refused(study: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    config = evaluate.read_configuration(copy / "config.toml", ())
    config = replace(config, fit=replace(config.fit, latent_dim=3))
    data = Prepared.load(copy, config.data)
    run = Run(RunContext(copy, config), data, split_of_run(data.cohort, config, 0), 0, "synthetic-only", 0)
    with pytest.raises(DataError, match="other settings"):
        generator_of(System("vae", "normal"), "AD", run)


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
