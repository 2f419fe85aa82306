"""Copies of patients that an audit plants to see whether it would find them: an audit that is blind must not pass anything."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ...augment.detail.registration import Velocities, move
from ...augment.release.copying import aligned_distances, standardised
from .spaces import REACH

MOST = 50  # of a kind
# Noise puts a copy so far from its patient, by what the nearest other patient is away in the median: of images that are much alike, what
# the eye hardly sees would else hide all that tells them apart.
NOISE = 1 / 4
GAIN, OFFSET = 0.7, 0.1
# Of every side: a patch, which holds a tenth of the image and more, and the way over which it fades into the rest.
PATCH, EDGE = {2: 0.5, 3: 0.6}, 0.05
KNOTS, WARP = 8, 0.1  # of a random displacement along every side, and its standard deviation at them, in distances between them
BLEND = 0.7  # of one patient; the rest is another's

Kind = Callable[[Tensor, np.random.Generator], Tensor]
MUST_BE_FOUND = ("exact", "noisy", "shifted", "intensity-scaled", "flipped")  # what a model makes of a patient may be far from them


def noisy(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Images with Gaussian noise in every voxel, as strong for each of two or more patients as the distances between them allow.

    Noise of standard deviation sigma leaves an image of standard deviation s the correlation r = (1 + sigma^2 / s^2)^(-1/2) with itself.
    """
    rows = standardised(images.numpy())
    among = aligned_distances(rows, rows)
    np.fill_diagonal(among, np.inf)
    correlation = 1 - float(NOISE * np.median(among.min(axis=1))) ** 2 / 2
    spread = images.flatten(1).std(dim=1, correction=0).reshape(-1, *[1] * (images.ndim - 1))
    noise = torch.from_numpy(rng.normal(size=tuple(images.shape)).astype(np.float32))
    return images + spread * math.sqrt(correlation**-2 - 1) * noise


def shifted(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Images shifted by some voxels along every axis, as far as the audit looks; the edge is repeated."""
    n_axes = images.ndim - 2
    shifts = rng.choice([-REACH[n_axes], REACH[n_axes]], (len(images), n_axes))
    moved = [ndimage.shift(image[0].numpy(), shift, order=0, mode="nearest") for image, shift in zip(images, shifts, strict=True)]
    return torch.from_numpy(np.stack(moved))[:, None]


def patched(images: Tensor, ground: Tensor, rng: np.random.Generator) -> Tensor:
    """Other people's images, as ``ground`` ``(n, 1, ...)`` has them one for each, with a square or cubic patch at a random place."""
    weight, share = torch.ones_like(images), PATCH[images.ndim - 2]
    for axis, side in enumerate(images.shape[2:], start=2):
        corner = torch.from_numpy(rng.uniform(0, (1 - share) * side, len(images)))
        to_edge = torch.minimum(torch.arange(side) + 0.5 - corner[:, None], corner[:, None] + share * side - torch.arange(side) - 0.5)
        along = (to_edge / (EDGE * side)).clamp(0, 1).float()
        weight = weight * along.reshape(len(images), *(side if other == axis else 1 for other in range(1, images.ndim)))
    return weight * images + (1 - weight) * ground


def warped(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Images moved by random smooth displacements."""
    shape = tuple(images.shape[2:])
    knots = rng.normal(scale=WARP, size=(len(images), len(shape), *[KNOTS] * len(shape))).astype(np.float32)
    return move(images, Velocities(torch.from_numpy(knots), shape).displacements())


def others_of(images: Tensor) -> Tensor:
    """To each of two or more people's images another's."""
    return images.roll(1, 0)


def mirrored(images: Tensor, in_world: bool) -> Tensor:
    """Images with left and right exchanged: along the first axis of what has a place in the world, along the columns of a picture."""
    return images.flip(2 if in_world else images.ndim - 1)


def kinds(in_world: bool, reconstruct: Callable[[Tensor], Tensor]) -> Mapping[str, Kind]:
    """Ways of copying, by name, for images with a place in the world or none; the model's own reconstruction is one of them."""
    return {
        "exact": lambda images, rng: images,
        "noisy": noisy,
        "shifted": shifted,
        "intensity-scaled": lambda images, rng: GAIN * images + OFFSET,
        "flipped": lambda images, rng: mirrored(images, in_world),
        "reconstructed": lambda images, rng: reconstruct(images),
        "patched": lambda images, rng: patched(images, reconstruct(others_of(images)), rng),
        "warped": warped,
        "blended": lambda images, rng: BLEND * images + (1 - BLEND) * others_of(images),
    }
