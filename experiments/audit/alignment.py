"""Every image beside the few people who are most like it, each brought to it by a smooth displacement.

A patient who was turned, scaled, cut or bent differs from the copy in place as much as from anybody else. Brought to it, they fit, and
others do not. Nobody sees these images, so the displacement need not be invertible (`augment/detail/registration.py` is for those that
are seen): it is cubic (in volumes linear) between few knots, and is found in two steps: of many people roughly, of the best of them well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ...datasets.likeness import standardised
from ...datasets.warping import between, warped
from .poses import mirrored_distances
from .scales import SCALES, local_contrast, smoothed

CANDIDATES, KEPT = 16, 5  # people who are brought to an image roughly, and well
STIFFNESS = 0.5  # of the mean squared strain, against the squared difference of images of variance 1
LEARNING_RATE = 0.03  # of Adam, in halves of a side
BATCH = 2**19  # voxels that are moved at once


@dataclass(frozen=True)
class Step:
    """One step of a search: longest ``side`` of the smaller image, by the dimensions, ``knots`` along it, one after the other, ``n_steps``
    of Adam for each, and by how many voxels the images are ``blurred`` before."""

    side: dict[int, int]
    knots: dict[int, tuple[int, ...]]
    n_steps: int
    blurred: float


ROUGH = Step({2: 20, 3: 12}, {2: (2, 4), 3: (2, 3)}, 20, 2)
WELL = Step({2: 40, 3: 20}, {2: (4, 8), 3: (3, 5)}, 25, 1)
SEEN_AT = {2: 28, 3: 14}  # longest side at which candidates are chosen


@dataclass(frozen=True, eq=False)
class Aligned:
    """The people most like images, and how far they are once they are brought to them.

    Parameters
    ----------
    who : array (n, k)
        Rows of the people's images.
    distances : mapping
        From a scale (``SCALES``) to aligned distances ``(n, k)``; infinite of those with whom an image must not be compared, who fill up
        where there are too few others.
    """

    who: NDArray[np.int64]
    distances: Mapping[str, NDArray[np.float64]]


def align(
    images: Tensor,
    people: Tensor,
    owners: ArrayLike,
    own: ArrayLike | None = None,
    *,
    scales: Sequence[str],
    device: torch.device | None = None,
) -> Aligned:
    """Bring to each image ``(n, 1, ...)`` the people who are most like it, of ``people`` ``(m, 1, ...)`` that show ``owners`` ``(m,)``.

    Parameters
    ----------
    images, people : torch.Tensor
    owners : array (m,)
    own : array (n,), optional
        Whom the images show, with whom they are not compared.
    scales : sequence of str
        At which both are compared then.
    device : torch.device, optional
        Where people are brought to images, which is what takes long.
    """
    place = device or torch.device("cpu")
    if not len(images):
        return Aligned(np.zeros((0, KEPT), dtype=np.int64), {name: np.zeros((0, KEPT)) for name in scales})
    distances, mirrored = _seen(images, people, place)
    names = np.asarray(owners).astype(str)
    if own is not None:
        distances[np.asarray(own).astype(str)[:, None] == names] = np.inf
    who = _nearest_of_each(distances, names, CANDIDATES)
    axes = np.take_along_axis(mirrored, who, axis=1)
    barred = np.isinf(np.take_along_axis(distances, who, axis=1))
    rough, difference = _moved(images, people, who, axes, ROUGH, place)
    best = np.where(barred, np.inf, difference).argsort(axis=1)[:, :KEPT]
    who, axes = (np.take_along_axis(part, best, axis=1) for part in (who, axes))
    start = torch.take_along_dim(rough, torch.from_numpy(best).reshape(*best.shape, *[1] * (rough.ndim - 2)), dim=1)
    well, _ = _moved(images, people, who, axes, WELL, place, start)
    barred = np.take_along_axis(barred, best, axis=1)
    found = {name: np.full(who.shape, np.inf) for name in scales}
    at_once = max(1, BATCH // images[0].numel())
    for first in range(0, len(images), at_once):
        rows = slice(first, first + at_once)
        for k in range(who.shape[1]):
            moved = _move(_mirrored(people, who[rows, k], axes[rows, k]).to(place), well[rows, k].to(place)).cpu()
            for name, into in found.items():
                here, there = (standardised(SCALES[name](part)) for part in (images[rows], moved))
                into[rows, k] = torch.linalg.vector_norm(here.double() - there, dim=1).numpy()
    return Aligned(who, {name: np.where(barred, np.inf, into) for name, into in found.items()})


def _seen(images: Tensor, people: Tensor, place: torch.device) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Distances ``(n, m)`` by the local contrast of small images, and the axis (from 1; 0 for none) along which each is mirrored best."""
    small = [_contrast(_small(smoothed(part, 1), SEEN_AT))[:, 0].numpy() for part in (images, people)]
    distances = mirrored_distances(small[0], small[1], place)
    best = distances.argmin(axis=0)
    return np.take_along_axis(distances, best[None], axis=0)[0], best


