"""Networks for images and volumes of any size from 8 voxels a side on: stages that halve every side until the shortest is 4 to 7 voxels,
and then those that are much longer, as in volumes of thick slices.

Channels double at each stage, up to eight times ``width``, those of the first.
"""

from math import prod

from monai.networks.blocks.convolutions import Convolution, ResidualUnit
from torch import nn

from ...datasets.common.errors import UsageError
from .resampling import Resampled
from .transposed import with_even_outputs

LEAKY = ("LEAKYRELU", {"negative_slope": 0.1, "inplace": True})
HALVED_FROM = 32  # voxels of a side of volumes, by ``light``
SMALLEST_GRID = 4  # voxels per side that the last convolution may leave

Pair = tuple[nn.Module, nn.Module]


def conv(shape: tuple[int, ...], image_channels: int, latent_dim: int, width: int) -> Pair:
    """Convolutions 4 wide of stride 2 (kernels that the stride divides leave no checkerboard), batch norm, leaky ReLU."""
    return _scaled("conv", shape, image_channels, latent_dim, width)


def light(shape: tuple[int, ...], image_channels: int, latent_dim: int, width: int) -> Pair:
    """``conv`` without what takes most of its time: the maps on the images' own grid.

    In slices the last doubling gives the image, as in the paper's networks. Volumes are worked on at half their resolution along sides of
    32 voxels or more. What is finer is in the image that the decoder is centred on (``Decoder.centre_on``), and beyond what a few latent
    dimensions tell of a person: no less of held-out volumes is explained.
    """
    if len(shape) == 2:
        return _scaled("light", shape, image_channels, latent_dim, width, refined=False)
    coarse = tuple((side + 1) // 2 if side >= HALVED_FROM else side for side in shape)
    encoder, decoder = _scaled("light", coarse, image_channels, latent_dim, width)
    return nn.Sequential(Resampled(shape, coarse), *encoder), nn.Sequential(*decoder, Resampled(coarse, shape))


def resnet(shape: tuple[int, ...], image_channels: int, latent_dim: int, width: int) -> Pair:
    """``conv`` with a residual unit of two convolutions (He et al. 2016) on each grid: after each halving, before each doubling.

    For the comparison of architectures (Table 3): the paper does not say what its ResNet is.
    """
    return _scaled("resnet", shape, image_channels, latent_dim, width, residual=True)


def _scaled(
    name: str, shape: tuple[int, ...], image_channels: int, latent_dim: int, width: int, *, residual: bool = False, refined: bool = True
) -> tuple[nn.Sequential, nn.Sequential]:
    if min(shape) < 2 * SMALLEST_GRID:
        raise UsageError(f"The architecture {name} needs images of at least 8 voxels a side, not {' x '.join(map(str, shape))}.")
    dims = len(shape)

    def residual_unit(c: int) -> list[nn.Module]:
        return [ResidualUnit(dims, c, c, norm="BATCH", act=LEAKY)] if residual else []

    sizes, strides = [shape], list[tuple[int, ...]]()
    while stride := _stride(sizes[-1]):
        strides.append(stride)
        sizes.append(tuple(side // step for side, step in zip(sizes[-1], stride, strict=True)))
    channels = [width * 2 ** min(stage, 3) for stage in range(len(strides))]
    # Where a side is kept, three wide: a kernel of even width would take a voxel off it.
    blocks = [
        {"spatial_dims": dims, "kernel_size": tuple(2 + step for step in stride), "strides": stride, "padding": 1}
        | {"norm": "BATCH", "act": LEAKY, "adn_ordering": "NA"}
        for stride in strides
    ]
    encoder: list[nn.Module] = []
    for block, c_in, c in zip(blocks, [image_channels, *channels], channels, strict=False):
        encoder += [Convolution(in_channels=c_in, out_channels=c, **block), *residual_unit(c)]
    decoder: list[nn.Module] = [
        nn.Linear(latent_dim, channels[-1] * prod(sizes[-1])),
        nn.Unflatten(1, (channels[-1], *sizes[-1])),
        nn.LeakyReLU(LEAKY[1]["negative_slope"]),
    ]
    for stage in reversed(range(1, len(channels) + 1)):
        # Halving rounds down: an output padding of 1 gives back the odd voxel.
        grown = tuple(old - step * new for old, step, new in zip(sizes[stage - 1], strides[stage - 1], sizes[stage], strict=True))
        last = stage == 1 and not refined
        c_in, c = channels[stage - 1], image_channels if last else channels[max(stage - 2, 0)]
        decoder += residual_unit(c_in)
        doubling = Convolution(
            in_channels=c_in, out_channels=c, is_transposed=True, output_padding=grown, conv_only=last, **blocks[stage - 1]
        )
        with_even_outputs(doubling.conv)  # type: ignore[arg-type]
        decoder.append(doubling)
    if refined:
        decoder.append(Convolution(dims, channels[0], image_channels, kernel_size=3, conv_only=True))
    return nn.Sequential(*encoder), nn.Sequential(*decoder)


def _stride(sides: tuple[int, ...]) -> tuple[int, ...]:
    """Factors of the next halving, 1 along what is kept; nothing if there is none."""
    if min(sides) >= 2 * SMALLEST_GRID:
        return (2,) * len(sides)
    if max(sides) < 4 * SMALLEST_GRID:
        return ()
    return tuple(2 if side >= 4 * SMALLEST_GRID else 1 for side in sides)
