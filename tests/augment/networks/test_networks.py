"""Encoders take, and decoders return, exactly the images' shape; the paper's networks are Table 4's."""

import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tinycohort.augment.networks import Architecture, default_channels
from tinycohort.augment.networks.resampling import Resampled
from tinycohort.augment.networks.transposed import with_even_outputs
from tinycohort.datasets.common.errors import UsageError

PLANES = [*itertools.product((8, 9, 11, 15, 16, 17, 23, 31), repeat=2), (8, 97), (80, 96), (61, 73), (104, 88)]
VOLUMES = [*itertools.product((8, 9, 15, 17), repeat=3), (10, 12, 10), (40, 48, 40), (37, 41, 35)]


@pytest.mark.parametrize("shapes", [PLANES, VOLUMES], ids=["planes", "volumes"])
@pytest.mark.parametrize(("name", "image_channels"), [("light", 1), ("light", 3), ("conv", 1), ("conv", 3), ("resnet", 1)])
@torch.no_grad()
def test_scaled_networks_return_the_shape_they_were_made_for(name, image_channels, shapes):
    for shape in shapes:
        architecture = Architecture(name, shape, latent_dim=3, channels=2, image_channels=image_channels)
        encoder, decoder = architecture.encoder(2), architecture.decoder()
        codes = encoder(torch.rand(2, image_channels, *shape))
        assert [tuple(code.shape) for code in codes] == [(2, 3), (2, 3)], shape
        images = decoder(codes[0])
        assert tuple(images.shape) == (2, image_channels, *shape), shape
        assert float(images.min()) > 0
        assert float(images.max()) < 1
        # What the last convolution leaves is 4 to 7 voxels on the shortest side.
        grid = decoder.body[1](decoder.body[0](codes[0])).shape[2:]
        assert 4 <= min(grid) <= 7, shape


@pytest.mark.parametrize(("shape", "stages"), [((8, 8), 1), ((15, 30), 1), ((16, 16), 2), ((80, 96), 4), ((400, 400), 6)])
def test_conv_halves_until_the_shortest_side_is_small(shape, stages):
    encoder = Architecture("conv", shape, channels=2).encoder(1)
    convolutions = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
    assert [module.out_channels for module in convolutions] == [2, 4, 8, 16, 16, 16][:stages]
    assert encoder.heads[0].in_features == convolutions[-1].out_channels * math.prod(side // 2**stages for side in shape)


@pytest.mark.parametrize(
    ("shape", "grid", "kernels"),
    [
        ((15, 40), (7, 10), [(4, 4), (3, 4)]),
        ((48, 48, 24), (12, 12, 6), [(4, 4, 4)] * 2),
        ((97, 130, 9), (12, 8, 4), [(4, 4, 4), (4, 4, 3), (4, 4, 3), (3, 4, 3)]),
    ],
)
def test_sides_that_are_much_longer_are_halved_further(shape, grid, kernels):
    architecture = Architecture("conv", shape, channels=2)
    encoder, decoder = architecture.encoder(1), architecture.decoder()
    assert [module.kernel_size for module in encoder.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)] == kernels
    assert tuple(decoder.body[1](decoder.body[0](torch.zeros(1, architecture.latent_dim))).shape[2:]) == grid
    assert tuple(decoder(torch.zeros(1, architecture.latent_dim)).shape[2:]) == shape


def test_conv_has_as_many_weights_as_written_down():
    """16 x 20, one channel more at each stage: 1-2-4 channels, 4 x 5 left."""
    architecture = Architecture("conv", (16, 20), latent_dim=3, channels=2)
    stage_1, stage_2 = (16 * 1 * 2 + 2 + 2 * 2), (16 * 2 * 4 + 4 + 2 * 4)  # weights, biases, batch norm
    heads = 2 * (4 * 4 * 5 * 3 + 3)
    assert sum(p.numel() for p in architecture.encoder(2).parameters()) == stage_1 + stage_2 + heads
    grown = 3 * 80 + 80
    stage_2, stage_1, last = (16 * 4 * 2 + 2 + 2 * 2), (16 * 2 * 2 + 2 + 2 * 2), (9 * 2 + 1)
    assert sum(p.numel() for p in architecture.decoder().parameters()) == grown + stage_2 + stage_1 + last


