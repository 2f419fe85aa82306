"""Small versions of images, in which two images of one person are alike whatever else differs between them.

They are standardised in place, so that neither brightness, contrast nor a bias field counts; noise, blur and shifts of a voxel or two are
gone with the detail. Framed anew by what is bright in them, they are compared as well: larger shifts and other fields of view do not count
either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from nibabel.orientations import apply_orientation, io_orientation
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import interpolate

from .likeness import aligned_distances, standardised
from .spaces import as_seen

SIDE = {2: 32, 3: 24}  # voxels a side of the small version of a slice, of a volume
LOCAL = 1 / 16  # of a side: within which an image is standardised
FLOOR = 0.5  # of an image's own usual contrast: what is less is background
TAIL, MARGIN = 0.02, 0.1  # of what is bright, left out at either end of an axis; of the rest, around it
SAME = 0.03  # distance of images (a correlation of 0.9995) that differ by a scale, an offset and their rounding alone
CHUNK = 256  # images standardised at a time


@dataclass(frozen=True, eq=False)
class Small:
    """A small version of an image.

    Parameters
    ----------
    pixels : array (side, side) or (side, side, side)
        As they are stored, of mean 0 and standard deviation 1.
    turns : array (axes, 2), optional
        nibabel's orientation of the axes; ``None`` for a picture, which stands as it is seen.
    """

    pixels: NDArray[np.float16]
    turns: NDArray[Any] | None


def small_of(array: NDArray[np.float32], affine: NDArray[Any] | None) -> Small | None:
    """The small version of one plane or volume, as ``read_image`` returns it; ``None`` where it shows nothing."""
    image, turns = _stored(array, affine)
    side = SIDE[image.ndim]
    area = interpolate(torch.from_numpy(image)[None, None], size=(side,) * image.ndim, mode="area")[0, 0].double().numpy()
    with np.errstate(invalid="ignore"):  # sums beyond the range of float32
        spread = area.std()
    if not np.isfinite(spread) or spread == 0:
        return None
    return Small(((area - area.mean()) / spread).astype(np.float16), turns)


def same_but_scaled(one: tuple[NDArray[np.float32], NDArray | None], other: tuple[NDArray[np.float32], NDArray | None]) -> bool:
    """Whether two images, each with its affine, have the same voxels up to a scale and an offset, in space or as they are stored."""
    stored = [_stored(*image) for image in (one, other)]
    for images in ([_upright(*image) for image in stored], [image for image, _ in stored]):
        if images[0].shape != images[1].shape:
            continue
        one_row, other_row = (standardised(torch.tensor(image)[None]) for image in images)  # a copy: a mapped file is read-only
        if aligned_distances(one_row, other_row).item() <= SAME:
            return True
    return False


def views_of(smalls: Sequence[Small]) -> list[Tensor]:
    """Rows ``(n, voxels)``: upright; framed anew; and as they are stored, where headers differ in how images stand: one may be wrong."""
    upright = [_upright(small.pixels, small.turns) for small in smalls]
    views = [upright, [_framed(pixels) for pixels in upright]]
    if len({None if small.turns is None else small.turns.tobytes() for small in smalls}) > 1:
        views.append([small.pixels for small in smalls])
    return [_standardised_in_place(np.stack(view)) for view in views]


def _framed(pixels: NDArray[np.float16]) -> NDArray[np.float16]:
    """What is brighter than the mean, in the middle and as large in every image: shifts, sizes and margins do not count."""
    image = pixels.astype(np.float64)
    bright, side = np.clip(image - image.mean(), 0, None), len(image)
    for axis in range(image.ndim):
        along = np.cumsum(bright.sum(axis=tuple(other for other in range(image.ndim) if other != axis)))
        first, last = np.interp([TAIL, 1 - TAIL], np.concatenate([[0], along]) / along[-1], np.arange(side + 1))
        margin = MARGIN * (last - first)
        edges = np.linspace(first - margin, last + margin, side + 1)
        centres = np.clip((edges[:-1] + edges[1:]) / 2 - 0.5, 0, side - 1)
        linear = np.clip(1 - np.abs(centres[:, None] - np.arange(side)), 0, None)
        image = np.moveaxis(np.tensordot(linear, image, (1, axis)), 0, axis)
    return image.astype(np.float16)


def _standardised_in_place(pixels: NDArray[np.float16]) -> Tensor:
    """Small versions ``(n, ...)`` as rows of ``standardised``, their mean and spread around each voxel taken out first."""
    rows = torch.empty(len(pixels), pixels[0].size)
    around = (0, *(side * LOCAL for side in pixels.shape[1:]))
    for start in range(0, len(pixels), CHUNK):
        chunk = slice(start, start + CHUNK)
        images = pixels[chunk].astype(np.float32)
        detail = images - gaussian_filter(images, around)
        spread = np.sqrt(gaussian_filter(np.square(detail), around))
        usual = spread.mean(axis=tuple(range(1, spread.ndim)), keepdims=True)
        evened = np.divide(detail, spread + FLOOR * usual, out=np.zeros_like(detail), where=usual > 0)
        rows[chunk] = standardised(torch.from_numpy(evened))
    return rows


def _stored(array: NDArray[np.float32], affine: NDArray[Any] | None) -> tuple[NDArray[np.float32], NDArray[Any] | None]:
    """The plane or volume without a flat axis, and nibabel's orientation of its axes, of what has an affine."""
    image = np.asarray(array, dtype=np.float32)
    shape = (*image.shape, 1)[:3] if affine is not None else image.shape
    axes = [axis for axis, side in enumerate(shape) if side != 1]
    image = np.ascontiguousarray(image.reshape([shape[axis] for axis in axes]))
    return image, None if affine is None else io_orientation(affine)[axes]


def _upright(image: NDArray[Any], turns: NDArray[Any] | None) -> NDArray[Any]:
    """A volume in RAS, a slice as it is seen, which a picture is."""
    if turns is None:
        return image
    order = np.column_stack([turns[:, 0].argsort().argsort(), turns[:, 1]])
    placed = apply_orientation(image, order)
    return np.ascontiguousarray(placed if image.ndim == 3 else as_seen(placed))
