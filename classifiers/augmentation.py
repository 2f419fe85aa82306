"""Random changes of training images: the classical augmentation that a synthetic cohort has to beat, mixup, and several of them together.

What MONAI's random transforms do to one image at a time, 0.8 to 4 ms each, is drawn and done here for a whole batch, the affine and the
elastic change in one interpolation: 0.2 ms an image of 80 x 96. An image is never mirrored: brains are not symmetric.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from ..datasets.common.seeds import seeded_generator
from ..datasets.warping import sampled, sampling_grid
from .loop import Augmentation

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
        ``(n, 1, ...)``, what is added; where the images are.
    """

    affines: Tensor
    bends: Tensor
    gammas: Tensor
    noise: Tensor


def draw(n: int, shape: tuple[int, ...], generator: torch.Generator, device: str | torch.device = "cpu") -> Draw:
    """Draw what happens to ``n`` images of ``shape`` ``(X, Y)`` or ``(X, Y, Z)``, on the CPU.

    A GPU draws the noise of its images by itself, so that it is other noise, and other gammas: a processor takes longer for it than a
    GPU for a step.
    """
    dims = len(shape)

    def uniform(low: float, high: float, *sizes: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *sizes, generator=generator)

    affines = torch.eye(dims + 1).repeat(n, 1, 1)
    turned = _rotations(uniform(-ROTATION, ROTATION, 1 if dims == 2 else 3))
    affines[:, :dims, :dims] = turned * uniform(1 - SCALE, 1 + SCALE, 1, dims)
    shifts = uniform(-SHIFT, SHIFT, dims, 1) * torch.tensor(shape, dtype=torch.float32)[:, None]
    affines[:, :dims, dims:] = turned @ shifts
    ones = [1] * dims
    bends = uniform(0, BEND * min(shape), 1, *ones) * torch.randn(n, dims, *[BEND_GRID] * dims, generator=generator)
    amplitudes = uniform(0, NOISE, 1, *ones)
    if _draws_by_itself(torch.device(device)):
        there = torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
        noise = amplitudes.to(device) * torch.randn(n, 1, *shape, generator=there, device=device)
    else:
        noise = amplitudes * torch.randn(n, 1, *shape, generator=generator)
    return Draw(affines, bends, uniform(*GAMMA), noise)


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
    half = torch.tensor(shape, device=images.device) / 2
    # Places are told with the last axis first, in shares of half a side; so the few numbers that decide all places are brought to it.
    linear = (affines[:, :dims, :dims] * half / half[:, None]).flip(1, 2)
    theta = torch.cat([linear, (affines[:, :dims, dims:] / half[:, None]).flip(1)], dim=2)
    bends = (bends / half.reshape(-1, *[1] * dims)).flip(1)
    moved = sampled(images, sampling_grid(theta, bends, shape, cubic=True)).clamp_(0, 1)
    return moved.pow_(gammas.reshape(-1, *[1] * (dims + 1))).add_(noise).clamp_(0, 1)


def changed(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images ``(n, 1, ...)`` in [0, 1], each changed differently."""
    return apply(images, draw(len(images), tuple(images.shape[2:]), generator, images.device))


def classical(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A batch of training images, moved, bent, brightened and roughened, and their labels as they are (an ``Augmentation``)."""
    return changed(images, generator), labels


def mixup(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Every image of a batch mixed with another one, and its label alike (Zhang et al. 2018, with alpha = 1: all shares are as likely).

    MONAI's ``MixUp`` refuses labels that are a row an image.
    """
    others = torch.randperm(len(images), generator=generator).to(images.device)
    share = torch.rand(len(images), generator=generator).to(images.device)
    soft = F.one_hot(labels).float() if labels.ndim == 1 else labels
    shares = share.reshape(-1, *[1] * (images.ndim - 1))
    return torch.lerp(images, images[others], shares), torch.lerp(soft, soft[others], share[:, None])


def composed(changes: Sequence[Augmentation]) -> Augmentation:
    """One change after another, each with randomness of its own: what one draws does not depend on the others."""

    def all_of_them(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        for place, change in enumerate(changes):
            images, labels = change(images, labels, seeded_generator(generator.initial_seed(), "change", place))
        return images, labels

    return all_of_them


CHANGES: Mapping[str, Augmentation] = MappingProxyType({"classical": classical, "mixup": mixup})
"""By name."""


def _draws_by_itself(device: torch.device) -> bool:
    return device.type == "cuda"


def _rotations(angles: Tensor) -> Tensor:
    """Rotation matrices ``(n, 2, 2)`` of angles ``(n, 1)``, or ``(n, 3, 3)`` of angles about the three axes ``(n, 3)``."""
    dims = 2 if angles.shape[1] == 1 else 3
    planes = [(0, 1)] if dims == 2 else [(1, 2), (2, 0), (0, 1)]
    product = torch.eye(dims).expand(len(angles), dims, dims)
    for angle, (one, other) in zip(angles.T, planes, strict=True):
        matrix = torch.eye(dims).repeat(len(angles), 1, 1)
        matrix[:, one, one] = matrix[:, other, other] = angle.cos()
        matrix[:, one, other], matrix[:, other, one] = -angle.sin(), angle.sin()
        product = product @ matrix
    return product