def test_light_is_conv_whose_last_doubling_gives_the_image():
    """16 x 20: instead of two channels of its own size with batch norm, and a convolution of these, the image."""
    conv, light = (Architecture(name, (16, 20), latent_dim=3, channels=2) for name in ("conv", "light"))
    assert n_parameters(light.encoder(2)) == n_parameters(conv.encoder(2))
    own, last, doubling = (16 * 2 * 2 + 2 + 2 * 2), (9 * 2 + 1), (16 * 2 * 1 + 1)
    assert n_parameters(light.decoder()) == n_parameters(conv.decoder()) - own - last + doubling
    decoder, largest = light.decoder(), []
    for module in decoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda _module, _inputs, output: largest.append(tuple(output.shape[2:])))
    decoder(torch.zeros(2, 3))
    assert max(largest) == (8, 10)


def test_resnet_is_conv_with_two_more_convolutions_on_each_grid():
    """16 x 20: 2 channels on 8 x 10, 4 on 4 x 5, on the way in and out; biases and batch norm with each convolution."""
    conv, resnet = (Architecture(name, (16, 20), latent_dim=3, channels=2) for name in ("conv", "resnet"))
    units = 2 * (9 * 2 * 2 + 2 + 2 * 2) + 2 * (9 * 4 * 4 + 4 + 2 * 4)
    assert n_parameters(resnet.encoder(2)) == n_parameters(conv.encoder(2)) + units
    assert n_parameters(resnet.decoder()) == n_parameters(conv.decoder()) + units


