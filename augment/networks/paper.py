"""The paper's networks (Appendix D, Table 4), with the paddings of the released code, which the table leaves out.

Table 4 gives each network for one size of image, hence one grid of features; ``width``, the channels of its first layer, scales all others.
The table ends OASIS's decoder in a ReLU; like the released code's it ends in the sigmoid that every ``Decoder`` applies.
"""

from collections.abc import Iterable, Sequence
from math import prod

from torch import nn

from ...datasets.common.errors import UsageError
from ...datasets.common.words import times
from .transposed import with_even_outputs

GRID = (8, 8)  # that every convolutional decoder starts from
MNIST_SHAPE = SVHN_SHAPE = (32, 32)
CELEBA_SHAPE = (64, 64)
OASIS_SHAPE, OASIS_TURNED = (208, 176), (176, 208)

Pair = tuple[nn.Module, nn.Module]


def mnist(shape: tuple[int, ...], image_channels: int, latent_dim: int, width: int) -> Pair:
    """Column MNIST [CIFAR10]: 32 x 32, kernels of 4 x 4, batch norm."""
    _check_shape("paper-mnist", shape, MNIST_SHAPE)
    encoder = _encoder((image_channels, *_doubled(width, 4)), 4, (1, 1, 1, 1), batch_norm=True)
    decoder = _decoder(latent_dim, (8 * width, 4 * width, 2 * width, image_channels), 4, (2, 2, 1), (1, 1, 2), (0, 1, 0), batch_norm=True)
    return encoder, decoder


def svhn(shape: tuple[int, ...], image_channels: int, latent_dim: int, width: int) -> Pair:
    """Column SVHN: 32 x 32, linear layers, the second half as wide as the first."""
    _check_shape("paper-svhn", shape, SVHN_SHAPE)
    half, voxels = max(width // 2, 1), image_channels * prod(shape)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(voxels, width), nn.ReLU(), nn.Linear(width, half), nn.ReLU())
    layers = (nn.Linear(latent_dim, half), nn.ReLU(), nn.Linear(half, width), nn.ReLU(), nn.Linear(width, voxels))
    return encoder, nn.Sequential(*layers, nn.Unflatten(1, (image_channels, *shape)))


def celeba(shape: tuple[int, ...], image_channels: int, latent_dim: int, width: int) -> Pair:
    """Column CELEBA: 64 x 64, kernels of 5 x 5, batch norm."""
    _check_shape("paper-celeba", shape, CELEBA_SHAPE)
    encoder = _encoder((image_channels, *_doubled(width, 4)), 5, (1, 1, 2, 2), batch_norm=True)
    channels = (8 * width, 4 * width, 2 * width, width, image_channels)
    decoder = _decoder(latent_dim, channels, 5, (2, 2, 2, 1), (2, 1, 2, 1), (0, 0, 1, 0), batch_norm=True)
    return encoder, decoder


def oasis(shape: tuple[int, ...], image_channels: int, latent_dim: int, width: int) -> Pair:
    """Column OASIS: 208 x 176, or its transpose (the array order of an axial slice cut from a volume); kernels of 5 x 5, no batch norm.

    The paddings leave 1024 x 4 x 4 features: the table's LINEAR(4096) cannot be.
    """
    _check_shape("paper-oasis", shape, OASIS_SHAPE, OASIS_TURNED)

    def turned(*sides: tuple[int, int]) -> list[tuple[int, int]]:
        return [(rows, columns) if shape == OASIS_SHAPE else (columns, rows) for rows, columns in sides]

    encoder = _encoder((image_channels, *_doubled(width, 5)), 5, turned((1, 1), (1, 1), (1, 1), (1, 2), (0, 0)), batch_norm=False)
    decoder = _decoder(
        latent_dim,
        (*reversed(_doubled(width, 5)), image_channels),
        5,
        turned((3, 2), (2, 2), (2, 2), (2, 2), (1, 1)),
        turned((1, 0), (1, 0), (0, 0), (0, 0), (1, 1)),
        turned((0, 0), (0, 0), (0, 0), (1, 1), (0, 0)),
        batch_norm=False,
    )
    return encoder, decoder


def family_for(shape: tuple[int, ...], image_channels: int) -> str:
    """The column of Table 4 that is made for images of this shape.

    32 x 32 means MNIST's and CIFAR-10's networks: SVHN's, of linear layers, are chosen by name alone.

    Raises
    ------
    UsageError
        If there is none.
    """
    sizes = {MNIST_SHAPE: "paper-mnist", CELEBA_SHAPE: "paper-celeba", OASIS_SHAPE: "paper-oasis", OASIS_TURNED: "paper-oasis"}
    if shape not in sizes or image_channels not in (1, 3):
        raise UsageError(
            f"The paper has no networks for {times((image_channels, *shape))} images (channels first), only for 32 x 32, 64 x 64 and "
            "208 x 176 of 1 or 3 channels: give --size as one of these, or --arch conv."
        )
    return sizes[shape]


def _check_shape(name: str, shape: tuple[int, ...], *made_for: tuple[int, int]) -> None:
    if shape not in made_for:
        sides = made_for[0]
        raise UsageError(
            f"The architecture {name} is made for {times(sides)} slices, not {times(shape)}: "
            f"give --size {'x'.join(map(str, sides))}, or --arch conv."
        )


def _doubled(width: int, stages: int) -> list[int]:
    return [width * 2**stage for stage in range(stages)]


def _encoder(channels: Sequence[int], kernel: int, paddings: Iterable[int | tuple[int, int]], *, batch_norm: bool) -> nn.Sequential:
    """Convolutions of stride 2, each with a ReLU."""
    layers: list[nn.Module] = []
    for c_in, c, padding in zip(channels, channels[1:], paddings, strict=False):
        layers.append(nn.Conv2d(c_in, c, kernel, stride=2, padding=padding))
        layers += [nn.BatchNorm2d(c), nn.ReLU()] if batch_norm else [nn.ReLU()]
    return nn.Sequential(*layers)


def _decoder(
    latent_dim: int,
    channels: Sequence[int],
    kernel: int,
    strides: Sequence[int | tuple[int, int]],
    paddings: Sequence[int | tuple[int, int]],
    output_paddings: Sequence[int | tuple[int, int]],
    *,
    batch_norm: bool,
) -> nn.Sequential:
    """A linear layer to a grid, transposed convolutions, each but the last with a ReLU; the table has batch norm after the last one too."""
    layers: list[nn.Module] = [nn.Linear(latent_dim, channels[0] * prod(GRID)), nn.Unflatten(1, (channels[0], *GRID))]
    for c_in, c, stride, padding, grown in zip(channels, channels[1:], strides, paddings, output_paddings, strict=False):
        layers.append(with_even_outputs(nn.ConvTranspose2d(c_in, c, kernel, stride, padding, grown)))
        layers += [nn.BatchNorm2d(c), nn.ReLU()] if batch_norm else [nn.ReLU()]
    return nn.Sequential(*layers[:-1])
