"""Images come to one grid and one range, and what they show stays where it was in the world."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tinycohort.datasets import transforms
from tinycohort.datasets.cohort import Cohort
from tinycohort.datasets.common.errors import DataError, UsageError
from tinycohort.datasets.readers import read_cohort
from tinycohort.datasets.spaces import ImageSpace
from tinycohort.datasets.transforms import Preparation, default_size, parse_position, prepare

CODES = ("RAS", "LIA", "PSR", "ASL", "LPI")
SHAPE, SIDES, CORNER = (24, 30, 26), (3.0, 2.0, 2.5), (-31.0, -20.0, -28.0)
PLACE = np.array([4.0, 9.0, -3.0])  # mm; inside, and at no voxel's centre
WIDTH = 7.0  # mm


def cohort_of(images: Sequence[Path | str | int], arrays: np.ndarray | None = None) -> Cohort:
    names = [str(number) for number in range(len(images))]
    rows = {"image_id": names, "participant_id": names, "image": [i if isinstance(i, int) else str(i) for i in images], "label": "AD"}
    return Cohort("fake", pd.DataFrame(rows), "nowhere", arrays=arrays)


def tilted(degrees: float) -> np.ndarray:
    """Voxel to world in RAS order, turned about the axis to the front."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return nib.affines.from_matvec(turn @ np.diag(SIDES), CORNER)


def blob(path: Path, codes: str = "RAS", degrees: float = 0.0, shape: Sequence[int] = SHAPE) -> Path:
    """A bell around ``PLACE`` in the world, stored along the axes that ``codes`` name."""
    affine = tilted(degrees)
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    squared = np.square(nib.affines.apply_affine(affine, voxels) - PLACE).sum(axis=-1)
    image = nib.Nifti1Image(np.exp(-0.5 * squared / WIDTH**2).astype(np.float32), affine)
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes))
    stored = image.as_reoriented(turn)
    assert nib.aff2axcodes(stored.affine) == tuple(codes)
    nib.save(stored, path)
    return path


def middle_in_world(pixels: torch.Tensor, space: ImageSpace) -> np.ndarray:
    """The centre of mass of one image, through its affine."""
    weights = pixels[0].numpy().reshape(space.volume_shape).astype(float)
    grid = np.stack(np.meshgrid(*map(np.arange, weights.shape), indexing="ij"), axis=-1)
    return nib.affines.apply_affine(np.array(space.affine), np.average(grid.reshape(-1, 3), axis=0, weights=weights.ravel()))


def voxel_sides(space: ImageSpace) -> np.ndarray:
    return nib.affines.voxel_sizes(np.array(space.affine))


# The mass of a bell that is wide against the voxels sits at its middle, whatever the grid; half a voxel is what an off-by-one-half costs.
@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("degrees", [0.0, 8.0])
@pytest.mark.parametrize(
    "how",
    [
        Preparation(SHAPE, scaling="minmax"),
        Preparation((12, 15, 13), scaling="minmax"),
        Preparation((30, 36, 33), scaling="minmax"),
        Preparation((17, 16, 20), scaling="minmax"),
        Preparation((29, 26, 31), resize="crop", scaling="minmax"),
    ],
    ids=lambda how: f"{how.resize} {how.size}",
)
def test_what_an_image_shows_stays_where_it_was(tmp_path, codes, degrees, how):
    images = prepare(cohort_of([blob(tmp_path / "a.nii", codes, degrees)]), how)
    assert tuple(images.pixels.shape) == (1, 1, *how.size)
    assert images.space.shape == how.size
    assert nib.aff2axcodes(np.array(images.space.affine)) == ("R", "A", "S")
    away = np.abs(middle_in_world(images.pixels[0], images.space) - PLACE)
    assert np.all(away < 0.1 * voxel_sides(images.space)), away


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize(("plane", "axis"), [("sagittal", 0), ("coronal", 1), ("axial", 2)])
@pytest.mark.parametrize("shrink", [1, 2])
def test_a_slice_is_cut_where_it_is_asked_for(tmp_path, codes, plane, axis, shrink):
    in_plane = [side for i, side in enumerate(SHAPE) if i != axis]
    size = tuple(side // shrink for side in in_plane)
    how = Preparation(size, plane=plane, position=f"{PLACE[axis]:g}mm", scaling="minmax")
    images = prepare(cohort_of([blob(tmp_path / "a.nii.gz", codes)]), how)
    assert tuple(images.pixels.shape) == (1, 1, *size)
    assert images.space.flat_axis == axis
    assert images.space.volume_shape == tuple(np.insert(size, axis, 1))
    away = np.abs(middle_in_world(images.pixels[0], images.space) - PLACE)
    assert away[axis] <= SIDES[axis] / 2
    assert np.all(np.delete(away, axis) < 0.1 * np.delete(voxel_sides(images.space), axis)), away


@pytest.mark.parametrize(
    ("position", "index"), [("0", 0), ("0.5", 15), ("0.49", 14), ("1", 29), ("-20mm", 0), ("-10.9mm", 5), ("38mm", 29)]
)
@pytest.mark.parametrize("codes", ["RAS", "LIA"])
def test_positions_are_fractions_of_the_extent_or_coordinates(tmp_path, position, index, codes):
    ramp = np.broadcast_to(np.arange(30, dtype=np.float32)[None, :, None], SHAPE).copy()
    ramp[0] += 100  # so that no slice is constant
    image = nib.Nifti1Image(ramp, tilted(0))
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes))
    nib.save(image.as_reoriented(turn), tmp_path / "a.nii")
    images = prepare(cohort_of([tmp_path / "a.nii"]), Preparation((24, 26), plane="coronal", position=position, scaling="minmax"))
    assert images.space.affine is not None
    assert images.space.affine[1][3] == pytest.approx(CORNER[1] + SIDES[1] * index)