def n_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def table_4(name, width, c):
    """Table 4 by hand: number of weights of the encoder's body, of the features that it leaves, and of the decoder, at D = 16."""
    w, linear = width, lambda *sides: sum(i * o + o for i, o in itertools.pairwise(sides))
    if name == "paper-svhn":
        return linear(c * 1024, w, w // 2), w // 2, linear(16, w // 2, w, c * 1024)
    kernel, batch_norm = (16, 2) if name == "paper-mnist" else (25, 2)
    encoder, decoder = (c, w, 2 * w, 4 * w, 8 * w), (8 * w, 4 * w, 2 * w, c) if name == "paper-mnist" else (8 * w, 4 * w, 2 * w, w, c)
    if name == "paper-oasis":
        batch_norm, encoder, decoder = 0, (c, w, 2 * w, 4 * w, 8 * w, 16 * w), (16 * w, 8 * w, 4 * w, 2 * w, w, c)
    convolutions, transposed = (
        sum(kernel * c_in * c_out + c_out + batch_norm * c_out for c_in, c_out in itertools.pairwise(channels))
        for channels in (encoder, decoder)
    )
    features = encoder[-1] * (4 if name == "paper-mnist" else 16)
    return convolutions, features, linear(16, decoder[0] * 64) + transposed


@pytest.mark.parametrize(
    ("name", "shape", "image_channels", "channels", "width"),
    [
        ("paper-mnist", (32, 32), 1, None, 128),
        ("paper-mnist", (32, 32), 3, None, 128),
        ("paper-mnist", (32, 32), 3, 32, 32),
        ("paper-svhn", (32, 32), 3, None, 1000),
        ("paper-svhn", (32, 32), 1, 10, 10),
        ("paper-celeba", (64, 64), 3, None, 128),
        ("paper-celeba", (64, 64), 1, 4, 4),
        ("paper-oasis", (208, 176), 1, None, 64),
        ("paper-oasis", (176, 208), 3, 16, 16),
    ],
)
def test_the_paper_s_networks_have_as_many_weights_as_table_4(name, shape, image_channels, channels, width):
    with torch.device("meta"):
        architecture = Architecture(name, shape, 16, channels, image_channels)
        encoder, decoder = architecture.encoder(2), architecture.decoder()
        image = decoder(encoder(torch.zeros(2, image_channels, *shape))[0])
    assert tuple(image.shape) == (2, image_channels, *shape)
    body, features, decoded = table_4(name, width, image_channels)
    assert encoder.heads[0].in_features == features
    assert n_parameters(encoder) == body + 2 * (features * 16 + 16)
    assert n_parameters(decoder) == decoded


def test_table_4_by_hand_gives_the_numbers_that_it_prints():
    """Its LINEAR(4096, 16) of MNIST and LINEAR(16384, 64) of CELEBA; the sums are written out once, for MNIST and SVHN."""
    assert table_4("paper-mnist", 128, 1)[1] == 4096
    assert table_4("paper-celeba", 128, 3)[1] == 16384
    in_128, in_256, in_512, in_1024 = 2048 + 3 * 128, 524288 + 3 * 256, 2097152 + 3 * 512, 8388608 + 3 * 1024
    out_512, out_256, out_1 = 8388608 + 3 * 512, 2097152 + 3 * 256, 4096 + 3
    mnist = (in_128 + in_256 + in_512 + in_1024, 4096, 1048576 + 65536 + out_512 + out_256 + out_1)
    assert table_4("paper-mnist", 128, 1) == mnist
    assert table_4("paper-svhn", 1000, 3) == (3072000 + 1000 + 500000 + 500, 500, 8000 + 500 + 500000 + 1000 + 3072000 + 3072)


@pytest.mark.parametrize(
    ("name", "shape", "sides"),
    [
        ("paper-mnist", (32, 32), [16, 8, 4, 2, 16, 33, 32]),
        ("paper-celeba", (64, 64), [31, 15, 8, 4, 15, 31, 62, 64]),
    ],
)
@torch.no_grad()
def test_the_paddings_are_the_released_ones(name, shape, sides):
    architecture = Architecture(name, shape, channels=1, image_channels=3)
    encoder, decoder, seen = architecture.encoder(1), architecture.decoder(), []
    for module in [*encoder.modules(), *decoder.modules()]:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[2:])))
    image = decoder(encoder(torch.rand(2, 3, *shape))[0])
    assert seen == [(side, side) for side in sides]
    assert float(image.min()) > 0
    assert float(image.max()) < 1


@pytest.mark.parametrize(
    ("shape", "image_channels", "family"),
    [
        ((32, 32), 1, "paper-mnist"),
        ((32, 32), 3, "paper-mnist"),
        ((64, 64), 1, "paper-celeba"),
        ((64, 64), 3, "paper-celeba"),
        ((208, 176), 1, "paper-oasis"),
        ((176, 208), 1, "paper-oasis"),
    ],
)
def test_paper_chooses_by_the_images_shape(shape, image_channels, family):
    with torch.device("meta"):
        chosen, named = (Architecture(name, shape, image_channels=image_channels) for name in ("paper", family))
        for made in ("encoder", "decoder"):
            one, other = (getattr(each, made)(*[2] * (made == "encoder")) for each in (chosen, named))
            assert repr(one) == repr(other)


@pytest.mark.parametrize("name", ["conv", "resnet", "paper-mnist", "paper-svhn"])
def test_the_default_channels_are_those_that_are_built(name):
    with torch.device("meta"):
        default, written = (Architecture(name, (32, 32), channels=channels).encoder(1) for channels in (None, default_channels(name)))
    assert repr(default) == repr(written)
    assert default_channels("paper") is None  # its family's, which the shape decides


@pytest.mark.parametrize("shape", [(208, 176), (176, 208)])
def test_the_oasis_pair_is_table_4_s(shape):
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


