"""What a gate sets aside leaves the cohort with its row and says why, in every format; generation refuses a sampler that copies."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from folders import tree

from tinycohort.augment import commands, generation, stored
from tinycohort.augment.diagnostics import Diagnostics
from tinycohort.augment.gate import Gate
from tinycohort.augment.generation import Generated
from tinycohort.augment.quarantine import already_set_aside, apply_gate, quarantine_of
from tinycohort.augment.synthetic_cohort import write_cohort
from tinycohort.datasets.errors import DataError, GateError, UsageError
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


# Generation.


@pytest.fixture
def copying(studies, monkeypatch):
    """A sampler and decoder that give back training images in place of so many of the images of AD."""

    def make(copied, latents=None):
        source = read_cohort(studies["pictures"].data)
        draw = generation.generate_class

        def copy(model, n, **options):
            part = draw(model, n, **{**options, "sampler": "normal"})
            if model.config.label != "AD":
                return part
            members = source.of_class("AD")
            members = members.where(np.array([model.config.participants.trained_on(who) for who in members.table["participant_id"]]))
            fresh = torch.rand(part.images.pixels.shape, generator=torch.Generator().manual_seed(0))
            fresh[:copied] = prepare(members, model.config.preparation).pixels[:copied]
            part.latents[:copied] = model.posterior.mean[:copied]
            return replace(part, images=Images(fresh, part.images.space))

        monkeypatch.setattr(commands, "generate_class", copy)

    return make


def generate(studies, out, **options):
    return commands.generate(studies["pictures"].models, [], out, n=40, sampler="normal", **options)


def test_a_copy_is_held_back(studies, tmp_path, copying, monkeypatch):
    said = []
    monkeypatch.setattr(commands.console, "warn", said.append)
    copying(1)
    generate(studies, tmp_path / "syn")
    assert read_cohort(tmp_path / "syn").counts() == {"AD": 39, "CN": 40}
    moved = pd.read_csv(tmp_path / "syn.quarantine/participants.tsv", sep="\t", dtype=str)
    assert moved["participant_id"].tolist() == ["sub-synAD0001"]
    nearest = pd.read_csv(tmp_path / "syn.audit.csv", dtype=str).set_index("participant_id")["nearest_training_participant"]
    assert moved["reason"][0].startswith(f"a copy of {nearest['sub-synAD0001']} (image: 0.00 times")
    assert any("1 images copy a patient and were set aside" in text for text in said)
    (entry,) = json.loads((tmp_path / "syn/dataset_description.json").read_text())["Gates"]
    assert entry["SetAside"] == {"AD": 1, "CN": 0}
    assert entry["LookedAt"] == {"AD": "training images", "CN": "training images"}
    assert entry["Thresholds"] == {"level": 0.05, "ratio": 0.5, "copies": 0.05}
    # A quarantine goes with the cohort that it is of.
    copying(0)
    generate(studies, tmp_path / "syn", force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["syn", "syn.audit.csv"]


def test_a_sampler_that_copies_is_refused_unless_there_is_a_reason(studies, tmp_path, copying):
    copying(5)
    with pytest.raises(GateError, match="5 of 40 images of AD copy a patient, where 5% may: the cohort is not written"):
        generate(studies, tmp_path / "syn")
    assert [path.name for path in tmp_path.iterdir()] == ["syn.quarantine"]
    assert set(pixels(tmp_path / "syn.quarantine")) == {f"synAD000{i}" for i in range(1, 6)}
    gate = Gate.parse(["copies=0.2"], "for a test", "--gate")
    generate(studies, tmp_path / "syn", gate=gate, force=True)
    assert read_cohort(tmp_path / "syn").counts() == {"AD": 35, "CN": 40}
    (entry,) = json.loads((tmp_path / "syn/dataset_description.json").read_text())["Gates"]
    assert (entry["Changed"], entry["Reason"]) == (["copies"], "for a test")


def test_without_the_training_images_the_latents_tell(studies, tmp_path, copying, models, monkeypatch):
    # Latents of so short a training lie too close together to tell patients apart.
    apart = {
        label: replace(model, posterior=replace(model.posterior, log_var=torch.full_like(model.posterior.log_var, -20)))
        for label, model in models.items()
    }
    monkeypatch.setattr(commands, "load_models", lambda folder, labels: apart)
    copying(1)
    generate(studies, tmp_path / "syn", moved={"data": str(tmp_path / "moved.npz")})
    assert set(pixels(tmp_path / "syn.quarantine")) == {"synAD0001"}
    (entry,) = json.loads((tmp_path / "syn/dataset_description.json").read_text())["Gates"]
    assert entry["LookedAt"] == {"AD": "latents of training images", "CN": "latents of training images"}
    reason = pd.read_csv(tmp_path / "syn.quarantine/participants.tsv", sep="\t")["reason"][0]
    assert reason.startswith("the reconstruction of a patient")


def test_a_cohort_that_is_refused_leaves_the_one_that_it_would_have_replaced(studies, tmp_path, copying):
    copying(1)
    generate(studies, tmp_path / "syn")
    before = tree(tmp_path)
    copying(5)
    with pytest.raises(GateError, match=r"they lie in .*syn\.refused\.quarantine"):
        generate(studies, tmp_path / "syn", force=True)
    after = tree(tmp_path)
    assert {name: content for name, content in after.items() if not name.startswith("syn.refused.quarantine")} == before
    assert set(pixels(tmp_path / "syn.refused.quarantine")) == {f"synAD000{i}" for i in range(1, 6)}


@pytest.mark.parametrize("when", ["tinycohort.augment.commands.record", "tinycohort.datasets.files.os.replace"])
def test_a_cohort_that_cannot_be_written_leaves_the_old_one(studies, tmp_path, copying, monkeypatch, when):
    copying(1)
    generate(studies, tmp_path / "syn")
    before = tree(tmp_path)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(when, full)
    with pytest.raises(OSError, match="No space left"):
        generate(studies, tmp_path / "syn", force=True, seed=1)
    assert tree(tmp_path) == before


def test_nobody_else_s_folder_is_replaced_by_what_is_refused(studies, tmp_path, copying):
    (tmp_path / "syn.refused.quarantine").mkdir()
    (tmp_path / "syn.refused.quarantine/thesis.txt").write_text("mine")
    copying(5)
    with pytest.raises(UsageError, match=r"syn\.refused\.quarantine is nothing that this command makes"):
        generate(studies, tmp_path / "syn")
    assert sorted(tree(tmp_path)) == ["syn.refused.quarantine", "syn.refused.quarantine/thesis.txt"]
