"""What whole jobs on folders refuse, because it would lose data or mix things up."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tinycohort.augment.commands.fit import FitRequest, fit_models
from tinycohort.augment.commands.generate import GenerationRequest, generate_cohort
from tinycohort.augment.commands.interpolate import interpolate_class
from tinycohort.augment.fitting import model_config
from tinycohort.augment.fitting.model_folders import load_models
from tinycohort.augment.fitting.settings import PRESETS, FitSettings
from tinycohort.augment.fitting.training import TrainingSettings
from tinycohort.augment.release import generation
from tinycohort.datasets.cohort import Cohort
from tinycohort.datasets.common.errors import DataError, UsageError
from tinycohort.datasets.readers import Source, read_cohort
from tinycohort.datasets.splits import Split
from tinycohort.datasets.transforms import Preparation, prepare

QUICK = FitSettings(latent_dim=2, channels=2, training=TrainingSettings(epochs=1, batch_size=5, precision="fp32", device="cpu"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_force_does_not_replace_what_is_not_a_synthetic_cohort(fakes, studies, tmp_path):
    real = fakes.bids(tmp_path / "real")
    before = content(real)
    with pytest.raises(UsageError, match="nothing that this command makes"):
        generate_cohort(GenerationRequest(studies["volumes"].models, [], n=2), real, force=True)
    assert content(real) == before


def test_force_does_not_replace_what_others_have_synthesised(fakes, studies, tmp_path):
    theirs = fakes.bids(tmp_path / "theirs")
    (theirs / "dataset_description.json").write_text('{"Name": "x", "Synthetic": true, "GeneratedBy": [{"Name": "SynthSeg"}]}')
    before = content(theirs)
    with pytest.raises(UsageError, match="nothing that this command makes"):
        generate_cohort(GenerationRequest(studies["volumes"].models, [], n=2), theirs, force=True)
    assert content(theirs) == before


def test_a_class_that_no_memory_holds_is_told_before_another_is_trained(studies, tmp_path, monkeypatch):
    source, split_file = Source(str(studies["volumes"].data)), studies["volumes"].models / "split.json"
    n_largest = max(len(side) for side in training_sizes(source, split_file))
    monkeypatch.setattr("tinycohort.datasets.common.machine.is_too_much", lambda n_bytes: n_bytes >= 4 * n_largest * 10 * 12 * 10)
    with pytest.raises(UsageError, match=rf"For {n_largest} images of 10 x 12 x 10 this machine has no memory"):
        fit_models(FitRequest(source, [], QUICK, split_file=split_file), tmp_path / "models")
    assert not (tmp_path / "models").exists()


def training_sizes(source: Source, split_file: Path) -> list[list[str]]:
    cohort = read_cohort(source)
    sides = Split.load(split_file, cohort).sides
    seen = [who for who, side in sides.items() if side in ("train", "validation")]
    return [[who for who in cohort.of_class(label).table["participant_id"] if who in seen] for label in cohort.labels]


def test_force_does_not_replace_what_is_not_a_model(studies, tmp_path):
    real = tmp_path / "AD"
    shutil.copytree(studies["volumes"].data, real)
    before = content(real)
    settings = replace(PRESETS["default"], channels=2, training=replace(PRESETS["default"].training, epochs=1))
    with pytest.raises(UsageError, match="nothing that this command makes"):
        fit_models(FitRequest(Source(str(studies["volumes"].data)), ["AD"], settings), tmp_path, force=True)
    assert content(real) == before


def test_an_unfinished_fit_is_not_thrown_away_unasked(studies, tmp_path):
    state = tmp_path / ".fitting-AD" / "state.safetensors"
    state.parent.mkdir()
    state.write_bytes(b"hours of work")
    with pytest.raises(UsageError, match="--resume to go on"):
        fit_models(FitRequest(Source(str(studies["volumes"].data)), ["AD"], PRESETS["default"]), tmp_path)
    assert state.read_bytes() == b"hours of work"


def test_an_unfinished_fit_of_another_plan_is_refused_before_another_class_is_fitted(studies, tmp_path):
    marker = tmp_path / ".fitting-CN" / "plan.json"
    marker.parent.mkdir()
    marker.write_text('{"plan": "another"}')
    with pytest.raises(UsageError, match=r"\.fitting-CN holds an unfinished fit with other settings"):
        fit_models(FitRequest(Source(str(studies["pictures"].data)), [], QUICK), tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [".fitting-CN"]
    assert marker.read_text() == '{"plan": "another"}'


def test_classes_that_would_share_a_folder_are_refused_before_training(fakes, tmp_path):
    path = fakes.study(tmp_path / "study.npz")
    with np.load(path) as kept:
        arrays = dict(kept)
    arrays["labels"] = np.where(arrays["labels"] == arrays["labels"][0], "A/B", "A_B")
    np.savez(path, **arrays)
    with pytest.raises(UsageError, match="share a folder"):
        fit_models(FitRequest(Source(str(path)), [], PRESETS["default"]), tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_a_check_says_what_most_problems_are_and_lists_all(augment, fakes, tmp_path):
    data = fakes.study(tmp_path / "study", (10, 12, 10))
    (tmp_path / "few.csv").write_text("participant_id,diagnosis\n000,AD\n001,AD\n")
    answer = augment("check", data, "--table", tmp_path / "few.csv")
    assert answer.code == 3
    assert "23 problems, 22 of which: no row in few.csv" in answer.words
    assert answer.words.count("no row in few.csv") == 1 + 22
    answer = augment("fit", data, "--table", tmp_path / "few.csv", "--out", tmp_path / "models")
    assert answer.words.count("no row in few.csv") == 3 + 1
    assert "2 images, fewer than 10" in answer.words


def test_models_of_different_sizes_make_no_cohort(studies, tmp_path):
    models = tmp_path / "models"
    labels = sorted(path.parent.name for path in studies["volumes"].models.glob("*/config.json"))
    shutil.copytree(studies["volumes"].models / labels[0], models / labels[0])
    shutil.copytree(studies["slices"].models / labels[1], models / labels[1])
    with pytest.raises(DataError, match=r"\(AD without --plane of 10 x 12 x 10, CN with --plane coronal of 10 x 10 "):
        generate_cohort(GenerationRequest(models, [], n=2), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_models_of_images_that_were_scaled_differently_make_no_cohort(augment, studies, tmp_path):
    words = ("fit", studies["volumes"].data, "--epochs", 1, "--channels", 2, "--latent-dim", 2, "--out", tmp_path / "models")
    first = augment(*words, "--class", "CN", "--class", "CN")
    assert first.code == 0, first.words
    assert "prepared otherwise" not in first.words
    other = augment(*words, "--class", "AD", "--scaling", "minmax")
    assert other.code == 0, other.words
    assert f"{tmp_path / 'models/CN'} is of images that were prepared otherwise" in other.words
    assert ("Next: augment generate" in first.words, "Next:" in other.words) == (True, False)
    for command in (("generate", "--models"), ("prepare", "--like")):
        answer = augment(*command, tmp_path / "models", "--out", tmp_path / "out")
        assert answer.code == 3
        assert (
            "were prepared differently, which gives their class away (AD with --scaling minmax, CN with --scaling percentile)"
            in answer.words
        )
    assert not (tmp_path / "out").exists()


def test_a_source_is_the_same_from_every_folder(fakes, tmp_path, monkeypatch):
    fakes.bids(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    source = Source("real").resolved()
    monkeypatch.chdir("/")
    assert isinstance(read_cohort(source), Cohort)
    assert Source("demo").resolved() == Source("demo")


def test_a_source_that_is_a_link_is_read_where_the_link_lies(fakes, tmp_path, monkeypatch):
    store, study = tmp_path / "store", tmp_path / "study"
    columns = {"participant_id": ["P1"], "diagnosis": ["AD"], "image": ["images/P1.png"]}
    fakes.table(store / "objects/x.csv", columns)
    fakes.picture(study / "images/P1.png", 1)
    (study / "people.csv").symlink_to("../store/objects/x.csv")
    (tmp_path / "linked").symlink_to("store/objects")
    monkeypatch.chdir(study)
    for spelled in ("people.csv", "./people.csv", "../study/people.csv", str(study / "people.csv")):
        source = Source(spelled).resolved()
        assert source.data == str(study / "people.csv")
        assert read_cohort(source).table["image"].tolist() == [str(study / "images/P1.png")]
    # What is before a .. is what the system makes of it.
    assert Source("../linked/../objects/x.csv").resolved().data == str(store / "objects/x.csv")


def test_a_path_may_name_an_environment_variable(fakes, tmp_path, monkeypatch):
    fakes.bids(tmp_path / "real")
    monkeypatch.setenv("STUDY_FOLDER", str(tmp_path))
    assert len(read_cohort("$STUDY_FOLDER/real")) == len(fakes.people)
    assert Source("$STUDY_FOLDER/real").resolved().data == str(tmp_path / "real")


def test_a_tilted_volume_is_cut_where_its_middle_lies_at_the_coordinate(fakes, tmp_path):
    """The plane that is cut passes, at the volume's middle, through the asked coordinate, to within half a voxel."""
    angle = np.deg2rad(12)
    tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    shape, spacing = np.array([12, 30, 26]), 3.0
    affine = np.eye(4)
    affine[:3, :3] = tilt * spacing
    affine[:3, 3] = -affine[:3, :3] @ (shape - 1) / 2 + [0, 5, 40]
    array = np.broadcast_to(np.arange(30.0)[None, :, None], shape) + 1
    names = [f"p{i}" for i in range(3)]
    for name in names:
        fakes.volume(tmp_path / f"{name}.nii", array.astype(np.float32), affine)
    fakes.table(tmp_path / "participants.tsv", {"participant_id": names, "diagnosis": ["AD"] * 3})
    images = prepare(read_cohort(tmp_path), Preparation(plane="coronal", position="-10mm", scaling="minmax"))
    placed = np.array(images.space.affine)
    middle = np.append((np.array(images.space.volume_shape) - 1) / 2, 1)
    assert nib.aff2axcodes(placed) == ("R", "A", "S")
    assert abs((placed @ middle)[1] - -10) <= 0.5 * spacing * np.cos(angle) + 1e-6


