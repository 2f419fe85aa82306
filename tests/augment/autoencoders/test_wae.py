"""The WAE's discrepancy: its definition, its mean, and closed forms."""

import math

import pytest
import torch

from tinycohort.augment.autoencoders.wae import SCALES, WAE, squared_mmd
from tinycohort.augment.fitting.training import TrainingSettings, train
from tinycohort.augment.networks import Architecture
from tinycohort.datasets.common.errors import UsageError

each_kernel = pytest.mark.parametrize("kernel", ["imq", "rbf"])
Z_QUANTILE = 4.5  # of a normal law: two-sided, less than 1e-5


def normal(n, dim, seed, mean=0.0, std=1.0):
    return mean + std * torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def images(n=24):
    axes = torch.meshgrid(torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 16), indexing="ij")
    middles = torch.rand(n, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    return torch.stack([torch.exp(-6 * sum((axis - m) ** 2 for axis, m in zip(axes, middle, strict=True))) for middle in middles])[:, None]


def kernel_of_two(kernel, a, b, bandwidth):
    unit = 2 * len(a) * bandwidth**2
    square = sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True))
    if kernel == "rbf":
        return math.exp(-square / unit)
    return sum(scale * unit / (scale * unit + square) for scale in SCALES) / len(SCALES)


@each_kernel
@pytest.mark.parametrize(("n", "dim", "bandwidth"), [(2, 1, 1.0), (7, 3, 0.5), (12, 5, 2.0)])
def test_it_is_gretton_s_sum_over_pairs(kernel, n, dim, bandwidth):
    a, b = normal(n, dim, 0, mean=0.5), normal(n, dim, 1)
    expected = 0.0
    for i in range(n):
        for j in range(n):
            if i != j:
                expected += kernel_of_two(kernel, a[i], a[j], bandwidth) / (n * (n - 1))
                expected += kernel_of_two(kernel, b[i], b[j], bandwidth) / (n * (n - 1))
            expected -= 2 * kernel_of_two(kernel, a[i], b[j], bandwidth) / n**2
    assert float(squared_mmd(a, b, kernel, bandwidth)) == pytest.approx(expected, rel=1e-12, abs=1e-14)


def mean_and_error(kernel, bandwidth, mean, std, n=8, dim=2, repeats=4000):
    found = [squared_mmd(normal(n, dim, 2 * seed, mean, std), normal(n, dim, 2 * seed + 1), kernel, bandwidth) for seed in range(repeats)]
    found = torch.stack(found)
    return float(found.mean()), float(found.std() / repeats**0.5)


@each_kernel
def test_of_equal_laws_it_is_zero_in_mean(kernel):
    mean, error = mean_and_error(kernel, 1.0, 0.0, 1.0)
    assert abs(mean) < Z_QUANTILE * error
    # With each code paired with itself it would be 2 (1 - E k) / n: far outside of that.
    assert 2 * (1 - expected_rbf(0.0, 2.0, 1.0, 2)) / 8 > 10 * Z_QUANTILE * error


def expected_rbf(mean, variance, bandwidth, dim):
    """E exp(-|u|^2 / C) for u of D independent N(mean, variance)."""
    unit = 2 * dim * bandwidth**2
    return ((unit / (unit + 2 * variance)) ** 0.5 * math.exp(-(mean**2) / (unit + 2 * variance))) ** dim


@pytest.mark.parametrize(("mean", "std", "bandwidth"), [(0.6, 1.0, 1.0), (0.0, 0.3, 0.5), (-0.4, 1.5, 2.0)])
def test_between_gaussians_its_mean_is_the_closed_form(mean, std, bandwidth):
    exact = expected_rbf(0, 2 * std**2, bandwidth, 2) + expected_rbf(0, 2, bandwidth, 2) - 2 * expected_rbf(mean, std**2 + 1, bandwidth, 2)
    found, error = mean_and_error("rbf", bandwidth, mean, std)
    assert abs(found - exact) < Z_QUANTILE * error
    assert exact > 2 * Z_QUANTILE * error  # the draws are enough to tell it from 0


@each_kernel
@pytest.mark.parametrize("distance", [0.0, 1.0, 1e6])
def test_between_points_it_is_the_kernel_and_below_2(kernel, distance):
    a, b = torch.zeros(5, 3, dtype=torch.float64), torch.zeros(5, 3, dtype=torch.float64)
    b[:, 0] = distance
    between = kernel_of_two(kernel, a[0], b[0], 1.0)
    assert float(squared_mmd(a, b, kernel, 1.0)) == pytest.approx(2 * (1 - between), abs=1e-12)


@each_kernel
def test_its_gradient_is_right(kernel):
    a = normal(5, 3, 0).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: squared_mmd(a, normal(5, 3, 1), kernel, 1.0), a)


@each_kernel
def test_of_one_image_it_is_nothing(kernel):
    torch.manual_seed(0)
    model = WAE(Architecture("conv", (16, 16), 3, channels=2), kernel=kernel)
    terms = model.loss(images(1), torch.Generator().manual_seed(0))
    terms["loss"].backward()
    assert terms["mmd"] == 0
    assert terms["loss"] == terms["reconstruction"]
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@each_kernel
def test_the_loss_is_its_equation(kernel):
    torch.manual_seed(0)
    model, x = WAE(Architecture("conv", (16, 16), 3, channels=2), kernel=kernel, bandwidth=0.5, weight=7.0).eval(), images(6)
    terms = model.loss(x, torch.Generator().manual_seed(5))
    z = model.encode(x)
    prior = torch.randn(6, 3, generator=torch.Generator().manual_seed(5))
    error = (x.double() - model.decode(z).double()).square().sum() / 6
    expected = error + 7 * squared_mmd(z.double(), prior.double(), kernel, 0.5)
    assert float(terms["loss"].detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_trained_codes_come_nearer_to_the_prior_by_its_weight():
    """The same training with and without the term; the discrepancy is measured against one large draw of the prior."""
    settings = TrainingSettings(steps=40, learning_rate=5e-3, batch_size=24, jitter=0.0, precision="fp32", device="cpu")
    x, found = images(), []
    for weight in (0.0, 100.0):
        torch.manual_seed(0)
        model = WAE(Architecture("conv", (16, 16), 2, channels=2), weight=weight)
        train(model, x, x, settings, seed=0)
        with torch.no_grad():
            codes = model.encode(x).double()
        found.append(sum(float(squared_mmd(codes, normal(24, 2, seed), "imq", 1.0)) for seed in range(50)) / 50)
    assert found[1] < 0.5 * found[0], found


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"kernel": "linear"}, "'imq' or 'rbf', not 'linear'"),
        ({"bandwidth": 0.0}, "bandwidth must be above 0"),
        ({"weight": -1.0}, "weight 0 or more, not 1.0 and -1.0"),
        ({"weight": math.nan}, "weight 0 or more"),
    ],
)
def test_settings_that_cannot_be(settings, says):
    with pytest.raises(UsageError, match=says):
        WAE(Architecture("conv", (16, 16)), **settings)