@pytest.mark.parametrize("position", ["-22mm", "40mm", "1e6mm"])
def test_a_slice_out_of_reach_is_said_with_the_reach(tmp_path, position):
    with pytest.raises(DataError, match=r"a\.nii has no coronal slice at .* mm: it reaches from -20 to 38 mm"):
        prepare(cohort_of([blob(tmp_path / "a.nii")]), Preparation(plane="coronal", position=position))


@pytest.mark.parametrize("position", ["", "1.01", "-0.1", "mm", "x", "nan", "nanmm", "infmm", "12 cm"])
def test_positions_that_are_none(position):
    with pytest.raises(UsageError, match="--position takes a fraction"):
        parse_position(position)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("codes", ["RAS", "LIA"])
def test_a_volume_of_one_plane_is_an_image_and_finds_its_way_back(tmp_path, fakes, axis, codes):
    plane = fakes.voxels(1, (10, 12)).astype(np.float32)
    volume = np.expand_dims(plane, axis)
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes))
    nib.save(nib.Nifti1Image(volume, tilted(0)).as_reoriented(turn), tmp_path / "a.nii")
    images = prepare(cohort_of([tmp_path / "a.nii"]), Preparation(scaling="minmax"))
    space = images.space
    assert (space.shape, space.flat_axis, space.volume_shape) == ((10, 12), axis, volume.shape)
    assert np.allclose(np.array(space.affine), tilted(0), atol=1e-5)
    assert np.allclose(images.pixels[0, 0], (plane - plane.min()) / np.ptp(plane), atol=1e-6)
    # A plane that is asked for again is the plane that is there.
    again = prepare(cohort_of([tmp_path / "a.nii"]), Preparation(scaling="minmax", plane="coronal"))
    assert torch.equal(again.pixels, images.pixels)


def test_a_plane_without_its_third_dimension_and_a_series_of_one(tmp_path, fakes):
    plane = fakes.voxels(1, (10, 12)).astype(np.float32)
    nib.save(nib.Nifti1Image(plane, tilted(0)), tmp_path / "flat.nii")
    nib.save(nib.Nifti1Image(plane[..., None, None], tilted(0)), tmp_path / "series.nii")
    images = prepare(cohort_of([tmp_path / "flat.nii", tmp_path / "series.nii"]), Preparation())
    assert images.space.shape == (10, 12)
    assert torch.equal(images.pixels[0], images.pixels[1])


