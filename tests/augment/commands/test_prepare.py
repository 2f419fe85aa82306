"""Real images in the form of synthetic ones: on the same grid, in the same files and columns, and marked as real."""

import json
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tinycohort.augment.commands.check import require_sound_cohort
from tinycohort.augment.commands.generate import GenerationRequest, generate_cohort
from tinycohort.augment.commands.prepare import PrepareRequest, prepare_cohort
from tinycohort.augment.commands.show import show_cohorts
from tinycohort.augment.release.form import Form
from tinycohort.augment.release.prepared_cohort import write_prepared
from tinycohort.augment.release.prepared_table import image_names, write_prepared_table
from tinycohort.augment.release.values import Values
from tinycohort.datasets.cohort import Cohort
from tinycohort.datasets.common.errors import DataError, UsageError
from tinycohort.datasets.identity import participant_of
from tinycohort.datasets.readers import Source, read_cohort
from tinycohort.datasets.splits import Split
from tinycohort.datasets.synthetic_mark import is_marked
from tinycohort.datasets.transforms import Preparation, prepare
from tinycohort.experiments.verify import verify

CASES = [("pictures", "png"), ("pictures", "nifti"), ("slices", "png"), ("slices", "nifti"), ("slices", "npz"), ("volumes", "nifti")]
each_case = pytest.mark.parametrize(("name", "file_format"), CASES)


@pytest.fixture(scope="module")
def synthetic(studies, tmp_path_factory):
    """Cohorts of two images a class, by study and format."""
    root = tmp_path_factory.mktemp("synthetic")
    for name, file_format in CASES:
        request = GenerationRequest(studies[name].models, n=2, sampler="normal", file_format=file_format, detail="none")
        generate_cohort(request, root / f"{name}-{file_format}")
    return root


@each_case
def test_both_are_loaded_alike(studies, synthetic, tmp_path, name, file_format):
    made = synthetic / f"{name}-{file_format}"
    cohort = prepare_cohort(PrepareRequest(made, {"data": str(studies[name].data)}), tmp_path / "real")
    assert not cohort.synthetic
    assert cohort.problems == ()
    if file_format == "nifti":
        of_one, of_other = (nib.load(sorted(folder.glob("sub-*/anat/*.nii.gz"))[0]) for folder in (tmp_path / "real", made))
        assert of_one.shape == of_other.shape
        assert of_one.get_data_dtype() == of_other.get_data_dtype()
        assert np.array_equal(of_one.affine, of_other.affine)
        assert of_one.header.get_xyzt_units() == of_other.header.get_xyzt_units()
        sidecars = [json.loads(sorted(folder.glob("sub-*/anat/*.json"))[0].read_text()) for folder in (tmp_path / "real", made)]
        assert [sidecar["Synthetic"] for sidecar in sidecars] == [False, True]
        assert sidecars[0].keys() == sidecars[1].keys()
    elif file_format == "png":
        pictures = [Image.open(sorted(folder.glob("images/*.png"))[0]) for folder in (tmp_path / "real", made)]
        assert len({(picture.size, picture.mode, picture.info.get("tinycohort:affine")) for picture in pictures}) == 1
        assert [picture.info["Description"] for picture in pictures] == ["real image, tinycohort", "synthetic image, tinycohort"]
    else:
        arrays = [dict(np.load(folder / "images.npz")) for folder in (tmp_path / "real", made)]
        assert [bool(content["synthetic"]) for content in arrays] == [False, True]
        assert all(np.array_equal(arrays[0][key], arrays[1][key]) for key in ("axes", "affine", "classes", "white"))
    tables = [pd.read_csv(folder / "participants.tsv", sep="\t") for folder in (tmp_path / "real", made)]
    classes = {"label", "diagnosis"} if name != "pictures" else {"label"}
    assert all(classes <= set(table) for table in tables)
    both = pd.concat(tables)
    assert both["participant_id"].is_unique
    assert both.groupby("synthetic").size().to_dict() == {False: 24, True: 4}


