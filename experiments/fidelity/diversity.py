"""How alike the images of a sample are: MS-SSIM between pairs (Wang et al. 2003; as a measure of diversity Odena et al. 2017), by MONAI.

It compares voxels, no features, and looks at one sample at a time: what it says of synthetic images has a meaning beside what it says of
real ones. Higher than those means less varied.
"""

import torch
from monai.metrics.regression import MultiScaleSSIMMetric, SSIMMetric
from torch import Tensor

WINDOW = 11  # voxels of the Gaussian window
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, from fine to coarse (Wang et al. 2003)
# The least side for so many scales: the window must fit the coarsest, and MONAI asks for its square law on top.
LEAST_SIDES = (11, 22, 44, 99, 176)
PAIRS = 32  # at a time


def n_scales(shape: tuple[int, ...]) -> int:
    """How many of the five scales images of ``shape`` have room for; 1 is plain SSIM."""
    return max(1, sum(min(shape) >= side for side in LEAST_SIDES))


def ms_ssim_of_pairs(images: Tensor) -> float:
    """The mean MS-SSIM of neighbours in a sample: images 0 and 1, 2 and 3, and so on, so that pairs are independent.

    Parameters
    ----------
    images : torch.Tensor
        ``(n, 1, X, Y)`` or ``(n, 1, X, Y, Z)`` float32 in [0, 1], in an order that says nothing; two or more.

    Returns
    -------
    float
        1 for a sample of one repeated image. Over as many scales as the images have room for (``n_scales``), their weights adding up to
        1; below 11 voxels a side the window shrinks.
    """
    if len(images) < 2:
        raise ValueError("pairs need two images")
    shape = tuple(images.shape[2:])
    scales, window = n_scales(shape), min(WINDOW, (min(shape) - 1) // 2 * 2 + 1)
    if scales == 1:
        metric = SSIMMetric(len(shape), win_size=window, reduction="none")
    else:
        weights = torch.tensor(WEIGHTS[:scales])
        metric = MultiScaleSSIMMetric(len(shape), kernel_size=window, weights=(weights / weights.sum()).tolist(), reduction="none")
    firsts, seconds = images[: len(images) // 2 * 2 : 2], images[1::2]
    values = [metric(y_pred=x, y=y) for x, y in zip(firsts.split(PAIRS), seconds.split(PAIRS), strict=True)]
    return float(torch.cat([torch.as_tensor(value) for value in values]).double().mean())
