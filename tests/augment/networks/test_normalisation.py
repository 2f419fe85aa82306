"""Batch norm for networks that are differentiated twice: torch's own, as values, gradients and gradients of gradients."""

import copy

import pytest
import torch
from torch import nn

from tinycohort.augment.autoencoders import AUTOENCODERS, build_autoencoder
from tinycohort.augment.networks import Architecture
from tinycohort.augment.networks.normalisation import twice_differentiable

LAYERS = [(nn.BatchNorm2d, (3, 2, 4, 5)), (nn.BatchNorm3d, (2, 3, 2, 3, 4))]


def pair(kind, channels):
    """torch's layer, with weights that are not all 1, and ours of the same weights."""
    torch.manual_seed(0)
    theirs = kind(channels)
    nn.init.normal_(theirs.weight)
    nn.init.normal_(theirs.bias)
    ours = twice_differentiable(nn.Sequential(copy.deepcopy(theirs)))[0]
    assert type(ours) is not type(theirs)
    return theirs, ours


def derivatives(layer, x, terms=("x", "weight", "bias")):
    """Output, gradients, and the gradients of a function of those of the gradients that ``terms`` names, which is linear in none."""
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x) for _ in range(2))
    x = x.clone().requires_grad_()
    inputs = (x, layer.weight, layer.bias)
    y = layer(x)
    first = torch.autograd.grad((y.sin() * a).sum(), inputs, create_graph=True)
    pairing = {"x": (first[0].sin() * b).sum(), "weight": first[1].sin().sum(), "bias": first[2].square().sum()}
    second = torch.autograd.grad(sum(pairing[term] for term in terms), inputs)
    return [each.detach() for each in (y, *first, *second)]


@pytest.mark.parametrize("terms", [("x",), ("weight",), ("bias",), ("x", "weight", "bias")], ids="+".join)
@pytest.mark.parametrize("last", [False, True], ids=["plain", "channels last"])
@pytest.mark.parametrize(("kind", "shape"), LAYERS)
def test_all_derivatives_are_those_of_torch(kind, shape, last, terms):
    theirs, ours = (layer.double() for layer in pair(kind, shape[1]))
    x = 3 + torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    if last:
        x = x.contiguous(memory_format=torch.channels_last if len(shape) == 4 else torch.channels_last_3d)
    for found, expected in zip(derivatives(ours, x, terms), derivatives(theirs, x, terms), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name
    assert int(ours.num_batches_tracked) == 1


@pytest.mark.parametrize(("kind", "shape"), LAYERS)
def test_out_of_training_the_running_statistics_count(kind, shape):
    theirs, ours = (layer.eval() for layer in pair(kind, shape[1]))
    for layer in (theirs, ours):
        layer.running_mean.fill_(0.3)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    for found, expected in zip(derivatives(ours, x), derivatives(theirs, x), strict=True):
        assert torch.equal(found, expected)


def second_derivative(layer, x, g, v):
    """Of sum v dL/dx in x, where g is dL/dy."""
    x = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(layer(x), x, g, create_graph=True)
    return torch.autograd.grad(first, x, v)[0]


@pytest.mark.parametrize("centre", [0, 10, 30])
@pytest.mark.parametrize(("kind", "shape"), LAYERS)
def test_maps_in_bf16_far_from_zero_lose_less_than_with_torch(kind, shape, centre):
    shape = (*shape[:2], *(4 * side for side in shape[2:]))
    theirs, ours = pair(kind, shape[1])
    generator = torch.Generator().manual_seed(2)
    x = (centre + torch.randn(shape, generator=generator)).bfloat16()
    # Gradients that go with x, as a loss has them, leave terms that cancel.
    g, v = (x - centre + torch.randn(shape, generator=generator) for _ in range(2))
    maps = [x, g.bfloat16(), v.bfloat16()]
    truth = second_derivative(copy.deepcopy(theirs).double(), *(each.double() for each in maps))
    own, of_torch = (float((second_derivative(layer, *maps).double() - truth).norm() / truth.norm()) for layer in (ours, theirs))
    assert own < of_torch
    assert own < 0.01


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("last", [False, True], ids=["plain", "channels last"])
@pytest.mark.parametrize(("kind", "shape"), LAYERS)
def test_a_gpu_finds_the_same(kind, shape, last):
    theirs, ours = pair(kind, shape[1])
    x = 3 + torch.randn(shape, generator=torch.Generator().manual_seed(2))
    if last:
        x = x.contiguous(memory_format=torch.channels_last if len(shape) == 4 else torch.channels_last_3d)
    truth = derivatives(theirs.double(), x.double())
    ours.cuda()
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.1)):
        for found, expected in zip(derivatives(ours, x.cuda().to(dtype)), truth, strict=True):
            assert float((found.cpu().double() - expected).norm() / expected.norm()) < tolerance


def test_one_value_a_channel_is_refused_as_torch_refuses_it():
    theirs, ours = pair(nn.BatchNorm2d, 2)
    for layer in (theirs, ours):
        with pytest.raises(ValueError, match=r"more than (1|one) value"):
            layer(torch.ones(1, 2, 1, 1))
        assert int(layer.num_batches_tracked) <= 1
        assert torch.isfinite(layer.running_var).all()


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_decoders_that_are_differentiated_twice_have_it(name):
    model = build_autoencoder(name, Architecture("conv", (8, 8), latent_dim=2, channels=2))
    kinds = {type(module) for module in model.decoder.modules() if isinstance(module, nn.BatchNorm2d)}
    assert kinds
    assert (nn.BatchNorm2d not in kinds) == model.differentiates_twice


def test_a_second_look_at_the_second_derivative_is_refused():
    _, ours = pair(nn.BatchNorm2d, 2)
    x = torch.randn(3, 2, 4, 5, requires_grad=True)
    (first,) = torch.autograd.grad(ours(x).sin().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sin().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        second.sum().backward()
