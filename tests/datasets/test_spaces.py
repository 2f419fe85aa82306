"""What is written stands as its source does, whichever way round: volumes, slices and pictures to NIfTI, PNG and .npz, and back."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tinycohort.augment.fitting.figures import _tile
from tinycohort.augment.fitting.model_folders import load_models
from tinycohort.augment.release.generation import Generated
from tinycohort.augment.release.image_files import write_image
from tinycohort.augment.release.origin import Origin
from tinycohort.augment.release.synthetic_cohort import write_cohort
from tinycohort.augment.samplers.diagnostics import Diagnostics
from tinycohort.datasets.check import examine
from tinycohort.datasets.cohort import Cohort
from tinycohort.datasets.common.errors import DataError
from tinycohort.datasets.formats.damage import ImageError
from tinycohort.datasets.images import read_image
from tinycohort.datasets.readers import read_cohort
from tinycohort.datasets.spaces import PLANES, ImageSpace, as_seen, in_ras, picture_axes
from tinycohort.datasets.transforms import Images, Preparation, prepare

SHAPE = (12, 16, 20)
CODES = ("RAS", "LIA", "PSR", "ASL", "LPI")
# Where a picture's rows and columns lead, written out.
SEEN = {"axial": "PL", "coronal": "IL", "sagittal": "IP"}
EYE = tuple(map(tuple, np.eye(4).tolist()))
each_plane = pytest.mark.parametrize("plane", list(PLANES))


def turned(degrees):
    """Of voxels in RAS order, 2 x 1.5 x 1 mm, turned about all three axes."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    about = [np.array([[1, 0, 0], [0, c, -s], [0, s, c]]), np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])]
    return nib.affines.from_matvec(about[0] @ about[1] @ np.diag([2.0, 1.5, 1.0]), (-11.0, -14.0, -6.0))


def stored(path, codes="RAS", degrees=0.0):
    """A volume in which every corner is another, and its voxels as R, A and S have them."""
    voxels = np.random.default_rng(0).random(SHAPE).astype(np.float32) / 4
    voxels[-3:, -3:, -3:] += 0.7  # right, anterior and superior
    voxels[:3, -3:, -3:] += 0.5
    voxels[-3:, :3, -3:] += 0.4
    image = nib.Nifti1Image(voxels, turned(degrees))
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes))
    image = image.as_reoriented(turn)
    nib.save(image, path)
    return voxels


def cohort_of(path, plane=None):
    table = pd.DataFrame({"image_id": ["a"], "participant_id": ["a"], "image": [str(path)], "label": ["AD"]})
    return prepare(Cohort("c", table, "nowhere", synthetic=True), Preparation(scaling="none", plane=plane))


@pytest.fixture
def invented(studies):
    """Random images of two classes in a space, as drawn, and models of the classes."""
    model = load_models(studies["pictures"].models)["AD"]
    models = {label: replace(model, config=replace(model.config, label=label)) for label in ("AD", "CN")}

    def draw(space):
        parts = []
        for seed, label in enumerate(models):
            pixels = torch.rand((2, 1, *space.shape), generator=torch.Generator().manual_seed(seed))
            parts.append(Generated(label, Images(pixels, space), torch.zeros(2, 2), Diagnostics("normal", 2), 0, "0" * 64))
        return parts, {label: Origin.of(model) for label, model in models.items()}

    return draw


def asymmetric(shape=(9, 14)):
    """A picture that is bright at its top left, and less so at its top right."""
    picture = np.random.default_rng(1).integers(0, 60, shape).astype(np.uint8)
    picture[:3, :3], picture[:3, -3:] = 255, 160
    return picture


