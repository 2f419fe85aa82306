"""The images that a model was trained on, read again: what its draws are held against."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...datasets.transforms import Images
from .nearest import nearest_images


@dataclass(frozen=True, eq=False)
class Nearest:
    """Distance of images to the nearest training image ``(n,)``, a root mean square over voxels, and whose that image is ``(n,)``."""

    distances: NDArray[np.floating]
    participants: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """Images ``(m, 1, ...)`` that a model was trained on, whose each is, and the people's ages if all are known."""

    images: Images
    people: tuple[str, ...]
    age: tuple[float, ...] | None = None

    def in_order(self, rows: Sequence[int]) -> "TrainingImages":
        """The same in another order, ``m`` rows."""
        rows = list(rows)
        if rows == sorted(rows):
            return self  # and no copy of all images
        age = None if self.age is None else tuple(self.age[row] for row in rows)
        return TrainingImages(self.images[rows], tuple(self.people[row] for row in rows), age)

    def nearest(self, images: Images) -> Nearest:
        """The nearest of these to each of ``images``."""
        distances, rows = nearest_images(images.pixels, self.images.pixels)
        return Nearest(distances, tuple(self.people[row] for row in rows))


def ages_of(table: pd.DataFrame) -> tuple[float, ...] | None:
    """The ages in the rows of a cohort's table, if all are known."""
    if "age" not in table:
        return None
    ages = pd.to_numeric(table["age"], errors="coerce")
    return None if ages.isna().any() else tuple(ages.astype(float))
