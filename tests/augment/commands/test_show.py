"""Contact sheets: who is on them, and what is beside what."""

import json
import shutil
from pathlib import Path

import pytest

from tinycohort.augment.commands.generate import GenerationRequest, generate_cohort
from tinycohort.augment.commands.show import show_cohorts
from tinycohort.datasets.common.custody import seal
from tinycohort.datasets.common.errors import UsageError
from tinycohort.datasets.readers import Source
from tinycohort.datasets.transforms import Preparation


@pytest.fixture
def rows(monkeypatch):
    """Of all sheets that a test draws."""
    drawn = []
    monkeypatch.setattr("tinycohort.augment.commands.show.save_contact_sheet", lambda _, given, **__: drawn.extend(given))
    return drawn


@pytest.mark.parametrize(("columns", "people"), [(3, ["000", "001", "002"]), (11, ["000", "000", *(f"{i:03d}" for i in range(1, 10))])])
def test_a_sheet_shows_two_images_of_one_person_only_where_there_is_nobody_else(fakes, tmp_path, monkeypatch, columns, people):
    data = fakes.study(tmp_path / "bids", (10, 12, 10))
    fakes.volume(data / "sub-000/ses-2/anat/sub-000_ses-2_T1w.nii.gz", fakes.voxels(77, (10, 12, 10)))
    seen = []
    monkeypatch.setattr("tinycohort.augment.commands.show.save_contact_sheet", lambda *_, **__: None)
    monkeypatch.setattr(
        "tinycohort.augment.commands.show.prepare", lambda cohort, *_, **__: seen.extend(cohort.table["participant_id"]) or cohort
    )
    show_cohorts([str(data)], Source(""), Preparation(plane="coronal"), tmp_path / "a.png", columns=columns, labels=["AD"])
    assert seen == people


@pytest.fixture(scope="module")
def synthetic(studies, tmp_path_factory):
    """Coronal slices that models of slices have drawn, 10 x 10."""
    out = tmp_path_factory.mktemp("synthetic") / "slices"
    generate_cohort(GenerationRequest(studies["slices"].models, n=2, sampler="normal", detail="none"), out)
    return str(out)


def test_real_images_beside_synthetic_ones_are_cut_and_sized_as_these(fakes, synthetic, tmp_path, rows):
    finer = str(fakes.study(tmp_path / "finer", (20, 24, 20)))
    show_cohorts([finer, synthetic], Source(""), Preparation(), tmp_path / "a.png", columns=2, labels=[])
    assert [tuple(row.images.pixels.shape) for row in rows] == [(2, 1, 10, 10)] * 4
    rows.clear()
    show_cohorts([finer, synthetic], Source(""), Preparation(size=(12, 14)), tmp_path / "b.png", columns=2, labels=[], asked=["size"])
    assert [tuple(row.images.pixels.shape) for row in rows] == [(2, 1, 12, 14)] * 4, "what is asked for"
    rows.clear()
    show_cohorts([finer], Source(""), Preparation(plane="axial"), tmp_path / "c.png", columns=2, labels=[])
    assert [tuple(row.images.pixels.shape) for row in rows] == [(2, 1, 20, 24)] * 2, "by itself it is shown as it is"


def test_cohorts_that_do_not_agree_are_on_one_sheet_all_the_same(studies, synthetic, tmp_path, rows, capsys):
    """Other pictures, volumes, and slices of one plane beside whole volumes."""
    made = {name: str(tmp_path / name) for name in ("pictures", "volumes")}
    for name, out in made.items():
        generate_cohort(GenerationRequest(studies[name].models, n=2, sampler="normal", detail="none"), Path(out))
    real = str(studies["volumes"].data)
    for paths in ([real, made["pictures"]], [real, synthetic, made["volumes"]], [real, made["volumes"], made["pictures"]]):
        rows.clear()
        show_cohorts(paths, Source(""), Preparation(), tmp_path / "b.png", columns=2, labels=[], force=True)
        assert [tuple(row.images.pixels.shape) for row in rows[:2]] == [(2, 1, 10, 12, 10)] * 2, paths
    capsys.readouterr()
    other = tmp_path / "minmax"
    shutil.copytree(synthetic, other)
    description = json.loads((other / "dataset_description.json").read_text())
    description["Images"]["Preparation"]["scaling"] = "minmax"
    (other / "dataset_description.json").write_text(json.dumps(description))
    seal(other)
    rows.clear()
    show_cohorts([real, synthetic, str(other)], Source(""), Preparation(plane="coronal"), tmp_path / "c.png", columns=2, labels=[])
    assert len(rows) == 6
    assert "were made of images that were prepared differently" in " ".join("".join(capsys.readouterr()).split())


def test_another_plane_than_that_of_synthetic_images_is_refused(studies, synthetic, tmp_path, rows):
    paths = [str(studies["slices"].data), synthetic]
    with pytest.raises(UsageError, match="were made with --plane coronal, not axial; leave out --plane"):
        show_cohorts(
            paths, Source("", plane="axial"), Preparation(plane="axial"), tmp_path / "a.png", columns=2, labels=[], asked=["plane"]
        )
    assert rows == []
