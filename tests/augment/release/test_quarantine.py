"""What a gate sets aside leaves the cohort with its row and says why, in every format."""

import json
import shutil

import pandas as pd
import pytest
import torch

from tinycohort.augment.release import outputs as stored
from tinycohort.augment.release.generation import Generated
from tinycohort.augment.release.quarantine import already_set_aside, apply_gate, quarantine_of, record
from tinycohort.augment.release.synthetic_cohort import write_cohort
from tinycohort.augment.samplers.diagnostics import Diagnostics
from tinycohort.datasets.common.errors import DataError
from tinycohort.datasets.readers import read_cohort
from tinycohort.datasets.transforms import Images, Preparation, prepare

ENTRY = {"By": "a test", "SetAside": {"AD": 1, "CN": 1}, "Passed": True}
REASONS = {"synAD0002": "a copy of 007", "synCN0001": "a copy of 011"}
each_format = pytest.mark.parametrize("file_format", ["nifti", "png", "npz"])


@pytest.fixture
def models(studies):
    return stored.load_models(studies["pictures"].models)


def invented(models, n=3):
    """Images that nobody drew, of each class."""
    generator = torch.Generator().manual_seed(0)
    return [
        Generated(
            label,
            Images(torch.rand((n, 1, 16, 16), generator=generator), model.config.space),
            torch.zeros(n, 2),
            Diagnostics("x", n),
            0,
            model.digest,
        )
        for label, model in models.items()
    ]


def written(folder, models, file_format):
    folder.mkdir()
    write_cohort(folder, invented(models), models, file_format=file_format)
    return folder


def pixels(folder):
    """Each participant's image, as whoever reads the cohort gets it."""
    cohort = read_cohort(folder)
    assert cohort.problems == ()
    assert cohort.synthetic
    return dict(zip(cohort.table["participant_id"], prepare(cohort, Preparation(scaling="none")).pixels, strict=True))


@each_format
def test_images_leave_with_their_rows_and_the_reason(models, tmp_path, file_format):
    folder = written(tmp_path / "syn", models, file_format)
    before, rows = pixels(folder), pd.read_csv(folder / "participants.tsv", sep="\t", dtype=str, keep_default_na=False)
    apply_gate(folder, REASONS, ENTRY)
    kept, aside = pixels(folder), pixels(quarantine_of(folder))
    assert set(aside) == set(REASONS)
    assert set(kept) == set(before) - set(REASONS)
    assert all(torch.equal(before[who], image) for who, image in (kept | aside).items())
    left = pd.read_csv(folder / "participants.tsv", sep="\t", dtype=str, keep_default_na=False)
    moved = pd.read_csv(quarantine_of(folder) / "participants.tsv", sep="\t", dtype=str, keep_default_na=False)
    assert moved["reason"].tolist() == list(REASONS.values())
    assert pd.concat([left, moved.drop(columns="reason")]).sort_values("participant_id", ignore_index=True).equals(rows)
    assert "reason" in json.loads((quarantine_of(folder) / "participants.json").read_text())
    description = json.loads((folder / "dataset_description.json").read_text())
    assert description["Gates"] == [ENTRY]
    assert [part["n"] for part in description["Classes"].values()] == [2, 2]
    # Whom an image copies is no part of what is handed on.
    assert not [path for path in folder.rglob("*") if path.is_file() and b"a copy of" in path.read_bytes()]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["syn", "syn.quarantine"]


@each_format
def test_a_second_gate_adds_to_the_quarantine_even_after_a_kill_between_the_two_folders(models, tmp_path, file_format):
    folder = written(tmp_path / "syn", models, file_format)
    shutil.copytree(folder, tmp_path / "before")
    before = pixels(folder)
    apply_gate(folder, REASONS, ENTRY)
    # Killed after the quarantine took its place, and before the cohort did.
    shutil.rmtree(folder)
    (tmp_path / "before").rename(folder)
    apply_gate(folder, REASONS, ENTRY)
    apply_gate(folder, {"synAD0003": "a copy of 007"}, ENTRY | {"SetAside": {"AD": 1}})
    kept, aside = pixels(folder), pixels(quarantine_of(folder))
    assert set(aside) == {*REASONS, "synAD0003"}
    assert set(kept) == {"synAD0001", "synCN0002", "synCN0003"}
    assert all(torch.equal(before[who], image) for who, image in (kept | aside).items())
    assert already_set_aside(folder, "AD") == 2
    assert already_set_aside(folder, "CN") == 1


@each_format
def test_what_is_not_there_is_refused_and_nothing_is_moved(models, tmp_path, file_format):
    folder = written(tmp_path / "syn", models, file_format)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match="no row of synAD0009"):
        apply_gate(folder, {"synAD0009": "x"}, ENTRY)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    if file_format == "png":
        (folder / "images/sub-synAD0002.png").unlink()
        with pytest.raises(DataError, match=r"has neither sub-synAD0002/ nor images/sub-synAD0002\.png"):
            apply_gate(folder, REASONS, ENTRY)
        assert not quarantine_of(folder).exists()


def test_what_generation_refused_was_never_in_the_cohort_and_what_it_once_set_aside_was(models, tmp_path):
    folder = written(tmp_path / "syn", models, "npz")
    record(folder, {"By": "augment generate", "Drawn": {"AD": 9, "CN": 3}, "Refused": {"AD": 6, "CN": 0}, "Passed": True})
    assert [already_set_aside(folder, label) for label in ("AD", "CN")] == [0, 0]
    # As earlier versions wrote it.
    record(folder, {"By": "augment generate", "LookedAt": {}, "SetAside": {"AD": 1, "CN": 0}, "Passed": True})
    assert [already_set_aside(folder, label) for label in ("AD", "CN")] == [1, 0]
    description = json.loads((folder / "dataset_description.json").read_text())
    assert [part["n"] for part in description["Classes"].values()] == [2, 3]
    assert len(read_cohort(folder)) == 6
