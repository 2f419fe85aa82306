"""Encoders take, and decoders return, exactly the images' shape; the paper's pair is Table 4's."""

import itertools
import math

import pytest
import torch
from torch import nn

from tinycohort.augment.networks import Architecture
from tinycohort.datasets.errors import UsageError

PLANES = [*itertools.product((8, 9, 11, 15, 16, 17, 23, 31), repeat=2), (8, 97), (80, 96), (61, 73), (104, 88)]
VOLUMES = [*itertools.product((8, 9, 15, 17), repeat=3), (10, 12, 10), (40, 48, 40), (37, 41, 35)]


@pytest.mark.parametrize("shapes", [PLANES, VOLUMES], ids=["planes", "volumes"])
@torch.no_grad()
def test_conv_returns_the_shape_it_was_made_for(shapes):
    for shape in shapes:
        architecture = Architecture("conv", shape, latent_dim=3, channels=2)
        encoder, decoder = architecture.encoder(2), architecture.decoder()
        codes = encoder(torch.rand(2, 1, *shape))
        assert [tuple(code.shape) for code in codes] == [(2, 3), (2, 3)], shape
        images = decoder(codes[0])
        assert tuple(images.shape) == (2, 1, *shape), shape
        assert float(images.min()) > 0
        assert float(images.max()) < 1
        # What the last convolution leaves is 4 to 7 voxels on the shortest side.
        grid = decoder.body[1](decoder.body[0](codes[0])).shape[2:]
        assert 4 <= min(grid) <= 7, shape


@pytest.mark.parametrize(("shape", "stages"), [((8, 8), 1), ((15, 40), 1), ((16, 16), 2), ((80, 96), 4), ((400, 400), 6)])
def test_conv_halves_until_the_shortest_side_is_small(shape, stages):
    encoder = Architecture("conv", shape, channels=2).encoder(1)
    convolutions = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
    assert [module.out_channels for module in convolutions] == [2, 4, 8, 16, 16, 16][:stages]
    assert encoder.heads[0].in_features == convolutions[-1].out_channels * math.prod(side // 2**stages for side in shape)


def test_conv_has_as_many_weights_as_written_down():
    """16 x 20, one channel more at each stage: 1-2-4 channels, 4 x 5 left."""
    architecture = Architecture("conv", (16, 20), latent_dim=3, channels=2)
    stage_1, stage_2 = (16 * 1 * 2 + 2 + 2 * 2), (16 * 2 * 4 + 4 + 2 * 4)  # weights, biases, batch norm
    heads = 2 * (4 * 4 * 5 * 3 + 3)
    assert sum(p.numel() for p in architecture.encoder(2).parameters()) == stage_1 + stage_2 + heads
    grown = 3 * 80 + 80
    stage_2, stage_1, last = (16 * 4 * 2 + 2 + 2 * 2), (16 * 2 * 2 + 2 + 2 * 2), (9 * 2 + 1)
    assert sum(p.numel() for p in architecture.decoder().parameters()) == grown + stage_2 + stage_1 + last


@pytest.mark.parametrize("shape", [(208, 176), (176, 208)])
def test_the_paper_s_pair_is_table_4_s(shape):
    def turned(*sides):
        return sides if shape == (208, 176) else sides[::-1]

    with torch.device("meta"):
        architecture = Architecture("paper-oasis", shape, latent_dim=16)
        encoder, decoder = architecture.encoder(2), architecture.decoder()
        seen = []

        def note(module, inputs, output):
            seen.append((output.shape[1], *turned(*output.shape[2:])))

        for module in [*encoder.modules(), *decoder.modules()]:
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.register_forward_hook(note)
        code, _ = encoder(torch.zeros(1, 1, *shape))
        image = decoder(code)
    assert tuple(image.shape) == (1, 1, *shape)
    # The released paddings: 1024 x 4 x 4 = 16,384 features.
    assert seen[:5] == [(64, 103, 87), (128, 51, 43), (256, 25, 21), (512, 12, 11), (1024, 4, 4)]
    assert seen[5:] == [(512, 24, 19), (256, 49, 41), (128, 101, 85), (64, 206, 174), (1, 208, 176)]
    assert encoder.heads[0].in_features == 16384
    convolutions = sum(25 * c_in * c + c for c_in, c in [(1, 64), (64, 128), (128, 256), (256, 512), (512, 1024)])
    assert sum(p.numel() for p in encoder.parameters()) == convolutions + 2 * (16384 * 16 + 16)
    transposed = sum(25 * c_in * c + c for c_in, c in [(1024, 512), (512, 256), (256, 128), (128, 64), (64, 1)])
    assert sum(p.numel() for p in decoder.parameters()) == 16 * 65536 + 65536 + transposed
    assert not [module for module in [*encoder.modules(), *decoder.modules()] if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(208, 176), (176, 208)])
@torch.no_grad()
def test_the_paper_s_pair_computes(shape):
    architecture = Architecture("paper-oasis", shape)
    image = architecture.decoder()(architecture.encoder(1)(torch.rand(1, 1, *shape))[0])
    assert tuple(image.shape) == (1, 1, *shape)
    assert image.isfinite().all()


@pytest.mark.parametrize("given", [(2, 1, 16, 17), (2, 16, 16), (2, 3, 16, 16), (1, 16, 16)])
def test_images_of_another_shape_are_told_with_both(given):
    encoder = Architecture("conv", (16, 16), channels=1).encoder(1)
    with pytest.raises(ValueError, match=r"shape \(n, 1, 16, 16\), not ") as told:
        encoder(torch.zeros(given))
    assert str(given) in str(told.value)


@pytest.mark.parametrize("given", [(2, 4), (3,), (1, 1, 3)])
def test_latents_of_another_shape_are_told_with_both(given):
    with pytest.raises(ValueError, match=r"shape \(n, 3\), not ") as told:
        Architecture("conv", (16, 16), latent_dim=3, channels=1).decoder()(torch.zeros(given))
    assert str(given) in str(told.value)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("conv", (7, 16)), "at least 8 voxels a side, not 7 x 16"),
        (("conv", (16, 16, 5)), "not 16 x 16 x 5"),
        (("paper-oasis", (80, 96)), "208 x 176 slices, not 80 x 96: give --size 208x176, or --arch conv"),
        (("paper-oasis", (208, 176, 208)), "not 208 x 176 x 208"),
        (("resnet", (16, 16)), "no architecture 'resnet'; choose one of: conv, paper-oasis"),
        (("conv", (16, 16), 0), "at least one latent dimension"),
        (("conv", (16, 16), 2, 0), "one channel"),
    ],
)
def test_architectures_that_cannot_be(asked, says):
    with pytest.raises(UsageError, match=says):
        Architecture(*asked).encoder(1)
