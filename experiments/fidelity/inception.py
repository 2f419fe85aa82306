"""The InceptionV3 whose features FID is defined on: the network of 2015-12-05 (Szegedy et al. 2016; Heusel et al. 2017).

It departs from the published one at three places, for its weights were trained so: average pooling leaves the padding out of its counts,
and in the last block (Mixed_7c) the pooling branch takes the maximum. Names are those of the usual PyTorch port, so that its weights load
by name.
"""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ...datasets.common.errors import DataError, UsageError

SIDE = 299
PORT = "pt_inception-2015-12-05-6726825d.pth"
PORT_SHA256 = "6726825d"  # the prefix that its name holds
PORT_URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{PORT}"


Size = int | tuple[int, int]
Step = tuple[str, int, Size, int]
"""A convolution of a block: its name, output channels, size and stride."""


class _Convolution(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, size: Size, stride: int = 1, padding: Size = 0):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x.to(self.conv.weight.dtype))), inplace=True)


class _Mixed(nn.Module):
    """Branches side by side, each a chain of convolutions, and a pooling of the input with at most one convolution after it.

    Parameters
    ----------
    inputs : int
        Channels.
    branches : sequence
        A branch is a sequence of steps, a step one or two convolutions of the same input; those of stride 1 keep the size, others do not
        pad.
    pool : {"average", "maximum", "halve"}
        Of 3 x 3 voxels; ``halve`` has stride 2.
    pooled : int
        Output channels of the convolution after it; 0 for none.
    """

    def __init__(self, inputs: int, branches: Sequence[Sequence[Sequence[Step]]], pool: str, pooled: int = 0):
        super().__init__()
        self.pool = pool
        self.branches = [[[name for name, *_ in step] for step in branch] for branch in branches]
        self.outputs = pooled or inputs
        for branch in branches:
            width = inputs
            for step in branch:
                for name, outputs, size, stride in step:
                    sides = (size, size) if isinstance(size, int) else size
                    padding = (sides[0] // 2, sides[1] // 2) if stride == 1 else 0
                    self.add_module(name, _Convolution(width, outputs, size, stride, padding))
                width = sum(outputs for _, outputs, *_ in step)
            self.outputs += width
        self.branch_pool = _Convolution(inputs, pooled, 1) if pooled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        for branch in self.branches:
            part = x
            for step in branch:
                part = torch.cat([self.get_submodule(name)(part) for name in step], dim=1)
            parts.append(part)
        return torch.cat([*parts, self.branch_pool(self._pooled(x))], dim=1)

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pool == "average":
            return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        return F.max_pool2d(x, 3, stride=2) if self.pool == "halve" else F.max_pool2d(x, 3, stride=1, padding=1)


def _chain(name: str, *steps: tuple[int, Size] | tuple[int, Size, int]) -> list[list[Step]]:
    """A branch whose convolutions are numbered from 1, or not where there is one."""
    numbers = [""] if len(steps) == 1 else [f"_{i}" for i in range(1, len(steps) + 1)]
    return [[(name + number, step[0], step[1], step[2] if len(step) == 3 else 1)] for number, step in zip(numbers, steps, strict=True)]


def _mixed_5(inputs: int, pooled: int) -> _Mixed:
    branches = [
        _chain("branch1x1", (64, 1)),
        _chain("branch5x5", (48, 1), (64, 5)),
        _chain("branch3x3dbl", (64, 1), (96, 3), (96, 3)),
    ]
    return _Mixed(inputs, branches, "average", pooled)


def _mixed_6a(inputs: int) -> _Mixed:
    return _Mixed(inputs, [_chain("branch3x3", (384, 3, 2)), _chain("branch3x3dbl", (64, 1), (96, 3), (96, 3, 2))], "halve")


def _mixed_6(inputs: int, width: int) -> _Mixed:
    branches = [
        _chain("branch1x1", (192, 1)),
        _chain("branch7x7", (width, 1), (width, (1, 7)), (192, (7, 1))),
        _chain("branch7x7dbl", (width, 1), (width, (7, 1)), (width, (1, 7)), (width, (7, 1)), (192, (1, 7))),
    ]
    return _Mixed(inputs, branches, "average", 192)


def _mixed_7a(inputs: int) -> _Mixed:
    branches = [_chain("branch3x3", (192, 1), (320, 3, 2)), _chain("branch7x7x3", (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2))]
    return _Mixed(inputs, branches, "halve")


def _mixed_7(inputs: int, pool: str) -> _Mixed:
    def fork(name: str) -> list[Step]:
        return [(f"{name}a", 384, (1, 3), 1), (f"{name}b", 384, (3, 1), 1)]

    branches = [
        _chain("branch1x1", (320, 1)),
        [[("branch3x3_1", 384, 1, 1)], fork("branch3x3_2")],
        [[("branch3x3dbl_1", 448, 1, 1)], [("branch3x3dbl_2", 384, 3, 1)], fork("branch3x3dbl_3")],
    ]
    return _Mixed(inputs, branches, pool, 192)


# The blocks up to each layer that features are taken from, in order, by the dimension of its features.
BLOCKS: Mapping[int, Mapping[str, Callable[[], nn.Module]]] = {
    64: {
        "Conv2d_1a_3x3": lambda: _Convolution(3, 32, 3, 2),
        "Conv2d_2a_3x3": lambda: _Convolution(32, 32, 3),
        "Conv2d_2b_3x3": lambda: _Convolution(32, 64, 3, padding=1),
        "pool_1": lambda: nn.MaxPool2d(3, stride=2),
    },
    192: {
        "Conv2d_3b_1x1": lambda: _Convolution(64, 80, 1),
        "Conv2d_4a_3x3": lambda: _Convolution(80, 192, 3),
        "pool_2": lambda: nn.MaxPool2d(3, stride=2),
    },
    768: {
        "Mixed_5b": lambda: _mixed_5(192, 32),
        "Mixed_5c": lambda: _mixed_5(256, 64),
        "Mixed_5d": lambda: _mixed_5(288, 64),
        "Mixed_6a": lambda: _mixed_6a(288),
        "Mixed_6b": lambda: _mixed_6(768, 128),
        "Mixed_6c": lambda: _mixed_6(768, 160),
        "Mixed_6d": lambda: _mixed_6(768, 160),
        "Mixed_6e": lambda: _mixed_6(768, 192),
    },
    2048: {
        "Mixed_7a": lambda: _mixed_7a(768),
        "Mixed_7b": lambda: _mixed_7(1280, "average"),
        "Mixed_7c": lambda: _mixed_7(2048, "maximum"),
    },
}


class InceptionV3(nn.Module):
    """The network up to the layer with features of ``dimension`` 64, 192, 768 or 2048, averaged over the image.

    64 and 192 are the layers after the first and the second max-pooling, 768 is the last before the third, 2048 the last of all.
    """

    def __init__(self, dimension: int = 2048):
        super().__init__()
        if dimension not in BLOCKS:
            raise UsageError(f"InceptionV3 has features of {', '.join(map(str, BLOCKS))} dimensions, not {dimension}.")
        self.blocks = nn.ModuleDict({name: block() for tap, part in BLOCKS.items() if tap <= dimension for name, block in part.items()})

    def forward(self, images: Tensor) -> Tensor:
        """From images ``(n, 1 or 3, X, Y)`` in [0, 1], resized to 299 x 299, to features ``(n, dimension)``."""
        x = (resize_as_tensorflow(images, (SIDE, SIDE)) - 0.5) * 2
        x = x.expand(-1, 3, -1, -1)
        for block in self.blocks.values():
            x = block(x)
        return x.float().mean(dim=(2, 3))


def resize_as_tensorflow(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, as TensorFlow 1 does by default, and so FID: row i of the result is at row i times the ratio of the sides.

    The first voxels' corners coincide, not the images' (as torch has it with or without ``align_corners``), and nothing is smoothed before
    an image shrinks.

    Parameters
    ----------
    images : torch.Tensor
        ``(n, c, X, Y)`` float32.
    size : tuple of int
        Size of the result.
    """
    rows, columns = (_interpolation(old, new).to(images) for old, new in zip(images.shape[2:], size, strict=True))
    return rows @ images @ columns.T


def load_inception(path: Path, dimension: int) -> tuple[InceptionV3, str]:
    """The network with its weights, in evaluation mode, and their SHA-256.

    Parameters
    ----------
    path : Path
        ``pt_inception-2015-12-05-6726825d.pth`` or safetensors with the same names; what lies beyond the asked layer may be missing.
    dimension : {64, 192, 768, 2048}

    Raises
    ------
    DataError
        If the file is missing, is another than its name says, or has no weights.
    UsageError
        If it lacks a block that the dimension needs.
    """
    network = InceptionV3(dimension)
    if not path.is_file():
        raise DataError(f"There are no weights of InceptionV3 at {path}; get them from {PORT_URL}, and give the file as --weights.")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    weights = _read(path, content, digest)
    wanted = network.blocks.state_dict()
    for name, value in wanted.items():
        # Counts of training batches are no weights.
        if name.endswith("num_batches_tracked"):
            continue
        block = name.split(".")[0]
        if name not in weights:
            end = next(tap for tap, part in BLOCKS.items() if block in part)
            known = [tap for tap in BLOCKS if tap < end]
            raise UsageError(
                f"{path.name} lacks the block {block} ({name}), which features of {dimension} dimensions need; take the whole weights from "
                f"{PORT_URL}, or features of {' or '.join(map(str, known)) or 'no'} dimensions."
            )
        if weights[name].shape != value.shape:
            raise DataError(
                f"{path} has {name} as {tuple(weights[name].shape)}, and it is {tuple(value.shape)}: these are another network's weights."
            )
        value.copy_(weights[name])
    return network.eval(), digest


def fold_norms(network: InceptionV3) -> None:
    """Make the batch norms of a network in evaluation mode part of its convolutions: in float32 it computes the same, but for rounding."""
    for module in network.modules():
        if isinstance(module, _Convolution):
            module.conv = fuse_conv_bn_eval(module.conv.double(), module.bn.double()).float()
            module.bn = nn.Identity()  # type: ignore[assignment]


def round_to_bf16(network: InceptionV3) -> None:
    """Have a network whose norms are folded compute in bf16 from its first max-pooling on.

    What comes before stays in float32: of an image that is flat but for a faint haze, bf16 would round the haze away.

    Raises
    ------
    UsageError
        If the network ends there.
    """
    if set(network.blocks) == set(BLOCKS[64]):
        raise UsageError("Features of 64 dimensions are computed in float32 alone; leave -bf16 out.")
    for name, block in network.blocks.items():
        if name not in BLOCKS[64]:
            block.to(torch.bfloat16)


def _read(path: Path, content: bytes, digest: str) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            return load_safetensors(content)
        except SafetensorError as error:
            raise DataError(f"{path} is no safetensors file ({error}); get it anew.") from error
    if not digest.startswith(PORT_SHA256):
        raise DataError(f"{path} is not {PORT} (its SHA-256 starts with {digest[:8]}, not {PORT_SHA256}); get it anew from {PORT_URL}.")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _interpolation(old: int, new: int) -> Tensor:
    """The matrix ``(new, old)`` that interpolates a line."""
    places = torch.arange(new, dtype=torch.float64) * (old / new)
    below = places.floor().long().clamp(max=old - 1)
    share = places - below
    matrix = torch.zeros(new, old, dtype=torch.float64)
    matrix.scatter_add_(1, below[:, None], (1 - share)[:, None])
    return matrix.scatter_add_(1, (below + 1).clamp(max=old - 1)[:, None], share[:, None])
