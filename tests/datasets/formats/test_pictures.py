"""TIFF and BMP beside PNG and JPEG: the same pixels, colours told, pages refused, damage told."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

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


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("mode", "extension"),
    [("L", ".jpg"), ("L", ".png"), ("L", ".tif"), ("RGB", ".jpg"), ("RGB", ".png"), ("RGB", ".tif"), ("I;16", ".png"), ("I;16", ".tif")],
)
def test_photographs_stand_as_viewers_show_them(tmp_path, extension, orientation, mode):
    corners = np.full((32, 48), 100, np.uint16 if mode == "I;16" else np.uint8)
    corners[:16, :24], corners[:16, 24:] = 0, 200
    picture = Image.fromarray(corners).convert(mode) if mode == "RGB" else Image.fromarray(corners)
    held = Image.Exif()
    held[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"a{extension}"
    picture.save(path, **({"tiffinfo": {274: orientation}} if extension == ".tif" else {"exif": held}))
    with Image.open(io.BytesIO(path.read_bytes())) as stored:  # Pillow maps a file that has a name, and cuts its rows wrongly
        upright = np.asarray(ImageOps.exif_transpose(stored).convert("I" if mode == "I;16" else "L"), dtype=np.float32)
    assert upright.shape == ((48, 32) if orientation > 4 else (32, 48))
    assert np.array_equal(read_image(path)[0], upright)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_word_of_a_camera_turns_nothing(fakes, tmp_path):
    Image.fromarray(fakes.voxels(1, (12, 10)).astype(np.uint8)).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\0\0\xff\xff\x01")
    assert read_image(tmp_path / "a.png")[0].shape == (12, 10)


def test_colours_are_told(fakes, tmp_path):
    fakes.pictures(tmp_path)
    colours = np.random.default_rng(0).integers(0, 255, (12, 10, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "images/02.png")
    found = examine(read_cohort(tmp_path))
    assert found.sound
    assert [remark.what for remark in found.remarks] == ["1 of 6 images are stored in colours"]
