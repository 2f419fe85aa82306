"""Image benchmarks are read from files in their published form, on their official sides; what is damaged is one clear error."""

import gzip
import struct
import tracemalloc
import urllib.error
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from folders import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from tinycohort.datasets.check import examine
from tinycohort.datasets.common.errors import DataError, TinycohortError, UsageError
from tinycohort.datasets.layouts import benchmarks
from tinycohort.datasets.layouts.benchmark_files import read_idx
from tinycohort.datasets.layouts.benchmarks import Benchmark, read_benchmark
from tinycohort.datasets.layouts.rings import rings_and_discs
from tinycohort.datasets.readers import Source, read_cohort
from tinycohort.datasets.splits import split_cohort

MNIST = ROOT.parent / "shared/data/mnist"
DRAWS = np.random.default_rng(0)
IMAGES = {"train": DRAWS.integers(0, 256, (60, 28, 28), dtype=np.uint8), "t10k": DRAWS.integers(0, 256, (20, 28, 28), dtype=np.uint8)}
LABELS = {side: (np.arange(len(images)) % 10).astype(np.uint8) for side, images in IMAGES.items()}
COLOURS = DRAWS.integers(0, 256, (30, 3, 32, 32), dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def idx_folder(folder: Path, packed: bool = True) -> Path:
    for side in IMAGES:
        for name, array in (("images-idx3", IMAGES[side]), ("labels-idx1", LABELS[side])):
            path = folder / f"{side}-{name}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    return folder


def cifar_folder(folder: Path) -> Path:
    for number in range(6):
        part = slice(5 * number, 5 * number + 5)
        records = np.concatenate([(np.arange(5, dtype=np.uint8) + number)[:, None] % 10, COLOURS[part].reshape(5, -1)], axis=1)
        (folder / (f"data_batch_{number + 1}.bin" if number < 5 else "test_batch.bin")).write_bytes(records.tobytes())
    return folder


def svhn_folder(folder: Path) -> Path:
    for side, part in (("train", slice(0, 20)), ("test", slice(20, 30))):
        labels = np.arange(1, 11, dtype=np.uint8)[np.arange(part.stop - part.start) % 10, None]
        savemat(folder / f"{side}_32x32.mat", {"X": COLOURS[part].transpose(2, 3, 1, 0), "y": labels}, do_compression=True)
    return folder


def celeba_folder(folder: Path) -> Path:
    (folder / "img_align_celeba").mkdir()
    lines, attributes = [], ["9", "Smiling Male"]
    for number in range(9):
        # The crop's edge is at column 19 and row 39: outside it all is white.
        picture = np.full((218, 178, 3), 255, dtype=np.uint8)
        picture[39:179, 19:159] = (20 * number, 100, 50)
        Image.fromarray(picture).save(folder / f"img_align_celeba/{number:06d}.jpg", quality=95)
        lines.append(f"{number:06d}.jpg {number // 3}")
        attributes.append(f"{number:06d}.jpg  1 {1 if number % 2 else -1}")
    (folder / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")
    (folder / "list_attr_celeba.txt").write_text("\n".join(attributes) + "\n")
    return folder


WRITERS: dict[str, Callable[[Path], Path]] = {
    "fashion-mnist": idx_folder,
    "cifar10": cifar_folder,
    "svhn": svhn_folder,
    "celeba": celeba_folder,
}


def counts(benchmark: Benchmark) -> dict[str, int]:
    return {side: int((benchmark.side == side).sum()) for side in ("train", "validation", "test")}


@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_gzipped_or_not(tmp_path, packed):
    benchmark = read_benchmark("fashion-mnist", idx_folder(tmp_path, packed))
    assert np.array_equal(benchmark.images[:, 0], np.concatenate(list(IMAGES.values())))
    assert benchmark.labels.tolist() == np.concatenate(list(LABELS.values())).tolist()
    assert counts(benchmark) == {"train": 50, "validation": 10, "test": 20}
    # The last of the training images select.
    assert (benchmark.side[50:60] == "validation").all()
    assert (benchmark.image_ids[59], benchmark.image_ids[60]) == ("train59", "test0")


def test_images_are_padded_with_zeros(tmp_path):
    cohort = read_cohort(Source("fashion-mnist", root=str(idx_folder(tmp_path))))
    images = cohort.arrays[cohort.table["split"] == "test"]
    assert (images.shape, images.dtype) == ((20, 32, 32), np.uint8)
    assert np.array_equal(images[:, 2:30, 2:30], IMAGES["t10k"])
    assert int((images != 0).sum()) == int((images[:, 2:30, 2:30] != 0).sum())


def test_cifar_is_read_in_its_binary_version(tmp_path):
    benchmark = read_benchmark("cifar10", cifar_folder(tmp_path))
    assert np.array_equal(benchmark.images, COLOURS)
    assert benchmark.labels[:10].tolist() == [0, 1, 2, 3, 4, 1, 2, 3, 4, 5]
    assert counts(benchmark) == {"train": 25, "validation": 0, "test": 5}


def test_svhn_labels_ten_as_nought(tmp_path):
    benchmark = read_benchmark("svhn", svhn_folder(tmp_path))
    assert np.array_equal(benchmark.images, COLOURS)
    assert benchmark.labels[:10].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert counts(benchmark) == {"train": 17, "validation": 3, "test": 10}


def test_celeba_is_cropped_to_its_middle(tmp_path):
    benchmark = read_benchmark("celeba", celeba_folder(tmp_path))
    assert benchmark.images.shape == (9, 3, 64, 64)
    assert counts(benchmark) == {"train": 3, "validation": 3, "test": 3}
    # Of the white around the crop nothing is left; JPEG rounds the rest.
    wanted = np.array([[20 * number, 100, 50] for number in range(9)])[:, :, None, None]
    assert np.abs(benchmark.images[:, :, 2:-2, 2:-2].astype(int) - wanted).max() < 12
    assert benchmark.images[:, 1:].max() < 180
    assert read_benchmark("celeba", tmp_path, label="Male").labels.tolist() == [0, 1] * 4 + [0]
    with pytest.raises(UsageError, match="no attribute 'Young'; it has: Smiling, Male"):
        read_benchmark("celeba", tmp_path, label="Young")


def test_rings_have_a_hole_and_discs_have_none():
    images, labels = rings_and_discs(200, seed=3)
    assert images.shape == (200, 1, 32, 32)
    filled = np.array([_hole(image[0]) == 0 for image in images])
    assert np.array_equal(filled, labels == 0)
    assert len({image.tobytes() for image in images}) == 200
    assert np.array_equal(rings_and_discs(50, seed=3)[0], images[:50])
    assert not np.array_equal(rings_and_discs(50, seed=4)[0], images[:50])
    benchmark = read_benchmark("rings-and-discs")
    assert counts(benchmark) == {"train": 700, "validation": 100, "test": 200}


def _hole(image: np.ndarray) -> int:
    """Dark pixels that the border does not reach."""
    from scipy.ndimage import label

    regions, _ = label(image < 128)
    return int(((image < 128) & (regions != regions[0, 0])).sum())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def rewrite(old: slice, new: bytes) -> Callable[[Path], None]:
    """Change bytes of an IDX file, which may be gzipped."""

    def change(path: Path) -> None:
        packed = path.suffix == ".gz"
        content = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
        content[old] = new
        path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))

    return change


