"""One person under two names, found by likeness of their images: small versions of all, compared with each other.

A small version is standardised in place, so that neither brightness, contrast nor a bias field counts; noise, blur and shifts of a voxel or
two are gone with the detail. Framed anew by what is bright in it, it is compared as well: larger shifts and other fields of view do not
count either. Whether a likeness is more than that of two people, the law in ``likeness.py`` says, whatever is usual in the cohort: digits
are much alike, and no two of them more than others are.

Somebody may have three names, or four, whose images are alike one as the other. So it is the steps that are judged: from the nearest
person to the second, from the second to the third, up to ``NAMES``. The k-th power of the k-th ratio has the law of the first, whatever k,
and the step after ``NAMES`` says what is usual: it knows nothing of other names, be half the cohort there twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from nibabel.orientations import apply_orientation, io_orientation
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch.nn.functional import interpolate

from .likeness import aligned_distances, closeness_p, per_person, standardised
from .spaces import as_seen

SIDE = {2: 32, 3: 24}  # voxels a side of the small version of a slice, of a volume
LOCAL = 1 / 16  # of a side: within which an image is standardised
FLOOR = 0.5  # of an image's own usual contrast: what is less is background
TAIL, MARGIN = 0.02, 0.1  # of what is bright, left out at either end of an axis; of the rest, around it
NAMES = 3  # other names of one person that are looked for
LEVEL = 0.01  # probability of one pair or more in a cohort of different people
CANDIDATE = 0.1  # distance of small versions below which the images themselves are compared
SAME = 0.03  # distance of images (a correlation of 0.9995) that differ by a scale, an offset and their rounding alone
CHUNK = 256  # images compared with all others at a time
MOST = 20_000  # images: the work grows with their square


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


@dataclass(frozen=True)
class Likeness:
    """Two images, by row, that may be one person's.

    Parameters
    ----------
    rows : (int, int)
        In order.
    distance : float
        ``aligned_distances`` of their small versions.
    p : float
        How probable two people as alike are in a cohort of different people, for all who were looked at; above ``LEVEL`` it shows nothing.
    """

    rows: tuple[int, int]
    distance: float
    p: float

    @property
    def correlation(self) -> float:
        """Pearson's, of the small versions."""
        return 1 - self.distance**2 / 2


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


def look_alikes(smalls: Sequence[Small | None], people: Sequence[str], cohorts: Sequence[str] | None = None) -> list[Likeness]:
    """Pairs of images of different people that are too alike for two people, or may be copies of each other.

    Parameters
    ----------
    smalls : sequence of Small
        Small versions; slices are compared with slices, volumes with volumes, and ``None`` with nothing.
    people : sequence of str
        Whose each is.
    cohorts : sequence of str, optional
        Of which each is: those of one cohort are not compared.

    Returns
    -------
    list of Likeness
        By rows. Either ``p`` is at most ``LEVEL``, or ``distance`` at most ``CANDIDATE``.
    """
    found: list[Likeness] = []
    for axes in SIDE:
        rows = [row for row, small in enumerate(smalls) if small is not None and small.pixels.ndim == axes]
        if rows:
            parts = None if cohorts is None else np.array([cohorts[row] for row in rows])
            found += _among([smalls[row] for row in rows], np.array([people[row] for row in rows]), parts, rows)
    return sorted(found, key=lambda one: one.rows)


def same_but_scaled(one: tuple[NDArray[np.float32], NDArray | None], other: tuple[NDArray[np.float32], NDArray | None]) -> bool:
    """Whether two images, each with its affine, have the same voxels up to a scale and an offset, in space or as they are stored."""
    stored = [_stored(*image) for image in (one, other)]
    for images in ([_upright(*image) for image in stored], [image for image, _ in stored]):
        if images[0].shape == images[1].shape and aligned_distances(*(standardised(image[None]) for image in images))[0, 0] <= SAME:
            return True
    return False


def _among(
    smalls: Sequence[Small | None], people: NDArray[np.str_], cohorts: NDArray[np.str_] | None, rows: Sequence[int]
) -> list[Likeness]:
    looks = _views([small for small in smalls if small is not None])
    names, owner = np.unique(people, return_inverse=True)
    if len(names) < 2:
        return []
    if cohorts is None:
        nearest, distances = _neighbours(looks, people, lambda rows: owner[rows, None] != owner)
        return _mutual(nearest, distances, _evidence(distances), owner, rows)
    # What is usual, people say who are compared with their own cohort: of the other there may be few, or all there may be somebody here.
    if len(np.unique(cohorts)) < 2:
        return []
    _, own = _neighbours(looks, people, lambda rows: (cohorts[rows, None] == cohorts) & (owner[rows, None] != owner))
    nearest, distances = _neighbours(looks, people, lambda rows: cohorts[rows, None] != cohorts)
    enough = np.isfinite(own).all(axis=1)
    usual = _steps(own[enough])[:, -1] if own.shape[1] > NAMES + 1 else np.empty(0)
    return _mutual(nearest, distances, _evidence(distances, usual), owner, rows)


