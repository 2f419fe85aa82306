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
    a, b = (torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.dtype) for _ in range(2))
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


@pytest.mark.parametrize(("kind", "shape"), LAYERS)
def test_maps_in_bf16_are_as_near_to_the_truth_as_those_of_torch(kind, shape):
    shape = (*shape[:2], *(4 * side for side in shape[2:]))
    theirs, ours = pair(kind, shape[1])
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    truth = derivatives(theirs.double(), x.double())
    theirs.float()
    errors = []
    for layer in (ours, theirs):
        found = derivatives(layer, x.bfloat16())
        assert found[0].dtype == found[4].dtype == torch.bfloat16
        errors.append([float((each.double() - true).norm() / true.norm()) for each, true in zip(found, truth, strict=True)])
    for own, of_torch in zip(*errors, strict=True):
        assert own < max(2 * of_torch, 0.02)


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
