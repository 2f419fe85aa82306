"""Whatever is wrong with a cohort is reported, once, with whose image it is, where it lies and how it is mended."""

import gzip
import re
import struct
import threading
import time
import tracemalloc
import weakref
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tinycohort.datasets import check
from tinycohort.datasets.check import examine, require_sound
from tinycohort.datasets.cohort import Cohort, CohortError, Problem
from tinycohort.datasets.common.errors import DataError, UsageError
from tinycohort.datasets.formats.damage import ImageError
from tinycohort.datasets.images import read_image
from tinycohort.datasets.readers import Source, read_cohort

# RAS axes in the order of the paper's coronal slices: left, inferior, anterior.
LIA = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize("kind", ["bids", "pictures", "pairs", "oasis"])
def test_sound_cohorts(fakes, tmp_path, kind):
    cohort = read_cohort(getattr(fakes, kind)(tmp_path))
    seen = []

    def progress(rows):
        for row in rows:
            seen.append(row)
            yield row

    examination = examine(cohort, minimum=1, progress=progress)
    assert examination.sound
    assert seen == list(range(len(cohort)))
    assert examination.images == cohort.counts()
    assert sum(examination.participants.values()) == cohort.table["participant_id"].nunique()
    assert examination.shape == ((12, 10) if kind == "pictures" else (8, 9, 10))
    assert len(set(examination.digests)) == len(cohort)


@pytest.fixture
def many(fakes, tmp_path):
    """So many images that not all may be in memory."""
    people = [f"{number:03d}" for number in range(200)]
    for number, person in enumerate(people):
        fakes.picture(tmp_path / f"images/{person}.png", number)
    fakes.table(tmp_path / "participants.tsv", {"participant_id": people, "diagnosis": ["AD", "CN"] * 100})
    (tmp_path / "images/007.png").write_bytes(b"")
    return read_cohort(tmp_path)


def test_many_images_are_read_at_a_time_and_few_are_kept(many, monkeypatch):
    alive, most, threads = weakref.WeakSet(), [0], set()
    lock, read = threading.Lock(), check.array_of

    class Watched(np.ndarray):
        """An array by which its end can be told."""

        __hash__ = object.__hash__  # type: ignore[assignment]

    def watched(cohort, image):
        array, affine = read(cohort, image)
        with lock:
            held = array.view(Watched)
            alive.add(held)
            most[0] = max(most[0], len(alive))
            threads.add(threading.get_ident())
        time.sleep(0.001)
        return held, affine

    expected = examine(many)
    assert [problem.participant for problem in expected.problems] == ["007"]
    monkeypatch.setattr(check, "array_of", watched)
    for processors in (1, 4, 64):
        monkeypatch.setattr(check, "available_processors", lambda n=processors: n)
        most[0] = 0
        threads.clear()
        assert examine(many) == expected
        assert 1 <= most[0] <= min(processors, 8)
        assert (len(threads) > 1) == (processors > 1)


def test_an_interrupted_check_does_not_read_on(many, monkeypatch):
    seen, read = [], check.array_of
    monkeypatch.setattr(check, "array_of", lambda cohort, image: (time.sleep(0.005), seen.append(image), read(cohort, image))[-1])

    def interrupted(rows):
        yield from rows[:20]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        examine(many, progress=interrupted)
    assert len(seen) < 60


def test_digest_tells_content_and_not_order(fakes, tmp_path):
    cohort = read_cohort(fakes.bids(tmp_path))
    digest = examine(cohort).digest
    reversed_rows = Cohort("same", cohort.table[::-1].reset_index(drop=True), "elsewhere")
    assert examine(reversed_rows).digest == digest
    fakes.volume(Path(cohort.table["image"][0]), fakes.voxels(100))
    assert examine(cohort).digest != digest


def test_one_plane_may_be_stored_in_any_orientation(fakes, tmp_path):
    fakes.bids(tmp_path, shape=(8, 1, 10))
    fakes.volume(tmp_path / "sub-01/anat/sub-01_T1w.nii.gz", fakes.voxels(11, (8, 10, 1)), LIA)
    assert examine(read_cohort(tmp_path)).shape == (8, 10)


