"""NRRD, MetaImage and MGH: hand-made headers, ITK's own files, and what is damaged or not read."""

import gzip
import zlib

import nibabel as nib
import numpy as np
import pytest

from tinycohort.datasets.check import examine
from tinycohort.datasets.formats.damage import ImageError
from tinycohort.datasets.images import files_of, memory_to_read, read_image
from tinycohort.datasets.readers import read_cohort

SHAPE = (4, 5, 6)
# To L, P and S, as ITK stores; the same voxels in RAS lie there.
AFFINE = np.array([[-1.0, 0, 0, 40], [0, -2, 0, 60], [0, 0, 3, -20], [0, 0, 0, 1]])
NRRD = """NRRD0004
# a comment
type: short
dimension: 3
space: {space}
sizes: 4 5 6
space directions: {directions}
kinds: domain domain domain
endian: little
encoding: {encoding}
space origin: {origin}
a key:=a value

"""
SPACES = {
    "left-posterior-superior": ("(1,0,0) (0,2,0) (0,0,3)", "(-40,-60,-20)"),
    "LPS": ("(1,0,0) (0,2,0) (0,0,3)", "(-40,-60,-20)"),
    "left-anterior-superior": ("(1,0,0) (0,-2,0) (0,0,3)", "(-40,60,-20)"),
    "right-anterior-superior": ("(-1,0,0) (0,-2,0) (0,0,3)", "(40,60,-20)"),
}
MHA = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = {msb}
CompressedData = {packed}
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = -40 -60 -20
CenterOfRotation = 0 0 0
AnatomicalOrientation = RAI
ElementSpacing = 1 2 3
DimSize = 4 5 6
ElementType = MET_SHORT
ElementDataFile = {data}
"""


def voxels(fakes) -> np.ndarray:
    return fakes.voxels(1, SHAPE)


def content(fakes, order: str = "<") -> bytes:
    return voxels(fakes).astype(f"{order}i2").tobytes(order="F")


def nrrd(fakes, space="LPS", encoding="raw", body=None, **changes) -> bytes:
    directions, origin = SPACES[space]
    text = NRRD.format(space=space, directions=directions, origin=origin, encoding=encoding)
    for old, new in changes.get("lines", {}).items():
        assert old in text
        text = text.replace(old, new)
    return text.encode() + (content(fakes) if body is None else body)


def mha(fakes, msb=False, packed=False, data="LOCAL", lines=(), body=None) -> bytes:
    text = MHA.format(msb=msb, packed=packed, data=data)
    for old, new in dict(lines).items():
        assert old in text
        text = text.replace(old, new)
    raw = content(fakes, ">" if msb else "<")
    return text.encode() + ((zlib.compress(raw) if packed else raw) if body is None else body)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_nrrd_lies_where_its_header_says(fakes, tmp_path, space, encoding):
    body = gzip.compress(content(fakes)) if encoding == "gzip" else content(fakes)
    (tmp_path / "a.nrrd").write_bytes(nrrd(fakes, space, encoding, body))
    array, affine = read_image(tmp_path / "a.nrrd")
    assert np.array_equal(array, voxels(fakes))
    assert np.allclose(affine, AFFINE)
    assert memory_to_read(tmp_path / "a.nrrd") > array.nbytes


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("msb", [False, True])
def test_metaimage_lies_where_its_header_says(fakes, tmp_path, packed, msb):
    (tmp_path / "a.mha").write_bytes(mha(fakes, msb, packed))
    array, affine = read_image(tmp_path / "a.mha")
    assert np.array_equal(array, voxels(fakes))
    assert np.allclose(affine, AFFINE)


def test_voxels_may_lie_beside_their_header(fakes, tmp_path):
    (tmp_path / "a.raw").write_bytes(content(fakes))
    (tmp_path / "a.mhd").write_bytes(mha(fakes, data="a.raw", body=b""))
    (tmp_path / "b.nhdr").write_bytes(nrrd(fakes, body=b"", lines={"encoding: raw": "encoding: raw\ndata file: a.raw"}))
    for name in ("a.mhd", "b.nhdr"):
        assert np.array_equal(read_image(tmp_path / name)[0], voxels(fakes))
        assert files_of(tmp_path / name) == [tmp_path / name, tmp_path / "a.raw"]
    (tmp_path / "a.raw").unlink()
    with pytest.raises(ImageError, match=r"a.raw, the other file of the image, is missing"):
        read_image(tmp_path / "a.mhd")


def test_freesurfers_volumes(fakes, tmp_path):
    nib.save(nib.MGHImage(voxels(fakes), AFFINE), tmp_path / "a.mgz")
    array, affine = read_image(tmp_path / "a.mgz")
    assert np.array_equal(array, voxels(fakes))
    assert np.allclose(affine, AFFINE, atol=1e-5)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("name", ["a.mha", "a.nrrd", "a.mhd", "a.nhdr"])
def test_what_itk_writes_lies_where_itk_says(fakes, tmp_path, name, compress):
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK, which judges, is not installed")
    turned, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    image = sitk.GetImageFromArray(voxels(fakes).T.copy())
    image.SetDirection((turned * np.sign(np.linalg.det(turned))).ravel())
    image.SetSpacing((1.1, 2.2, 3.3))
    image.SetOrigin((10, -20, 30))
    sitk.WriteImage(image, str(tmp_path / name), useCompression=compress)
    sitk.WriteImage(image, str(tmp_path / "a.nii"))
    (ours, placed), (theirs, by_itk) = read_image(tmp_path / name), read_image(tmp_path / "a.nii")
    assert np.array_equal(ours, theirs)
    assert np.allclose(placed, by_itk, atol=1e-5)


def test_planes_are_pictures(fakes, tmp_path):
    plane = fakes.voxels(1, (4, 5))
    body = plane.astype("<i2").tobytes(order="F")
    header = "NRRD0004\ntype: short\ndimension: 2\nsizes: 4 5\nencoding: raw\nendian: little\n\n"
    (tmp_path / "a.nrrd").write_bytes(header.encode() + body)
    lines = {"NDims = 3": "NDims = 2", "DimSize = 4 5 6": "DimSize = 4 5"}
    (tmp_path / "a.mha").write_bytes(mha(fakes, lines=lines, body=body))
    for name in ("a.nrrd", "a.mha"):
        array, affine = read_image(tmp_path / name)
        assert affine is None
        assert np.array_equal(array, plane.T)


BROKEN = {
    "cut.nrrd": (lambda f: nrrd(f)[:-1], "truncated"),
    "cut.mha": (lambda f: mha(f)[:-1], "truncated"),
    "packed.mha": (lambda f: mha(f, packed=True)[:-3], "decompressed|corrupted"),
    "flipped.mha": (lambda f: mha(f, packed=True)[:-1] + b"\0", "corrupted"),
    "flipped.nrrd": (lambda f: nrrd(f, encoding="gzip", body=gzip.compress(content(f))[:-6] + b"123456"), "corrupted"),
    "claims.nrrd": (lambda f: nrrd(f, lines={"sizes: 4 5 6": "sizes: 40000 50000 60000"}), "truncated"),
    "claims.mha": (lambda f: mha(f, packed=True, lines={"4 5 6": "4000 5000 6000"}), "truncated"),
    "more.mha": (lambda f: mha(f, packed=True, body=zlib.compress(bytes(2**20))), "when it is decompressed"),
    "text.nrrd": (lambda f: nrrd(f, encoding="raw", lines={"encoding: raw": "encoding: ascii"}), "the encoding 'ascii'; write it anew"),
    "out.nhdr": (lambda f: nrrd(f, lines={"encoding: raw": "encoding: raw\ndata file: ../a.raw"}), "its voxels lie in '../a.raw'"),
    "out.mhd": (lambda f: mha(f, data="/etc/passwd"), "its voxels lie in '/etc/passwd'"),
    "long.mhd": (lambda f: mha(f, data="9" * 300), "in a file with a name of 300 characters"),
    "long.nhdr": (lambda f: nrrd(f, lines={"encoding: raw": f"encoding: raw\ndata file: {'9' * 300}"}), "with a name of 300 characters"),
    "beyond.mha": (lambda f: mha(f, lines={"1 0 0 0 1 0": f"1{'0' * 400} 0 0 0 1 0"}), "place no voxels"),
    "beyond.nrrd": (lambda f: nrrd(f, lines={"(1,0,0)": f"(1{'0' * 400},0,0)"}), "place no voxels"),
    "list.mhd": (lambda f: mha(f, data="LIST"), "LIST, the other file of the image, is missing"),
    "colours.mha": (lambda f: mha(f, lines={"ElementType": "ElementNumberOfChannels = 3\nElementType"}), "with 3 channels"),
    "colours.nrrd": (lambda f: nrrd(f, lines={"(1,0,0)": "none"}), "an axis without a direction"),
    "space.nrrd": (lambda f: nrrd(f, lines={"space: LPS": "space: scanner-xyz"}), "the space 'scanner-xyz'"),
    "flat.mha": (lambda f: mha(f, lines={"1 0 0 0 1 0": "1 0 0 1 0 0"}), "place no voxels"),
    "endless.mha": (lambda f: b"NDims = 3\n" * 10, "a header without an end"),
    "other.nrrd": (lambda f: b"\0" * 100, "no NRRD file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_damaged_or_not_read_is_told(fakes, tmp_path, name):
    make, says = BROKEN[name]
    (tmp_path / name).write_bytes(make(fakes))
    with pytest.raises(ImageError, match=says) as told:
        read_image(tmp_path / name)
    assert "\n" not in str(told.value)
    assert memory_to_read(tmp_path / name) >= 0  # 0 of what its header tells already


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a.mnc", r".mnc is not read; convert it, as `mnc2nii a.mnc a.nii` does"),
        ("a.npy", "numpy.savez"),
        ("a.xyz", "no image format is known by the extension '.xyz'; give one of"),
    ],
)
def test_formats_that_are_not_read_are_named_with_what_converts_them(tmp_path, name, says):
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(ImageError, match=says):
        read_image(tmp_path / name)


def test_a_folder_of_nothing_else_says_so(fakes, tmp_path):
    fakes.participants(tmp_path / "participants.tsv")
    for person in fakes.people:
        (tmp_path / f"{person}.mnc").write_bytes(b"something")
    with pytest.raises(Exception, match=r"of 6 files .mnc, which are not read, `mnc2nii 01.mnc 01.nii` converts one"):
        read_cohort(tmp_path)


def test_a_mixture_is_told_with_counts(fakes, tmp_path):
    fakes.participants(tmp_path / "participants.tsv")
    for number, person in enumerate(fakes.people):
        affine = np.diag([-1.0, 1, 1, 1]) if number == 1 else np.diag([1, 1, 2.5, 1]) if number == 2 else np.eye(4)
        fakes.volume(tmp_path / f"{person}.nii.gz", fakes.voxels(number, (8, 9, 11) if number == 3 else (8, 9, 10)), affine)
    told = {remark.what: remark.mend for remark in examine(read_cohort(tmp_path), sized=True).remarks}
    assert list(told) == [
        "2 sizes: 5 of 8 x 9 x 10, 1 of 8 x 9 x 11",
        "2 voxel sizes: 5 of 1 x 1 x 1 mm, 1 of 1 x 1 x 2.5 mm",
        "2 orientations: 5 stored as RAS, 1 stored as LAS",
    ]


def test_a_pair_in_capitals_is_a_pair(fakes, tmp_path):
    fakes.volume(tmp_path / "a.img", fakes.voxels(1))
    for kind in (".hdr", ".img"):
        (tmp_path / f"a{kind}").rename(tmp_path / f"A{kind.upper()}")
    for kind in (".HDR", ".IMG"):
        assert np.array_equal(read_image(tmp_path / f"A{kind}")[0], fakes.voxels(1))
    (tmp_path / "A.IMG").unlink()
    with pytest.raises(ImageError, match=r"A\.IMG, the other file of the pair, is missing"):
        read_image(tmp_path / "A.HDR")
