"""What `augment check` sees of one person under two names, on any cohort: false alarms, planted second names, and seconds.

Run as ``python benchmarks/two_names.py coronal=$OASIS/coronal axial=$OASIS/axial@axial mnist=mnist:$MNIST:10000``: a name for the table,
then a cohort, with ``@`` and a plane where it has several, or a benchmark with its folder and how many of its images are drawn at random.
Of ``--planted`` people, one after the other, a changed image is added under another name; pairs called are those of the cohort as it is.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tinycohort.datasets.check import array_of
from tinycohort.datasets.cohort import Cohort
from tinycohort.datasets.lookalikes import LEVEL, look_alikes
from tinycohort.datasets.readers import Source, read_cohort
from tinycohort.datasets.small_images import Small, small_of

Change = Callable[[NDArray[Any], np.random.Generator], Any]
BRIGHT = 0.05  # standard deviation of noise, of the range


def noisy(image: NDArray[Any], rng: np.random.Generator, share: float = BRIGHT) -> Any:
    return image + rng.normal(0, share * np.ptp(image), image.shape)


def turned(image: NDArray[Any], degrees: float) -> Any:
    return ndimage.rotate(image, degrees, axes=(0, 1), reshape=False, order=1)


def biased(image: NDArray[Any], share: float) -> Any:
    return image * np.linspace(1 - share, 1 + share, len(image)).reshape(-1, *[1] * (image.ndim - 1))


def visit(image: NDArray[Any], rng: np.random.Generator) -> Any:
    """Turned by up to 2 degrees, moved by up to a voxel, a bias field of 15 %, and noise."""
    moved = ndimage.shift(turned(image, rng.uniform(-2, 2)), rng.uniform(-1, 1, image.ndim), order=1)
    return noisy(biased(moved, 0.15), rng)


CHANGES: dict[str, Change] = {
    "noise 0.1": lambda image, rng: noisy(image, rng, 0.1),
    "moved 2 voxels": lambda image, rng: ndimage.shift(image, 2, order=1),
    "turned 2 degrees": lambda image, rng: turned(image, 2),
    "turned 4 degrees": lambda image, rng: turned(image, 4),
    "5 % larger": lambda image, rng: ndimage.zoom(image, 1.05, order=1)[tuple(slice(side) for side in image.shape)],
    "blur 2": lambda image, rng: ndimage.gaussian_filter(image, 2),
    "gamma 2": lambda image, rng: np.square((image - image.min()) / np.ptp(image)),
    "bias 30 %": lambda image, rng: biased(image, 0.3),
    "another visit": visit,
}


def read(text: str) -> Cohort:
    text, _, plane = text.partition("@")
    name, *rest = text.split(":")
    cohort = read_cohort(Source(name, root=rest[0] if rest else None, plane=plane or None))
    if len(rest) < 2:
        return cohort
    chosen = np.random.default_rng(0).choice(len(cohort), int(rest[1]), replace=False)
    return cohort.where(np.isin(np.arange(len(cohort)), chosen))


def called(smalls: Sequence[Small | None], people: Sequence[str]) -> set[tuple[int, int]]:
    return {one.rows for one in look_alikes(smalls, people) if one.p <= LEVEL}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cohorts", nargs="+")
    parser.add_argument("--planted", type=int, default=20)
    arguments = parser.parse_args()
    print(f"| cohort | images | people | pairs called | {' | '.join(CHANGES)} | small, s | compared, s |")
    print("|" + "---|" * (len(CHANGES) + 6))
    for given in arguments.cohorts:
        name, _, place = given.partition("=")
        cohort = read(place)
        people = cohort.table["participant_id"].tolist()
        images = [array_of(cohort, image) for image in cohort.table["image"]]
        seconds = [-time.process_time()]
        smalls = [small_of(*image) for image in images]
        seconds = [seconds[0] + time.process_time(), -time.process_time()]
        _, first = np.unique([image.tobytes() for image, _ in images], return_index=True)
        smalls = [small if row in set(first.tolist()) else None for row, small in enumerate(smalls)]
        alone = called(smalls, people)
        seconds[1] += time.process_time()
        rng = np.random.default_rng(1)
        chosen = rng.choice(np.sort(first), min(arguments.planted, len(first)), replace=False)
        found = dict.fromkeys(CHANGES, 0)
        for change, made in CHANGES.items():
            for row in chosen:
                image, affine = images[row]
                second = np.asarray(made(image.squeeze(), rng), dtype=np.float32).reshape(image.shape)
                found[change] += (row, len(smalls)) in called([*smalls, small_of(second, affine)], [*people, "another name"])
        told = " | ".join(f"{count} of {len(chosen)}" for count in found.values())
        print(f"| {name} | {len(cohort)} | {len(set(people))} | {len(alone)} | {told} | {seconds[0]:.1f} | {seconds[1]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
