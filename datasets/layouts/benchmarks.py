"""The image benchmarks of the paper's studies, on their official sides: MNIST, Fashion-MNIST, CIFAR-10, SVHN, CELEBA, rings and discs."""

import hashlib
import http.client
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..cohort import Cohort, Problem
from ..common.errors import DataError, UsageError
from ..common.files import expanded
from .arrays import as_grey
from .benchmark_files import Content, from_openml, read_celeba_folder, read_cifar_folder, read_idx_folder, read_svhn_folder
from .rings import rings_and_discs
from .table import cohort_table

SMALLEST = 32  # pixels a side: what the paper's networks take, so that MNIST is padded with zeros (Appendix D)
_CHUNK = 10_000  # images that are turned to grey, or hashed, at a time
_DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Publication:
    """A benchmark as it is published: its reader and classes, what to download, and the digest of its content where we know it."""

    title: str
    read: Callable[..., Content]
    classes: tuple[str, ...]
    download: str
    licence: str = ""
    openml: tuple[str, int] | None = None
    digest: str | None = None


PUBLICATIONS: dict[str, Publication] = {
    "mnist": Publication(
        "MNIST",
        read_idx_folder,
        _DIGITS,
        "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz "
        "(https://ossci-datasets.s3.amazonaws.com/mnist/)",
        "CC BY-SA 3.0",
        ("mnist_784", 1),
        # content_digest of the four files whose unpacked bytes have the MD5 that torchvision knows (6bbc9ace..., a25bea73..., 2646ac64...,
        # 27ae3e4e...).
        "1934b35f0e63b63d9aa4885cee58aab705a6fb58d24c643a28acbe7f073b4b0a",
    ),
    "fashion-mnist": Publication(
        "Fashion-MNIST",
        read_idx_folder,
        _DIGITS,
        "the four files of https://github.com/zalandoresearch/fashion-mnist, named as MNIST's",
        "MIT",
        ("Fashion-MNIST", 1),
    ),
    "cifar10": Publication(
        "CIFAR-10",
        read_cifar_folder,
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        "cifar-10-binary.tar.gz (https://www.cs.toronto.edu/~kriz/cifar.html), unpacked,",
    ),
    "svhn": Publication(
        "SVHN",
        read_svhn_folder,
        _DIGITS,
        "train_32x32.mat and test_32x32.mat (http://ufldl.stanford.edu/housenumbers/)",
        "non-commercial use",
    ),
    "celeba": Publication(
        "CELEBA",
        read_celeba_folder,
        ("face",),
        "img_align_celeba.zip, unpacked, and list_eval_partition.txt (https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html)",
        "non-commercial research",
    ),
}
TOY = "rings-and-discs"
BENCHMARKS = (*PUBLICATIONS, TOY)