@pytest.mark.parametrize("given", [(2, 1, 16, 16), (2, 16, 16, 3)])
def test_colour_images_have_their_channels_first(given):
    encoder = Architecture("conv", (16, 16), channels=1, image_channels=3).encoder(1)
    with pytest.raises(ValueError, match=r"shape \(n, 3, 16, 16\), not "):
        encoder(torch.zeros(given))


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
        (("paper-mnist", (28, 28)), "32 x 32 slices, not 28 x 28: give --size 32x32"),
        (("paper-svhn", (64, 64)), "32 x 32 slices, not 64 x 64"),
        (("paper-celeba", (64, 64, 64)), "64 x 64 slices, not 64 x 64 x 64: give --size 64x64"),
        (("paper", (80, 96)), "no networks for 1 x 80 x 96 images"),
        (("paper", (32, 32, 32)), "no networks for 1 x 32 x 32 x 32 images"),
        (("paper", (32, 32), 2, None, 2), "no networks for 2 x 32 x 32 images"),
        (("resnet", (7, 16)), "resnet needs images of at least 8 voxels a side, not 7 x 16"),
        (
            ("unet", (16, 16)),
            "no architecture 'unet'; choose one of: light, conv, resnet, paper-mnist, paper-svhn, paper-celeba, paper-oasis, paper",
        ),
        (("conv", (16, 16), 2, 2, 0), "one channel, of its own and of its images, not 2, 2 and 0"),
        (("conv", (16, 16), 0), "at least one latent dimension"),
        (("conv", (16, 16), 2, 0), "one channel"),
    ],
)
def test_architectures_that_cannot_be(asked, says):
    with pytest.raises(UsageError, match=says):
        Architecture(*asked).encoder(1)


@pytest.mark.parametrize("kernel", [4, 5])
@pytest.mark.parametrize(("stride", "output_padding"), [(1, 0), (2, 0), (2, 1), (2, (0, 1))])
@pytest.mark.parametrize("padding", [0, 1, (2, 1)])
@pytest.mark.parametrize("made", [nn.ConvTranspose2d, nn.ConvTranspose3d])
def test_transposed_convolutions_with_even_outputs_give_what_they_gave(made, kernel, stride, output_padding, padding):
    n_more = {nn.ConvTranspose2d: 0, nn.ConvTranspose3d: 1}[made]
    sides = [side + side[:1] * n_more if isinstance(side, tuple) else side for side in (stride, padding, output_padding)]
    torch.manual_seed(0)
    plain = made(3, 2, kernel, *sides).double()
    even = with_even_outputs(copy.deepcopy(plain))
    x = torch.randn(2, 3, *(5, 6, 4)[: 2 + n_more], dtype=torch.float64, requires_grad=True)
    expected, found = plain(x), even(x)
    torch.testing.assert_close(found, expected)
    y = torch.randn_like(expected)
    for mine, theirs in zip((x, *even.parameters()), (x, *plain.parameters()), strict=True):
        gradients = [torch.autograd.grad((out * y).sum(), of, retain_graph=True)[0] for out, of in ((found, mine), (expected, theirs))]
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("kernel", "padding", "output_padding", "computed"),
    [(4, 1, (0, 1), ((1, 0), (0, 0))), (5, 2, (0, 1), ((2, 2), (1, 1))), (4, 0, (0, 1), ((0, 0), (0, 1)))],
    ids=["of less padding", "of output padding", "of neither"],
)
def test_odd_outputs_are_cut_out_of_even_ones(kernel, padding, output_padding, computed):
    layer = with_even_outputs(nn.ConvTranspose2d(1, 1, kernel, 2, padding, output_padding))
    assert (layer.padding, layer.output_padding) == computed