def only_pickles(path: Path) -> None:
    for file in path.parent.iterdir():
        file.unlink()
    (path.parent / "data_batch_1").write_bytes(b"\x80\x02.")


TRAIN = "train-images-idx3-ubyte.gz"


@pytest.mark.parametrize(
    ("name", "file", "change", "says"),
    [
        ("fashion-mnist", TRAIN, Path.unlink, "has no train-images-idx3-ubyte or .*gz; download"),
        ("fashion-mnist", TRAIN, cut, "cannot be read .*end-of-stream"),
        ("fashion-mnist", TRAIN, lambda path: path.write_bytes(b""), "truncated: it ends in its header"),
        ("fashion-mnist", TRAIN, lambda path: path.write_bytes(b"<html>not found</html>"), "cannot be read"),
        ("fashion-mnist", TRAIN, rewrite(slice(2, 3), b"\x0d"), "begins with 00000d03, and IDX of unsigned bytes with 00000803"),
        ("fashion-mnist", TRAIN, rewrite(slice(4, 8), b"\xff" * 4), "claims the shape \\(4294967295, 28, 28\\), which its"),
        ("fashion-mnist", TRAIN, rewrite(slice(4, 8), bytes(4)), "claims the shape \\(0, 28, 28\\)"),
        ("fashion-mnist", TRAIN, rewrite(slice(7, 8), b"\x3d"), "claims the shape \\(61, 28, 28\\), and holds less"),
        ("fashion-mnist", TRAIN, rewrite(slice(7, 8), b"\x3b"), "claims the shape \\(59, 28, 28\\), and holds more"),
        ("fashion-mnist", TRAIN, rewrite(slice(11, 12), b"\x1b"), "and holds more"),
        ("fashion-mnist", TRAIN, lambda path: path.write_bytes(gzip.compress(idx(IMAGES["train"][:, :8]))), "28 x 28"),
        (
            "fashion-mnist",
            "t10k-labels-idx1-ubyte.gz",
            lambda path: path.write_bytes(gzip.compress(idx(LABELS["train"]))),
            "60 labels for 20",
        ),
        ("fashion-mnist", "t10k-labels-idx1-ubyte.gz", rewrite(slice(-1, None), b"\x0a"), "label 10, and the classes are 0 to 9"),
        ("cifar10", "data_batch_2.bin", Path.unlink, "has no data_batch_2.bin; download"),
        ("cifar10", "data_batch_2.bin", cut, "15345 bytes, which are no whole number of records of 3073"),
        ("cifar10", "data_batch_2.bin", lambda path: path.write_bytes(b""), "0 bytes"),
        (
            "cifar10",
            "test_batch.bin",
            lambda path: path.write_bytes(b"\x0b" + path.read_bytes()[1:]),
            "label 11, and the classes",
        ),
        ("cifar10", "test_batch.bin", only_pickles, "pickled and never read here; unpack cifar-10-binary.tar.gz"),
        ("svhn", "test_32x32.mat", Path.unlink, "has no test_32x32.mat"),
        ("svhn", "test_32x32.mat", cut, "MATLAB file"),
        ("svhn", "test_32x32.mat", lambda path: path.write_bytes(b""), "MATLAB file"),
        ("svhn", "test_32x32.mat", lambda path: path.write_bytes(b"MATLAB 7.3" + bytes(500)), "MATLAB file"),
        ("svhn", "test_32x32.mat", lambda path: savemat(path, {"X": np.zeros((32, 32, 3, 2), np.uint8)}), "not X of \\(32, 32, 3, n\\)"),
        ("svhn", "test_32x32.mat", lambda path: savemat(path, {"X": np.zeros((32, 32, 3, 2)), "y": [1, 2]}), "X of float64"),
        ("svhn", "test_32x32.mat", lambda path: savemat(path, {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": [0, 11]}), "not 1 to 10"),
        ("celeba", "list_eval_partition.txt", Path.unlink, "has no list_eval_partition.txt"),
        ("celeba", "list_eval_partition.txt", lambda path: path.write_text(""), "needs lines such as"),
        ("celeba", "list_eval_partition.txt", lambda path: path.write_text("000001.jpg 3\n"), "has the line '000001.jpg 3'"),
        ("celeba", "list_eval_partition.txt", lambda path: path.write_text("../000001.jpg 0\n"), "has the line '../000001.jpg 0'"),
        ("celeba", "list_eval_partition.txt", lambda path: path.write_bytes(b"\xff\xfe"), "cannot be read as text"),
        ("celeba", "img_align_celeba/000003.jpg", Path.unlink, "has no 000003.jpg, which list_eval_partition.txt names"),
        ("celeba", "img_align_celeba/000003.jpg", cut, "truncated"),
        ("celeba", "img_align_celeba/000003.jpg", lambda path: Image.new("RGB", (178, 178)).save(path), "178 x 178 pixels, not 218 x 178"),
    ],
)
def test_damaged_benchmarks(tmp_path, name, file, change, says):
    WRITERS[name](tmp_path)
    change(tmp_path / file)
    with pytest.raises(DataError, match=says):
        read_benchmark(name, tmp_path)


def test_a_header_that_lies_takes_no_memory(tmp_path):
    (tmp_path / "a").write_bytes(struct.pack(">BBBB3I", 0, 0, 8, 3, 2**31, 2**10, 2**10))
    tracemalloc.start()
    with pytest.raises(DataError, match="cannot hold"):
        read_idx(tmp_path / "a", 3)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("name", list(WRITERS))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_a_file_holds_there_is_a_result_or_one_of_our_errors(tmp_path_factory, name, data):
    folder = WRITERS[name](tmp_path_factory.mktemp("fuzz"))
    file = data.draw(st.sampled_from(sorted(path for path in folder.rglob("*") if path.is_file())))
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        # Headers are where damage does most.
        place = data.draw(st.one_of(st.integers(0, min(300, len(content) - 1)), st.integers(0, len(content) - 1)))
        content[place] = data.draw(st.integers(0, 255))
    file.write_bytes(content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))])
    try:
        benchmark = read_benchmark(name, folder)
    except TinycohortError:
        return
    assert len(benchmark.images) == len(benchmark.labels) == len(benchmark.side) == len(benchmark.image_ids)
    assert benchmark.labels.min() >= 0
    assert benchmark.labels.max() < len(benchmark.classes)


