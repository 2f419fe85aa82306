"""Copies of patients that an audit plants to see whether it would find them: an audit that is blind must not pass anything.

Two batteries: copies of the kinds that it searches for, and of kinds that it does not, of strengths drawn by the seed. What is found of the
first says that the search works, of the second what it is worth against somebody who does not know it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation
from torch import Tensor

from ...augment.detail.registration import Velocities, move
from ...augment.release.copying import REACH
from ...augment.release.patches import least_contrast, shows
from ...datasets.likeness import aligned_distances, standardised
from .scales import smoothed

MOST = 24  # of a kind
# Noise puts a copy so far from its patient, by what the nearest other one of those who are copied is away in the median: of images that are
# much alike, what the eye hardly sees would else hide all that tells them apart. In a class of more than ``MOST`` people the nearest of all
# is nearer than that, and the noise is stronger than this share of the way to them.
NOISE = 1 / 4
GAIN, OFFSET = 0.7, 0.1
# Of every side: a patch, which holds a tenth of the image and more, and the way over which it fades into the rest.
PATCH, EDGE = {2: 0.5, 3: 0.6}, 0.05
TENTH = {2: 0.1 ** (1 / 2), 3: 0.1 ** (1 / 3)}  # of every side: a patch that holds a tenth
KNOTS, WARP = 8, 0.1  # of a random displacement along every side, and its standard deviation at them, in distances between them
BENT = 4  # knots along every side of a smoother and larger displacement
TRIES = 32  # places drawn for a patch, until one shows something
BLEND = 0.7  # of one patient; the rest is another's

Kind = Callable[[Tensor, np.random.Generator], Tensor]
MUST_BE_FOUND = ("exact", "noisy", "shifted", "intensity-scaled", "flipped")  # what a model makes of a patient may be far from them


@dataclass(frozen=True, eq=False)
class Plants:
    """Planted copies.

    Parameters
    ----------
    pixels : torch.Tensor
        ``(k, 1, ...)``.
    kinds, patients : array (k,)
        Of which kind each is, and of whom.
    searched : tuple of str
        Names of the kinds that the audit searches for; the others are what it does not know.
    """

    pixels: Tensor
    kinds: NDArray[np.str_]
    patients: NDArray[np.str_]
    searched: tuple[str, ...]


def plant(
    images: Tensor,
    people: Sequence[str],
    rng: np.random.Generator,
    *,
    in_world: bool,
    reconstruct: Callable[[Tensor], Tensor] | None = None,
) -> Plants:
    """Copies of training images ``(m, 1, ...)`` of ``people`` ``(m,)``, of every kind one of each of up to ``MOST`` of them.

    Parameters
    ----------
    images : torch.Tensor
    people : sequence of str
    rng : numpy.random.Generator
        Generator of who is copied, and how.
    in_world : bool
        Whether the images have a place in the world: their first axis is left and right then, else their columns are.
    reconstruct : callable, optional
        What the model makes of images, which is one of the kinds.
    """
    names, first = np.unique(np.asarray(people).astype(str), return_index=True)
    chosen = rng.permutation(len(first))[:MOST]
    originals, ground = images[torch.from_numpy(first[chosen])], images.mean(0, keepdim=True)
    searched = dict(searched_kinds(in_world, ground))
    if reconstruct:
        searched["reconstructed"] = lambda copied, _: reconstruct(copied)
    kinds = searched | dict(other_kinds(ground))
    pixels = torch.cat([kind(originals, rng) for kind in kinds.values()])
    return Plants(pixels, np.repeat(list(kinds), len(chosen)), np.tile(names[chosen], len(kinds)), tuple(searched))


def searched_kinds(in_world: bool, ground: Tensor) -> Mapping[str, Kind]:
    """Ways of copying that the audit searches for, by name; patches lie in ``ground`` ``(1, 1, ...)``."""
    return {
        "exact": lambda images, _: images,
        "noisy": noisy,
        "shifted": shifted,
        "intensity-scaled": lambda images, _: GAIN * images + OFFSET,
        "flipped": lambda images, _: mirrored(images, in_world),
        "patched": lambda images, rng: patched(images, ground, rng, PATCH[images.ndim - 2]),
        "warped": lambda images, rng: warped(images, rng.normal(scale=WARP, size=_knots(images, KNOTS))),
        "blended": lambda images, _: BLEND * images + (1 - BLEND) * others_of(images),
    }


def other_kinds(ground: Tensor) -> Mapping[str, Kind]:
    """Ways of copying that the audit does not search for, by name, of images in [0, 1]; lengths are of images of 96 voxels."""
    kinds: dict[str, Kind] = {
        "blurred by 1 voxel": lambda images, _: smoothed(images, 1),
        "blurred by 2 voxels": lambda images, _: smoothed(images, 2),
        "noise of 0.1": lambda images, rng: images + 0.1 * _noise(images, rng),
        "noise of 0.2": lambda images, rng: images + 0.2 * _noise(images, rng),
        "shifted by half a voxel": lambda images, rng: moved(images, 0, 1, 0.5 * rng.choice([-1, 1], _vectors(images))),
        "turned by 2 to 5 degrees": lambda images, rng: moved(images, _signed(rng, 2, 5, len(images)), 1, 0),
        "scaled by 2 to 5 %": lambda images, rng: moved(images, 0, 1 + _signed(rng, 0.02, 0.05, len(images)), 0),
        "bent by 1 to 3 voxels": bent,
        "half resolution": lambda images, _: coarser(images, 2),
        "a third of the resolution": lambda images, _: coarser(images, 3),
        "blend of 50 to 90 %": blended,
        "cut by 5 to 10 %": cut,
        "gamma of 0.5": lambda images, _: images.clamp(0, 1) ** 0.5,
        "gamma of 2": lambda images, _: images.clamp(0, 1) ** 2,
        "shaded by 30 %": shaded,
        "a patch of a tenth": lambda images, rng: patched(images, ground, rng, TENTH[images.ndim - 2]),
    }
    return kinds | {"two of these": lambda images, rng: _two_of(list(kinds.values())[:-1], images, rng)}


def noisy(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Images with Gaussian noise in every voxel, as strong for each of two or more patients as the distances between them allow.

    Noise of standard deviation sigma leaves an image of standard deviation s the correlation r = (1 + sigma^2 / s^2)^(-1/2) with itself.
    """
    rows = standardised(images)
    among = aligned_distances(rows, rows).fill_diagonal_(math.inf)
    correlation = 1 - float(NOISE * np.median(among.amin(dim=1).numpy())) ** 2 / 2
    spread = images.flatten(1).std(dim=1, correction=0).reshape(-1, *[1] * (images.ndim - 1))
    return images + spread * math.sqrt(correlation**-2 - 1) * _noise(images, rng)


