"""The poses in which two images are compared: one of them mirrored along an axis or not, and shifted by some voxels."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...augment.release.copying import REACH
from ...datasets.likeness import aligned_distances, standardised

CHUNK = 512  # images brought into a pose at a time


@dataclass(frozen=True)
class Pose:
    """How one image lies over another.

    Parameters
    ----------
    mirrored : int, optional
        The axis along which the other is mirrored, if it is.
    here, there : tuple of slice
        What overlaps, of the one and of the other once it is mirrored.
    """

    mirrored: int | None
    here: tuple[slice, ...]
    there: tuple[slice, ...]

    def of_one(self, images: Tensor) -> Tensor:
        """Images ``(n, ...)`` as they are, where others lie over them."""
        return images[:, *self.here]

    def of_others(self, images: Tensor) -> Tensor:
        """Images ``(m, ...)`` as they lie over others."""
        if self.mirrored is None:
            return images[:, *self.there]
        # What overlaps of a mirrored image is, along its axis, what overlaps of the other.
        cut = [self.here[axis] if axis == self.mirrored else side for axis, side in enumerate(self.there)]
        return images[:, *cut].flip(self.mirrored + 1)


def poses_by_shift(shape: Sequence[int]) -> Iterator[list[Pose]]:
    """All poses of images of this shape, those of one shift together, which share what they take of the one.

    Others are shifted by up to ``REACH`` voxels along each axis, and mirrored along no axis or one.
    """
    reach = REACH[len(shape)]
    for shift in itertools.product(range(-reach, reach + 1), repeat=len(shape)):
        here, there = (
            tuple(slice(max(0, sign * step), side + min(0, sign * step)) for step, side in zip(shift, shape, strict=True))
            for sign in (1, -1)
        )
        yield [Pose(axis, here, there) for axis in (None, *range(len(shape)))]


def posed_distances(some: NDArray[Any], others: NDArray[Any], device: torch.device | None = None) -> NDArray[np.float32]:
    """Aligned distances ``(n, m)`` between images ``(n, ...)`` and ``(m, ...)`` in the best pose for each two, where they overlap."""
    return mirrored_distances(some, others, device).min(axis=0)


def mirrored_distances(some: NDArray[Any], others: NDArray[Any], device: torch.device | None = None) -> NDArray[np.float32]:
    """As of ``posed_distances``, by the way in which the others are mirrored ``(1 + d, n, m)``: not at all, or along one of d axes."""
    shape, place = some.shape[1:], device or torch.device("cpu")
    fixed = torch.from_numpy(some).to(place)
    moving = fixed if others is some else torch.from_numpy(others).to(place)
    nearest = torch.full((1 + len(shape), len(some), len(others)), math.inf, device=place)
    for ways in poses_by_shift(shape):
        moved = [standardised(way.of_others(moving)) for way in ways]
        for start in range(0, len(some), CHUNK):
            part = slice(start, start + CHUNK)
            rows = standardised(ways[0].of_one(fixed[part]))
            for found, others_there in zip(nearest, moved, strict=True):
                torch.minimum(found[part], aligned_distances(rows, others_there), out=found[part])
    return nearest.cpu().numpy()