@each_case
def test_the_images_are_those_that_the_models_saw(studies, tmp_path, name, file_format):
    plane = "coronal" if name == "slices" else None
    seen = prepare(read_cohort(studies[name].data), Preparation(plane=plane))
    cohort = prepare_cohort(PrepareRequest(studies[name].models, file_format=file_format), tmp_path / "real")
    assert cohort.table["participant_id"].tolist() == read_cohort(studies[name].data).table["participant_id"].tolist()
    back = prepare(cohort, Preparation(scaling="none", size=seen.space.shape))
    assert float((back.pixels - seen.pixels).abs().max()) <= (0.5 / 255 + 1e-6 if file_format == "png" else 0)
    assert (
        torch.equal(back.pixels == 0, seen.pixels < 0.5 / 255) if file_format == "png" else torch.equal(back.pixels == 0, seen.pixels == 0)
    )
    assert back.space.flat_axis == seen.space.flat_axis
    files = [image for image in cohort.table["image"] if isinstance(image, str)]
    assert not any(is_marked(image) for image in map(type(tmp_path), files))


def test_the_table_has_all_that_the_source_tells_and_whom_the_models_know(studies, fakes, tmp_path):
    data = fakes.study(tmp_path / "bids", (10, 12, 10))
    table = pd.read_csv(data / "participants.tsv", sep="\t", dtype=str)
    table["age"] = ["n/a", *(str(50 + row) for row in range(1, len(table)))]
    table.to_csv(data / "participants.tsv", sep="\t", index=False)
    request = PrepareRequest(studies["volumes"].models, {"data": str(data)}, ["CN"], command="augment prepare")
    prepare_cohort(request, tmp_path / "real")
    told = pd.read_csv(tmp_path / "real/participants.tsv", sep="\t", dtype=str, keep_default_na=False)
    assert list(told) == ["participant_id", "label", "diagnosis", "synthetic", "source_id", "seen_by_models", "age"]
    assert told["participant_id"].tolist() == [f"sub-{number:03d}" for number in range(10, 24)]
    assert told["age"].tolist() == [str(50 + row) for row in range(10, 24)]
    sides = Split.load(studies["volumes"].models / "split.json").sides
    expected = {"train": "train", "validation": "validation", "test": "no"}
    assert [expected[sides[number]] for number in told["source_id"]] == told["seen_by_models"].tolist()
    meanings = json.loads((tmp_path / "real/participants.json").read_text())
    assert list(meanings) == list(told)
    description = json.loads((tmp_path / "real/dataset_description.json").read_text())
    assert description["Synthetic"] is False
    assert description["License"] == "CC0"
    assert description["GeneratedBy"][0]["Command"] == "augment prepare"


@pytest.mark.parametrize("file_format", ["nifti", "png", "npz"])
def test_second_columns_of_classes_people_and_images_are_not_read(fakes, tmp_path, file_format):
    data = fakes.bids(tmp_path / "data")
    second = {"Group": list("xyyyyx"), "id": list("abcdef"), "image": ["none.png"] * 6, "Filename": ["none.nii"] * 6}
    fakes.participants(data / "participants.tsv", **second)
    cohort = read_cohort(Source(str(data), label="group"))
    prepared = prepare(cohort, Preparation(plane="axial"))
    write_prepared(
        tmp_path / "out", cohort, prepared, Form(Preparation(plane="axial"), prepared.space, file_format, Values.asked(file_format))
    )
    back = read_cohort(tmp_path / "out")
    assert back.problems == ()
    assert back.counts() == cohort.counts() == {"x": 2, "y": 4}
    assert back.label_column == "label"
    table = back.table.sort_values("participant_id")
    assert table["source_diagnosis"].tolist() == ["AD"] * 3 + ["CN"] * 3
    assert table["source_source_id"].tolist() == list("abcdef")
    assert set(json.loads((tmp_path / "out/participants.json").read_text())) >= {"Group", "source_diagnosis", "source_Filename"}