@dataclass(frozen=True, eq=False)
class Benchmark:
    """Images with their classes and official sides.

    Parameters
    ----------
    name : str
        One of ``BENCHMARKS``.
    images : numpy.ndarray of uint8, shape (n, c, H, W)
        As they are published (CELEBA at 64 x 64); of one or three colours.
    labels : numpy.ndarray of int64, shape (n,)
        Indices of ``classes``.
    side : numpy.ndarray of str, shape (n,)
        train, validation or test. The validation side is the last 10,000 training images of MNIST, Fashion-MNIST and SVHN, and the official
        one of CELEBA; CIFAR-10 has none.
    digest : str
        ``content_digest`` of images and labels.
    source : str
        Where they were read from.
    classes : tuple of str
    image_ids : tuple of str
        The published side and the number in it.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    side: np.ndarray
    digest: str
    source: str
    classes: tuple[str, ...]
    image_ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


def read_benchmark(
    name: str, root: str | Path | None = None, *, label: str | None = None, fetch: Callable[..., Any] | None = None
) -> Benchmark:
    """Read a benchmark by name.

    Parameters
    ----------
    name : str
        One of ``BENCHMARKS``.
    root : str or Path, optional
        The folder of its published files. Without it MNIST and Fashion-MNIST are fetched from OpenML and kept by scikit-learn.
    label : str, optional
        For CELEBA, the attribute that makes the classes.
    fetch : callable, optional
        What to call in place of ``sklearn.datasets.fetch_openml``.

    Raises
    ------
    DataError
        If files are missing or damaged, cannot be downloaded, or are not what their name says.
    UsageError
        If there is no such benchmark, or it takes no ``root`` or no ``label``.
    """
    if name not in BENCHMARKS:
        raise UsageError(f"There is no benchmark '{name}'; choose one of: {', '.join(BENCHMARKS)}.")
    if label is not None and name != "celeba":
        raise UsageError(f"{name} has labels of its own; leave out --label-column {label}.")
    if name == TOY:
        if root is not None:
            raise UsageError(f"{TOY} is made here; leave out --root {root}.")
        return _toy()
    published = PUBLICATIONS[name]
    if root is None:
        content = _fetched(name, published, fetch)
        source = f"OpenML {published.openml}"
    else:
        folder = expanded(root)
        if not folder.is_dir():
            raise DataError(f"There is no folder {folder}; put {published.download} in it, or give another --root.")
        try:
            content = published.read(folder, published.classes, *([label] if label else []))
        except OSError as error:
            raise DataError(
                f"{error.filename or folder} cannot be read ({error.strerror or error}); mend that, or obtain it anew."
            ) from error
        source = str(folder)
    digest = content_digest(content.images, content.labels)
    if published.digest not in (None, digest):
        raise DataError(
            f"{source} is not {published.title} as it was published: its content has the digest {digest[:16]}..., not "
            f"{published.digest[:16]}...; download {published.download} anew."
        )
    return _benchmark(name, content, digest, source)


def read_cohort_of(name: str, label: str | None, root: str | None) -> Cohort:
    """Read a benchmark as a cohort: grey, padded to 32 x 32, each image a participant, the sides in the column ``split``."""
    benchmark = read_benchmark(name, root, label=label)
    arrays = np.empty((len(benchmark), *_padded(benchmark.images[:1]).shape[2:]), dtype=np.uint8)
    for start in range(0, len(benchmark), _CHUNK):
        part = _padded(benchmark.images[start : start + _CHUNK])
        arrays[start : start + _CHUNK] = part[:, 0] if part.shape[1] == 1 else as_grey(np.moveaxis(part, 1, -1))
    # With the name, so that images of two benchmarks are nobody's twice.
    names = [f"{name}-{image}" for image in benchmark.image_ids]
    rows = [
        {"image_id": image, "participant_id": image, "image": row, "label": benchmark.classes[number], "split": side}
        for row, (image, number, side) in enumerate(zip(names, benchmark.labels.tolist(), benchmark.side.tolist(), strict=True))
    ]
    published = PUBLICATIONS.get(name)
    what = f"content of digest {benchmark.digest[:16]}..., and none is known to compare it with"
    unknown = Problem(name, benchmark.source, what, "compare it with that of another copy, if in doubt")
    return Cohort(
        name=published.title if published else name,
        table=cohort_table(rows),
        source=name,
        arrays=arrays,
        licence=published.licence if published else "",
        remarks=(unknown,) if published is not None and published.digest is None else (),
    )


def content_digest(images: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256 of decoded images ``(n, c, H, W)`` uint8 and labels ``(n,)``, in their order (training first), whatever packed them."""
    digest = hashlib.sha256(repr(images.shape).encode())
    for start in range(0, len(images), _CHUNK):
        digest.update(np.ascontiguousarray(images[start : start + _CHUNK]).tobytes())
    digest.update(labels.astype("<i8").tobytes())
    return digest.hexdigest()


def _fetched(name: str, published: Publication, fetch: Callable[..., Any] | None) -> Content:
    mend = f"download {published.download} into a folder, and give it as --root"
    if published.openml is None:
        raise DataError(f"{published.title} is not fetched; {mend}.")
    try:
        return from_openml(*published.openml, published.classes, fetch)
    except (OSError, ValueError, http.client.HTTPException) as error:
        told = str(error).strip().splitlines()
        raise DataError(f"{name} could not be fetched from OpenML ({told[0] if told else type(error).__name__}); {mend}.") from error


def _toy() -> Benchmark:
    images, labels = rings_and_discs()
    # 70 % train, 10 % validation and 20 % test; both kinds on each, as they alternate.
    side = np.repeat(["train", "validation", "test"], [700, 100, 200])
    content = Content(images, labels, np.repeat("image", len(labels)), side, ("disc", "ring"))
    return _benchmark(TOY, content, content_digest(images, labels), TOY)


def _benchmark(name: str, content: Content, digest: str, source: str) -> Benchmark:
    numbers = np.empty(len(content.official), dtype=int)
    for side in np.unique(content.official):
        rows = np.flatnonzero(content.official == side)
        numbers[rows] = np.arange(len(rows))
    ids = tuple(f"{side}{number}" for side, number in zip(content.official.tolist(), numbers.tolist(), strict=True))
    return Benchmark(name, content.images, content.labels, content.side, digest, source, content.classes, ids)


def _padded(images: np.ndarray) -> np.ndarray:
    """Images ``(n, c, H, W)``, with zeros around where they are smaller than 32 x 32."""
    lacks = [max(0, SMALLEST - side) for side in images.shape[2:]]
    return np.pad(images, ((0, 0), (0, 0), *((lack // 2, lack - lack // 2) for lack in lacks)))