def test_pictures_keep_their_rows_and_columns_and_sixteen_bits(tmp_path):
    ramp = np.linspace(0, 60000, 12 * 16).reshape(12, 16).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    Image.fromarray((ramp // 257).astype(np.uint8)).save(tmp_path / "flat.png")
    images = prepare(cohort_of([tmp_path / "deep.png", tmp_path / "flat.png"]), Preparation(scaling="minmax"))
    assert (images.space.shape, images.space.affine, images.space.flat_axis) == ((12, 16), None, None)
    assert images.space.volume_shape == (12, 16, 1)
    assert np.allclose(images.pixels[0, 0], ramp / 60000, atol=1e-6)
    # 8 bits hold the same picture to half a step on either side, at both ends of the range.
    assert float((images.pixels[0] - images.pixels[1]).abs().max()) < 2 / 233


def test_an_eight_bit_picture_left_as_it_is(tmp_path):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(levels).save(tmp_path / "a.png")
    images = prepare(cohort_of([tmp_path / "a.png"]), Preparation(scaling="none"))
    assert np.array_equal(images.pixels[0, 0].numpy(), levels.astype(np.float32) / 255)


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("deep.png", lambda grey: (65535 * grey).round().astype(np.uint16)),
        ("deep.tif", lambda grey: (65535 * grey).round().astype(np.uint16)),
        ("float.tif", lambda grey: grey.astype(np.float32)),
        ("whole.tif", lambda grey: grey.round().astype(np.int32)),
        ("flat.tif", lambda grey: (255 * grey).round().astype(np.uint8)),
        ("flat.bmp", lambda grey: (255 * grey).round().astype(np.uint8)),
    ],
)
def test_a_picture_left_as_it_is_is_white_where_its_type_says_so(tmp_path, name, stored):
    """Floats of 0 to 1 divided by 255 would be black, and nobody told."""
    grey = np.linspace(0, 1, 256).reshape(16, 16)
    Image.fromarray(stored(grey)).save(tmp_path / name)
    found = prepare(cohort_of([tmp_path / name]), Preparation(scaling="none")).pixels[0, 0].numpy()
    assert np.allclose(found, grey.round() if name == "whole.tif" else grey, atol=0.5 / 255 if "flat" in name else 1e-5)


def test_what_shall_not_be_scaled_must_be_in_range(fakes):
    arrays = np.stack([fakes.voxels(1, (8, 9)) / 255, fakes.voxels(2, (8, 9)) / 100]).astype(np.float32)
    cohort = cohort_of([0, 1], arrays)
    with pytest.raises(DataError, match=r"Image 1 of fake has values from 0\..* to 1\..*choose percentile or minmax"):
        prepare(cohort, Preparation(scaling="none"))
    assert np.array_equal(prepare(cohort_of([0], arrays), Preparation(scaling="none")).pixels[0, 0], arrays[0])


@pytest.mark.parametrize("shape", [(20, 24), (16, 18, 20)])
@pytest.mark.parametrize("scaling", ["minmax", "percentile"])
def test_scale_does_not_matter(fakes, shape, scaling):
    array = fakes.voxels(3, shape).astype(np.float32)
    images = prepare(cohort_of([0, 1], np.stack([array, 1000 * array])), Preparation(scaling=scaling))
    # A few roundings in float32, of numbers up to 1.
    assert torch.allclose(images.pixels[0], images.pixels[1], atol=8 * torch.finfo(torch.float32).eps)
    assert float(images.pixels.min()) == 0
    assert float(images.pixels.max()) == 1


def test_minmax_is_exact_and_percentiles_ignore_a_few_bright_voxels(fakes):
    plain = fakes.voxels(4, (40, 40)).astype(np.float32)
    vessels = plain.copy()
    vessels.flat[::400] = 1e5  # 4 of 1600: 0.25 %
    sound = np.ones(1600, dtype=bool)
    sound[::400] = False

    def prepared(scaling):
        pixels = prepare(cohort_of([0, 1], np.stack([plain, vessels])), Preparation(scaling=scaling)).pixels
        return [image.flatten().numpy()[sound] for image in pixels]

    without, with_vessels = prepared("minmax")
    assert np.allclose(without, (plain.ravel() / np.float32(plain.max()))[sound], atol=1e-6)
    assert with_vessels.max() < 0.01
    without, with_vessels = prepared("percentile")
    # The 99.5th percentile is one of some 8 voxels above the 99th: a level or two of 199 apart.
    assert np.abs(without - with_vessels).max() < 2.5 / 199
    low, high = np.percentile(plain, [0.5, 99.5])
    assert np.allclose(without, np.clip((plain.ravel() - low) / (high - low), 0, 1)[sound], atol=1e-6)


