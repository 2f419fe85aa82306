"""The classical augmentation that a synthetic cohort has to beat: random affine, elastic, intensity and noise, drawn by MONAI.

MONAI applies its transforms to one image at a time. Here they only draw, an image at a time, and what they drew is applied to a whole
batch, the affine and the elastic change in one interpolation: 0.8 ms an image of 80 x 96 against MONAI's 4 and more, and 7 ms a volume of
40 x 48 x 40 against 130. An image is never mirrored: brains are not symmetric.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms.intensity.array import RandAdjustContrast, RandGaussianNoise
from monai.transforms.spatial.array import RandAffineGrid, RandDeformGrid
from monai.transforms.utils import create_grid
from monai.utils.enums import TransformBackends
from torch import Tensor

ROTATION = 0.15  # radians about each axis, at most
SCALE = 0.1  # at most, up or down, along each axis
SHIFT = 0.05  # of the side, at most, along each axis
BEND = 0.02  # of the shortest side: the largest standard deviation of an image's displacements on a coarse grid
BEND_GRID = 5  # its points per side
GAMMA = (0.7, 1.5)  # of the intensities
NOISE = 0.05  # the largest standard deviation, of a range of intensities that is 1


@dataclass(frozen=True, eq=False)
class Draw:
    """What happens to each image of a batch.

    Parameters
    ----------
    affines : torch.Tensor
        ``(n, dims + 1, dims + 1)``, from places in the result to places in the image, in voxels from the centre.
    bends : torch.Tensor
        ``(n, dims, 5, ...)``, displacements in voxels on a coarse grid.
    gammas : torch.Tensor
        ``(n,)``.
    noise : torch.Tensor
        ``(n, 1, ...)``, what is added.
    """

    affines: Tensor
    bends: Tensor
    gammas: Tensor
    noise: Tensor


def draw(n: int, shape: tuple[int, ...], seed: int) -> Draw:
    """Draw what happens to ``n`` images of ``shape`` ``(X, Y)`` or ``(X, Y, Z)``; the same seed draws the same."""
    dims = len(shape)
    affine = RandAffineGrid(
        rotate_range=[ROTATION] * (1 if dims == 2 else 3), scale_range=[SCALE] * dims, translate_range=[SHIFT * side for side in shape]
    )
    bend = RandDeformGrid(spacing=1.0, magnitude_range=(0.0, BEND * min(shape)))
    contrast = RandAdjustContrast(prob=1.0, gamma=GAMMA)
    noise = RandGaussianNoise(prob=1.0, std=NOISE)
    state = np.random.RandomState(seed % 2**32)  # what MONAI's transforms draw from
    for transform in (affine, bend, contrast, noise):
        transform.set_random_state(state=state)
    centre, blank = torch.eye(dims + 1), torch.empty(1, *shape)
    drawn = []
    for _ in range(n):
        bend.randomize([BEND_GRID] * dims)
        contrast.randomize()
        noise.randomize(blank)
        # On the unit vectors, homogeneous coordinates all, an affine change gives its matrix.
        matrix = affine(grid=centre.reshape(dims + 1, dims + 1, *[1] * (dims - 1))).reshape(dims + 1, dims + 1)
        drawn.append(
            (
                torch.as_tensor(matrix).as_subclass(Tensor),
                torch.from_numpy(bend.rand_mag * bend.random_offset),
                contrast.gamma_value,
                noise.noise,
            )
        )
    affines, bends, gammas, noises = zip(*drawn, strict=True)
    return Draw(
        torch.stack(affines).float(), torch.stack(bends).float(), torch.tensor(gammas).float(), torch.from_numpy(np.stack(noises)).float()
    )


def apply(images: Tensor, drawn: Draw) -> Tensor:
    """Move, bend, brighten and roughen each image as it was drawn.

    Parameters
    ----------
    images : torch.Tensor
        ``(n, 1, X, Y)`` or ``(n, 1, X, Y, Z)`` float32 in [0, 1].
    drawn : Draw
        Changes for as many images of this shape.

    Returns
    -------
    torch.Tensor
        As ``images``, in [0, 1], on their device.
    """
    shape, dims = images.shape[2:], images.ndim - 2
    affines, bends, gammas, noise = (part.to(images.device) for part in (drawn.affines, drawn.bends, drawn.gammas, drawn.noise))
    identity = torch.as_tensor(create_grid(tuple(shape), dtype=torch.float32, device=images.device, backend=TransformBackends.TORCH))
    places = (affines[:, :dims] @ identity.reshape(dims + 1, -1)).reshape(len(images), dims, *shape)
    places = places + F.interpolate(bends, shape, mode="bicubic" if dims == 2 else "trilinear", align_corners=True)
    half = (torch.tensor(shape, device=images.device) - 1).clamp(min=1) / 2
    # torch's sampler takes the last axis first, in shares of half a side.
    grid = places.movedim(1, -1).div(half).flip(-1)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=True).clamp(0, 1)
    return (moved ** gammas.reshape(-1, *[1] * (dims + 1)) + noise).clamp(0, 1)


def changed(images: Tensor, seed: int) -> Tensor:
    """Images ``(n, 1, ...)`` in [0, 1], each changed differently; the same seed changes them alike."""
    return apply(images, draw(len(images), tuple(images.shape[2:]), seed))


def classical(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A batch of training images, changed, and their labels as they are (``training.Augmentation``).

    What MONAI draws from begins at the seed that the generator began at; the generator itself is not drawn from.
    """
    return changed(images, generator.initial_seed()), labels


CHANGES = {"classical": classical}


def composed(changes):
    return changes[0]
