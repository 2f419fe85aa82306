"""What whole jobs on folders refuse, because it would lose data or mix things up."""

import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tinycohort.augment import commands
from tinycohort.augment.fitting import PRESETS
from tinycohort.datasets.cohort import Cohort
from tinycohort.datasets.errors import DataError, UsageError
from tinycohort.datasets.readers import Source, read_cohort
from tinycohort.datasets.transforms import Preparation, prepare


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_force_does_not_replace_what_is_not_a_synthetic_cohort(fakes, studies, tmp_path):
    real = fakes.bids(tmp_path / "real")
    before = content(real)
    with pytest.raises(UsageError, match="nothing that this command makes"):
        commands.generate(studies["volumes"].models, [], real, n=2, force=True)
    assert content(real) == before


def test_force_does_not_replace_what_is_not_a_model(studies, tmp_path):
    real = tmp_path / "AD"
    shutil.copytree(studies["volumes"].data, real)
    before = content(real)
    settings = replace(PRESETS["default"], channels=2, training=replace(PRESETS["default"].training, epochs=1))
    with pytest.raises(UsageError, match="nothing that this command makes"):
        commands.fit(Source(str(studies["volumes"].data)), ["AD"], settings, tmp_path, force=True)
    assert content(real) == before


def test_an_unfinished_fit_is_not_thrown_away_unasked(studies, tmp_path):
    state = tmp_path / ".fitting-AD" / "state.ckpt"
    state.parent.mkdir()
    state.write_bytes(b"hours of work")
    with pytest.raises(UsageError, match="--resume to go on"):
        commands.fit(Source(str(studies["volumes"].data)), ["AD"], PRESETS["default"], tmp_path)
    assert state.read_bytes() == b"hours of work"


def test_classes_that_would_share_a_folder_are_refused_before_training(fakes, tmp_path):
    path = fakes.study(tmp_path / "study.npz")
    with np.load(path) as kept:
        arrays = dict(kept)
    arrays["labels"] = np.where(arrays["labels"] == arrays["labels"][0], "A/B", "A_B")
    np.savez(path, **arrays)
    with pytest.raises(UsageError, match="share a folder"):
        commands.fit(Source(str(path)), [], PRESETS["default"], tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_models_of_different_sizes_make_no_cohort(studies, tmp_path):
    models = tmp_path / "models"
    labels = sorted(path.parent.name for path in studies["volumes"].models.glob("*/config.json"))
    shutil.copytree(studies["volumes"].models / labels[0], models / labels[0])
    shutil.copytree(studies["slices"].models / labels[1], models / labels[1])
    with pytest.raises(DataError, match="different sizes"):
        commands.generate(models, [], tmp_path / "out", n=2)
    assert not (tmp_path / "out").exists()


def test_a_source_is_the_same_from_every_folder(fakes, tmp_path, monkeypatch):
    fakes.bids(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    source = Source("real").resolved()
    monkeypatch.chdir("/")
    assert isinstance(source.read(), Cohort)
    assert Source("demo").resolved() == Source("demo")


def test_a_path_may_name_an_environment_variable(fakes, tmp_path, monkeypatch):
    fakes.bids(tmp_path / "real")
    monkeypatch.setenv("STUDY_FOLDER", str(tmp_path))
    assert len(Source("$STUDY_FOLDER/real").read()) == len(fakes.people)
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
