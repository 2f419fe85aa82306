"""The files in which image benchmarks are published, read strictly: what a header claims is held against the file before memory is taken.

Nothing is unpickled: CIFAR-10 is read in its binary version.
"""

import gzip
import math
import re
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..common.errors import DataError, UsageError
from ..common.machine import is_too_much
from ..formats.damage import TIGHTEST_DEFLATE
from ..formats.pictures import read_colours

MOST_VALIDATION = 10_000  # training images that Appendix D of the paper selects by, of MNIST and SVHN
CELEBA_SIDE = 64
_CELEBA_SIZE, _CELEBA_CROP = (218, 178), 140
_CELEBA_SIDES = {"0": "train", "1": "validation", "2": "test"}
_CIFAR_RECORD = 1 + 3 * 32 * 32
_ANEW = "obtain the file anew"


class Content(NamedTuple):
    """What a benchmark's files hold: images ``(n, c, H, W)`` uint8, labels ``(n,)`` from 0, the published side and ours, the classes."""

    images: np.ndarray
    labels: np.ndarray
    official: np.ndarray
    side: np.ndarray
    classes: tuple[str, ...]


def two_sides(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], classes: tuple[str, ...], *, validation: bool
) -> Content:
    """Put the two published sides together; ``validation`` keeps the last of the training images (10,000, at most a sixth) to select by."""
    official = np.repeat(["train", "test"], [len(train[1]), len(test[1])])
    side = official.astype("<U10")
    if validation:
        kept = min(MOST_VALIDATION, len(train[1]) // 6)
        side[len(train[1]) - kept : len(train[1])] = "validation"
    images, labels = (np.concatenate(parts) for parts in zip(train, test, strict=True))
    return Content(images, labels.astype(np.int64), official, side, classes)


def read_idx_folder(folder: Path, classes: tuple[str, ...]) -> Content:
    """Read the four IDX files of MNIST and Fashion-MNIST, each gzipped or not."""
    return two_sides(_idx_side(folder, "train", len(classes)), _idx_side(folder, "t10k", len(classes)), classes, validation=True)


def _idx_side(folder: Path, side: str, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    files = [_find(folder, f"{side}-{what}", f"{side}-{what}.gz") for what in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    images, labels = (read_idx(file, n_axes) for file, n_axes in zip(files, (3, 1), strict=True))
    if images.shape[1:] != (28, 28):
        raise DataError(f"{files[0]} holds images of {images.shape[1]} x {images.shape[2]}, not of 28 x 28; {_ANEW}.")
    return images[:, None], _labels(labels, len(images), n_classes, files[1])


def read_idx(path: Path, n_axes: int) -> np.ndarray:
    """Read one IDX file of unsigned bytes with so many axes.

    Raises
    ------
    DataError
        If its magic number, its type, its number of axes or its counts are not what the file holds, or its gzip stream is damaged.
    """
    magic, packed = bytes((0, 0, 8, n_axes)), path.suffix == ".gz"
    try:
        size = path.stat().st_size
        with gzip.open(path) if packed else path.open("rb") as stream:
            header = stream.read(4 + 4 * n_axes)
            if len(header) < 4 + 4 * n_axes:
                raise DataError(f"{path} is truncated: it ends in its header; {_ANEW}.")
            if header[:4] != magic:
                raise DataError(f"{path} begins with {header[:4].hex()}, and IDX of unsigned bytes with {magic.hex()}; {_ANEW}.")
            shape = struct.unpack(f">{n_axes}I", header[4:])
            needed = math.prod(shape)
            room = size * TIGHTEST_DEFLATE if packed else size - len(header)
            if not 0 < needed <= room or is_too_much(needed):
                raise DataError(f"{path} claims the shape {shape}, which its {size} bytes or this machine's memory cannot hold; {_ANEW}.")
            # A byte more than is needed: it tells a file that is too long, and takes gzip to its end, where it checks its CRC.
            content = stream.read(needed + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({str(error) or type(error).__name__}); {_ANEW}.") from error
    if len(content) != needed:
        raise DataError(f"{path} claims the shape {shape}, and holds {'more' if len(content) > needed else 'less'}; {_ANEW}.")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def read_cifar_folder(folder: Path, classes: tuple[str, ...]) -> Content:
    """Read CIFAR-10's binary version: a label and 3 x 32 x 32 bytes a record. No validation: the paper selects by training."""
    inner = folder / "cifar-10-batches-bin"
    folder = inner if inner.is_dir() else folder
    if not any(folder.glob("*_batch*.bin")):
        pickled = [place for place in (folder, folder / "cifar-10-batches-py") if (place / "data_batch_1").exists()]
        if pickled:
            raise DataError(
                f"{pickled[0]} holds the version of CIFAR-10 for Python, which is pickled and never read here; unpack "
                "cifar-10-binary.tar.gz of https://www.cs.toronto.edu/~kriz/cifar.html there."
            )
    train = [_cifar_batch(_find(folder, f"data_batch_{number}.bin"), len(classes)) for number in range(1, 6)]
    images, labels = (np.concatenate(parts) for parts in zip(*train, strict=True))
    return two_sides((images, labels), _cifar_batch(_find(folder, "test_batch.bin"), len(classes)), classes, validation=False)


def _cifar_batch(path: Path, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    size = path.stat().st_size
    if size == 0 or size % _CIFAR_RECORD:
        raise DataError(f"{path} has {size} bytes, which are no whole number of records of {_CIFAR_RECORD}; {_ANEW}.")
    records = np.fromfile(path, dtype=np.uint8).reshape(-1, _CIFAR_RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32), _labels(records[:, 0], len(records), n_classes, path)


def read_svhn_folder(folder: Path, classes: tuple[str, ...]) -> Content:
    """Read SVHN's cropped digits from their MATLAB files, in which 10 stands for 0."""
    train, test = (_svhn_side(_find(folder, f"{side}_32x32.mat")) for side in ("train", "test"))
    return two_sides(train, test, classes, validation=True)


def _svhn_side(path: Path) -> tuple[np.ndarray, np.ndarray]:
    # SciPy takes a while to import, which no other benchmark needs.
    from scipy.io import loadmat, whosmat

    try:
        shapes = {name: shape for name, shape, _ in whosmat(path)}
    except Exception as error:  # whatever its parser meets in a damaged file, it raises as it comes
        raise DataError(f"{path} cannot be read as a MATLAB file ({error}); {_ANEW}.") from error
    shape = shapes.get("X", ())
    if len(shape) != 4 or shape[:3] != (32, 32, 3) or math.prod(shapes.get("y", ())) != shape[3]:
        raise DataError(f"{path} holds {shapes or 'nothing'}, not X of (32, 32, 3, n) and y of (n, 1); {_ANEW}.")
    size = path.stat().st_size
    if not 0 < math.prod(shape) <= size * TIGHTEST_DEFLATE or is_too_much(math.prod(shape)):
        raise DataError(f"{path} claims the shape {shape}, which its {size} bytes or this machine's memory cannot hold; {_ANEW}.")
    try:
        content = loadmat(path, variable_names=["X", "y"])
        images, labels = content["X"], np.asarray(content["y"]).ravel()
    except Exception as error:
        raise DataError(f"{path} cannot be read as a MATLAB file ({error}); {_ANEW}.") from error
    if images.dtype != np.uint8 or images.shape != shape or labels.dtype.kind not in "biuf" or not np.isin(labels, range(1, 11)).all():
        raise DataError(f"{path} holds X of {images.dtype} and labels that are not 1 to 10; {_ANEW}.")
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1)), labels.astype(np.int64) % 10


def read_celeba_folder(folder: Path, classes: tuple[str, ...], label: str | None = None) -> Content:
    """Read CELEBA's aligned pictures: the middle 140 x 140 (as WAE and RAE took it) brought to 64 x 64, on the official three sides.

    The pixels lie in a temporary file that the operating system pages in and out: the whole of CELEBA is 2.5 GB.

    Parameters
    ----------
    folder : Path
        With ``list_eval_partition.txt`` and ``img_align_celeba/``.
    classes : tuple of str
        What everything is called without a ``label``.
    label : str, optional
        A column of ``list_attr_celeba.txt``: the classes are then ``no`` and ``yes``.
    """
    partition = _find(folder, "list_eval_partition.txt", "Eval/list_eval_partition.txt")
    rows = [line.split() for line in _text(partition).splitlines() if line.strip()]
    wrong = next((row for row in rows if len(row) != 2 or row[1] not in _CELEBA_SIDES or not re.fullmatch(r"[\w-]+\.jpg", row[0])), None)
    if wrong or not rows:
        raise DataError(f"{partition} has the line '{' '.join(wrong or [])}', and needs lines such as '000001.jpg 0'; {_ANEW}.")
    names = [name for name, _ in rows]
    side = np.array([_CELEBA_SIDES[number] for _, number in rows])
    labels = np.zeros(len(rows), dtype=np.int64)
    if label is not None:
        attributes = _celeba_attribute(_find(folder, "list_attr_celeba.txt", "Anno/list_attr_celeba.txt"), label)
        missing = next((name for name in names if name not in attributes), None)
        if missing:
            raise DataError(f"list_attr_celeba.txt in {folder} has no row {missing}; {_ANEW}.")
        labels, classes = np.array([attributes[name] for name in names], dtype=np.int64), ("no", "yes")
    pictures = next((place for place in (folder / "img_align_celeba", folder / "Img/img_align_celeba") if place.is_dir()), folder)
    absent = next((name for name in names if not (pictures / name).is_file()), None)
    if absent:
        raise DataError(f"{pictures} has no {absent}, which {partition.name} names; unpack img_align_celeba.zip there.")
    with tempfile.TemporaryFile() as pages:
        for name in names:
            # Written, not mapped from the start: a full disk is then an error, and no SIGBUS.
            pages.write(read_colours(pictures / name, size=_CELEBA_SIZE, crop=_CELEBA_CROP, side=CELEBA_SIDE).tobytes())
        pages.flush()
        images = np.memmap(pages, dtype=np.uint8, mode="r", shape=(len(rows), 3, CELEBA_SIDE, CELEBA_SIDE))
    return Content(images, labels, side, side, classes)


def _celeba_attribute(path: Path, label: str) -> dict[str, int]:
    lines = _text(path).splitlines()
    columns = lines[1].split() if len(lines) > 1 else []
    if label not in columns:
        raise UsageError(f"{path} has no attribute '{label}'; it has: {', '.join(columns)}.")
    column = columns.index(label) + 1
    values = {}
    for number, line in enumerate(lines[2:], start=3):
        fields = line.split()
        if len(fields) != len(columns) + 1 or fields[column] not in ("1", "-1"):
            raise DataError(f"Line {number} of {path} is no row of attributes, each 1 or -1; {_ANEW}.")
        values[fields[0]] = int(fields[column] == "1")
    return values


def from_openml(name: str, version: int, classes: tuple[str, ...], fetch: Callable[..., Any] | None = None) -> Content:
    """MNIST or Fashion-MNIST as scikit-learn fetches it from OpenML, once, in the order of the published files.

    Raises
    ------
    OSError, ValueError
        If there is no network, or what came is not this.
    """
    if fetch is None:
        # scikit-learn takes a second to import, which no other benchmark needs.
        from sklearn.datasets import fetch_openml as fetch
    bunch = fetch(name, version=version, as_frame=False, n_retries=1)
    images, labels = np.asarray(bunch.data), np.asarray(bunch.target).astype(np.int64)
    if (
        len(labels) < 7
        or images.shape != (len(labels), 784)
        or not (np.isin(labels, range(10)).all() and 0 <= images.min() <= images.max() <= 255)
    ):
        raise ValueError("what OpenML sent is no table of 28 x 28 images of ten classes")
    images = images.astype(np.uint8).reshape(-1, 1, 28, 28)
    n = len(labels) * 6 // 7
    return two_sides((images[:n], labels[:n]), (images[n:], labels[n:]), classes, validation=True)


def _find(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder} has no {' or '.join(names)}; download it there.")


def _labels(labels: np.ndarray, n: int, n_classes: int, path: Path) -> np.ndarray:
    if len(labels) != n:
        raise DataError(f"{path} has {len(labels)} labels for {n} images; {_ANEW}.")
    if labels.max() >= n_classes:
        raise DataError(f"{path} has the label {labels.max()}, and the classes are 0 to {n_classes - 1}; {_ANEW}.")
    return labels


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as text ({error}); {_ANEW}.") from error
