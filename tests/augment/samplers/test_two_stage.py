"""The second stage of a two-stage VAE."""

import math

import pytest
import torch
from torch import Tensor

from tinycohort.augment.posterior import Posterior
from tinycohort.augment.samplers import two_stage
from tinycohort.augment.samplers.two_stage import SecondStage, TwoStage
from tinycohort.datasets.common.errors import UsageError

CENTRES = torch.tensor([[-1.0, -0.5], [1.5, 0.5], [1.0, 2.0]])
SHARES = torch.tensor([0.5, 0.3, 0.2])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixture(n: int, seed: int = 0) -> Tensor:
    """``(n, 2)``: three components of standard deviation 0.7, turned into scales 1 and 10 with another origin."""
    generator = seeded(seed)
    which = torch.multinomial(SHARES, n, replacement=True, generator=generator)
    return (CENTRES[which] + 0.7 * torch.randn((n, 2), generator=generator)) * torch.tensor([1.0, 10.0]) + 5


def test_it_recovers_a_mixture_s_mean_and_covariance():
    """To within 0.1 standard deviations and 0.2 of their products: the bias of a small VAE. Monte Carlo's own errors are 0.03."""
    mean = SHARES @ CENTRES
    covariance = (CENTRES - mean).T @ ((CENTRES - mean) * SHARES[:, None]) + 0.49 * torch.eye(2)
    scale = covariance.diagonal().sqrt()
    correlation = covariance / scale / scale[:, None]
    z, _ = TwoStage.fit(mixture(2000), None, n_training_steps=500).sample(20_000, seeded(1))
    units = ((z - 5) / torch.tensor([1.0, 10.0]) - mean) / scale
    assert float(units.mean(0).abs().max()) < 0.1
    assert float((units.T.cov() - correlation).abs().max()) < 0.2
    assert float(correlation[0, 1].abs()) > 0.3  # what standardising alone would leave out


def test_its_loss_is_the_negative_elbo():
    torch.manual_seed(0)
    stage, codes = SecondStage(3).double(), torch.randn((50, 3), generator=seeded(0), dtype=torch.float64)
    stage.log_gamma.data.fill_(-0.4)
    mean, log_var = stage.encoder(codes).chunk(2, dim=1)
    posterior = torch.distributions.Normal(mean, (0.5 * log_var).exp())
    u = mean + posterior.stddev * torch.randn(mean.shape, generator=seeded(1), dtype=torch.float64)
    likelihood = torch.distributions.Normal(stage.decoder(u), math.exp(-0.4)).log_prob(codes) + 0.5 * math.log(2 * math.pi)
    kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(stage.loss(codes, seeded(1)), (kl - likelihood).sum(1).mean())


def test_a_seed_gives_the_same_and_nothing_global_moves():
    before = torch.get_rng_state()

    def drawn(seed: int) -> Tensor:
        return TwoStage.fit(mixture(300), None, n_training_steps=20, seed=seed).sample(10, seeded(0))[0]

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))
    assert torch.equal(torch.get_rng_state(), before)
    assert not drawn(3).requires_grad


def test_it_is_not_left_where_it_knows_few_codes_by_heart(monkeypatch):
    """30 codes in 8 dimensions, learnt fast: the weights kept explain others of the same law better than those at the end of training."""
    codes, others = (torch.randn((n, 8), generator=seeded(n)) for n in (30, 500))
    monkeypatch.setattr(two_stage, "LEARNING_RATE", 5e-3)

    def explains() -> float:
        fitted = TwoStage.fit(codes, None, n_training_steps=400)
        return float(fitted.stage.loss((others - fitted.mean) / fitted.std, seeded(0)))

    held = explains()
    monkeypatch.setattr(two_stage, "HELD_OUT", 10**6)
    assert held + 0.5 < explains()
    assert held < 1.5 * 0.5 * 8  # N(0, I) itself: 4 nats in this unit


def test_who_chooses_when_to_stop_is_nobody_it_learns_from(monkeypatch):
    """Of 10 people with 5 codes each that lie by their own corner, two people are held out, with all codes and no other; of 50 with one, as
    many codes as ever, and the same."""
    person, seen = torch.arange(10).repeat_interleave(5)[torch.randperm(50, generator=seeded(2))], []
    codes = person[:, None] + 0.01 * torch.randn((50, 2), generator=seeded(1))
    loss = SecondStage.loss
    monkeypatch.setattr(SecondStage, "loss", lambda self, z, generator: seen.append(z) or loss(self, z, generator))

    def held_out_and_kept(person: Tensor | None) -> tuple[Tensor, Tensor]:
        fitted = TwoStage.fit(codes, None, person=person, n_training_steps=1)
        return tuple((z * fitted.std + fitted.mean)[:, 0].round().long() for z in (seen.pop(), seen.pop()))

    held, kept = held_out_and_kept(person)
    assert (len(held), len(set(held.tolist()))) == (10, 2)
    assert not set(held.tolist()) & set(kept.tolist())
    order = torch.randperm(50, generator=seeded(0))
    alone = held_out_and_kept(None)
    assert torch.equal(torch.cat(alone), person[order])
    assert all(torch.equal(*some) for some in zip(alone, held_out_and_kept(torch.arange(50) + 7), strict=True))


def test_it_draws_from_the_posteriors_where_there_are_some():
    """All means at one place: what varies are the posteriors."""
    means, log_var = torch.full((200, 2), 3.0), torch.tensor([0.0, math.log(4.0)]).expand(200, 2)
    z, _ = TwoStage.fit(means, Posterior(means, log_var), n_training_steps=300).sample(5000, seeded(0))
    torch.testing.assert_close(z.mean(0), torch.full((2,), 3.0), atol=0.25, rtol=0)
    torch.testing.assert_close(z.std(0), torch.tensor([1.0, 2.0]), atol=0, rtol=0.15)
    z, _ = TwoStage.fit(means, None, n_training_steps=50).sample(100, seeded(0))
    assert z.isfinite().all()


@pytest.mark.parametrize("n", [1, 2, 5, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_any_number_of_codes(n, dtype):
    codes = mixture(n).to(dtype)
    z, diagnostics = TwoStage.fit(codes, None, n_training_steps=3).sample(7, seeded(0))
    assert (z.shape, z.dtype) == ((7, 2), dtype)
    assert z.isfinite().all()
    assert (diagnostics.sampler, diagnostics.n_samples, diagnostics.off_manifold) == ("two-stage", 7, None)


def test_settings_that_cannot_be():
    with pytest.raises(UsageError, match="1 training step"):
        TwoStage.fit(mixture(10), None, n_training_steps=0)