def test_an_image_of_nearly_nothing_stays_in_range():
    array = np.zeros((1, 40, 40), dtype=np.float32)
    array[0, 3, 4:7] = [500, 1000, 250]  # 3 of 1600: both percentiles are 0
    pixels = prepare(cohort_of([0], array), Preparation(scaling="percentile")).pixels
    assert torch.equal(pixels[0, 0], torch.as_tensor(array[0] / 1000))


@pytest.mark.parametrize("kind", ["volumes", "slices", "pictures"])
def test_a_batch_equals_its_items_one_by_one(fakes, tmp_path, kind):
    if kind == "pictures":
        cohort, how = read_cohort(fakes.pictures(tmp_path)), Preparation((10, 8))
    else:
        cohort, how = read_cohort(fakes.bids(tmp_path, (14, 18, 16))), Preparation((10, 13, 12) if kind == "volumes" else (10, 12))
        how = how if kind == "volumes" else Preparation((10, 12), plane="coronal")
    together = prepare(cohort, how)
    for row in range(len(cohort)):
        alone = prepare(cohort.where(np.arange(len(cohort)) == row), how)
        assert torch.equal(alone.pixels[0], together.pixels[row])
        assert alone.space == together.space
    assert together.pixels.dtype == torch.float32
    assert together[2:4].pixels.shape[0] == len(together[2:4]) == 2


@pytest.mark.parametrize("shift", [0.0, 0.005, 5.0])
def test_images_in_different_spaces_are_told(fakes, tmp_path, shift):
    warnings, ticks = [], []
    paths = [fakes.volume(tmp_path / f"{i}.nii", fakes.voxels(i), nib.affines.from_matvec(np.eye(3), [i * shift, 0, 0])) for i in range(3)]
    images = prepare(cohort_of(paths), Preparation(), on_warning=warnings.append, on_image=lambda: ticks.append(1))
    assert len(ticks) == 3
    assert images.space.aligned is (shift < 1)
    assert [("different spaces" in text) for text in warnings] == ([True] if shift > 1 else [])
    assert np.array_equal(np.array(images.space.affine), np.eye(4))


@pytest.mark.parametrize(
    ("shape", "spacing", "size"),
    [
        ((256, 256, 24), (0.9375, 0.9375, 6.0), (48, 48, 24)),  # 5 mm, in slices of 6 mm
        ((256, 256, 120), (0.9375, 0.9375, 1.5), (48, 48, 36)),
        ((256, 256, 200), (1.5, 1.5, 5.0), (48, 48, 48)),
        ((176, 208, 176), (1.0, 1.0, 1.0), (41, 48, 41)),
        ((40, 40, 48), (1.0, 1.0, 5.0), (40, 40, 48)),
        ((40, 40, 50), (1.0, 1.0, 5.0), (38, 38, 48)),
        ((40, 40, 10), (1.0, 1.0, 5.0), (40, 40, 10)),
    ],
)
def test_thick_slices_are_brought_towards_cubes_and_not_made_fewer(fakes, tmp_path, shape, spacing, size):
    assert default_size(shape, spacing) == size
    warnings = []
    path = fakes.volume(tmp_path / "a.nii", fakes.voxels(0, shape), np.diag([*spacing, 1.0]))
    assert prepare(cohort_of([path]), Preparation(), on_warning=warnings.append).space.shape == size
    assert warnings == []
    plane = prepare(cohort_of([path]), Preparation(plane="coronal"), on_warning=warnings.append)
    assert plane.space.shape == default_size((shape[0], shape[2]), (spacing[0], spacing[2]))


@pytest.mark.parametrize(
    ("size", "told"), [((40, 40, 10), 0), ((20, 20, 20), 0), ((20, 20, 10), 0), ((40, 40, 8), 1), ((40, 20, 10), 1), ((10, 10, 20), 1)]
)
def test_voxels_that_are_no_cubes_may_come_nearer_to_be_some(fakes, tmp_path, size, told):
    warnings = []
    path = fakes.volume(tmp_path / "a.nii", fakes.voxels(0, (40, 40, 10)), np.diag([1.0, 1.0, 4.0, 1.0]))
    prepare(cohort_of([path]), Preparation(size), on_warning=warnings.append)
    assert len(warnings) == told


