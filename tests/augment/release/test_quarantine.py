"""What a gate sets aside leaves the cohort with its row and says why, in every format."""

import json
import shutil
import sys

import pandas as pd
import pytest
import torch

from tinycohort.augment.fitting.model_folders import load_models
from tinycohort.augment.release.description import Description
from tinycohort.augment.release.gate import AuditRecord
from tinycohort.augment.release.generation import Generated
from tinycohort.augment.release.origin import Origin
from tinycohort.augment.release.quarantine import quarantine_of
from tinycohort.augment.release.synthetic_cohort import SyntheticCohort, cohort_output, held_cohort, write_cohort
from tinycohort.augment.samplers.diagnostics import Diagnostics
from tinycohort.datasets.common.errors import DataError, UsageError
from tinycohort.datasets.readers import read_cohort
from tinycohort.datasets.transforms import Images, Preparation, prepare

AUDIT = AuditRecord({"AD": 1, "CN": 1})
REASONS = {"synAD0002": "a copy of 007", "synCN0001": "a copy of 011"}
each_format = pytest.mark.parametrize("file_format", ["nifti", "png", "npz"])


@pytest.fixture
def models(studies):
    return load_models(studies["pictures"].models)


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
    origins = {label: Origin.of(model) for label, model in models.items()}
    write_cohort(folder, invented(models), origins, file_format=file_format)
    return folder


def pixels(folder):
    """Each participant's image, as whoever reads the cohort gets it."""
    cohort = read_cohort(folder)
    assert cohort.problems == ()
    assert cohort.synthetic
    return dict(zip(cohort.table["participant_id"], prepare(cohort, Preparation(scaling="none")).pixels, strict=True))


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_what_a_link_leads_to_is_not_taken_into_the_cohort(models, tmp_path):
    """What is hidden is no part of a cohort, so a stranger's may have anything there, and passes as it was written."""
    folder = written(tmp_path / "syn", models, "png")
    (tmp_path / "private").write_text("mine")
    (tmp_path / "private").chmod(0o600)
    (folder / ".hidden").symlink_to(tmp_path / "private")
    SyntheticCohort.open(folder).record(AUDIT, REASONS)
    assert (folder / ".hidden").is_symlink()
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600, "nor is it opened to others"


LEADING_OUT = [
    "../victim",
    "..",
    ".",
    "images/../../victim",
    "..\\victim",
    "{parent}/victim",
    "sub-/../../victim",
    "C:victim",
    "a\0b",
    "images",
]


@pytest.mark.parametrize("file_format", ["nifti", "png"])
@pytest.mark.parametrize("spelled", LEADING_OUT)
def test_an_id_that_is_a_path_moves_and_removes_nothing(models, tmp_path, file_format, spelled):
    folder, spelled = written(tmp_path / "syn", models, file_format), spelled.format(parent=tmp_path)
    opened = SyntheticCohort.open(folder)
    for victim in (tmp_path / "victim/T1w.nii.gz", tmp_path / "victim.png"):
        victim.parent.mkdir(exist_ok=True)
        victim.write_text("mine")
    table = folder / "participants.tsv"
    table.write_text(table.read_text().replace("sub-synAD0002", spelled))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=r"has the id '.+', which is no name of a participant's file; restore it"):
        SyntheticCohort.open(folder)
    with pytest.raises(DataError, match=r"has the id '.+', which is no name of a participant's file; restore it"):
        opened.record(AUDIT, {spelled: "a copy of 007", "synCN0001": "a copy of 011"})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