def _neighbours(
    looks: Sequence[NDArray[np.float32]], people: NDArray[np.str_], may: Callable[[slice], NDArray[np.bool_]]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The images ``(n, NAMES)`` of the people next to each, and the distances ``(n, NAMES + 2)`` to these people and two more.

    Of fewer people there are fewer; infinite where two images may not be compared, which ``may`` says of some rows and all others.
    """
    owner = np.unique(people, return_inverse=True)[1]  # the column of ``per_person``
    near = min(NAMES + 1, owner.max())
    nearest, distances = [], []
    for start in range(0, len(people), CHUNK):
        chunk = slice(start, start + CHUNK)
        between = np.min([aligned_distances(look[chunk], look) for look in looks], axis=0)
        between[~may(chunk)] = np.inf
        to_people, _ = per_person(between, people)
        next_to = np.argpartition(to_people, near, axis=1)[:, : near + 1]
        next_to = np.take_along_axis(next_to, np.take_along_axis(to_people, next_to, axis=1).argsort(axis=1), axis=1)
        distances.append(np.take_along_axis(to_people, next_to, axis=1).astype(np.float64))
        nearest.append([np.where(person[:, None] == owner, between, np.inf).argmin(axis=1) for person in next_to.T[:NAMES]])
    return np.concatenate(nearest, axis=1).T, np.concatenate(distances)


def _views(smalls: Sequence[Small]) -> list[NDArray[np.float32]]:
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


def _mutual(
    nearest: NDArray[np.int64], distances: NDArray[np.float64], p: NDArray[np.float64], owner: NDArray[np.int64], rows: Sequence[int]
) -> list[Likeness]:
    """The pairs of images whose people are next to each other, with the lesser evidence of both."""
    places = nearest.shape[1]
    evidence = {(row, owner[image]): p[row, place] for (row, place), image in np.ndenumerate(nearest)}
    near = np.isfinite(distances[:, :places]) & ((p[:, :places] <= LEVEL) | (distances[:, :places] <= CANDIDATE))
    found = {}
    for row, place in np.argwhere(near):
        image = int(nearest[row, place])
        # A nondescript image may have others around it that have nearer ones themselves: it takes both to say so.
        if (image, owner[row]) in evidence:
            both = np.fmax(p[row, place], evidence[image, owner[row]])
            if both <= LEVEL or distances[row, place] <= CANDIDATE:
                pair = (rows[min(row, image)], rows[max(row, image)])
                found[pair] = Likeness(pair, float(distances[row, place]), float(np.fmin(both, 1)))
    return list(found.values())


def _evidence(distances: NDArray[np.float64], usual: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """How probable it is that the person at each place, and all before, are so near in a cohort of different people, for all looks.

    NaN where there are too few people to tell. ``usual`` are ratios of people who are known to be different, by default those of the step
    after the last that is judged.
    """
    p = np.full(distances.shape, np.nan)
    # Of a cohort of few people the distances are fewer, and of two cohorts the images of each have other numbers of people to look at.
    counts = np.isfinite(distances).sum(axis=1)
    for people in np.unique(counts):
        rows, judged = counts == people, min(NAMES, people - (2 if usual is None else 1))
        if judged < 1:
            continue
        ratios = _steps(distances[rows, :people])
        known = ratios[:, judged] if usual is None else usual
        if len(known) == 0:
            continue
        of_step = [closeness_p(column, known) for column in ratios.T[:judged]]
        # What is improbable of the step after several people is so of each of them.
        p[rows, :judged] = np.minimum.accumulate(np.array(of_step)[::-1], axis=0)[::-1].T * (len(p) * judged)
    return p


def _steps(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """The k-th power of the ratio of the k-th distance to the next ``(n, places - 1)``."""
    near, following = distances[:, :-1], distances[:, 1:]
    return np.divide(near, following, out=np.ones_like(near), where=following > 0) ** np.arange(1, near.shape[1] + 1)


def _standardised_in_place(pixels: NDArray[np.float16]) -> NDArray[np.float32]:
    """Small versions ``(n, ...)`` as rows of ``standardised``, their mean and spread around each voxel taken out first."""
    rows = np.empty((len(pixels), pixels[0].size), dtype=np.float32)
    around = (0, *(side * LOCAL for side in pixels.shape[1:]))
    for start in range(0, len(pixels), CHUNK):
        chunk = slice(start, start + CHUNK)
        images = pixels[chunk].astype(np.float32)
        detail = images - gaussian_filter(images, around)
        spread = np.sqrt(gaussian_filter(np.square(detail), around))
        usual = spread.mean(axis=tuple(range(1, spread.ndim)), keepdims=True)
        rows[chunk] = standardised(np.divide(detail, spread + FLOOR * usual, out=np.zeros_like(detail), where=usual > 0))
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
