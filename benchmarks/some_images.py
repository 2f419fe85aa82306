"""Some images of a published benchmark, by chance, as an ``.npz`` that ``augment fit --data`` reads: for docs/results/laws.md.

    python benchmarks/some_images.py pneumoniamnist.npz --train 100 100 --val 20 20 --test 250 250 --out pneumonia-100.npz
    python benchmarks/some_images.py mnist-folder --train 1428 --out digits.npz  # of all digits as one class, without sides

All are drawn from the published training side, without images that are equal to another to the last bit.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinycohort.datasets.layouts.benchmark_files import read_idx

SIDES = ("train", "val", "test")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="an .npz of MedMNIST, or the folder of MNIST's files")
    for side in SIDES:
        parser.add_argument(f"--{side}", type=int, nargs="+", default=[], help=f"images of each class on the {side} side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    images, labels = published(given.source)
    first = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)[1]
    order = np.random.default_rng(given.seed).permutation(np.sort(first))
    if len(given.train) == 1:
        chosen = order[: given.train[0]]
        np.savez_compressed(given.out, images=images[chosen], labels=np.full(len(chosen), "digit"))
        return
    arrays = {}
    begun = np.zeros(len(given.train), int)
    for side in SIDES:
        rows = []
        for label, count in enumerate(getattr(given, side)):
            rows.append(order[labels[order] == label][begun[label] : begun[label] + count])
            begun[label] += count
        arrays[f"{side}_images"] = images[np.concatenate(rows)]
        arrays[f"{side}_labels"] = labels[np.concatenate(rows)][:, None]
    np.savez_compressed(given.out, **arrays)


def published(source: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images and numbers of classes of the training side."""
    if source.is_dir():
        return read_idx(source / "train-images-idx3-ubyte.gz", 3), read_idx(source / "train-labels-idx1-ubyte.gz", 1).astype(np.int64)
    with np.load(source) as file:
        return file["train_images"], file["train_labels"][:, 0].astype(np.int64)


if __name__ == "__main__":
    main()
