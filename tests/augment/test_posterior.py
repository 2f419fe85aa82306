"""Diagonal Gaussian posteriors, against torch.distributions."""

import math

import pytest
import torch
from scipy.stats import norm
from torch.distributions import Normal, kl_divergence

from tinycohort.augment.posterior import ACTIVE_VARIANCE, Posterior, log_standard_normal


@pytest.fixture
def posterior() -> Posterior:
    generator = torch.Generator().manual_seed(0)
    return Posterior(*(torch.randn((6, 3), generator=generator, dtype=torch.float64) for _ in range(2)))


@pytest.fixture
def distribution(posterior) -> Normal:
    return Normal(posterior.mean, torch.exp(posterior.log_var / 2))


def test_kl(posterior, distribution):
    torch.testing.assert_close(posterior.kl(), kl_divergence(distribution, Normal(torch.zeros(6, 3), torch.ones(6, 3))))
    assert (Posterior(torch.zeros(2, 3), torch.zeros(2, 3)).kl() == 0).all()


def test_log_densities(posterior, distribution):
    z = 3 * torch.randn((4, 6, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(posterior.log_prob(z), distribution.log_prob(z).sum(2))
    each = torch.stack([distribution.log_prob(latent).sum(1) for latent in z[0]])
    torch.testing.assert_close(posterior.log_prob(z[0][:, None]), each)
    torch.testing.assert_close(log_standard_normal(z), Normal(0.0, 1.0).log_prob(z).sum(2))


def test_width_and_precision(posterior, distribution):
    torch.testing.assert_close(posterior.std, distribution.stddev)
    torch.testing.assert_close(posterior.precision, 1 / distribution.variance)


def test_draws_have_each_posteriors_moments():
    n = 40_000
    mean, log_var = torch.tensor([[1.0, -2.0]], dtype=torch.float64), torch.tensor([[-3.0, 1.0]], dtype=torch.float64)
    draws = Posterior(mean.expand(n, 2), log_var.expand(n, 2)).sample(torch.Generator().manual_seed(2))
    standard = (draws - mean) * torch.exp(-log_var / 2)
    limit = norm.ppf(1 - 1e-4 / 2 / 5)  # five comparisons; a right sampler fails once in 10,000 seeds
    assert float(standard.mean(0).abs().max()) < limit / math.sqrt(n)
    assert float((standard.square().mean(0) - 1).abs().max()) < limit * math.sqrt(2 / n)
    assert float(standard.prod(1).mean().abs()) < limit / math.sqrt(n)


def test_a_seed_reproduces_draws_and_gradients_pass(posterior):
    draws = [posterior.sample(torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    mean, log_var = (torch.zeros((2, 3), requires_grad=True) for _ in range(2))
    Posterior(mean, log_var).sample(torch.Generator()).sum().backward()
    assert (mean.grad == 1).all()
    assert (log_var.grad != 0).all()


def test_a_unit_is_active_if_its_mean_varies():
    codes = torch.tensor([[-1.0, -1.0, 5.0], [1.0, 1.0, 5.0]]) * torch.tensor([1.01, 0.99, 1.0]) * math.sqrt(ACTIVE_VARIANCE)
    assert Posterior(codes, torch.zeros(2, 3)).active_units().tolist() == [True, False, False]
    assert Posterior(codes[:1], torch.zeros(1, 3)).active_units().tolist() == [False] * 3


def test_rows_and_conversion(posterior):
    assert (len(posterior), posterior.dim) == (6, 3)
    rows = posterior[torch.tensor([4, 1])]
    assert torch.equal(rows.mean, posterior.mean[[4, 1]])
    assert torch.equal(rows.log_var, posterior.log_var[[4, 1]])
    assert torch.equal(posterior[2:].mean, posterior.mean[2:])
    assert posterior.to(torch.float32).log_var.dtype == torch.float32


@pytest.mark.parametrize(("mean", "log_var"), [((3,), (3,)), ((2, 3), (2, 4)), ((2, 3), (3, 3)), ((1, 2, 3), (1, 2, 3))])
def test_shapes_that_disagree_are_refused(mean, log_var):
    with pytest.raises(ValueError, match="alike"):
        Posterior(torch.zeros(mean), torch.zeros(log_var))