@pytest.mark.parametrize(
    ("link", "file_format"),
    [
        ("syn/images", "png"),
        ("syn/sub-synAD0002", "nifti"),
        ("syn/images.npz", "npz"),
        ("syn.quarantine/images", "png"),
        ("syn.quarantine/participants.tsv", "png"),
        ("syn.quarantine/README", "npz"),
    ],
)
def test_nothing_is_moved_or_written_to_where_a_link_leads(models, tmp_path, link, file_format):
    folder, link = written(tmp_path / "syn", models, file_format), tmp_path / link
    quarantine_of(folder).mkdir()
    elsewhere = tmp_path / "elsewhere"
    if link.exists():
        link.rename(elsewhere)
    elif link.name == "images":
        elsewhere.mkdir()
        (elsewhere / "sub-synAD0002.png").write_text("mine")
    else:
        elsewhere.write_text("mine")
    link.symlink_to(elsewhere)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match="link"):
        SyntheticCohort.open(folder).record(AUDIT, REASONS)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_images_leave_a_cohort_that_is_named_by_a_link(models, tmp_path):
    (tmp_path / "store").mkdir()
    folder, link = written(tmp_path / "store/v1", models, "png"), tmp_path / "latest"
    link.symlink_to(folder)
    SyntheticCohort.open(link).record(AUDIT, REASONS)
    assert link.is_symlink()
    assert set(pixels(folder)) & set(REASONS) == set()
    assert set(pixels(quarantine_of(folder))) == set(REASONS)
    with held_cohort(link, pytest.fail), pytest.raises(UsageError, match="Another command"), held_cohort(folder, pytest.fail):
        pass
    with cohort_output(link, pytest.fail, force=True):
        write_cohort(link, invented(models), {label: Origin.of(model) for label, model in models.items()}, force=True)
    assert link.is_symlink()
    assert set(REASONS) <= set(pixels(folder))
    assert not quarantine_of(folder).exists()
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] in (["latest", "store"], ["store", "latest"])


@each_format
def test_images_leave_with_their_rows_and_the_reason(models, tmp_path, file_format):
    folder = written(tmp_path / "syn", models, file_format)
    before, rows = pixels(folder), pd.read_csv(folder / "participants.tsv", sep="\t", dtype=str, keep_default_na=False)
    SyntheticCohort.open(folder).record(AUDIT, REASONS)
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
    (entry,) = description["Gates"]
    assert (entry["By"], entry["SetAside"], entry["Passed"], entry["Objections"]) == ("augment audit", {"AD": 1, "CN": 1}, True, [])
    assert [part["n"] for part in description["Classes"].values()] == [2, 2]
    # Whom an image copies is no part of what is handed on.
    assert not [path for path in folder.rglob("*") if path.is_file() and b"a copy of" in path.read_bytes()]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["syn", "syn.quarantine"]


@each_format
def test_a_second_gate_adds_to_the_quarantine_even_after_a_kill_between_the_two_folders(models, tmp_path, file_format):
    folder = written(tmp_path / "syn", models, file_format)
    shutil.copytree(folder, tmp_path / "before")
    before = pixels(folder)
    SyntheticCohort.open(folder).record(AUDIT, REASONS)
    # Killed after the quarantine took its place, and before the cohort did.
    shutil.rmtree(folder)
    (tmp_path / "before").rename(folder)
    SyntheticCohort.open(folder).record(AUDIT, REASONS)
    SyntheticCohort.open(folder).record(AuditRecord({"AD": 1}), {"synAD0003": "a copy of 007"})
    kept, aside = pixels(folder), pixels(quarantine_of(folder))
    assert set(aside) == {*REASONS, "synAD0003"}
    assert set(kept) == {"synAD0001", "synCN0002", "synCN0003"}
    assert all(torch.equal(before[who], image) for who, image in (kept | aside).items())
    assert SyntheticCohort.open(folder).description.set_aside == {"AD": 2, "CN": 1}


@each_format
def test_what_is_not_there_is_refused_and_nothing_is_moved(models, tmp_path, file_format):
    folder = written(tmp_path / "syn", models, file_format)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match="no row of synAD0009"):
        SyntheticCohort.open(folder).record(AUDIT, {"synAD0009": "x"})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    if file_format == "png":
        (folder / "images/sub-synAD0002.png").unlink()
        with pytest.raises(DataError, match=r"has neither sub-synAD0002/ nor images/sub-synAD0002\.png"):
            SyntheticCohort.open(folder).record(AUDIT, REASONS)
        assert not quarantine_of(folder).exists()


