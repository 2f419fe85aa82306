"""The same images at several scales: what blur, noise or another contrast hide at one is seen at another."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from scipy import ndimage
from torch import Tensor

AROUND = 24  # to the longest side: a neighbourhood, by whose mean and spread contrast is taken
FAINT = 0.01  # spread of a neighbourhood that shows nothing

Scale = Callable[[Tensor], Tensor]


def smoothed(images: Tensor, sigma: float) -> Tensor:
    """Images ``(n, 1, ...)`` blurred by a Gaussian of ``sigma`` voxels; beyond the border they go on as they end."""
    axes = tuple(range(2, images.ndim))
    return torch.from_numpy(ndimage.gaussian_filter(images.numpy(), sigma, axes=axes, mode="nearest"))


def local_contrast(images: Tensor, sigma: float | None = None) -> Tensor:
    """Images less their mean, over their spread, within ``sigma`` voxels of each: what shading, gamma and bias leave.

    By default neighbourhoods are a 24th of the longest side wide, and 1.5 voxels at least.
    """
    sigma = sigma or max(1.5, max(images.shape[2:]) / AROUND)
    difference = images - smoothed(images, sigma)
    return difference / (smoothed(difference.square(), sigma) + FAINT**2).sqrt()


SCALES: Mapping[str, Scale] = {
    "image": lambda images: images,
    "image blurred by 1 voxel": partial(smoothed, sigma=1),
    "image blurred by 2 voxels": partial(smoothed, sigma=2),
    "local contrast": local_contrast,
}