@pytest.mark.parametrize(
    ("name", "shape"),
    [("conv", (45, 55)), ("conv", (19, 17, 23)), ("resnet", (19, 33)), ("paper-mnist", (32, 32)), ("paper-celeba", (64, 64))],
)
def test_decoders_compute_even_outputs(name, shape):
    decoder = Architecture(name, shape, latent_dim=2, channels=2).decoder()
    doubling = [layer for layer in decoder.modules() if isinstance(layer, nn.ConvTranspose2d | nn.ConvTranspose3d) and layer.stride[0] == 2]
    assert doubling
    for layer in doubling:
        sides = zip(layer.kernel_size, layer.padding, layer.output_padding, strict=True)
        assert all((kernel - 2 * padding + grown) % 2 == 0 for kernel, padding, grown in sides)
    # Copied as a checkpoint is, differentiated twice as RAE-GP is, and in bf16 as training is.
    z = torch.rand(2, 2, requires_grad=True)
    twin = copy.deepcopy(decoder)
    torch.testing.assert_close(twin(z), decoder(z))
    (gradient,) = torch.autograd.grad(decoder(z).sum(), z, create_graph=True)
    gradient.square().sum().backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()
    assert z.grad.abs().max() > 0
    expected = decoder(z)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(decoder(z).float(), expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("name", "shape", "idle"),
    [("conv", (16, 20), 2), ("resnet", (8, 8, 8), 3), ("paper-mnist", (32, 32), 4), ("paper-oasis", (208, 176), 0)],
)
def test_biases_that_a_batch_norm_takes_away_are_not_trained(name, shape, idle):
    encoder = Architecture(name, shape, latent_dim=2, channels=2).encoder(1)
    frozen = [parameter for parameter, value in encoder.named_parameters() if not value.requires_grad]
    assert len(frozen) == idle
    x = torch.rand(3, 1, *shape)
    (before,) = encoder(x)
    with torch.no_grad():
        for parameter in frozen:
            encoder.get_parameter(parameter).add_(1.0)
    (after,) = encoder(x)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_sizing_an_encoder_teaches_its_batch_norms_nothing():
    encoder = Architecture("conv", (16, 16), 2, 2).encoder(1)
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert all(int(norm.num_batches_tracked) == 0 and not norm.running_mean.any() and norm.training for norm in norms)


@pytest.mark.parametrize("shape", [(20, 24), (10, 12, 10)])
def test_an_untrained_decoder_gives_about_the_image_that_it_is_centred_on(shape):
    image = torch.rand((1, *shape), generator=torch.Generator().manual_seed(0))
    light, conv = (Architecture(name, shape, 3, channels=2).decoder().eval() for name in ("light", "conv"))
    for decoder in (light, conv):
        with torch.no_grad():
            for parameter in decoder.parameters():
                parameter.zero_()
        decoder.centre_on(image)
    torch.testing.assert_close(light(torch.zeros(1, 3))[0], image.clamp(0.01, 0.99))
    assert (conv(torch.zeros(1, 3)) == 0.5).all()
    assert "centre" in light.state_dict()
    assert "centre" not in conv.state_dict()


@pytest.mark.parametrize(("source", "target"), [((40, 48, 40), (20, 24, 20)), ((35, 12, 33), (18, 12, 17)), ((9, 10), (5, 5))])
def test_resampling_is_torch_s_and_has_its_gradient(source, target):
    x = torch.rand((2, 3, *source), generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    smaller = Resampled(source, target).double()(x)
    torch.testing.assert_close(smaller, F.interpolate(x, target, mode="area"), rtol=0, atol=1e-6)
    larger, mode = Resampled(target, source).double()(smaller), "trilinear" if len(source) == 3 else "bilinear"
    expected = F.interpolate(smaller, source, mode=mode)
    torch.testing.assert_close(larger, expected, rtol=0, atol=1e-6)
    (ours,), (theirs,) = (torch.autograd.grad(image.square().sum(), x, retain_graph=True) for image in (larger, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_light_works_on_volumes_at_half_their_resolution_where_a_side_is_long():
    encoder = Architecture("light", (40, 48, 16), channels=2).encoder(1)
    seen = []
    first = next(module for module in encoder.modules() if isinstance(module, nn.Conv3d))
    first.register_forward_pre_hook(lambda _module, inputs: seen.append(tuple(inputs[0].shape)))
    encoder(torch.zeros(1, 1, 40, 48, 16))
    assert seen == [(1, 1, 20, 24, 16)]