def test_a_series_of_one_volume_is_a_volume(fakes, tmp_path):
    assert examine(read_cohort(fakes.bids(tmp_path, shape=(8, 9, 10, 1)))).shape == (8, 9, 10)


@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.AnalyzeImage, nib.Spm99AnalyzeImage])
@pytest.mark.parametrize("listed", [".hdr", ".img"])
def test_pairs_are_read_by_either_file(fakes, tmp_path, kind, listed):
    nib.save(kind(fakes.voxels(1), np.eye(4)), tmp_path / "a.img")
    assert np.array_equal(read_image(tmp_path / f"a{listed}")[0], fakes.voxels(1))


def first(folder: Path) -> Path:
    return folder / "sub-01/anat/sub-01_T1w.nii.gz"


def cut(path: Path, keep: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


def cut_nii(folder: Path) -> None:
    path = first(folder).with_suffix("")
    path.write_bytes(gzip.decompress(first(folder).read_bytes())[:-100])
    first(folder).unlink()


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def flip_voxel(folder: Path) -> None:
    """Change a voxel in a gzip stream that stores it plainly: only the CRC tells."""
    first(folder).write_bytes(gzip.compress(gzip.decompress(first(folder).read_bytes()), compresslevel=0))
    flip(first(folder), -500)
    nib.load(first(folder)).get_fdata()


def claim(path: Path, *, sides: tuple[int, int, int], compress: bool) -> None:
    """Write the dimensions into a NIfTI header, where the file's data stays as it was."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<3h", content, 42, *sides)
    path.unlink()
    target = path if compress else path.with_suffix("")
    target.write_bytes(gzip.compress(bytes(content)) if compress else content)


def lose_an_axis(path: Path) -> None:
    """Zero the first line of a NIfTI header's affine."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<4f", content, 280, 0, 0, 0, 0)
    path.write_bytes(gzip.compress(bytes(content)))


def set_voxel(value: float):
    def change(fakes, folder: Path) -> None:
        voxels = fakes.voxels(0).astype(np.float32)
        voxels[1, 2, 3] = value
        fakes.volume(first(folder), voxels)

    return change


def relabel(**columns):
    return lambda fakes, folder: fakes.participants(folder / "participants.tsv", **columns)


def name_images(rows):
    """Let the table name its images."""

    def change(fakes, folder: Path) -> None:
        participants, labels, images = zip(*rows, strict=True)
        columns = {"participant_id": participants, "diagnosis": labels, "image": [f"images/{image}" for image in images]}
        fakes.table(folder / "participants.tsv", columns)

    return change


LABELS = ["AD", "AD", "AD", "CN", "CN", "CN"]
NAMED = [(f"0{number}", label, f"0{number}.png") for number, label in enumerate(LABELS, start=1)]


def oversized_png(path: Path) -> None:
    """A PNG whose header claims 9000 x 9000 pixels, with a right checksum."""
    content = bytearray(path.read_bytes())
    struct.pack_into(">2I", content, 16, 9000, 9000)
    struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
    path.write_bytes(content)


# kind of cohort, what is done to it, whose the problem is, what it says, the examination's options
BAD = {
    "empty file": ("bids", lambda f, p: first(p).write_bytes(b""), "01", "is empty", {}),
    "not an image": ("bids", lambda f, p: first(p).write_bytes(b"not an image"), "01", "unreadable", {}),
    "text, gzipped": ("bids", lambda f, p: first(p).write_bytes(gzip.compress(b"not an image")), "01", "unreadable", {}),
    "folder in its place": ("bids", lambda f, p: (first(p).unlink(), first(p).mkdir()), "01", "missing", {}),
    "a voxel flipped": ("bids", lambda f, p: flip_voxel(p), "01", "corrupted: CRC check failed", {}),
    "the CRC flipped": ("bids", lambda f, p: flip(first(p), -6), "01", "corrupted: CRC check failed", {}),
    ".nii.gz cut": ("bids", lambda f, p: cut(first(p), 0.6), "01", "truncated: the gzip stream ends early", {}),
    ".nii.gz without its last byte": ("bids", lambda f, p: cut(first(p), 0.9999), "01", "truncated: the gzip stream ends early", {}),
    "no gzip": ("bids", lambda f, p: flip(first(p), 0), "01", "unreadable", {}),
    ".nii cut": ("bids", lambda f, p: cut_nii(p), "01", "truncated: the header needs", {}),
    "header too large, .nii.gz": ("bids", lambda f, p: claim(first(p), sides=(30000, 30000, 30000), compress=True), "01", "truncated", {}),
    "header larger, .nii.gz": ("bids", lambda f, p: claim(first(p), sides=(9, 9, 10), compress=True), "01", "truncated", {}),
    "header too large, .nii": ("bids", lambda f, p: claim(first(p), sides=(30000, 30000, 30000), compress=False), "01", "truncated", {}),
    "negative side": ("bids", lambda f, p: claim(first(p), sides=(-8, 9, 10), compress=True), "01", "dimensions -8 x 9 x 10", {}),
    "series": ("bids", lambda f, p: f.volume(first(p), f.voxels(9, (8, 9, 10, 3))), "01", "wrong dimensions: 8 x 9 x 10 x 3", {}),
    "line": ("bids", lambda f, p: f.volume(first(p), f.voxels(9, (8, 1, 1))), "01", "wrong dimensions: 8 x 1 x 1", {}),
    "plane among volumes": (
        "bids",
        lambda f, p: f.volume(first(p), f.voxels(9, (8, 9, 1))),
        "01",
        "an axial plane, where most images are a volume",
        {"sized": True},
    ),
    "affine of nothing": ("bids", lambda f, p: lose_an_axis(first(p)), "01", "an affine that places", {}),
    "complex voxels": ("bids", lambda f, p: f.volume(first(p), f.voxels(9).astype(np.complex64)), "01", "voxels of type complex64", {}),
    "another size": ("bids", lambda f, p: f.volume(first(p), f.voxels(9, (8, 9, 11))), "01", "the size 8 x 9 x 11, where most images", {}),
    "NaN": ("bids", set_voxel(np.nan), "01", "1 voxels NaN or infinite", {}),
    "infinite": ("bids", set_voxel(-np.inf), "01", "1 voxels NaN or infinite", {}),
    "constant": ("bids", lambda f, p: f.volume(first(p), np.full((8, 9, 10), 7, np.int16)), "01", "constant: every voxel is 7", {}),
    "two constants": (
        "bids",
        lambda f, p: [f.volume(p / f"sub-0{n}/anat/sub-0{n}_T1w.nii.gz", np.zeros((8, 9, 10), np.int16)) for n in (1, 2)],
        "01",
        "constant",
        {"problems": 2},
    ),
    "label missing": ("bids", relabel(diagnosis=["n/a", *LABELS[1:]]), "01", "no label", {}),
    "label unknown": ("bids", relabel(diagnosis=["MCI", *LABELS[1:]]), "01", "unknown label 'MCI'", {"classes": ["AD", "CN"]}),
    "class too small": ("bids", relabel(diagnosis=["MCI", *LABELS[1:]]), "class MCI", "1 image, fewer than 2", {}),
    "class absent": ("bids", lambda f, p: None, "class MCI", "0 images", {"classes": ["AD", "CN", "MCI"]}),
    "same scan, two participants": (
        "bids",
        lambda f, p: f.volume(p / "sub-04/anat/sub-04_T1w.nii.gz", f.voxels(0)),
        "01",
        "sub-04_T1w.nii.gz (04): 2 copies, of 2 participants",
        {},
    ),
    "same scan, one participant": (
        "bids",
        lambda f, p: f.volume(p / "sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz", f.voxels(0)),
        "01",
        "2 copies, of one participant",
        {},
    ),
    "id twice": ("bids", relabel(participant_id=["01", "02", "03", "04", "05", "05"]), "05", "'05' has two rows", {"problems": 2}),
    "id twice, two labels": (
        "bids",
        relabel(participant_id=["01", "02", "03", "01", "05", "06"]),
        "01",
        "'01' has two rows, labelled AD and CN",
        {"problems": 2},
    ),
    "id missing": (
        "bids",
        relabel(participant_id=["n/a", "02", "03", "04", "05", "06"]),
        "(row 1)",
        "without a participant id",
        {"problems": 2},
    ),
    ".img missing": ("pairs", lambda f, p: (p / "images/01.img").unlink(), "01", "01.img, the other file of the pair, is missing", {}),
    ".hdr missing": ("pairs", lambda f, p: (p / "images/01.hdr").unlink(), "01", "01.hdr, the other file of the pair, is missing", {}),
    ".img cut": (
        "pairs",
        lambda f, p: cut(p / "images/01.img", 0.9),
        "01",
        "truncated: the header needs 1440 bytes, the file holds 1296",
        {},
    ),
    ".hdr cut": ("pairs", lambda f, p: cut(p / "images/01.hdr", 0.5), "01", "unreadable", {}),
    "PNG cut": ("pictures", lambda f, p: cut(p / "images/01.png", 0.7), "01", "unreadable", {}),
    "PNG flipped": ("pictures", lambda f, p: flip(p / "images/01.png", -30), "01", "unreadable", {}),
    "PNG too large": ("pictures", lambda f, p: oversized_png(p / "images/01.png"), "01", "9000 x 9000 pixels do not fit", {}),
    "not a PNG": ("pictures", lambda f, p: (p / "images/01.png").write_text("no"), "01", "unreadable", {}),
    "JPEG cut": ("jpegs", lambda f, p: cut(p / "images/01.jpg", 0.7), "01", "unreadable", {}),
    "JPEG without its end": ("jpegs", lambda f, p: cut(p / "images/01.jpg", 0.999), "01", "truncated: the JPEG has no end", {}),
    "blank picture": ("pictures", lambda f, p: Image.new("L", (10, 12)).save(p / "images/01.png"), "01", "constant", {}),
    "named, missing": ("pictures", name_images([*NAMED, ("07", "CN", "07.png")]), "07", "the file is missing", {}),
    "named twice": ("pictures", name_images([*NAMED, ("01", "AD", "01.png")]), "01", "listed 2 times", {}),
    "unknown extension": ("pictures", name_images([*NAMED, ("07", "CN", "07.xyz")]), "07", "no image format", {}),
    "two labels": (
        "pictures",
        lambda f, p: (f.picture(p / "images/01b.png", 40), name_images([*NAMED, ("01", "CN", "01b.png")])(f, p)),
        "01",
        "two labels: AD (IMAGES/01.png) and CN (IMAGES/01b.png)",
        {},
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_inputs(fakes, tmp_path, name):
    kind, break_, participant, says, options = BAD[name]
    if kind == "jpegs":
        fakes.pictures(tmp_path, ".jpg")
    else:
        getattr(fakes, kind)(tmp_path)
    break_(fakes, tmp_path)
    expected = options.get("problems", 1)
    cohort = read_cohort(tmp_path)
    examination = examine(cohort, **{key: value for key, value in options.items() if key != "problems"})
    assert len(examination.problems) == expected, [str(problem) for problem in examination.problems]
    problem = next(problem for problem in examination.problems if problem.participant == participant)
    assert says.replace("IMAGES", str(tmp_path / "images")) in problem.what
    assert problem.mend
    assert str(tmp_path) in problem.path


def test_one_report_lists_all(fakes, tmp_path):
    fakes.bids(tmp_path)
    set_voxel(np.nan)(fakes, tmp_path)
    cut(tmp_path / "sub-02/anat/sub-02_T1w.nii.gz", 0.5)
    (tmp_path / "sub-03/anat/sub-03_T1w.nii.gz").unlink()
    fakes.volume(tmp_path / "sub-04/anat/sub-04_T1w.nii.gz", fakes.voxels(3, (8, 9, 11)))
    relabel(diagnosis=[*LABELS[:5], "n/a"])(fakes, tmp_path)
    with pytest.raises(CohortError) as raised:
        require_sound(read_cohort(tmp_path))
    assert {problem.participant for problem in raised.value.problems} == {"01", "02", "03", "04", "06"}
    assert "has 5 problems" in str(raised.value)
    assert issubclass(raised.type, DataError)


def test_other_sizes_are_fine_where_all_come_to_one(fakes, tmp_path):
    fakes.bids(tmp_path)
    fakes.volume(first(tmp_path), fakes.voxels(9, (8, 9, 11)))
    examination = examine(read_cohort(tmp_path), sized=True)
    assert examination.sound
    assert examination.shapes == {(8, 9, 10): 5, (8, 9, 11): 1}


def test_arrays_are_checked_as_files_are(fakes, tmp_path):
    images = np.stack([fakes.voxels(number, (8, 9)) for number in (0, 1, 2, 0)]).astype(np.float32)
    images[1] = 3
    images[2, 0, 0] = np.nan
    np.savez(tmp_path / "a.npz", images=images, labels=["AD", "AD", "CN", "CN"])
    # The ids are made up: they end in the content's digest.
    found = [re.sub("-[0-9a-f]{8}", "", str(problem)) for problem in examine(read_cohort(tmp_path / "a.npz")).problems]
    assert [problem.split(" | ")[:3] for problem in found] == [
        ["image1", "row 1", "constant: every voxel is 3"],
        ["image2", "row 2", "1 voxels NaN or infinite"],
        ["image0", "row 0", "the same scan as row 3 (image3): 2 copies, of 2 participants"],
    ]


def test_a_synthetic_cohort_is_checked_as_any(fakes, tmp_path):
    fakes.pictures(tmp_path)
    fakes.participants(tmp_path / "participants.tsv", synthetic=["true"] * 6)
    Image.new("L", (10, 12)).save(tmp_path / "images/01.png")
    cohort = read_cohort(tmp_path)
    assert cohort.synthetic
    assert [problem.participant for problem in examine(cohort).problems] == ["01"]


@pytest.mark.parametrize("compress", [True, False])
def test_a_hostile_header_takes_no_memory(fakes, tmp_path, compress):
    path = fakes.volume(tmp_path / "a.nii.gz", fakes.voxels(1))
    claim(path, sides=(30000, 30000, 30000), compress=compress)
    tracemalloc.start()
    with pytest.raises(ImageError, match="truncated"):
        read_image(path if compress else path.with_suffix(""))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def benchmark_npz(path: Path, fakes, copies: dict[tuple[str, int], tuple[str, int]]) -> Path:
    """MedMNIST's layout: 8 training, 4 validation and 4 test images of classes 0 and 1 in turn; some are copies of others."""
    numbers = {"train": range(8), "val": range(10, 14), "test": range(20, 24)}
    images = {side: np.stack([fakes.voxels(n, (8, 9)) for n in own]).astype(np.uint8) for side, own in numbers.items()}
    for (side, row), (original, source) in copies.items():
        images[side][row] = images[original][source]
    content = {f"{side}_images": stack for side, stack in images.items()}
    np.savez(path, **content, **{f"{side}_labels": np.arange(len(stack)) % 2 for side, stack in images.items()})
    return path


@pytest.mark.parametrize(
    ("copies", "problem", "left"),
    [
        # From copy to original, what is a problem about it, and how many images are left after --drop-copies.
        ({("train", 2): ("train", 0)}, None, 16),
        ({("test", 3): ("test", 1)}, None, 16),
        ({("val", 0): ("train", 0)}, "in train and validation, labelled 0", 15),
        ({("test", 1): ("train", 3)}, "in test and train, labelled 1", 15),
        ({("test", 1): ("train", 3), ("val", 1): ("train", 3)}, "in test and train and validation, labelled 1", 14),
        ({("train", 1): ("train", 0)}, "in train, labelled 0 and 1", 14),
        ({("test", 1): ("train", 0)}, "in test and train, labelled 0 and 1", 14),
    ],
)
def test_copies_in_a_benchmark_with_official_sides(fakes, tmp_path, copies, problem, left):
    path = benchmark_npz(tmp_path / "a.npz", fakes, copies)
    found = examine(read_cohort(path))
    if problem is None:
        assert found.sound
        assert len(found.remarks) == 1
    else:
        assert [problem in one.what for one in found.problems] == [True]
        assert "--drop-copies" in found.problems[0].mend
    dropped = read_cohort(Source(str(path), drop_copies=True))
    assert examine(dropped).sound
    assert len(dropped) == left
    # Whatever bears one label stays on the last of its sides.
    if left == 15:
        assert sorted(set(read_cohort(path).table["image_id"]) - set(dropped.table["image_id"]))[0].startswith("train")


@pytest.mark.parametrize(
    ("ages", "told"),
    [
        ([70, 71, "n/a", 73, 74, 75.5], []),
        (["90+", 71, "n/a", "73 y", 74, 75], ["the age of 2 of 6 images is no number, as '90+'"]),
    ],
)
def test_ages_that_are_no_numbers_are_remarked_on(fakes, tmp_path, ages, told):
    fakes.pictures(tmp_path)
    fakes.participants(tmp_path / "participants.tsv", Age=ages)
    found = examine(read_cohort(tmp_path))
    assert found.sound
    assert [remark.what for remark in found.remarks] == told


def test_copies_of_patients_are_never_dropped(fakes, tmp_path):
    with pytest.raises(UsageError, match="--drop-copies is for benchmarks with official sides"):
        read_cohort(Source(str(fakes.bids(tmp_path)), drop_copies=True))


def test_copies_where_validation_will_be_drawn_from_training(fakes, tmp_path):
    path = benchmark_npz(tmp_path / "a.npz", fakes, {("train", 2): ("train", 0), ("test", 3): ("test", 1)})
    with np.load(path) as content:
        np.savez(path, **{name: array for name, array in content.items() if not name.startswith("val")})
    found = examine(read_cohort(path))
    assert ["in train, labelled 0" in one.what for one in found.problems] == [True]
    assert ["in test, labelled 1" in one.what for one in found.remarks] == [True]
    dropped = read_cohort(Source(str(path), drop_copies=True))
    assert examine(dropped).sound
    assert len(dropped) == 11
    assert dropped.table["image_id"].str.startswith("train0").any()


def test_a_header_that_changes_is_another_cohort_and_the_same_content(fakes, tmp_path):
    cohort = read_cohort(fakes.bids(tmp_path))
    before = examine(cohort)
    image = Path(cohort.table["image"][2])
    fakes.volume(image, fakes.voxels(2), np.diag([-1.0, 1.0, 1.0, 1.0]))
    after = examine(cohort)
    assert after.contents == before.contents
    assert [a == b for a, b in zip(after.digests, before.digests, strict=True)] == [True, True, False, True, True, True]
    assert after.digest != before.digest


@pytest.mark.parametrize("side", [1.0, 0.9375, 0.46875, 1.0625])  # 240 mm in 256 or 512 voxels, 272 mm in 256
def test_a_rounding_of_the_header_makes_no_other_cohort(fakes, tmp_path, side):
    cohort = read_cohort(fakes.bids(tmp_path))
    digests = set()
    for moved in (0.0, 1e-6, -1e-6):
        fakes.volume(Path(cohort.table["image"][2]), fakes.voxels(2), np.diag([side + moved, side, side, 1.0]))
        digests.add(examine(cohort).digest)
    assert len(digests) == 1


def test_one_person_s_image_on_two_official_sides_is_a_problem(fakes, tmp_path):
    images = fakes.voxels(1, (6, 8, 9))
    images[5] = images[0]
    columns = {"image": [f"{i}.png" for i in range(6)], "participant_id": ["a", "b", "c", "d", "e", "a"], "label": list("010100")}
    for i, image in enumerate(images):
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / f"{i}.png")
    fakes.table(tmp_path / "people.csv", columns | {"split": ["train"] * 4 + ["test"] * 2})
    assert ["in test and train" in one.what for one in examine(read_cohort(tmp_path / "people.csv")).problems] == [True]


def test_an_error_shows_rare_problems_among_those_that_many_images_share():
    """Of a table of one person the images of 306 others hid that a class had too few."""
    shared = [Problem(f"P{i}", f"P{i}.png", "no row in few.csv", f"add 'P{i}'") for i in range(306)]
    rare = Problem("class CN", "study", "1 image, fewer than 10", "add images")
    _, *lines = str(CohortError("Study", [*shared, rare])).splitlines()
    assert lines == [
        *(f"  {problem}" for problem in shared[:3]),
        "  and 303 more: no row in few.csv; `augment check` lists all",
        f"  {rare}",
    ]