def test_who_may_be_one_person_with_somebody_known_is_known(studies, tmp_path, monkeypatch):
    sides = Split.load(studies["volumes"].models / "split.json").sides
    train, validation, test = ([who for who, side in sides.items() if side == name] for name in ("train", "validation", "test"))
    # Through one who is in another class, which is not prepared, too.
    pairs = ((test[-1], train[0]), (validation[-1], train[0]), (test[-2], validation[-2]))

    def examined(cohort, **options):
        cohort, found = require_sound_cohort(cohort, **options)
        return replace(cohort, alike=pairs), found

    monkeypatch.setattr("tinycohort.augment.commands.prepare.require_sound_cohort", examined)
    prepare_cohort(PrepareRequest(studies["volumes"].models, labels=["CN"]), tmp_path / "real")
    table = pd.read_csv(tmp_path / "real/participants.tsv", sep="\t", dtype=str).set_index("source_id")
    assert train[0] not in table.index
    assert table["seen_by_models"][[test[-1], validation[-1], test[-2]]].tolist() == ["train", "train", "validation"]
    assert set(table["seen_by_models"][[who for who in test[:-2] if who in table.index]]) == {"no"}


def test_one_model_does_not_call_unseen_whom_the_models_beside_it_know(studies, tmp_path):
    """Of one that is by itself, nobody of another class is called so."""
    whole, alone = studies["volumes"].models, tmp_path / "alone/AD"
    shutil.copytree(whole / "AD", alone)
    sides = {who: {"test": "no"}.get(side, side) for who, side in Split.load(whole / "split.json").sides.items()}
    for name, model, others in (("beside", whole / "AD", True), ("by itself", alone, False)):
        prepare_cohort(PrepareRequest(model), tmp_path / name)
        told = pd.read_csv(tmp_path / name / "participants.tsv", sep="\t", dtype=str, keep_default_na=False)
        expected = [sides[who] if others or label == "AD" else "n/a" for who, label in zip(told["source_id"], told["label"], strict=True)]
        assert set(told["label"]) == {"AD", "CN"}
        assert told["seen_by_models"].tolist() == expected


@pytest.mark.parametrize("column", ["label", "participant_id"])
def test_what_would_be_read_otherwise_is_not_written(studies, tmp_path, monkeypatch, column):
    def written(folder, *args, **options):
        write_prepared_table(folder, *args, **options)
        table = pd.read_csv(folder / "participants.tsv", sep="\t", dtype=str)
        table[column] = table[column].to_numpy()[::-1]
        table.iloc[:-1].to_csv(folder / "participants.tsv", sep="\t", index=False)

    monkeypatch.setattr("tinycohort.augment.release.prepared_cohort.write_prepared_table", written)
    with pytest.raises(DataError, match=r"Study cannot be written so that it is read alike .*; rename the column of its table") as told:
        prepare_cohort(PrepareRequest(studies["volumes"].models), tmp_path / "real")
    assert ".writing" not in str(told.value)
    assert not list(tmp_path.iterdir())


def named(*spelled, files=None):
    """The names of images of people who are spelled so."""
    people = [participant_of(one) for one in spelled]
    table = {"image_id": files or spelled, "participant_id": people, "image": None, "label": "AD", "spelled_id": spelled}
    return image_names(Cohort("fake", pd.DataFrame(table), "fake"))


@pytest.mark.parametrize(
    ("spelled", "files", "names"),
    [
        (("sub-01", "sub-02"), None, ["sub-01", "sub-02"]),
        (("OAS1_9061_MR1", "OAS1_9061_MR2"), None, ["sub-OAS19061MR1", "sub-OAS19061MR2"]),
        (("902_S_9295", "OAS39001_MR_d0129"), None, ["sub-902S9295", "sub-OAS39001MRd0129"]),
        (("sub-01", "sub-01"), ("sub-01_ses-1_T1w", "sub-01_ses-b_T1w"), ["sub-01_ses-1", "sub-01_ses-b"]),
        (("sub-01", "sub-01"), ("sub-01_run-1_T1w", "sub-01_run-2_T1w"), ["sub-01_ses-1", "sub-01_ses-2"]),
        (("sub-01_ses-2", "sub-01_ses-3"), None, ["sub-01_ses-2", "sub-01_ses-3"]),
        (("01", "sub-01"), None, ["sub-01_ses-1", "sub-01_ses-2"]),
        (("P1_1", "P11", "p11"), None, ["sub-P11", "sub-P11x2", "sub-p11x3"]),
    ],
)
def test_names_are_those_of_bids_and_tell_the_same_people_apart(spelled, files, names):
    assert named(*spelled, files=files) == names
    people, again = ([participant_of(name) for name in column] for column in (spelled, names))
    assert len(set(zip(people, again, strict=True))) == len(set(people)) == len(set(again))