def in_a_radiological_viewer(path, plane):
    """A slice of a NIfTI as a viewer draws it that knows nothing but the standard: through nibabel's canonical orientation."""
    canonical = nib.as_closest_canonical(nib.load(path))
    assert nib.aff2axcodes(canonical.affine) == ("R", "A", "S")
    voxels = np.asarray(canonical.dataobj).squeeze(PLANES[plane])
    # For each pixel of the screen, from the top left, the voxel there: up is A or S, and to the viewer's left is R or A.
    width, height = voxels.shape
    return np.array([[voxels[width - 1 - column, height - 1 - row] for column in range(width)] for row in range(height)])


@each_plane
def test_a_slice_is_seen_as_radiologists_see_it(tmp_path, plane):
    voxels = stored(tmp_path / "a.nii")
    images = cohort_of(tmp_path / "a.nii", plane)
    found = as_seen(images.pixels[0, 0].numpy())
    middle = np.take(voxels, SHAPE[PLANES[plane]] // 2, axis=PLANES[plane])
    # The last voxel along both axes (right or anterior; anterior or superior) is on the top left.
    assert found[0, 0] == middle[-1, -1]
    assert found[0, -1] == middle[0, -1]
    assert found[-1, 0] == middle[-1, 0]
    assert np.array_equal(as_seen(found), images.pixels[0, 0])
    assert picture_axes(plane) == SEEN[plane]
    assert np.array_equal(_tile(images, 0), found) or images.space.spacing[0] != images.space.spacing[1]


@each_plane
@pytest.mark.parametrize("degrees", [0.0, 20.0])
@pytest.mark.parametrize("codes", CODES)
def test_a_slice_of_a_volume_comes_back_from_each_format(tmp_path, codes, degrees, plane):
    stored(tmp_path / "source.nii", codes, degrees)
    source = cohort_of(tmp_path / "source.nii", plane)
    array = source.pixels[0, 0].numpy()
    for file_format, name in (("nifti", "made.nii.gz"), ("png", "made.png")):
        write_image(tmp_path / "made", array, source.space, file_format)
        made = cohort_of(tmp_path / name)
        assert float((made.pixels - source.pixels).abs().max()) <= (0.5 / 255 + 1e-6 if file_format == "png" else 0)
        assert made.space.is_like(source.space)
        assert made.space.flat_axis == PLANES[plane]
        # The digest by which a change is found is the same at both readings.
        assert examine(Cohort("c", cohort_table(tmp_path / name), "nowhere", synthetic=True), minimum=1).sound
    with Image.open(tmp_path / "made.png") as picture:
        shown = np.asarray(picture, dtype=float) / 255
    assert np.abs(shown - in_a_radiological_viewer(tmp_path / "made.nii.gz", plane)).max() <= 0.5 / 255 + 1e-6


def cohort_table(path):
    return pd.DataFrame({"image_id": ["a"], "participant_id": ["a"], "image": [str(path)], "label": ["AD"]})


@each_plane
@pytest.mark.parametrize("codes", CODES)
def test_the_affine_of_a_png_says_where_its_pixels_are(tmp_path, codes, plane):
    stored(tmp_path / "source.nii", codes, 20.0)
    source = cohort_of(tmp_path / "source.nii", plane)
    write_image(tmp_path / "made", source.pixels[0, 0].numpy(), source.space, "png")
    with Image.open(tmp_path / "made.png") as picture:
        texts, shown = picture.text, np.asarray(picture)
    affine = np.array(texts["tinycohort:affine"].split(), dtype=float).reshape(4, 4)
    assert texts["tinycohort:axes"] == SEEN[plane]
    voxels, place = np.asarray(nib.load(tmp_path / "source.nii").dataobj), nib.load(tmp_path / "source.nii").affine
    for row, column in ((0, 0), (0, shown.shape[1] - 1), (shown.shape[0] - 1, 2)):
        index = nib.affines.apply_affine(np.linalg.inv(place) @ affine, (row, column, 0)).round().astype(int)
        assert shown[row, column] == round(255 * float(np.clip(voxels[tuple(index)], 0, 1)))


@each_plane
def test_a_picture_stands_in_a_viewer_as_it_does_itself_and_comes_back(tmp_path, plane):
    picture = asymmetric()
    Image.fromarray(picture).save(tmp_path / "source.png")
    source = cohort_of(tmp_path / "source.png", plane)
    assert source.space == ImageSpace(picture.shape, plane=plane)
    assert np.array_equal(source.pixels[0, 0], (picture / 255).astype(np.float32))
    for file_format in ("nifti", "png"):
        write_image(tmp_path / "made", source.pixels[0, 0].numpy(), source.space, file_format)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "made.png")), picture)
    assert np.allclose(255 * in_a_radiological_viewer(tmp_path / "made.nii.gz", plane), picture, atol=1e-4)
    assert nib.load(tmp_path / "made.nii.gz").shape[PLANES[plane]] == 1
    for name in ("made.png", "made.nii.gz"):
        made = cohort_of(tmp_path / name, plane)
        assert torch.equal(made.pixels, source.pixels)
        assert made.space == source.space
        assert np.array_equal(_tile(made, 0), source.pixels[0, 0])


