"""One image, brought to a size and a range (MONAI transforms), once there is memory for that."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from monai.data.meta_tensor import MetaTensor
from monai.transforms.compose import Compose
from monai.transforms.croppad.array import ResizeWithPadOrCrop
from monai.transforms.intensity.array import ScaleIntensity, ScaleIntensityRange
from monai.transforms.spatial.array import Resize

from .common.errors import DataError, UsageError
from .common.machine import IN_PASSING, bytes_of, is_too_much
from .common.words import times

PERCENTILES = (0.5, 99.5)
# Copies in float32 that are held in passing, but for those that smoothing a volume takes. Of the source they are 12 where torch convolves
# images as they lie, and up to 19 on processors for which it lays them out anew.
_OF_SOURCE, _OF_CROPPED, _OF_RESULT = 20, 2, 4


def brought_to(
    size: Sequence[int], image: MetaTensor, resize: Literal["stretch", "crop"], scaling: Literal["percentile", "minmax", "none"], where: str
) -> MetaTensor:
    """An image ``(1, ...)`` at a size and a range, as ``transforms.Preparation`` says it.

    Raises
    ------
    UsageError
        If there is no memory for what it shall become.
    DataError
        If there is none to bring the image, which is ``where``, to it.
    """
    shape = list(image.shape[1:])
    if shape == list(size):
        return _scaled(image, scaling)
    if is_too_much(bytes_of(_OF_RESULT, size), part=IN_PASSING):
        raise UsageError(f"To bring an image to {times(size)} this machine has no memory; choose a smaller --size.")
    if is_too_much(memory_to_resize(shape, size, smoothed=resize == "stretch"), part=IN_PASSING):
        told = f"{where} has {times(shape)} voxels, and this machine has no memory to bring it to {times(size)}"
        raise DataError(f"{told}; resample it to fewer voxels, or choose a larger --size.")
    if resize == "stretch":
        change: Any = Resize(size, mode="bilinear" if len(size) == 2 else "trilinear", anti_aliasing=True)
    else:
        # Around the image is what is darkest in it: 0 would be tissue where air is -1000.
        change = ResizeWithPadOrCrop(size, value=float(image.min()))
    return _scaled(as_meta(Compose([change])(image)), scaling)


def memory_to_resize(shape: Sequence[int], size: Sequence[int], *, smoothed: bool) -> int:
    """Bytes that an image of a shape takes at most, itself and the result included, while it is brought to a size.

    Before voxels are left out the image is smoothed, over four standard deviations of (factor - 1) / 2 voxels to both sides, and torch's
    convolution of a volume takes a copy of it for each voxel of the kernel. ``tests/datasets/test_memory.py`` measures it.
    """
    tails = [round(2 * max(0.0, side / new - 1)) if smoothed else 0 for side, new in zip(shape, size, strict=True)]
    copies = max(_OF_SOURCE, 2 * max(tails) + 5 if len(shape) == 3 else 0) if smoothed else _OF_CROPPED
    return bytes_of(copies, [side + 2 * tail for side, tail in zip(shape, tails, strict=True)]) + bytes_of(_OF_RESULT, size)


def as_meta(image: Any) -> MetaTensor:
    """What MONAI's transforms return is typed too widely; with affines tracked it is a MetaTensor."""
    assert isinstance(image, MetaTensor)
    return image


def _scaled(image: MetaTensor, scaling: str) -> MetaTensor:
    if scaling == "none":
        return image
    low, high = np.percentile(image.numpy(), PERCENTILES)
    # An image that is nearly all background has no such range: its few voxels then keep theirs.
    if scaling == "minmax" or low == high:
        return as_meta(ScaleIntensity(minv=0.0, maxv=1.0)(image))
    return as_meta(ScaleIntensityRange(float(low), float(high), b_min=0.0, b_max=1.0, clip=True)(image))