@pytest.mark.parametrize("file_format", ["nifti", "png", "npz"])
def test_several_images_of_one_person(studies, fakes, tmp_path, capsys, file_format):
    data = fakes.study(tmp_path / "bids", (10, 12, 10))
    second = data / "sub-000/ses-2/anat/sub-000_ses-2_T1w.nii.gz"
    fakes.volume(second, fakes.voxels(77, (10, 12, 10)), nib.load(data / "sub-001/anat/sub-001_T1w.nii.gz").affine)
    cohort = prepare_cohort(PrepareRequest(studies["slices"].models, {"data": str(data)}, file_format=file_format), tmp_path / "real")
    assert cohort.problems == ()
    assert len(cohort) == 25
    assert cohort.table["participant_id"].value_counts()["000"] == 2
    assert cohort.counts() == {"AD": 11, "CN": 14}
    told = "is a session of its person" if file_format == "nifti" else "has a row of its own and the name of a session"
    assert f"each {told}, as the source names it, or else numbered" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file_format", "dtype", "white", "found"),
    [("nifti", "uint8", None, 255), ("nifti", "int16", 1000, 1000), ("nifti", "float32", 100, 100), ("npz", "int16", None, 4095)],
)
def test_types_and_ranges(studies, tmp_path, file_format, dtype, white, found):
    models, out = studies["slices"].models, tmp_path / "synthetic"
    request = GenerationRequest(models, n=2, sampler="normal", file_format=file_format, dtype=dtype, white=white, detail="none")
    parts = generate_cohort(request, out)
    prepare_cohort(PrepareRequest(out, {"data": str(studies["slices"].data)}), tmp_path / "real")
    for folder in (out, tmp_path / "real"):
        if file_format == "nifti":
            arrays = [np.asanyarray(nib.load(path).dataobj) for path in sorted(folder.glob("sub-*/anat/*.nii.gz"))]
        else:
            arrays = list(np.load(folder / "images.npz")["images"])
        assert {array.dtype for array in arrays} == {np.dtype(dtype)}
        assert min(array.min() for array in arrays) >= 0
        assert max(array.max() for array in arrays) <= found
        assert folder == out or max(array.max() for array in arrays) == found
    # As it was written, to the rounding.
    back = prepare(read_cohort(out), Preparation(scaling="none"))
    drawn = torch.cat([part.images.pixels for part in parts])
    assert float((back.pixels - drawn).abs().max()) <= (1e-6 if dtype == "float32" else 0.5 / found + 1e-6)


@pytest.mark.parametrize(
    ("name", "file_format", "dtype", "white"),
    [(name, file_format, None, None) for name, file_format in CASES]
    + [("pictures", "nifti", "int16", None), ("slices", "npz", "float32", 7), ("volumes", "nifti", "uint8", 200)],
)
def test_a_sheet_shows_prepared_images_as_they_are(studies, tmp_path, monkeypatch, name, file_format, dtype, white):
    found = prepare_cohort(PrepareRequest(studies[name].models, {}, ["CN"], file_format, dtype, white), tmp_path / "real")
    rows = []
    monkeypatch.setattr("tinycohort.augment.commands.show.save_contact_sheet", lambda out, given, **_: rows.extend(given))
    show_cohorts([str(tmp_path / "real")], Source(""), Preparation(), tmp_path / "a.png", columns=3, labels=[])
    plane = "coronal" if name == "slices" else None
    seen = prepare(read_cohort(studies[name].data).of_class("CN"), Preparation(plane=plane))
    rounding = {"png": 0.5 / 255, "int16": 0.5 / 4095, "uint8": 0.5 / 200}.get(dtype or file_format, 0)
    assert found.counts() == {"CN": 14}
    assert float((rows[0].images.pixels - seen.pixels[:3]).abs().max()) <= rounding + 1e-6