def _nearest_of_each(distances: NDArray[np.floating], names: NDArray[np.str_], k: int) -> NDArray[np.int64]:
    """Of each of the ``k`` nearest people the nearest image: rows ``(n, k)``."""
    columns = [np.flatnonzero(names == name) for name in np.unique(names)]
    nearest = np.stack([rows[distances[:, rows].argmin(axis=1)] for rows in columns], axis=1)
    order = np.take_along_axis(distances, nearest, axis=1).argsort(axis=1, kind="stable")[:, :k]
    return np.take_along_axis(nearest, order, axis=1)


def _mirrored(people: Tensor, rows: NDArray[np.int64], axes: NDArray[np.int64]) -> Tensor:
    chosen = people[torch.from_numpy(rows)]
    for axis in range(1, chosen.ndim - 1):
        along = torch.from_numpy(axes == axis)
        chosen[along] = chosen[along].flip(axis + 1)
    return chosen


def _moved(
    images: Tensor,
    people: Tensor,
    who: NDArray[np.int64],
    axes: NDArray[np.int64],
    step: Step,
    place: torch.device,
    start: Tensor | None = None,
) -> tuple[Tensor, NDArray[np.floating]]:
    """Displacements ``(n, k, d, ...)`` of small images, in halves of a side, and how different ``(n, k)`` they leave the images."""
    fixed, moving = (_contrast(_small(smoothed(part, step.blurred), step.side)) for part in (images, people))
    at_once = max(1, BATCH // (fixed[0].numel() * who.shape[1]))
    found, differences = [], []
    for first in range(0, len(images), at_once):
        rows = slice(first, first + at_once)
        mine = _mirrored(moving, who[rows].ravel(), axes[rows].ravel())
        here = fixed[rows].repeat_interleave(who.shape[1], dim=0)
        begin = None if start is None else start[rows].flatten(0, 1).to(place)
        displacement, difference = _search(mine.to(place), here.to(place), step, begin)
        found.append(displacement.cpu().unflatten(0, (-1, who.shape[1])))
        differences.append(difference.cpu().reshape(-1, who.shape[1]))
    return torch.cat(found), torch.cat(differences).numpy()


def _search(moving: Tensor, fixed: Tensor, step: Step, start: Tensor | None) -> tuple[Tensor, Tensor]:
    shape = tuple(fixed.shape[2:])
    d, fixed = len(shape), _standard(fixed)
    total = fixed.new_zeros((len(fixed), d, *shape)) if start is None else between(start, shape)
    for knots in step.knots[d]:
        grid = [max(2, round(knots * side / max(shape))) for side in shape]
        own = total.new_zeros((len(fixed), d, *grid), requires_grad=True)
        optimizer = torch.optim.Adam([own], lr=LEARNING_RATE, eps=1e-6)
        with torch.enable_grad():
            for _ in range(step.n_steps):
                difference = (_standard(_move(moving, total + between(own, shape))) - fixed).flatten(1).square().mean(1)
                slopes = [own.diff(dim=2 + axis) * (points - 1) / 2 for axis, points in enumerate(grid)]
                strain = torch.stack([slope.flatten(1).square().mean(1) for slope in slopes]).sum(0)
                optimizer.zero_grad()
                # Each pair counts by itself, so that what is aligned together changes nothing.
                (difference + STIFFNESS * strain).sum().backward()
                optimizer.step()
        total = (total + between(own, shape)).detach()
    left = (_standard(_move(moving, total)) - fixed).flatten(1).square().mean(1)
    return total, left


def _move(images: Tensor, displacements: Tensor) -> Tensor:
    """Images whose voxels come from where the displacements ``(n, d, ...)`` say, in halves of a side from the first voxel to the last."""
    shape = images.shape[2:]
    halves = displacements.new_tensor([(side - 1) / 2 for side in shape]).reshape(1, -1, *[1] * len(shape))
    return warped(images, between(displacements * halves, shape))


def _contrast(small: Tensor) -> Tensor:
    return local_contrast(small, max(small.shape[2:]) / 10)


def _small(images: Tensor, side: dict[int, int]) -> Tensor:
    factor = min(1.0, side[images.ndim - 2] / max(images.shape[2:]))
    return F.interpolate(images, [max(4, round(factor * n)) for n in images.shape[2:]], mode="area") if factor < 1 else images


def _standard(images: Tensor) -> Tensor:
    rows = images.flatten(1)
    rows = (rows - rows.mean(1, keepdim=True)) / rows.std(1, keepdim=True).clamp_min(1e-6)
    return rows.reshape(images.shape)