def test_what_is_not_mnist_does_not_pass_for_it(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="is not MNIST as it was published: its content has the digest"):
        read_benchmark("mnist", idx_folder(tmp_path))
    digest = read_benchmark("fashion-mnist", tmp_path).digest
    monkeypatch.setitem(benchmarks.PUBLICATIONS, "mnist", replace(benchmarks.PUBLICATIONS["mnist"], digest=digest))
    assert read_benchmark("mnist", tmp_path).digest == digest
    # A digest that nothing is known of is told.
    assert read_cohort(Source("mnist", root=str(tmp_path))).remarks == ()
    (told,) = read_cohort(Source("fashion-mnist", root=str(tmp_path))).remarks
    assert digest[:16] in told.what


def test_what_openml_sends_is_what_the_files_hold(tmp_path):
    from_files = read_benchmark("fashion-mnist", idx_folder(tmp_path))

    def fetch(name, *, version, as_frame, n_retries):
        assert (name, version, as_frame, n_retries) == ("Fashion-MNIST", 1, False, 1)
        n = slice(0, 10)  # 60 : 10, as the published sides
        images = np.concatenate([IMAGES["train"], IMAGES["t10k"][n]]).reshape(-1, 784).astype(float)
        return SimpleNamespace(data=images, target=np.concatenate([LABELS["train"], LABELS["t10k"][n]]).astype(str))

    fetched = read_benchmark("fashion-mnist", fetch=fetch)
    assert np.array_equal(fetched.images, from_files.images[:70])
    assert fetched.side.tolist() == from_files.side[:70].tolist()


