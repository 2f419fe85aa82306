"""Small random changes of pose, shape and brightness while a model trains.

A cohort of 50 images is learnt by heart: on 56 coronal OASIS slices of one class the reconstruction explains 95 % of the training images'
variance and none of the held-out ones'. With images that differ a little at each epoch it explains about as much of held-out images
as a principal component analysis does. The posteriors, the metric and the samples are still those of the unchanged images.

MONAI's random transforms draw from NumPy's state, one image at a time; these draw a whole batch from a ``torch.Generator``, on its device.
"""

import math
from functools import cache

import torch
from torch import Tensor

from ...datasets.warping import sampled, sampling_grid

# At strength 1. Lengths are shares of half the field of view: 0.06 of 80 voxels across are 2.4 voxels.
ROTATION = 0.1  # radians, at most
SCALE = 0.06  # at most, up or down
SHIFT = 0.06  # at most
BEND = 0.02  # standard deviation of the displacements on a coarse grid
BEND_GRID = 8  # its points per side
GAIN = 0.1  # at most, up or down


def jitter(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Rotate, scale, shift, bend and brighten each image a little, differently.

    Parameters
    ----------
    images : torch.Tensor
        ``(n, 1, X, Y)`` or ``(n, 1, X, Y, Z)`` in [0, 1].
    strength : float
        Multiplies every amplitude; 0 changes nothing.
    generator : torch.Generator
        On the images' device.
    """
    if strength == 0:
        return images
    # Training runs in bf16, which is too coarse to say where a voxel comes from.
    with torch.autocast(images.device.type, enabled=False):
        return _jittered(images, strength, generator)


def _jittered(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    n, dims = len(images), images.ndim - 2
    place = {"generator": generator, "device": images.device}

    def between(amplitude: float, *shape: int) -> Tensor:
        return (2 * torch.rand((n, *shape), **place) - 1) * strength * amplitude

    upper = torch.triu(between(ROTATION, dims, dims), diagonal=1)
    # It turns voxels: the grid's coordinates, from -1 to 1 along every side and the last axis first, are measured in them before and after.
    rotation = _rotations(upper - upper.mT) * _ratios(tuple(images.shape[:1:-1]), images.dtype, images.device)
    linear = rotation * (1 + between(SCALE, dims))[:, None, :]
    theta = torch.cat([linear, between(SHIFT, dims, 1)], dim=2)
    coarse = torch.randn((n, dims, *[BEND_GRID] * dims), **place) * strength * BEND
    moved = sampled(images, sampling_grid(theta, coarse, images.shape[2:]))
    return (moved * (1 + between(GAIN, *[1] * (dims + 1)))).clamp(0, 1)


def _rotations(skew: Tensor) -> Tensor:
    """Exponentials of skew-symmetric ``(n, dims, dims)``, which are rotations: by Rodrigues' formula, in the plane and in space alike."""
    angle = (0.5 * skew.square().sum((1, 2), keepdim=True)).sqrt()
    straight = torch.eye(skew.shape[1], dtype=skew.dtype, device=skew.device)
    return straight + torch.sinc(angle / math.pi) * skew + 0.5 * torch.sinc(angle / (2 * math.pi)).square() * (skew @ skew)


# What is the same for all batches is computed once, and never forgotten: a few numbers a shape, which a recorded step goes on reading.
@cache
def _ratios(sides: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """``(dims, dims)``: a column's side by a row's."""
    lengths = torch.tensor(sides, dtype=dtype, device=device)
    return lengths / lengths[:, None]