def test_classes_that_were_fitted_together_are_generated_together(fakes, tmp_path):
    """Their first images lie a ten-thousandth of a millimetre apart, as registration leaves them."""
    data = fakes.study(tmp_path / "bids", (10, 12, 10))
    for number, path in enumerate(sorted(data.rglob("*.nii.gz"))):
        image = nib.load(path)
        fakes.volume(path, np.asarray(image.dataobj), image.affine + 1e-4 * number * np.eye(4)[:, :1] @ np.eye(4)[3:])
    fit_models(FitRequest(Source(str(data)), [], QUICK), tmp_path / "models")
    spaces = [model.config.space for model in load_models(tmp_path / "models").values()]
    assert spaces[0] == spaces[1]
    generate_cohort(GenerationRequest(tmp_path / "models", [], n=2, sampler="normal"), tmp_path / "syn")
    assert read_cohort(tmp_path / "syn").counts() == {"AD": 2, "CN": 2}


def test_classes_in_different_spaces_are_told(fakes, tmp_path, monkeypatch):
    data = fakes.study(tmp_path / "bids", (10, 12, 10))
    cohort = read_cohort(data)
    for path in map(Path, cohort.of_class("CN").table["image"]):
        fakes.volume(path, np.asarray(nib.load(path).dataobj), np.diag([1.0, 1, 1, 1]))
    said = []
    monkeypatch.setattr("tinycohort.augment.console.warn", said.append)
    fit_models(FitRequest(Source(str(data)), ["AD"], QUICK), tmp_path / "models")
    assert not any("different spaces" in text for text in said)
    fit_models(FitRequest(Source(str(data)), ["CN"], QUICK), tmp_path / "models")
    assert any("different spaces" in text for text in said)