@pytest.mark.parametrize(("spacing", "alike"), [(1.0001, True), (1.009, False)])
def test_a_place_is_that_of_the_corners(spacing, alike):
    """Of 256 voxels of 1.009 mm the last lies 2.3 mm beside that of 1 mm."""
    spaces = [ImageSpace((256, 256), tuple(map(tuple, np.diag([side, 1.0, side, 1.0]).tolist())), flat_axis=1) for side in (1.0, spacing)]
    assert spaces[0].is_like(spaces[1]) is alike
    assert not spaces[0].is_like(ImageSpace((256, 256), None, None))


@pytest.mark.parametrize(
    ("size", "resize", "told"), [((20, 24), "stretch", 0), ((10, 13), "stretch", 0), ((20, 12), "stretch", 1), ((20, 12), "crop", 0)]
)
def test_distortion_is_told_once(fakes, size, resize, told):
    warnings = []
    arrays = np.stack([fakes.voxels(i, (20, 24)) for i in range(3)])
    prepare(cohort_of([0, 1, 2], arrays), Preparation(size, resize=resize), on_warning=warnings.append)
    assert len(warnings) == told
    assert all(
        "Resizing 24 x 20 (width x height; 20 x 24 as an array) to 12 x 20 (width x height; 20 x 12 as an array) distorts" in text
        for text in warnings
    )


@pytest.mark.parametrize(("resize", "stored"), [("stretch", "resize"), ("crop", "crop")])
def test_a_preparation_is_stored_by_the_names_that_published_digests_hold(resize, stored):
    preparation = Preparation((20, 24), "axial", "-12mm", resize=resize, scaling="minmax")
    content = {"size": (20, 24), "plane": "axial", "position": "-12mm", "fit": stored, "scaling": "minmax"}
    assert list(preparation.content().items()) == list(content.items())
    assert Preparation.of(json.loads(json.dumps(content))) == preparation
    assert Preparation.of({"size": [20, 24]}) == Preparation((20, 24))


@pytest.mark.parametrize("darkest", [0, 1, -1000])
def test_cropping_keeps_the_centre_and_pads_with_what_is_darkest(fakes, darkest):
    array = darkest + fakes.voxels(1, (20, 20)).astype(np.float32)
    array[0, 0] = darkest  # outside of what is kept, and the image's all the same
    pixels = prepare(cohort_of([0], array[None]), Preparation((10, 30), resize="crop", scaling="minmax")).pixels[0, 0].numpy()
    kept = array[5:15] - darkest
    assert np.allclose(pixels[:, 5:25] * kept.max(), kept, atol=1e-3)
    assert np.all(pixels[:, :5] == 0)
    assert np.all(pixels[:, 25:] == 0)


def test_images_of_other_sizes_come_to_the_first_one_s(fakes, tmp_path):
    paths = [fakes.picture(tmp_path / f"{i}.png", i, shape) for i, shape in enumerate([(200, 100), (100, 50)])]
    assert prepare(cohort_of(paths), Preparation()).pixels.shape == (2, 1, 96, 48)
    # What is cropped is not shrunk, unless a size is given.
    assert prepare(cohort_of(paths), Preparation(resize="crop")).pixels.shape == (2, 1, 200, 100)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((80, 96), (80, 96)),
        ((208, 176), (96, 81)),
        ((176, 208), (81, 96)),
        ((40, 48, 40), (40, 48, 40)),
        ((91, 109, 91), (40, 48, 40)),
        ((1000, 20), (96, 8)),
        ((8, 8), (8, 8)),
    ],
)
def test_default_size_keeps_proportions_and_does_not_enlarge(shape, size):
    assert default_size(shape) == size


@pytest.mark.parametrize(
    ("shape", "size", "says"),
    [
        ((16, 16), (8, 8, 8), "has 3 numbers.*slices of 16 x 16; give 2"),
        ((9, 10, 11), (8, 8), "volumes of 9 x 10 x 11; give 3, or --plane"),
    ],
)
def test_the_wrong_number_of_sides(fakes, shape, size, says):
    with pytest.raises(UsageError, match=says):
        prepare(cohort_of([0], fakes.voxels(1, (1, *shape))), Preparation(size))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"size": (7, 20)}, "each 8 or more"),
        ({"size": (20,)}, "two numbers"),
        ({"size": (9, 9, 9, 9)}, "two numbers"),
        ({"plane": "oblique"}, "axial"),
        ({"resize": "squeeze"}, "stretch"),
        ({"scaling": "z"}, "percentile"),
        ({"position": "2"}, "--position"),
    ],
)
def test_preparations_that_are_none(wrong, says):
    with pytest.raises(UsageError, match=says):
        Preparation(**wrong)


