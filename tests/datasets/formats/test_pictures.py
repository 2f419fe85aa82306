"""TIFF and BMP beside PNG and JPEG: the same pixels, colours told, pages refused, damage told."""

import numpy as np
import pytest
from PIL import Image

from tinycohort.datasets.check import examine
from tinycohort.datasets.formats.damage import ImageError
from tinycohort.datasets.images import read_image
from tinycohort.datasets.readers import read_cohort


@pytest.mark.parametrize("extension", [".png", ".tif", ".tiff", ".bmp", ".BMP"])
def test_pictures_of_every_format_are_alike(fakes, tmp_path, extension):
    array, affine = read_image(fakes.picture(tmp_path / f"a{extension}", 1))
    assert affine is None
    assert np.array_equal(array, fakes.voxels(1, (12, 10)))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_tiff_keeps_its_range(fakes, tmp_path, compression, kind):
    pixels = fakes.voxels(1, (12, 10)).astype(kind) * (200 if kind != np.uint8 else 1)
    Image.fromarray(pixels).save(tmp_path / "a.tif", compression=compression)
    assert np.array_equal(read_image(tmp_path / "a.tif")[0], pixels.astype(np.float32))


def test_pages_are_refused(fakes, tmp_path):
    pages = [Image.fromarray(fakes.voxels(number, (12, 10)).astype(np.uint8)) for number in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(ImageError, match=r"3 pages, where a picture has one; write each page by itself, as `magick a.tif a-%03d.png`"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("extension", [".tif", ".bmp"])
def test_a_picture_that_is_cut_is_told(fakes, tmp_path, extension):
    path = fakes.picture(tmp_path / f"a{extension}", 1, (40, 30))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ImageError, match=r"unreadable|truncated"):
        read_image(path)


def test_colours_are_told(fakes, tmp_path):
    fakes.pictures(tmp_path)
    colours = np.random.default_rng(0).integers(0, 255, (12, 10, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "images/02.png")
    found = examine(read_cohort(tmp_path))
    assert found.sound
    assert [remark.what for remark in found.remarks] == ["1 of 6 images are stored in colours"]