def test_a_split_that_is_lost_is_not_drawn_anew_beside_models(studies, tmp_path):
    models = tmp_path / "models"
    shutil.copytree(studies["pictures"].models, models)
    (models / "split.json").rename(tmp_path / "split.json")
    shutil.rmtree(models / "CN")
    source = Source(str(studies["pictures"].data))
    with pytest.raises(UsageError, match=r"There is no .*split\.json, and the one asked for is not that .*AD was fitted on"):
        fit_models(FitRequest(source, ["CN"], QUICK, split_seed=5), models)
    assert not (models / "split.json").exists()
    fit_models(FitRequest(source, ["CN"], QUICK, split_file=tmp_path / "split.json"), models)
    assert sorted(load_models(models)) == ["AD", "CN"]


@pytest.mark.parametrize(("enough", "poor"), [(1.1, ["AD", "CN"]), (-1e9, [])])
def test_a_poor_fit_is_told_wherever_the_model_is_used(studies, tmp_path, monkeypatch, enough, poor):
    monkeypatch.setattr(model_config, "EXPLAINS_LITTLE", enough)
    told: list[str] = []
    monkeypatch.setattr("tinycohort.augment.console.warn", told.append)

    def named() -> list[str]:
        found = [message.split(":")[0] for message in told if "hardly knows its class" in message]
        told.clear()
        return found

    source, models, out = Source(str(studies["pictures"].data)), tmp_path / "models", tmp_path / "syn"
    for _ in range(2):  # fitted, and there already
        fit_models(FitRequest(source, [], QUICK), models, resume=True)
        assert named() == poor
    assert [label for label in ("AD", "CN") if "hardly knows" in (models / label / "README.md").read_text()] == poor
    generate_cohort(GenerationRequest(models, [], n=3, sampler="normal"), out)
    assert named() == poor
    classes = json.loads((out / "dataset_description.json").read_text())["Classes"]
    assert [label for label, part in classes.items() if any("hardly knows" in text for text in part["warnings"])] == poor
    interpolate_class(load_models(models)["CN"], tmp_path / "paths", n_pairs=1, n_steps=2)
    assert named() == poor[1:]


def test_a_sampler_is_fitted_once_a_class(studies, tmp_path, monkeypatch):
    fitted = []
    fit_sampler = generation.fit_sampler
    monkeypatch.setattr(
        generation, "fit_sampler", lambda name, *args, **options: fitted.append(name) or fit_sampler(name, *args, **options)
    )
    generate_cohort(GenerationRequest(studies["pictures"].models, [], n=3, sampler="gmm"), tmp_path / "syn")
    assert fitted == ["gmm", "gmm"]