def test_a_picture_of_no_plane_is_axial(tmp_path):
    write_image(tmp_path / "made", (asymmetric() / 255).astype(np.float32), ImageSpace((9, 14)), "nifti")
    image = nib.load(tmp_path / "made.nii.gz")
    assert image.shape == (14, 9, 1)
    assert np.array_equal(image.affine, np.eye(4))
    assert np.allclose(255 * in_a_radiological_viewer(tmp_path / "made.nii.gz", "axial"), asymmetric(), atol=1e-4)
    # Whatever another tool stores it as, it is the same picture.
    nib.save(image.as_reoriented(nib.orientations.axcodes2ornt("PIL")), tmp_path / "other.nii")
    assert np.allclose(255 * read_image(tmp_path / "other.nii")[0], asymmetric(), atol=1e-4)


@pytest.mark.parametrize("file_format", ["nifti", "png", "npz"])
@pytest.mark.parametrize("kind", ["volume", "oblique", "axial", "coronal", "sagittal", "picture", "coronal picture", "slices of arrays"])
def test_a_cohort_comes_back_in_every_format(tmp_path, invented, kind, file_format):
    affine = tuple(map(tuple, turned(25.0).tolist()))
    space = {
        "volume": ImageSpace((9, 10, 11), EYE),
        "oblique": ImageSpace((9, 10, 11), affine),
        "picture": ImageSpace((9, 14)),
        "coronal picture": ImageSpace((9, 14), plane="coronal"),
        "slices of arrays": ImageSpace((9, 14), flat_axis=1),
    }.get(kind) or ImageSpace((9, 14), affine, PLANES[kind])
    if file_format == "png" and len(space.shape) == 3:
        pytest.skip("a PNG holds no volume")
    parts, origins = invented(space)
    write_cohort(tmp_path, parts, origins, file_format=file_format)
    cohort = read_cohort(tmp_path)
    assert cohort.problems == ()
    made = prepare(cohort, Preparation(scaling="none"))
    pixels = torch.cat([part.images.pixels for part in parts])
    assert float((made.pixels - pixels).abs().max()) <= (0.5 / 255 + 1e-6 if file_format == "png" else 0)
    assert made.space.is_picture == space.is_picture
    assert np.allclose(made.space.affine_of_axes, space.affine_of_axes, atol=1e-5) or kind == "coronal picture"
    assert np.allclose(_tile(made, 0), _tile(Images(pixels, space), 0), atol=0.5 / 255 + 1e-6)
    if file_format == "npz":
        with np.load(tmp_path / "images.npz", allow_pickle=False) as content:
            assert content["classes"].tolist() == ["AD", "CN"]
            assert tuple(content["axes"]) == tuple(SEEN[space.plane or "axial"] if space.is_picture else made.space.axes)
            # As nibabel understands it.
            assert nib.aff2axcodes(content["affine"])[: len(space.shape)] == tuple(content["axes"])
        assert made.space.plane == (space.plane or ("axial" if space.is_picture else None))


