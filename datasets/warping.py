"""Smooth changes of place, given by few numbers: where every voxel of a moved image comes from, and the image there.

Displacements are given at knots, which lie from the first voxel to the last along each axis. Between them they are cubic in slices, and
linear in volumes if nothing else is said.
"""

import math
from collections.abc import Sequence
from functools import cache, lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


def between(knots: Tensor, shape: Sequence[int]) -> Tensor:
    """A field ``(n, d, *grid)`` at knots at all voxels of a shape ``(n, d, *shape)``, axis by axis."""
    for axis, side in enumerate(shape, start=2):
        if knots.shape[axis] == side:
            continue
        weights = _weights(knots.shape[axis], side, len(shape) == 2, knots.dtype, knots.device)
        knots = (knots.movedim(axis, -1) @ weights.T).movedim(-1, axis)
    return knots


def sampling_grid(theta: Tensor, knots: Tensor, shape: Sequence[int], *, cubic: bool | None = None) -> Tensor:
    """Where each voxel comes from, ``(n, *shape, d)``: ``F.affine_grid`` of ``theta`` plus the displacements at ``knots``.

    Both are sums of products of one function an axis: a small matrix product an axis makes them together, for volumes on a CPU in an
    eighth of the time that torch's functions take.

    Parameters
    ----------
    theta : torch.Tensor
        ``(n, d, d + 1)``, as ``F.affine_grid`` takes it with corners not aligned: each side goes from -1 to 1, the last axis comes first.
    knots : torch.Tensor
        ``(n, d, *[points] * d)``: displacements in these coordinates.
    shape : sequence of int
        Shape of the images.
    cubic : bool, optional
        How displacements are interpolated between knots.
    """
    n, dims, points = knots.shape[:3]
    # Of each axis: the knots' own functions, the coordinate, the constant.
    weights = knots.new_zeros((n, *[points + 2] * dims, dims))
    weights[(slice(None), *[slice(points)] * dims)] = knots.movedim(1, -1)
    weights[(slice(None), *[-1] * dims)] = theta[:, :, -1]
    for axis in range(dims):
        weights[(slice(None), *[-2 if axis == other else -1 for other in range(dims)])] = theta[:, :, dims - 1 - axis]
    *functions, last = _functions(tuple(shape), points, dims == 2 if cubic is None else cubic, knots.dtype, knots.device)
    grid = weights
    for done, of_axis in enumerate(functions):
        grid = of_axis @ grid.reshape(n * math.prod(shape[:done]), points + 2, -1)
    return (grid.reshape(-1, len(last)) @ last).view(n, *shape, dims)


def sampled(images: Tensor, grid: Tensor) -> Tensor:
    """Images ``(n, c, *shape)`` at the places of a ``sampling_grid``: linear between voxels, and beyond the border as they end there."""
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


# MONAI's Warp does the same, and takes most of the time that detail does: benchmarks/study_run.py measures what this spares.
def warped(images: Tensor, displacements: Tensor, mode: str = "bilinear") -> Tensor:
    """Images ``(n, c, *shape)`` whose voxels come from where ``displacements`` ``(n, d, *shape)`` say, in voxels.

    Between voxels they are as ``mode`` says (bilinear, or of slices bicubic); beyond the border they go on as they end.
    """
    shape = tuple(images.shape[2:])
    unit = _units(shape, displacements.dtype, displacements.device)
    places = (_identity(shape, displacements.dtype, displacements.device) + displacements * unit).flip(1).movedim(1, -1)
    return F.grid_sample(images, places, mode, padding_mode="border", align_corners=False)


# What is the same for all batches is computed once, and never forgotten: a few numbers a shape, which a recorded step goes on
# reading, and gradients pass through, whoever asked for them first.
@cache
@torch.inference_mode(mode=False)
def _weights(points: int, side: int, cubic: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``(side, points)``: what each knot is worth at each voxel."""
    # As images that are one voxel wide: torch has no cubic interpolation along a line.
    unit = torch.eye(points, dtype=dtype, device=device)[None, :, :, None]
    mode = "bicubic" if cubic and points > 2 else "bilinear"
    return F.interpolate(unit, (side, 1), mode=mode, align_corners=True)[0, :, :, 0].T


@cache
@torch.inference_mode(mode=False)
def _functions(shape: tuple[int, ...], points: int, cubic: bool, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Of each axis but the last ``(side, points + 2)``: what each knot is worth at each voxel, its coordinate, and ones.

    Of the last ``((points + 2) dims, side dims)``, with the coordinates: one large product, where many small ones would take longer.
    """
    functions = []
    for side, coordinate in zip(shape, _coordinates(shape, dtype, device), strict=True):
        worth = _weights(points, side, cubic, dtype, device)
        functions.append(torch.cat([worth, coordinate[:, None], torch.ones_like(coordinate)[:, None]], dim=1))
    last = torch.kron(functions[-1].T.contiguous(), torch.eye(len(shape), dtype=dtype, device=device))
    return [*functions[:-1], last]


@lru_cache(maxsize=4)  # of volumes tens of megabytes each
@torch.inference_mode(mode=False)
def _identity(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Where the voxels of images ``(n, c, *shape)`` lie, ``(1, d, *shape)``: each side goes from -1 to 1."""
    return torch.stack(torch.meshgrid(*_coordinates(shape, dtype, device), indexing="ij"))[None]


@cache
@torch.inference_mode(mode=False)
def _units(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A voxel along each axis, to be multiplied with fields ``(n, d, *shape)``."""
    return torch.tensor([2 / side for side in shape], dtype=dtype, device=device).reshape(1, -1, *[1] * len(shape))


def _coordinates(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    return [(2 * torch.arange(side, dtype=dtype, device=device) + 1) / side - 1 for side in shape]
