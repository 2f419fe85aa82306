"""Smooth, invertible displacements that take one image to another.

A displacement is the exponential of a stationary velocity field (Arsigny et al. 2006, by scaling and squaring), which is cubic (in volumes
linear) between few knots. It is found on a smaller image: decoded images, which it is meant for, have nothing to lose by that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...datasets.warping import between, warped

KNOTS = 10  # along the longest side
LONGEST_SIDE = {2: 48, 3: 24}  # voxels of the smaller image: more find nothing that these do not
N_STEPS = 20  # of Adam
LEARNING_RATE = 0.05  # distances between knots
STIFFNESS = 2.0  # of the mean squared strain, against the squared difference of the images as a share of their variance
N_SQUARINGS = 6
N_SQUARINGS_OF_A_STEP = 4  # while a way is looked for, which is then gone with all
BATCH = 2**17  # voxels of small images that are registered at once: what memory allows, and caches like


@dataclass(frozen=True, eq=False)
class Velocities:
    """Velocity fields of images of one shape.

    Parameters
    ----------
    knots : torch.Tensor
        ``(n, d, *grid)``, in distances between knots, which lie from the first voxel to the last.
    shape : tuple of int
        Shape of the images, d sides.
    """

    knots: Tensor
    shape: tuple[int, ...]

    def displacements(self, share: float | Tensor = 1.0) -> Tensor:
        """The displacements ``(n, d, *shape)`` in voxels after a share of the way; ``(n,)`` shares may differ, and -1 is the inverse."""
        share = torch.as_tensor(share, dtype=self.knots.dtype, device=self.knots.device)
        small = _small(self.shape)
        found = _exponential(self.knots * share.reshape(-1, *[1] * (self.knots.ndim - 1)), small)
        ratio = found.new_tensor([side / other for side, other in zip(self.shape, small, strict=True)])
        return F.interpolate(found, self.shape, mode=_mode(self.shape), align_corners=False) * _of_axes(ratio)


def register(moving: Tensor, fixed: Tensor) -> Velocities:
    """Velocities that take each of ``moving`` to its like in ``fixed``.

    No voxel folds: where the displacement is not invertible at the images' own size, the way is halved until it is.

    Parameters
    ----------
    moving, fixed : torch.Tensor
        ``(n, channels, *shape)`` in [0, 1], on one device; smooth, as decoded images are.
    """
    shape = tuple(moving.shape[2:])
    parts = zip(moving.split(_at_once(shape)), fixed.split(_at_once(shape)), strict=True)
    return Velocities(torch.cat([_unfolded(_register(*part), shape) for part in parts]), shape)


def move(images: Tensor, displacements: Tensor) -> Tensor:
    """Images ``(n, channels, *shape)`` whose voxels come from where ``displacements`` ``(n, d, *shape)`` say, in voxels.

    Between voxels they are cubic in slices and linear in volumes; beyond the border they go on as they end.
    """
    return warped(images, displacements, "bicubic" if images.ndim == 4 else "bilinear")


def jacobians(displacements: Tensor) -> Tensor:
    """Determinants ``(n, *shape)`` of the derivative of ``x + displacement(x)``: 1 leaves volumes as they are, 0 and below folds."""
    d = displacements.shape[1]
    rows = [torch.stack(torch.gradient(displacements[:, axis], dim=list(range(1, d + 1))), dim=-1) for axis in range(d)]
    return torch.linalg.det(torch.stack(rows, dim=-2) + torch.eye(d, dtype=displacements.dtype, device=displacements.device))


def _register(moving: Tensor, fixed: Tensor) -> Tensor:
    shape = tuple(moving.shape[2:])
    small = _small(shape)
    moving, fixed = (F.interpolate(images, small, mode="area") for images in (moving, fixed))
    n, d = len(moving), len(shape)
    # Each image counts by itself, so that what is registered together changes nothing.
    weight = 1 / fixed.flatten(1).var(dim=1).clamp_min(1e-6)
    knots = moving.new_zeros((n, d, *_grid(shape)), requires_grad=True)
    # Gradients of rounding errors, which Adam would else make as large as any, move nothing.
    optimizer = torch.optim.Adam([knots], lr=LEARNING_RATE, eps=1e-4)
    with torch.enable_grad():
        for _ in range(N_STEPS):
            difference = (warped(moving, _exponential(knots, small, N_SQUARINGS_OF_A_STEP)) - fixed).flatten(1).square().mean(1)
            strain = torch.stack([knots.diff(dim=2 + axis).flatten(1).square().mean(1) for axis in range(d)]).sum(0)
            optimizer.zero_grad()
            (weight * difference + STIFFNESS * strain).sum().backward()
            optimizer.step()
    return knots.detach()


def _unfolded(knots: Tensor, shape: tuple[int, ...]) -> Tensor:
    while (folded := jacobians(Velocities(knots, shape).displacements()).flatten(1).amin(1) <= 0).any():
        knots = torch.where(folded.reshape(-1, *[1] * (knots.ndim - 1)), knots / 2, knots)
    return knots


def _exponential(knots: Tensor, shape: Sequence[int], n_squarings: int = N_SQUARINGS) -> Tensor:
    """The displacements ``(n, d, *shape)``, in voxels of images of this shape."""
    spacing = knots.new_tensor([(side - 1) / (points - 1) for side, points in zip(shape, knots.shape[2:], strict=True)])
    found = between(knots * _of_axes(spacing / 2**n_squarings), shape)
    for _ in range(n_squarings):
        found = found + warped(found, found)
    return found


def _small(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape that images are registered at."""
    factor = min(1.0, LONGEST_SIDE[len(shape)] / max(shape))
    return tuple(max(4, round(side * factor)) for side in shape)


def _grid(shape: Sequence[int]) -> tuple[int, ...]:
    """Number of knots along each side."""
    return tuple(max(3, round(KNOTS * side / max(shape))) for side in shape)


def _at_once(shape: Sequence[int]) -> int:
    return max(1, BATCH // math.prod(_small(shape)))


def _mode(shape: Sequence[int]) -> str:
    return "bicubic" if len(shape) == 2 else "trilinear"


def _of_axes(values: Tensor) -> Tensor:
    """``(d,)`` values, to be multiplied with fields ``(n, d, *shape)``."""
    return values.reshape(1, -1, *[1] * len(values))