@pytest.mark.parametrize("axes", ["RAS", "LIA", "PSR", "LPI"])
def test_arrays_that_tell_their_axes_are_read_as_files_are(tmp_path, axes):
    voxels = stored(tmp_path / "a.nii", axes, 20.0)
    image = nib.load(tmp_path / "a.nii")
    arrays = np.asarray(image.dataobj)[None]
    np.savez(tmp_path / "a.npz", images=arrays, labels=np.array(["AD"]), axes=np.array(list(axes)), affine=image.affine)
    from_file = cohort_of(tmp_path / "a.nii")
    from_arrays = prepare(read_cohort(tmp_path / "a.npz"), Preparation(scaling="none"))
    assert torch.equal(from_arrays.pixels, from_file.pixels)
    assert np.array_equal(from_file.pixels[0, 0], voxels)
    assert from_arrays.space.is_like(from_file.space)


@each_plane
def test_the_axes_of_slices_in_arrays(plane):
    slices = np.random.default_rng(0).random((2, 5, 7))
    axes = "RAS".replace("RAS"[PLANES[plane]], "")
    same, space = in_ras(slices, axes, None)
    assert np.array_equal(same, slices)
    assert space == ImageSpace((5, 7), flat_axis=PLANES[plane])
    turn = np.array([[0, -1, 0, 4], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    other, space = in_ras(as_seen(slices)[:, ::-1], (axes[1], SEEN[plane][1]), space.in_world.affine_of_axes @ turn)
    assert np.array_equal(other, slices)
    assert space.flat_axis == PLANES[plane]
    assert np.array_equal(space.affine, np.eye(4))
    pictures, space = in_ras(slices, SEEN[plane], None)
    assert np.array_equal(pictures, slices)
    assert space == ImageSpace((5, 7), plane=plane)


@pytest.mark.parametrize(
    ("axes", "affine", "what"),
    [
        ("RA", np.eye(4), "its axes are 'RA', where an image has 3"),
        ("RLS", np.eye(4), "its axes are 'RLS'"),
        ("XYZ", np.eye(4), "its axes are 'XYZ'"),
        ("RAS", np.zeros((4, 4)), "place voxels"),
        ("RAS", np.eye(3), "4 x 4"),
        ("RAS", np.full((4, 4), "a"), "4 x 4"),
        ("RAS", np.diag([-1, 1, 1, 1]), "its axes are 'RAS', and its affine leads to 'LAS'"),
        ("LPS", np.eye(4), "its axes are 'LPS', and its affine leads to 'RAS'"),
        ("RAS", np.eye(4)[[1, 0, 2, 3]], "its axes are 'RAS', and its affine leads to 'ARS'"),
    ],
)
def test_axes_that_are_none_are_told(tmp_path, axes, affine, what):
    path = tmp_path / "a.npz"
    np.savez(path, images=np.ones((1, 8, 8, 8)), labels=np.array(["AD"]), axes=np.array(list(axes)), affine=affine)
    with pytest.raises(DataError, match=what):
        read_cohort(path)


@pytest.mark.parametrize(("axes", "leads"), [("RA", "LA"), ("RA", "AS"), ("PL", "RA"), ("IL", "PL"), ("IP", "SP")])
def test_slices_whose_affine_leads_elsewhere_are_told(axes, leads):
    across = next(letter for letter in "RAS" if letter not in leads.translate(str.maketrans("LPI", "RAS")))
    affine = np.eye(4)
    for axis, (line, sign) in enumerate(nib.orientations.axcodes2ornt((*leads, across)).astype(int)):
        affine[:3, axis] = sign * np.eye(3)[line]
    with pytest.raises(ValueError, match=f"its axes are '{axes}', and its affine leads to '{leads}'"):
        in_ras(np.zeros((1, 5, 7)), axes, affine)


@each_plane
@pytest.mark.parametrize("across", [-1.5, 1.5])
def test_rows_and_columns_with_an_affine_are_a_slice_there(plane, across):
    """As other people write them: the place is theirs, not that of a picture."""
    slices = np.random.default_rng(0).random((2, 5, 7))
    affine = ImageSpace((5, 7), plane=plane).affine_of_axes @ np.diag([0.5, 2.0, across, 1.0])
    affine[:3, 3] += (-30, 20, 10)
    turned, space = in_ras(slices, SEEN[plane], affine)
    assert (space.is_picture, space.flat_axis) == (False, PLANES[plane])
    assert nib.aff2axcodes(np.array(space.affine)) == ("R", "A", "S") or across < 0
    assert np.array_equal(turned, as_seen(slices))
    for row, column in ((0, 0), (4, 2), (1, 6)):
        there = nib.affines.apply_affine(np.linalg.inv(space.affine_of_axes) @ affine, (row, column, 0))
        i, j, k = there.round(9).astype(int)
        assert k == 0
        assert np.array_equal(turned[:, i, j], slices[:, row, column])


@pytest.mark.parametrize("degrees", [(0, 30, 45), (0, 45, 45), (45, 0, 0), (45, 45, 45), (60, 90, 135), (30, 60, 45)])
def test_axes_between_two_others_come_back(degrees):
    """Where rounding decides what nibabel calls an axis, what is written must still be read."""
    matrix = np.diag([2.0, 1.5, 1.0])
    for (first, second), angle in zip(((1, 2), (0, 2), (0, 1)), np.radians(degrees)[::-1], strict=True):
        turn = np.eye(3)
        turn[[first, first, second, second], [first, second, first, second]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        matrix = turn @ matrix
    image = nib.as_closest_canonical(nib.Nifti1Image(np.zeros((5, 6, 7), np.float32), nib.affines.from_matvec(matrix, (1, 2, 3))))
    for flat in (None, 0, 1, 2):
        space = ImageSpace(tuple(side for axis, side in enumerate(image.shape) if axis != flat), tuple(map(tuple, image.affine)), flat)
        assert in_ras(np.zeros((1, *space.shape)), space.axes, space.affine_of_axes)[1].is_like(space)


@pytest.mark.parametrize(
    ("axes", "affine"),
    [("PL", "no numbers"), ("PL", "1"), ("PL", ""), ("PL", "0 " * 16), ("PL", "nan " * 16), ("RA", "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1")],
)
def test_a_png_that_lies_about_its_place_is_refused(tmp_path, axes, affine):
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_text("tinycohort:axes", axes)
    texts.add_text("tinycohort:affine", affine)
    Image.fromarray(asymmetric()).save(tmp_path / "a.png", pnginfo=texts)
    with pytest.raises(ImageError, match="unreadable"):
        read_image(tmp_path / "a.png")


def test_what_older_versions_wrote_is_read_as_it_was(tmp_path):
    """A NIfTI and an .npz of a picture, and a PNG of a coronal slice, as version 0.2.0.dev1 made them: without a word of their axes."""
    picture = (asymmetric() / 255).astype(np.float32)
    image = nib.Nifti1Image(picture[..., None], np.eye(4))
    image.header["descrip"] = b"synthetic image, tinycohort"
    nib.save(image, tmp_path / "a.nii.gz")
    Image.fromarray(asymmetric()).save(tmp_path / "a.png")
    for name in ("a.nii.gz", "a.png"):
        assert np.array_equal(cohort_of(tmp_path / name).pixels[0, 0], picture)
    np.savez(tmp_path / "a.npz", images=picture[None], labels=np.array(["AD"]), synthetic=np.array(True))
    made = prepare(read_cohort(tmp_path / "a.npz"), Preparation(scaling="none"))
    assert np.array_equal(made.pixels[0, 0], picture)
    assert made.space == ImageSpace((9, 14))
