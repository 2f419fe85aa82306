"""One --size for a slice and for the picture of it: width and height, as seen; what is stored keeps the order of its array."""

import json

import numpy as np
import pytest
from PIL import Image

from tinycohort.datasets.readers import read_cohort
from tinycohort.datasets.sizes import AsSeen, sides_told
from tinycohort.datasets.spaces import as_seen
from tinycohort.datasets.transforms import Preparation, in_array_order, prepare

WIDE = (24, 16)  # as seen


@pytest.fixture
def cohorts(fakes, tmp_path):
    """The same coronal planes as slices, as pictures, and as arrays of pictures."""
    planes = [np.random.default_rng(n).integers(0, 255, (36, 24)).astype(np.uint8) for n in range(28)]  # (R, S)
    for number, plane in enumerate(planes):
        label = "AD" if number % 2 else "CN"
        fakes.volume(tmp_path / f"slices/{label}/{number:02d}.nii.gz", plane[:, None])
        (tmp_path / f"pictures/{label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(as_seen(plane))).save(tmp_path / f"pictures/{label}/{number:02d}.png")
    labels = np.array(["AD" if number % 2 else "CN" for number in range(28)])
    np.savez(tmp_path / "arrays.npz", images=np.stack([as_seen(plane) for plane in planes]), labels=labels)
    return {name: read_cohort(tmp_path / name) for name in ("slices", "pictures", "arrays.npz")}


@pytest.mark.parametrize("name", ["slices", "pictures", "arrays.npz"])
@pytest.mark.parametrize("size", [WIDE, (36, 24)], ids=["smaller", "as it is"])
def test_a_size_is_what_is_seen(cohorts, name, size):
    seen = prepare(cohorts[name], Preparation(size=AsSeen(size)))
    stored = size if name == "slices" else size[::-1]
    assert tuple(seen.pixels.shape[2:]) == stored
    given = prepare(cohorts[name], Preparation(size=stored))
    assert np.array_equal(seen.pixels, given.pixels)
    settled = in_array_order(Preparation(size=AsSeen(size)), cohorts[name])
    assert settled == Preparation(size=stored)
    assert type(settled.size) is tuple


def test_a_slice_and_its_picture_look_alike_at_a_size(cohorts):
    slices, pictures = (prepare(cohorts[name], Preparation(size=AsSeen(WIDE))).pixels for name in ("slices", "pictures"))
    assert np.allclose(as_seen(slices.numpy()), pictures.numpy(), atol=0.02)


def test_sides_are_told_as_they_are_seen_and_stored():
    assert sides_told((208, 176), picture=True) == "176 x 208 (width x height; 208 x 176 as an array)"
    assert sides_told((160, 192), picture=False) == "160 x 192 (width x height)"
    assert sides_told((8, 9, 10), picture=False) == "8 x 9 x 10"


@pytest.mark.parametrize(("name", "stored"), [("slices", [24, 16]), ("pictures", [16, 24])])
def test_a_model_keeps_the_order_of_its_arrays(augment, cohorts, tmp_path, name, stored):
    words = ("--size", "24x16", "--latent-dim", 2, "--channels", 2, "--epochs", 2, "--class", "AD")
    fitted = augment("fit", tmp_path / name, *words, "--out", tmp_path / "models")
    assert fitted.code == 0
    assert "distorts" not in fitted.err
    assert json.loads((tmp_path / "models/AD/config.json").read_text())["preparation"]["size"] == stored
    assert "36 x 24 (width x height" in augment("check", tmp_path / name).words
    assert "distorts" in augment("fit", tmp_path / name, *words[2:], "--size", "16x24", "--out", tmp_path / "other").words
    assert augment("fit", tmp_path / name, *words, "--out", tmp_path / "models", "--resume").code == 0  # it is the same
    assert augment("generate", "--models", tmp_path / "models", "-n", 2, "--out", tmp_path / "made").code == 0
