"""The images that a model was trained on, read again: what its draws are held against."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...datasets.cohort import Cohort, people_of
from ...datasets.together import Pairs, one_name_each
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

    @classmethod
    def of(cls, images: Images, cohort: Cohort) -> "TrainingImages":
        """Those of a cohort, as they were prepared, and whose they are: ``people_in``."""
        return cls(images, people_in(cohort.table, cohort.alike), ages_of(cohort.table))

    def nearest(self, images: Images) -> Nearest:
        """The nearest of these to each of ``images``."""
        distances, rows = nearest_images(images.pixels, self.images.pixels)
        return Nearest(distances, tuple(self.people[row] for row in rows))


def people_in(table: pd.DataFrame, alike: Pairs) -> tuple[str, ...]:
    """Whose each image of a cohort's table is, as the source spells it: who may be one (``Cohort.alike``) has the first name that is there.

    Under two names nobody would see a copy of them, which is as near to the one as to the other.
    """
    people = one_name_each(table["participant_id"], alike)
    names: dict[str, str] = {}
    for person, name in zip(people, people_of(table), strict=True):
        names.setdefault(person, name)
    return tuple(names[person] for person in people)


def ages_of(table: pd.DataFrame) -> tuple[float, ...] | None:
    """The ages in the rows of a cohort's table, if all are known."""
    if "age" not in table:
        return None
    ages = pd.to_numeric(table["age"], errors="coerce")
    return None if ages.isna().any() else tuple(ages.astype(float))