def test_planes_cut_two_ways_are_no_cohort(fakes, tmp_path):
    paths = [fakes.volume(tmp_path / f"{i}.nii", fakes.voxels(i, shape)) for i, shape in enumerate([(9, 1, 9), (9, 9, 1)])]
    with pytest.raises(DataError, match="different planes"):
        prepare(cohort_of(paths), Preparation())


@pytest.mark.parametrize("side", [0, 1, 2])
def test_volumes_in_arrays_are_cut_as_files_are(fakes, tmp_path, side):
    array = fakes.voxels(1, (9, 10, 11))
    plane = ("sagittal", "coronal", "axial")[side]
    how = Preparation(plane=plane, position="0.3", scaling="minmax")
    from_array = prepare(cohort_of([0], array[None]), how)
    from_file = prepare(cohort_of([fakes.volume(tmp_path / "a.nii", array)]), how)
    assert torch.equal(from_array.pixels, from_file.pixels)
    assert from_array.space.affine is None
    expected = np.take(array, int(0.3 * array.shape[side]), axis=side).astype(np.float32)
    assert np.allclose(from_array.pixels[0, 0], (expected - expected.min()) / np.ptp(expected), atol=1e-6)


@pytest.mark.parametrize("scaling", ["percentile", "minmax"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_arrays_of_the_right_size_are_prepared_at_once_to_the_same_bits(monkeypatch, scaling, kind):
    draws = np.random.default_rng(0)
    images = (draws.normal(100, 30, (23, 12, 10)).clip(0, 255)).astype(kind)
    images[0] = 7  # constant
    images[1], images[1, 3, 3] = 0, 9  # of which both percentiles are equal
    rows = [int(row) for row in draws.permutation(23)]
    monkeypatch.setattr(transforms, "_AT_ONCE", 5)
    seen = []
    at_once = prepare(cohort_of(rows, images), Preparation(size=(12, 10), scaling=scaling), on_image=lambda: seen.append(1))
    monkeypatch.setattr(transforms, "_prepare_at_once", lambda *given: None)
    one_by_one = prepare(cohort_of(rows, images), Preparation(size=(12, 10), scaling=scaling))
    assert torch.equal(at_once.pixels, one_by_one.pixels)
    assert at_once.space == one_by_one.space
    assert len(seen) == 23


def test_arrays_of_8_bit_are_as_published_where_nothing_is_scaled():
    arrays = np.random.default_rng(0).integers(0, 200, (5, 9, 8), dtype=np.uint8)
    images = prepare(cohort_of(list(range(5)), arrays), Preparation(scaling="none")).pixels
    assert torch.equal(images[:, 0], torch.from_numpy(arrays).float() / 255)
    # One by one, as where a size is asked for, they are the same.
    resized = prepare(cohort_of([3], arrays), Preparation(size=(18, 16), scaling="none")).pixels
    assert resized.max() <= images[3].max() + 1e-6
    assert resized.max() > 0.5


def test_images_are_brought_to_the_space_of_others(fakes, tmp_path):
    paths = [fakes.volume(tmp_path / f"{i}.nii", fakes.voxels(i, (9, 8, 12)), np.diag([2.0, 2, 2, 1])) for i in range(2)]
    like = prepare(cohort_of(paths[:1]), Preparation()).space
    warnings = []
    images = prepare(cohort_of(paths[1:]), Preparation(), like=like, on_warning=warnings.append)
    assert (images.space, warnings) == (like, [])
    other = fakes.volume(tmp_path / "other.nii", fakes.voxels(3, (10, 8, 12)), np.diag([3.0, 2, 2, 1]))
    images = prepare(cohort_of([other]), Preparation(), like=like, on_warning=warnings.append)
    assert images.space == replace(like, aligned=False)
    assert any("different spaces" in text for text in warnings)


def test_more_images_than_there_is_memory_for_are_refused(fakes, tmp_path, frugal):
    paths = [fakes.picture(tmp_path / f"{i}.png", i) for i in range(2)]
    with pytest.raises(UsageError, match="For 2 images of 9000 x 9000 this machine has no memory; choose a smaller --size"):
        prepare(cohort_of(paths), Preparation((9000, 9000)))