def shifted(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Images shifted by some voxels along every axis, as far as the audit looks; the edge is repeated."""
    return moved(images, 0, 1, rng.choice([-1, 1], _vectors(images)) * REACH[images.ndim - 2])


def moved(images: Tensor, degrees: float | NDArray[np.floating], scale: float | NDArray[np.floating], shift: NDArray | float) -> Tensor:
    """Images ``(n, 1, ...)`` turned about their middles (volumes about their last axis), scaled, and shifted by ``(n, d)`` voxels;
    linear between voxels, and the edge is repeated."""
    n, d = _vectors(images)
    turns = Rotation.from_rotvec(np.outer(np.broadcast_to(degrees, n), [0, 0, 1]), degrees=True).as_matrix()[:, :d, :d]
    matrices = turns / np.broadcast_to(scale, n)[:, None, None]
    middle = (np.array(images.shape[2:]) - 1) / 2
    offsets = middle - matrices @ middle - np.broadcast_to(shift, (n, d))
    parts = [
        ndimage.affine_transform(image[0].numpy(), matrix, offset, order=1, mode="nearest")
        for image, matrix, offset in zip(images, matrices, offsets, strict=True)
    ]
    return torch.from_numpy(np.stack(parts))[:, None]


def cut(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Images of which 5 to 10 % of every side are cut away, at sides drawn by lot, and the rest is stretched to their size."""
    left = rng.uniform(0.9, 0.95, len(images))
    room = (1 - left[:, None]) / 2 * np.array(images.shape[2:])
    return moved(images, 0, 1 / left, rng.uniform(-1, 1, _vectors(images)) * room)


def coarser(images: Tensor, times: float) -> Tensor:
    """Images of so many times larger voxels, brought back to their size."""
    sides = [max(2, round(side / times)) for side in images.shape[2:]]
    mode = "bilinear" if images.ndim == 4 else "trilinear"
    return F.interpolate(F.interpolate(images, sides, mode="area"), images.shape[2:], mode=mode)


def shaded(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Images that grow brighter along a direction drawn by lot, from 0.7 to 1.3 times."""
    n, d = _vectors(images)
    directions = rng.normal(size=(n, d))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in images.shape[2:]), indexing="ij")
    slopes = np.tensordot(directions, np.stack(axes), axes=1).clip(-1, 1)
    return images * torch.from_numpy(1 + 0.3 * slopes).float()[:, None]


def blended(images: Tensor, rng: np.random.Generator) -> Tensor:
    """50 to 90 % of each image, and another patient's for the rest."""
    share = torch.from_numpy(rng.uniform(0.5, 0.9, len(images))).float().reshape(-1, *[1] * (images.ndim - 1))
    return share * images + (1 - share) * others_of(images)


def patched(images: Tensor, ground: Tensor, rng: np.random.Generator, share: float) -> Tensor:
    """``ground`` ``(n or 1, 1, ...)`` with a square or cubic patch of each image, a share of every side wide, at a random place where the
    image shows something."""
    weight, corners = torch.ones_like(images), _corners(images, share, rng)
    for axis, side in enumerate(images.shape[2:], start=2):
        corner = torch.from_numpy(corners[:, axis - 2])
        to_edge = torch.minimum(torch.arange(side) + 0.5 - corner[:, None], corner[:, None] + share * side - torch.arange(side) - 0.5)
        along = (to_edge / (EDGE * side)).clamp(0, 1).float()
        weight = weight * along.reshape(len(images), *(side if other == axis else 1 for other in range(1, images.ndim)))
    return weight * images + (1 - weight) * ground


def _corners(images: Tensor, share: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Where patches begin along every axis ``(n, d)``: of some places drawn by lot the first at which their middle shows something."""
    pixels, sides = images[:, 0].numpy(), np.array(images.shape[2:])
    drawn = rng.uniform(0, (1 - share) * sides, (TRIES, *_vectors(images)))
    found = drawn[-1]
    for corners in drawn[::-1]:
        starts = np.ceil(corners + EDGE * sides).astype(int)
        ends = np.maximum(np.floor(corners + (share - EDGE) * sides).astype(int), starts + 1)
        middles = [image[*map(slice, start, end)][None] for image, start, end in zip(pixels, starts, ends, strict=True)]
        seen = [shows(middle, least)[0] for middle, least in zip(middles, least_contrast(pixels)[:, None], strict=True)]
        found = np.where(np.array(seen)[:, None], corners, found)
    return found


def bent(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Images moved by smooth displacements whose standard deviation is 1 to 3 of 96 voxels."""
    far = rng.uniform(1, 3, len(images)) / 96 * (BENT - 1)
    return warped(images, far.reshape(-1, *[1] * (images.ndim - 1)) * rng.normal(size=_knots(images, BENT)))


def warped(images: Tensor, knots: NDArray[np.floating]) -> Tensor:
    """Images moved by the displacements that these velocities ``(n, d, *grid)``, in distances between knots, lead to."""
    return move(images, Velocities(torch.from_numpy(knots).float(), tuple(images.shape[2:])).displacements())


def others_of(images: Tensor) -> Tensor:
    """To each of two or more people's images another's."""
    return images.roll(1, 0)


def mirrored(images: Tensor, in_world: bool) -> Tensor:
    """Images with left and right exchanged: along the first axis of what has a place in the world, along the columns of a picture."""
    return images.flip(2 if in_world else images.ndim - 1)


def _two_of(kinds: Sequence[Kind], images: Tensor, rng: np.random.Generator) -> Tensor:
    """Of each image a copy of one kind, copied by another; kinds that need others' images take them from all."""
    made = []
    for row in range(len(images)):
        first, second = (kinds[chosen] for chosen in rng.choice(len(kinds), 2, replace=False))
        made.append(second(first(images.roll(-row, 0)[:2], rng), rng)[:1])
    return torch.cat(made)


def _knots(images: Tensor, along: int) -> tuple[int, ...]:
    n, d = _vectors(images)
    return n, d, *[along] * d


def _vectors(images: Tensor) -> tuple[int, int]:
    return len(images), images.ndim - 2


def _signed(rng: np.random.Generator, low: float, high: float, n: int) -> NDArray[np.float64]:
    return rng.choice([-1, 1], n) * rng.uniform(low, high, n)


def _noise(images: Tensor, rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.normal(size=tuple(images.shape)).astype(np.float32))
