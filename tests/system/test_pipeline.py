"""The example of docs/guide/pipeline.md, run as it stands: real and synthetic images in one loader of MONAI."""

import re

import pytest
import torch
from folders import ROOT

from tinycohort.augment.commands.generate import GenerationRequest, generate_cohort
from tinycohort.augment.commands.prepare import PrepareRequest, prepare_cohort

PAGE = (ROOT / "docs/guide/pipeline.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
(PICTURES,) = re.findall(r'Of PNG the path is `f"(.+?)"`', PAGE)


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
    example = EXAMPLE if file_format == "nifti" else EXAMPLE.replace("{folder}/{name}/anat/{name}_T1w.nii.gz", PICTURES)
    # An .npz has its classes in `labels`, and no column of its own name.
    example = example if name != "pictures" else example.replace("diagnosis", "label")
    run = {}
    exec(compile(example, "docs/guide/pipeline.md", "exec"), run)
    batches = list(run["loader"])
    images = torch.cat([torch.as_tensor(batch["image"]) for batch in batches])
    assert images.shape == (24 + 8, 1, *shape)
    assert sum(int(batch["synthetic"].sum()) for batch in batches) == 8
    classes = [label for batch in batches for label in batch["label" if name == "pictures" else "diagnosis"]]
    assert set(classes) == {"AD", "CN"}
    if file_format == "nifti":
        affines = torch.stack([affine for batch in batches for affine in batch["image"].affine])
        assert (affines == affines[0]).all()


def test_it_is_ten_lines():
    assert sum(bool(line.strip()) and not line.startswith(("import", "from")) for line in EXAMPLE.splitlines()) <= 10