@pytest.mark.parametrize("failure", [urllib.error.URLError("no route"), ValueError("not found"), ConnectionResetError("reset")])
def test_without_a_network_the_error_says_what_to_download(failure):
    def fetch(*args, **settings):
        raise failure

    with pytest.raises(DataError, match=r"could not be fetched from OpenML .*; download train-images-idx3-ubyte.gz.* give it as --root"):
        read_benchmark("mnist", fetch=fetch)
    with pytest.raises(DataError, match=r"CIFAR-10 is not fetched; download cifar-10-binary.tar.gz"):
        read_benchmark("cifar10")


def test_what_takes_no_root_and_no_label(tmp_path):
    for call, says in (
        (lambda: read_benchmark("imagenet"), "no benchmark 'imagenet'"),
        (lambda: read_benchmark("rings-and-discs", tmp_path), "leave out --root"),
        (lambda: read_benchmark("mnist", tmp_path, label="x"), "leave out --label-column x"),
        (lambda: read_cohort(Source("demo", root=str(tmp_path))), "--root is the folder of mnist"),
        (lambda: read_cohort(Source("mnist", table="x")), "leave out --table"),
    ):
        with pytest.raises(UsageError, match=says):
            call()
    with pytest.raises(DataError, match="There is no folder"):
        read_benchmark("mnist", tmp_path / "none")


@pytest.mark.parametrize("name", list(WRITERS))
def test_benchmarks_are_cohorts(tmp_path, monkeypatch, name):
    WRITERS[name](tmp_path)
    monkeypatch.setenv("WHERE", str(tmp_path))
    source = Source(name, root="$WHERE")
    assert source.resolved() == Source(name, root=str(tmp_path))
    cohort, benchmark = read_cohort(source), read_benchmark(name, tmp_path)
    assert cohort.arrays is not None
    assert cohort.arrays.dtype == np.uint8
    assert cohort.arrays.shape[1:] == ((64, 64) if name == "celeba" else (32, 32))
    assert cohort.table["label"].tolist() == [benchmark.classes[label] for label in benchmark.labels]
    assert cohort.table["image_id"][0] == f"{name}-train0"
    if benchmark.images.shape[1] == 3:
        grey = Image.fromarray(benchmark.images[4].transpose(1, 2, 0)).convert("L")
        assert np.abs(cohort.arrays[4].astype(int) - np.asarray(grey)).max() <= 1
    split = split_cohort(cohort, seed=0)
    for side in ("train", "test"):
        held = split.side(cohort, side)
        assert set(held.table["split"]) == {side}
    assert {split.sides[image] for image in cohort.table["image_id"][cohort.table["split"] == "test"]} == {"test"}
    assert len(split.side(cohort, "validation")) > 0
    if name != "celeba":
        assert examine(cohort, minimum=1).sound


@pytest.mark.skipif(not MNIST.is_dir(), reason="the folder shared/data/mnist is not beside this repository")
def test_mnist_itself():
    benchmark = read_benchmark("mnist", MNIST)
    assert counts(benchmark) == {"train": 50_000, "validation": 10_000, "test": 10_000}
    assert benchmark.digest == benchmarks.PUBLICATIONS["mnist"].digest
    assert benchmark.labels[:5].tolist() == [5, 0, 4, 1, 9]
