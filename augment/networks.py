"""Encoders and decoders, for images ``(n, 1, X, Y)`` and volumes ``(n, 1, X, Y, Z)``.

``paper-oasis``
    Table 4's OASIS pair, at 208 x 176 only (or its transpose, the array order of an axial slice cut from a volume).
``conv``
    A pair scaled to any size: MONAI convolutions of stride 2 until the shortest side is 4 to 7 voxels.

Every decoder ends in a sigmoid (as the paper's released code has it; Table 4 says ReLU): images lie in [0, 1].
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from monai.networks.blocks.convolutions import Convolution
from torch import Tensor, nn

from ..datasets.errors import UsageError

PAPER_OASIS_SHAPE = (208, 176)
LEAKY = ("LEAKYRELU", {"negative_slope": 0.1, "inplace": True})
SMALLEST_GRID = 4  # voxels per side that the last convolution may leave


@dataclass(frozen=True)
class Architecture:
    """What determines a pair of networks.

    Parameters
    ----------
    name : {"conv", "paper-oasis"}
        The family.
    shape : tuple of int
        Of the images, ``(X, Y)`` or ``(X, Y, Z)``.
    latent_dim : int
        D.
    channels : int
        Of the first convolution of ``conv``; they double at each stage, up to eight times as many.
    """

    name: str
    shape: tuple[int, ...]
    latent_dim: int = 16
    channels: int = 16

    def __post_init__(self) -> None:
        if self.name not in ARCHITECTURES:
            raise UsageError(f"There is no architecture '{self.name}'; choose one of: {', '.join(ARCHITECTURES)}.")
        if self.latent_dim < 1 or self.channels < 1:
            raise UsageError(
                f"An architecture needs at least one latent dimension and one channel, not {self.latent_dim} and {self.channels}."
            )

    def encoder(self, n_heads: int) -> "Encoder":
        """A fresh encoder with ``n_heads`` outputs of ``latent_dim`` each."""
        body, _ = ARCHITECTURES[self.name](self)
        return Encoder(body, self.shape, self.latent_dim, n_heads)

    def decoder(self) -> "Decoder":
        """A fresh decoder."""
        _, body = ARCHITECTURES[self.name](self)
        return Decoder(body, self.shape, self.latent_dim)


class Encoder(nn.Module):
    """A body of convolutions and, per head, one linear layer: ``(n, 1, *shape)`` to a tuple of ``(n, D)``."""

    def __init__(self, body: nn.Module, shape: tuple[int, ...], latent_dim: int, n_heads: int):
        super().__init__()
        self.shape = shape
        self.body = body
        with torch.no_grad():
            n_features = body(torch.zeros(1, 1, *shape)).numel()
        self.heads = nn.ModuleList(nn.Linear(n_features, latent_dim) for _ in range(n_heads))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        if x.shape[1:] != (1, *self.shape):
            raise ValueError(f"this encoder takes images of shape (n, 1, {', '.join(map(str, self.shape))}), not {tuple(x.shape)}")
        features = self.body(x).flatten(1)
        return tuple(head(features) for head in self.heads)


class Decoder(nn.Module):
    """``(n, D)`` to images ``(n, 1, *shape)`` in [0, 1]."""

    def __init__(self, body: nn.Module, shape: tuple[int, ...], latent_dim: int):
        super().__init__()
        self.shape = shape
        self.latent_dim = latent_dim
        self.body = body

    def forward(self, z: Tensor) -> Tensor:
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ValueError(f"this decoder takes latents of shape (n, {self.latent_dim}), not {tuple(z.shape)}")
        return torch.sigmoid(self.body(z))


def paper_oasis(architecture: Architecture) -> tuple[nn.Module, nn.Module]:
    """Table 4, column OASIS; paddings as in the released code, which leave 1024 x 4 x 4 features."""
    if architecture.shape == PAPER_OASIS_SHAPE:
        transpose = False
    elif architecture.shape == PAPER_OASIS_SHAPE[::-1]:
        transpose = True
    else:
        given = " x ".join(map(str, architecture.shape))
        raise UsageError(f"The architecture paper-oasis is made for 208 x 176 slices, not {given}: give --size 208x176, or --arch conv.")

    def pair(rows: int, columns: int) -> tuple[int, int]:
        return (columns, rows) if transpose else (rows, columns)

    channels = (1, 64, 128, 256, 512, 1024)
    paddings = (pair(1, 1), pair(1, 1), pair(1, 1), pair(1, 2), pair(0, 0))
    encoder = []
    for i, padding in enumerate(paddings):
        encoder += [nn.Conv2d(channels[i], channels[i + 1], 5, stride=2, padding=padding), nn.ReLU()]

    channels = (1024, 512, 256, 128, 64, 1)
    strides = (pair(3, 2), pair(2, 2), pair(2, 2), pair(2, 2), pair(1, 1))
    paddings = (pair(1, 0), pair(1, 0), pair(0, 0), pair(0, 0), pair(1, 1))
    decoder: list[nn.Module] = [nn.Linear(architecture.latent_dim, 1024 * 8 * 8), nn.Unflatten(1, (1024, 8, 8))]
    for i in range(5):
        grown = pair(1, 1) if i == 3 else pair(0, 0)
        decoder.append(nn.ConvTranspose2d(channels[i], channels[i + 1], 5, stride=strides[i], padding=paddings[i], output_padding=grown))
        if i < 4:
            decoder.append(nn.ReLU())
    return nn.Sequential(*encoder), nn.Sequential(*decoder)


def conv(architecture: Architecture) -> tuple[nn.Module, nn.Module]:
    """Convolutions 4 wide of stride 2 (kernels that the stride divides leave no checkerboard), batch norm, leaky ReLU."""
    shape, width = architecture.shape, architecture.channels
    if min(shape) < 2 * SMALLEST_GRID:
        raise UsageError(f"The architecture conv needs images of at least 8 voxels a side, not {' x '.join(map(str, shape))}.")
    sizes = [shape]
    while min(sizes[-1]) >= 2 * SMALLEST_GRID:
        sizes.append(tuple(side // 2 for side in sizes[-1]))
    channels = [width * 2 ** min(stage, 3) for stage in range(len(sizes) - 1)]
    block = {"spatial_dims": len(shape), "kernel_size": 4, "strides": 2, "padding": 1, "norm": "BATCH", "act": LEAKY, "adn_ordering": "NA"}
    encoder = [Convolution(in_channels=c_in, out_channels=c, **block) for c_in, c in zip([1, *channels], channels, strict=False)]
    decoder: list[nn.Module] = [
        nn.Linear(architecture.latent_dim, channels[-1] * math.prod(sizes[-1])),
        nn.Unflatten(1, (channels[-1], *sizes[-1])),
        nn.LeakyReLU(LEAKY[1]["negative_slope"]),
    ]
    for stage in reversed(range(1, len(channels) + 1)):
        # Halving rounds down: an output padding of 1 gives back the odd voxel.
        grown = tuple(old - 2 * new for old, new in zip(sizes[stage - 1], sizes[stage], strict=True))
        c_in, c = channels[stage - 1], channels[max(stage - 2, 0)]
        decoder.append(Convolution(in_channels=c_in, out_channels=c, is_transposed=True, output_padding=grown, **block))
    decoder.append(Convolution(len(shape), channels[0], 1, kernel_size=3, conv_only=True))
    return nn.Sequential(*encoder), nn.Sequential(*decoder)


ARCHITECTURES: dict[str, Callable[[Architecture], tuple[nn.Module, nn.Module]]] = {"conv": conv, "paper-oasis": paper_oasis}
