"""How close images come to training images: what a sample must not be is a copy of a patient."""

import numpy as np
import torch
from sklearn import config_context
from sklearn.metrics import pairwise_distances_argmin_min
from torch import Tensor

AT_ONCE = 2**20  # voxels whose differences are in memory


def nearest_images(images: Tensor, references: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Root-mean-square difference over voxels to the nearest reference ``(n,)``, and which reference that is ``(n,)``.

    Parameters
    ----------
    images, references : torch.Tensor
        ``(n, 1, ...)`` and ``(m, 1, ...)``, in [0, 1].
    """
    # Its compiled way holds 256 images of each side in float64: of volumes these are gigabytes.
    with config_context(enable_cython_pairwise_dist=False):
        index, distance = pairwise_distances_argmin_min(_rows(images), _rows(references))
    return distance / np.sqrt(images[0].numel()), index


def explained_variance(images: Tensor, reconstructions: Tensor, mean_image: Tensor) -> float:
    """Share of the images' squared distance from ``mean_image`` ``(1, ...)`` that their reconstructions account for.

    1 for perfect reconstructions, 0 for the mean image itself, negative for worse than that.
    """
    return 1 - _squared_distance(images, reconstructions) / _squared_distance(images, mean_image.expand_as(images))


def _squared_distance(images: Tensor, others: Tensor) -> float:
    """Summed in float64, of some images at a time: at once it would take several times the images' memory."""
    rows = max(1, AT_ONCE // images[0].numel())
    return float(sum((a - b).double().square().sum() for a, b in zip(images.split(rows), others.split(rows), strict=True)))


def _rows(images: Tensor) -> np.ndarray:
    return images.detach().to(torch.float32).flatten(1).numpy()
