"""The example of docs/guide/pipeline.md, run as it stands: real and synthetic images in one loader of MONAI."""

import re

import nibabel as nib
import pandas as pd
import pytest
import torch
from folders import ROOT

from tinycohort.augment.commands.generate import GenerationRequest, generate_cohort
from tinycohort.augment.commands.prepare import PrepareRequest, prepare_cohort
from tinycohort.augment.fitting.model_folders import load_models

PAGE = (ROOT / "docs/guide/pipeline.md").read_text(encoding="utf-8")
EXAMPLE, CLASSIFIER, OF_PICTURES = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
(PICTURES,) = re.findall(r"`images` returns `(table.+\])\)`", PAGE)


def in_format(example: str, file_format: str) -> str:
    """The example with what the page says is to be changed."""
    return example if file_format == "nifti" else re.sub(r"(?<=    return )table.*", f"{PICTURES})", example)


@pytest.mark.parametrize(
    ("name", "file_format", "shape"),
    [("volumes", "nifti", (10, 12, 10)), ("slices", "nifti", (10, 1, 10)), ("slices", "png", (10, 10)), ("pictures", "png", (16, 16))],
)
def test_real_and_synthetic_images_are_loaded_together(studies, tmp_path, monkeypatch, name, file_format, shape):
    monkeypatch.chdir(tmp_path)
    study = studies[name]
    request = GenerationRequest(study.models, n=4, sampler="normal", file_format=file_format, detail="none")
    generate_cohort(request, tmp_path / "synthetic")
    prepare_cohort(PrepareRequest(tmp_path / "synthetic", {"data": str(study.data)}), tmp_path / "real-prepared")
    run = {}
    exec(compile(in_format(EXAMPLE, file_format), "docs/guide/pipeline.md", "exec"), run)
    batches = list(run["loader"])
    images = torch.cat([torch.as_tensor(batch["image"]) for batch in batches])
    assert images.shape == (24 + 8, 1, *shape)
    assert sum(int(batch["synthetic"].sum()) for batch in batches) == 8
    classes = [label for batch in batches for label in batch["label"]]
    assert set(classes) == {"AD", "CN"}
    if file_format == "nifti":
        affines = torch.stack([affine for batch in batches for affine in batch["image"].affine])
        assert (affines == affines[0]).all()


@pytest.mark.parametrize(("name", "file_format"), [("volumes", "nifti"), ("slices", "nifti"), ("pictures", "png")])
def test_a_classifier_learns_from_both_and_is_tested_on_people_whom_no_model_knows(
    studies, tmp_path, monkeypatch, capsys, name, file_format
):
    monkeypatch.chdir(tmp_path)
    study = studies[name]
    request = GenerationRequest(study.models, n=4, sampler="normal", file_format=file_format, detail="none")
    generate_cohort(request, tmp_path / "synthetic")
    prepare_cohort(PrepareRequest(study.models), tmp_path / "real-prepared")
    run = {}
    exec(compile(in_format(EXAMPLE, file_format) + CLASSIFIER, "docs/guide/pipeline.md", "exec"), run)
    known = load_models(study.models).values()
    unseen = run["test"].data
    assert len(run["train"]) + len(unseen) == 24 + 8
    table = run["both"].set_index("image")
    for row in unseen:
        assert not any(model.config.participants.seen(table.loc[row["image"], "source_id"]) for model in known)
    assert 0 <= run["scores"].min() <= run["scores"].max() <= 1
    assert f"AUC on {len(unseen)} people whom no model has seen: " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["slices", "pictures"])
def test_scikit_learn_learns_from_pictures(studies, tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    models = studies[name].models
    generate_cohort(GenerationRequest(models, n=4, sampler="normal", file_format="png", detail="none"), tmp_path / "synthetic")
    prepare_cohort(PrepareRequest(models, file_format="png"), tmp_path / "real-prepared")
    run = {}
    exec(compile(in_format(EXAMPLE, "png") + OF_PICTURES, "docs/guide/pipeline.md", "exec"), run)
    assert run["values"].shape == (24 + 8, 100 if name == "slices" else 256)
    assert 0 < run["unseen"].sum() < 24
    assert f"AUC on {run['unseen'].sum()} people whom no model has seen: " in capsys.readouterr().out


@pytest.mark.parametrize("of_one_age", [True, False])
@pytest.mark.parametrize("file_format", ["nifti", "png"])
def test_who_has_several_images_is_there_with_all_of_them(studies, fakes, tmp_path, monkeypatch, file_format, of_one_age):
    """Synthetic images have no sessions; and a table has a row an image where a person's differ in something, a row a person elsewhere."""
    monkeypatch.chdir(tmp_path)
    data, models = fakes.study(tmp_path / "bids", (10, 12, 10)), studies["slices"].models
    first = data / "sub-000/anat/sub-000_T1w.nii.gz"
    for seed, session in ((77, "ses-1"), (78, "ses-2")):
        path = data / f"sub-000/{session}/anat/sub-000_{session}_T1w.nii.gz"
        fakes.volume(path, fakes.voxels(seed, (10, 12, 10)), nib.load(first).affine)
    first.unlink()
    people = pd.read_csv(data / "participants.tsv", sep="\t", dtype=str)
    twice = people["participant_id"].eq("000")
    sessions = [people[~twice], people[twice].assign(session_id="ses-1", age="70"), people[twice].assign(session_id="ses-2", age="72")]
    if not of_one_age:
        pd.concat(sessions).fillna("n/a").to_csv(data / "participants.tsv", sep="\t", index=False)
    generate_cohort(GenerationRequest(models, n=4, sampler="normal", file_format=file_format, detail="none"), tmp_path / "synthetic")
    prepare_cohort(PrepareRequest(tmp_path / "synthetic", {"data": str(data)}), tmp_path / "real-prepared")
    run = {}
    exec(compile(in_format(EXAMPLE, file_format), "docs/guide/pipeline.md", "exec"), run)
    assert sum(len(batch["image"]) for batch in run["loader"]) == 25 + 8
    both = run["both"]
    assert both["image"].is_unique
    assert both.loc[both["participant_id"].str.startswith("sub-000"), "label"].tolist() == ["AD", "AD"]
    if file_format == "nifti" and not of_one_age:
        assert both.dropna(subset="age").set_index("session_id")["age"].to_dict() == {"1": 70, "2": 72}


def test_it_is_twelve_lines():
    assert sum(bool(line.strip()) and not line.startswith(("import", "from")) for line in EXAMPLE.splitlines()) <= 12
