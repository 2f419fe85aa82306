"""Linear resampling of images and volumes to another grid, by a matrix an axis: fast on a CPU, and deterministic on a GPU, gradient too."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Resampled(nn.Module):
    """Maps ``(n, c, *source)`` to ``(n, c, *target)``: averages where an axis gets shorter, linear interpolation where it gets longer."""

    def __init__(self, source: tuple[int, ...], target: tuple[int, ...]):
        super().__init__()
        self.source, self.target = source, target
        for axis, sides in enumerate(zip(source, target, strict=True)):
            self.register_buffer(f"axis_{axis}", _weights(*sides), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        n, c = x.shape[:2]
        if self.source == self.target:
            return x
        lines = x
        for axis in range(len(self.target) - 1):
            lines = getattr(self, f"axis_{axis}") @ lines.reshape(n * c * math.prod(self.target[:axis]), self.source[axis], -1)
        # One large product: as many of a matrix with a vector take longer than all else.
        last = getattr(self, f"axis_{len(self.target) - 1}")
        return (lines.reshape(-1, self.source[-1]) @ last.T).reshape(n, c, *self.target)


def _weights(source: int, target: int) -> Tensor:
    """``(target, source)``: what each old voxel of a line is worth at each new one."""
    unit = torch.eye(source, device="cpu")[:, None]
    lines = F.interpolate(unit, target, mode="area") if target < source else F.interpolate(unit, target, mode="linear")
    return lines[:, 0].T.contiguous()