def test_what_generation_refused_was_never_in_the_cohort_and_what_it_once_set_aside_was(models, tmp_path):
    folder = written(tmp_path / "syn", models, "npz")
    path = folder / "dataset_description.json"
    content = json.loads(path.read_text())
    content["Gates"] = [{"By": "augment generate", "Drawn": {"AD": 9, "CN": 3}, "Refused": {"AD": 6, "CN": 0}, "Passed": True}]
    assert Description.from_json(content).set_aside == {}
    # As earlier versions wrote it.
    content["Gates"].append({"By": "augment generate", "LookedAt": {}, "SetAside": {"AD": 1, "CN": 0}, "Passed": True})
    path.write_text(json.dumps(content | {"Older": "kept"}))
    SyntheticCohort.open(folder).record(AuditRecord({"AD": 1, "CN": 0}), {"synAD0002": "a copy of 007"})
    found = SyntheticCohort.open(folder)
    assert found.description.set_aside == {"AD": 2, "CN": 0}
    assert {label: record.n for label, record in found.description.classes.items()} == {"AD": 2, "CN": 3}
    assert found.counts() == read_cohort(folder).counts() == {"AD": 2, "CN": 3}
    assert found.description.content["Older"] == "kept", "what an audit does not know stays as it was"
    assert len(found.description.content["Gates"]) == 3


DAMAGE = {
    "no class": lambda content: content.pop("Classes"),
    "classes in a list": lambda content: content.update(Classes=[]),
    "no number": lambda content: content["Classes"]["AD"].pop("n"),
    "a number that is a word": lambda content: content["Classes"]["AD"].update(n="3"),
    "a number that is true": lambda content: content["Classes"]["AD"].update(n=True),
    "a digest that is a number": lambda content: content["Classes"]["AD"].update(model=16),
    "sampling that is a word": lambda content: content["Classes"]["AD"].update(sampling="riemannian"),
    "warnings that are a word": lambda content: content["Classes"]["AD"].update(warnings="none"),
    "a gate that is a word": lambda content: content.update(Gates=["passed"]),
    "images set aside without number": lambda content: content.update(Gates=[{"SetAside": {"AD": "some"}}]),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_description_that_is_not_ours_is_one_error(models, tmp_path, name):
    folder = written(tmp_path / "syn", models, "npz")
    path = folder / "dataset_description.json"
    content = json.loads(path.read_text())
    DAMAGE[name](content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"dataset_description\.json is not what `augment generate` writes \(.+\); restore it, or generate"):
        SyntheticCohort.open(folder)


@pytest.mark.parametrize("text", ["", "label\n", "a\tb\tc\n1\t2\t3\t4\n5\t6\t7\t8\t9\n", b"\xff\xfe"])
def test_a_table_that_is_not_ours_is_one_error(models, tmp_path, text):
    folder = written(tmp_path / "syn", models, "npz")
    (folder / "participants.tsv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=r"participants\.tsv is not what `augment generate` writes \(.+\); restore it, or generate"):
        SyntheticCohort.open(folder)


def test_what_is_no_synthetic_cohort_is_not_opened(models, fakes, tmp_path):
    for folder in (tmp_path / "nothing", fakes.bids(tmp_path / "real")):
        with pytest.raises(UsageError, match="is no synthetic cohort; give a folder that `augment generate` has written"):
            SyntheticCohort.open(folder)


def test_an_earlier_version_s_description_is_read(models, tmp_path):
    folder = written(tmp_path / "syn", models, "npz")
    content = json.loads((folder / "dataset_description.json").read_text())
    content["Classes"] = {label: {name: part[name] for name in ("n", "seed", "model")} for label, part in content["Classes"].items()}
    record = Description.from_json(content).classes["AD"]
    assert (record.n, record.seed, record.model, record.participants) == (3, 0, models["AD"].digest, "")
