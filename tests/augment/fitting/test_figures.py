"""Pictures are PNG files that show what they should, the right way up, and the same bytes for the same content."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tinycohort.augment.fitting.figures import SheetRow, _tile, save_contact_sheet, save_latent_map, save_loss_curve
from tinycohort.augment.fitting.model_folders import load_models
from tinycohort.datasets.spaces import ImageSpace
from tinycohort.datasets.transforms import Images

AFFINE = tuple(tuple(float(value) for value in line) for line in np.eye(4))


def grey(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("L"), dtype=float)


def row(title, pixels, affine=None, flat_axis=None):
    return SheetRow(title, Images(pixels, ImageSpace(tuple(pixels.shape[2:]), affine, flat_axis)))


def test_a_slice_of_a_volume_stands_upright_and_a_picture_as_it_is():
    pixels = torch.zeros(1, 1, 10, 20)
    pixels[0, 0, 2, 17] = 1  # at the patient's left, and near the top
    upright = _tile(row("", pixels, AFFINE, 1).images, 0)
    assert upright.shape == (20, 10)
    assert upright[19 - 17, 9 - 2] == 1
    picture = _tile(row("", pixels).images, 0)
    assert picture.shape == (10, 20)
    assert picture[2, 17] == 1


def test_a_volume_shows_its_three_middle_slices():
    volume = torch.zeros(1, 1, 8, 12, 16)
    volume[0, 0, 4] += 0.25
    volume[0, 0, :, 6] += 0.25
    volume[0, 0, :, :, 8] += 0.5
    tile = _tile(row("", volume, AFFINE).images, 0)
    # Sagittal 12 x 16, coronal 8 x 16, axial 8 x 12, beside each other.
    assert tile.shape == (16, 12 + 8 + 8)
    assert tile.max() == 1
    assert np.all(tile[:, :12] >= 0.25)
    assert np.all(tile[:, 12:20] >= 0.25)
    assert np.all(tile[:12, 20:] >= 0.5)


def test_thick_slices_are_shown_in_proportion():
    affine = tuple(map(tuple, np.diag([2.0, 2.0, 5.0, 1.0]).tolist()))
    volume = torch.zeros(1, 1, 8, 12, 4)
    volume[..., -1] = 1
    tile = _tile(row("", volume, affine).images, 0)
    assert tile.shape == (12, 12 + 8 + 8)  # 4 slices of 5 mm are as long as 10 of 2 mm
    assert np.all(tile[:2, :20] == 1)
    assert not tile[3:10, :20].any()
    assert _tile(row("", volume[..., 1, :], affine, 1).images, 0).shape == (10, 8)
    assert _tile(row("", volume[..., 1, :]).images, 0).shape == (8, 4)


@pytest.mark.parametrize("shape", [(12, 16), (16, 12), (8, 12, 16)])
def test_contact_sheets(tmp_path, shape):
    rows = [row("AD [1]", torch.ones(2, 1, *shape), AFFINE), row("CN", torch.zeros(5, 1, *shape), AFFINE)]
    save_contact_sheet(tmp_path / "a.png", rows, columns=3, title="both")
    save_contact_sheet(tmp_path / "b.png", rows, columns=3, title="both")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    picture = grey(tmp_path / "a.png")
    half = picture.shape[0] // 2
    # White images and an empty place above, three black ones below.
    assert (picture[:half] < 50).mean() < 0.05
    assert (picture[half:] < 50).mean() > 0.3
    save_contact_sheet(tmp_path / "wide.png", [row("AD", torch.ones(2, 1, *shape))], columns=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "wide.png"]


@pytest.mark.parametrize("losses", [[5.0, 4.0, 3.0], [1.0], [2.0, 2.0], [1e9, -3.0, -4.0, -4.5]])
def test_loss_curves(tmp_path, losses):
    history = pd.DataFrame({"epoch": range(1, len(losses) + 1), "train_loss": losses, "validation_loss": losses})
    save_loss_curve(tmp_path / "a.png", history, best_epoch=len(losses))
    assert np.ptp(grey(tmp_path / "a.png")) > 100


def test_the_latent_map(studies, tmp_path):
    model = load_models(studies["pictures"].models)["AD"]
    save_latent_map(tmp_path / "a.png", model)
    save_latent_map(tmp_path / "b.png", model)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert np.ptp(grey(tmp_path / "a.png")) > 100