def test_nothing_stays_nothing():
    image = np.array([0.0, 1e-9, 0.5, 1.0], dtype=np.float32)
    assert Values("uint8", 255).stored(image).tolist() == [0, 0, 128, 255]
    assert Values("int16", 4095).stored(image)[0] == 0
    assert Values("float32", 7).stored(image)[0] == 0
    assert np.array_equal(Values().stored(image), image)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("nifti", "int8", None), "--dtype is float32, uint8, int16"),
        (("nifti", "uint8", 256), "a whole number from 1 to 255"),
        (("nifti", "int16", 0.5), "a whole number from 1 to 32767"),
        (("nifti", None, 0), "a number above 0"),
        (("nifti", None, float("inf")), "a number above 0"),
        (("png", "int16", None), "A PNG holds uint8"),
        (("png", None, 100), "A PNG holds uint8"),
    ],
)
def test_numbers_that_no_file_holds_are_refused(asked, told):
    with pytest.raises(UsageError, match=told):
        Values.asked(*asked)


def test_what_cannot_be_prepared_is_told(studies, synthetic, tmp_path, fakes):
    models, data = studies["volumes"].models, str(studies["volumes"].data)
    out, made = tmp_path / "real", synthetic / "volumes-nifti"
    with pytest.raises(UsageError, match="is synthetic, and has its form"):
        prepare_cohort(PrepareRequest(models, {"data": str(made)}), out)
    with pytest.raises(UsageError, match="neither a folder of models nor a synthetic cohort"):
        prepare_cohort(PrepareRequest(studies["volumes"].data), out)
    with pytest.raises(UsageError, match="does not say where its real images lie"):
        prepare_cohort(PrepareRequest(made), out)
    with pytest.raises(UsageError, match="Volumes cannot be written as PNG"):
        prepare_cohort(PrepareRequest(models, file_format="png"), out)
    with pytest.raises(DataError, match="those that they shall be like are slices"):
        prepare_cohort(PrepareRequest(studies["slices"].models, {"data": str(fakes.study(tmp_path / "study.npz"))}), out)
    assert not out.exists()
    prepare_cohort(PrepareRequest(models, {"data": data}), out)
    assert verify(out)
    with pytest.raises(UsageError, match="exists already"):
        prepare_cohort(PrepareRequest(models, {"data": data}), out)
    with pytest.raises(UsageError, match="nothing that this command makes"):
        prepare_cohort(PrepareRequest(models, {"data": data}), made, force=True)
    prepare_cohort(PrepareRequest(models, {"data": data}, ["AD"]), out, force=True)
    assert read_cohort(out).counts() == {"AD": 10}
    (out / "sub-000/anat/sub-000_T1w.json").write_text("{}")
    assert not verify(out)


@pytest.mark.parametrize(
    "damage", [{}, {"Format": "tiff"}, {"Space": {"shape": [1]}}, {"Preparation": {"size": "80"}}, {"DType": 5}, {"White": "x"}]
)
def test_a_description_that_tells_no_form_is_told(synthetic, tmp_path, damage):
    from tinycohort.augment.release.description import Description

    description = Description.read(synthetic / "slices-png")
    form = description.content["Images"] | damage if damage else None
    content = {key: value for key, value in description.content.items() if key != "Images"} | ({"Images": form} if form else {})
    with pytest.raises(DataError, match="how its images were prepared" if not damage else "does not tell the form"):
        Description.from_json(content).form(tmp_path)


def test_as_a_user_types_it(augment, studies, tmp_path):
    study, out = studies["slices"], tmp_path / "real"
    answer = augment("prepare", study.data, "--like", study.models, "--out", out, "--dtype", "uint8")
    assert answer.code == 0, answer.words
    assert "Wrote 24 real images (10 of AD, 14 of CN)" in answer.words
    assert "10 x 10 (width x height), nifti, uint8 from 0 to 255" in answer.words
    assert augment("show", study.data, out, "--plane", "coronal", "--out", tmp_path / "sheet.png").code == 0
    assert augment("prepare", study.data, "--like", study.models, "--format", "tiff").code == 2
