"""Games: every player's gradient is that of its own objective, and each ends where theory puts it."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal

from tinycohort.augment.autoencoders import build_autoencoder
from tinycohort.augment.autoencoders.aae import AAE
from tinycohort.augment.autoencoders.adversarial import called_made, called_real, draw_prior, frozen
from tinycohort.augment.autoencoders.vaegan import VAEGAN
from tinycohort.augment.networks import Architecture
from tinycohort.augment.posterior import Posterior
from tinycohort.datasets.common.errors import UsageError

SHAPES = [(16, 16), (9, 13), (10, 12, 10)]
PLAYERS = ("encoder", "decoder", "discriminator")
MADE, REAL = 0.0, 1.0
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def noise(seed=1):
    return torch.Generator().manual_seed(seed)


def images(shape, n=5) -> Tensor:
    return torch.rand((n, 1, *shape), generator=noise(7), dtype=torch.float64)


@pytest.fixture
def exact(monkeypatch):
    """The library goes on in float32 after its networks on purpose; here it stays in float64."""
    monkeypatch.setattr(Tensor, "float", lambda self: self)


def game(name, shape, latent_dim=3, **settings):
    torch.manual_seed(0)
    return build_autoencoder(name, Architecture("conv", shape, latent_dim, channels=4), **settings).double()


def draws(model, x, generator):
    """The posterior of ``x``, z from it, and as many codes from the prior, as every game here draws them."""
    mean, log_var = model.encoder(x)
    z, prior = (torch.randn(mean.shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return Posterior(mean, log_var), mean + (log_var / 2).exp() * z, prior


def cross_entropy(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy(torch.sigmoid(logits), torch.full_like(logits, label))


def own_gradient(model, player: str, objective: Tensor) -> dict[str, Tensor]:
    """Of a player's objective, with the other players' weights held; autograd alone decides."""
    parameters = {name: value for name, value in getattr(model, player).named_parameters() if value.requires_grad}
    gradients = torch.autograd.grad(objective, list(parameters.values()), retain_graph=True)
    return {f"{player}.{name}": gradient for name, gradient in zip(parameters, gradients, strict=True)}


def assert_players_get_their_own(model, x, objectives: dict[str, Tensor]):
    expected = {}
    for player, objective in objectives.items():
        expected |= own_gradient(model, player, objective)
    model.zero_grad()
    model.loss(x, noise())["loss"].backward()
    found = {name: value.grad for name, value in model.named_parameters() if value.requires_grad}
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        scale = float(gradient.abs().max())
        assert torch.allclose(found[name], gradient, rtol=1e-9, atol=1e-11 * scale + 1e-13), name


# AAE


@each_shape
@pytest.mark.parametrize("weight", [0.001, 0.3, 0.999])
@pytest.mark.parametrize("training", [True, False])
def test_the_players_of_an_aae_get_the_gradients_of_their_own_objectives(exact, shape, weight, training):
    model, x = game("aae", shape, weight=weight, likelihood="fixed").train(training), images(shape)
    _, z, prior = draws(model, x, noise())
    error = (x - model.decode(z)).square().sum(dim=tuple(range(1, x.ndim))).mean()
    autoencoder = (1 - weight) * error + weight * cross_entropy(model.discriminator(z), REAL)
    discriminator = cross_entropy(model.discriminator(prior), REAL) + cross_entropy(model.discriminator(z), MADE)
    assert_players_get_their_own(model, x, {"encoder": autoencoder, "decoder": autoencoder, "discriminator": discriminator})
    terms = model.loss(x, noise())
    for name, value in {"loss": autoencoder + discriminator, "reconstruction": error, "discriminator": discriminator}.items():
        assert torch.allclose(terms[name], value, rtol=1e-10), name


def test_an_aae_leads_the_aggregate_of_its_posteriors_to_the_prior():
    model = game("aae", (8, 8), latent_dim=2, weight=0.999, likelihood="fixed").float()
    nn.init.constant_(model.encoder.heads[0].bias, 4.0)
    x = images((8, 8), n=16).float()
    optimizer, generator = torch.optim.Adam(model.parameters(), lr=1e-3), noise()

    def distance_to_the_prior():
        with torch.no_grad():
            z = torch.cat([model.posterior(x).sample(generator) for _ in range(100)])
        return float(z.mean(dim=0).abs().max()), float((z.std(dim=0) - 1).abs().max())

    assert distance_to_the_prior()[0] > 3
    for _ in range(200):
        optimizer.zero_grad()
        model.loss(x, generator)["loss"].backward()
        optimizer.step()
    # The players go on moving about their equilibrium: not nearer than this.
    assert max(distance_to_the_prior()) < 0.4


# The discriminator of any game


def jensen_shannon(p: Normal, q: Normal) -> float:
    """In nats, by quadrature."""
    z = torch.linspace(-30, 30, 200_001, dtype=torch.float64)
    log_p, log_q = p.log_prob(z), q.log_prob(z)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    density = 0.5 * (log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m))
    return float(torch.trapezoid(density, z))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1.0, 1.0), (0.5, 2.0), (2.0, 0.7)])
def test_at_its_optimum_a_discriminator_tells_the_jensen_shannon_divergence(mean, std):
    real, made = Normal(0.0, 1.0), Normal(mean, std)
    z_real, z_made = (
        (torch.randn(400_000, generator=noise(s), dtype=torch.float64) * d.stddev + d.mean) for s, d in ((1, real), (2, made))
    )

    def optimum(z):
        return real.log_prob(z) - made.log_prob(z)

    found = float(called_real(optimum(z_real)) + called_made(optimum(z_made)))
    # Each of the two means is of numbers whose spread is measured here; five standard errors.
    spread = torch.stack([F.softplus(-optimum(z_real)).std(), F.softplus(optimum(z_made)).std()]).norm() / math.sqrt(400_000)
    assert found == pytest.approx(2 * math.log(2) - 2 * jensen_shannon(real, made), abs=5 * float(spread) + 1e-9)
    if (mean, std) == (0.0, 1.0):
        assert found == pytest.approx(2 * math.log(2), abs=1e-12)


def test_a_trained_discriminator_reproduces_the_log_ratio_of_two_gaussians():
    model = game("aae", (9, 13), latent_dim=1).float()
    generator, mean = noise(), 1.0
    optimizer = torch.optim.Adam(model.discriminator.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
    for _ in range(200):
        real, made = torch.randn((2, 500, 1), generator=generator)
        loss = called_real(model.discriminator(real)) + called_made(model.discriminator(made + mean))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    z = torch.linspace(-1, 2, 31)[:, None]  # one standard deviation beyond either mean
    expected = Normal(0.0, 1.0).log_prob(z) - Normal(mean, 1.0).log_prob(z)
    assert torch.allclose(model.discriminator(z).detach(), expected[:, 0], atol=0.25)


@pytest.mark.parametrize("logit", [-1e4, -200.0, 0.0, 200.0, 1e4])
def test_the_losses_are_exact_where_the_sigmoid_is_not(logit):
    logits = torch.full((3,), logit, requires_grad=True)
    assert float(called_real(logits).detach()) == pytest.approx(max(-logit, 0) + math.log1p(math.exp(-abs(logit))))
    assert float((called_made(logits) - called_real(logits)).detach()) == pytest.approx(logit)
    called_real(logits).backward()
    assert torch.allclose(logits.grad, torch.full((3,), -1 / 3) if logit < 0 else torch.full((3,), -1 / 6 if logit == 0 else 0.0))


def test_frozen_computes_the_same_and_moves_nothing():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
    x = torch.randn((6, 3), generator=noise(), requires_grad=True)
    before = {name: value.clone() for name, value in network.named_buffers()}
    found = frozen(network)(x)
    found.sum().backward()
    assert x.grad is not None
    assert all(value.grad is None for value in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())
    gradient = x.grad.clone()
    x.grad = None
    again = network(x)
    again.sum().backward()
    assert torch.equal(found, again)
    assert torch.equal(gradient, x.grad)
    assert int(network[1].num_batches_tracked) == 1


def test_the_prior_is_standard_normal_and_the_generator_s():
    like = torch.zeros((200_000, 2), dtype=torch.float64)
    z = draw_prior(like, noise())
    assert z.dtype == like.dtype
    assert torch.equal(z, draw_prior(like, noise()))
    assert float(z.mean(dim=0).abs().max()) < 5 / math.sqrt(200_000)
    assert float((z.T.cov() - torch.eye(2, dtype=torch.float64)).abs().max()) < 5 * math.sqrt(2 / 200_000)


# VAEGAN


@each_shape
@pytest.mark.parametrize("settings", [{}, {"layer": -1, "balance": 0.3}, {"balance": 0.999}], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_the_players_of_a_vaegan_get_the_gradients_of_their_own_objectives(exact, shape, settings, training):
    model, x = game("vaegan", shape, **settings).train(training), images(shape)
    posterior, z, prior = draws(model, x, noise())
    balance = settings.get("balance", 0.9)
    made, n = model.decoder(torch.cat([z, prior])), len(x)
    _, logits = model.discriminator(torch.cat([x, made]))
    features, _ = model.discriminator(torch.cat([x, made[:n]]))
    alike = -Normal(features[n:], 1.0).log_prob(features[:n]) - 0.5 * math.log(2 * math.pi)
    dissimilarity = alike.flatten(1).sum(1).mean()
    fooled = cross_entropy(logits[n : 2 * n], REAL) + cross_entropy(logits[2 * n :], REAL)
    kl = posterior.kl().sum(1).mean()
    objectives = {
        "encoder": kl + dissimilarity,
        "decoder": (1 - balance) * dissimilarity + balance * fooled,
        "discriminator": cross_entropy(logits[:n], REAL) + cross_entropy(logits[n : 2 * n], MADE) + cross_entropy(logits[2 * n :], MADE),
    }
    assert_players_get_their_own(model, x, objectives)
    terms = model.loss(x, noise())
    assert torch.allclose(terms["loss"], sum(objectives.values(), torch.tensor(0.0)), rtol=1e-10)
    assert torch.allclose(terms["dissimilarity"], dissimilarity, rtol=1e-10)
    assert torch.allclose(terms["reconstruction"], (x - made[:n]).square().flatten(1).sum(1).mean(), rtol=1e-10)


def test_batch_norm_counts_each_batch_once_however_many_players_look(exact):
    model, x = game("vaegan", (16, 16)), images((16, 16))
    again = game("vaegan", (16, 16))
    with torch.no_grad():
        _, z, prior = draws(again, x, noise())
        again.discriminator(torch.cat([x, again.decoder(torch.cat([z, prior]))]))
    model.loss(x, noise())
    counts = [int(value) for name, value in model.named_buffers() if name.endswith("num_batches_tracked")]
    # As many as again, where each network saw one batch: building it had each look at zeros.
    assert counts == [int(value) for name, value in again.named_buffers() if name.endswith("num_batches_tracked")]
    for (name, value), other in zip(model.named_buffers(), again.buffers(), strict=True):
        assert torch.allclose(value.double(), other.double(), rtol=1e-10), name


def test_draws_of_the_prior_have_no_say_in_what_is_alike(monkeypatch):
    """In one batch with them, glaring draws would divide all other features by the variance of their own."""
    model, x = game("vaegan", (16, 16)).float(), images((16, 16)).float()
    decode = model.decode
    found = []
    for contrast in (1, 30):

        def contrasting(z, contrast=contrast):
            reconstructed, drawn = decode(z).chunk(2)
            return torch.cat([reconstructed, 0.5 + contrast * (drawn - 0.5)])

        monkeypatch.setattr(model, "decode", contrasting)
        found.append(model.loss(x, noise()))
    assert found[0]["adversarial"] != found[1]["adversarial"]
    assert found[0]["dissimilarity"] == found[1]["dissimilarity"]


def test_a_vaegan_s_draws_of_the_prior_become_like_the_images():
    """Of two kinds, either half bright: more than half of the way from a fresh decoder's grey to the nearest of the two."""
    x = torch.zeros((16, 1, 8, 8))
    x[::2, :, :, :4] = x[1::2, :, :, 4:] = 1
    model, generator = game("vaegan", (8, 8), latent_dim=2).float(), noise()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    def distance() -> float:
        with torch.no_grad():
            drawn = model.eval().decode(torch.randn((200, 2), generator=noise(3)))
        model.train()
        return float(torch.cdist(drawn.flatten(1), x[:2].flatten(1)).amin(1).square().mean() / 64) ** 0.5

    before = distance()
    for _ in range(400):
        optimizer.zero_grad()
        model.loss(x, generator)["loss"].backward()
        optimizer.step()
    assert distance() < 0.5 * before


def test_an_image_of_another_contrast_is_not_alike():
    """It would be, if each had batch statistics of its own."""
    model, x = game("vaegan", (16, 16), layer=1).float(), images((16, 16)).float()
    faint = 0.5 * x + 0.1
    one_batch = model.discriminator(torch.cat([x, faint]))[0].chunk(2)
    apart = model.discriminator(x)[0], model.discriminator(faint)[0]
    together, separate = ((a - b).square().sum().item() for a, b in (one_batch, apart))
    assert together > 20 * separate


@pytest.mark.parametrize(
    ("architecture", "shape", "channels"),
    [
        ("conv", (16, 16), [4, 8]),
        ("conv", (9, 13), [4]),
        ("conv", (40, 33, 36), [4, 8, 16]),
        ("paper-oasis", (208, 176), [4, 8, 16, 32, 64]),
    ],
)
def test_a_layer_is_a_convolution_with_its_norm_and_activation(architecture, shape, channels):
    built, depth = Architecture(architecture, shape, 3, channels=4), len(channels)
    with torch.device("meta"):
        for layer in range(1, depth + 1):
            model = VAEGAN(built, layer=layer)
            features, logits = model.discriminator(torch.empty(2, 1, *shape))
            assert features.shape[:2] == (2, channels[layer - 1])
            assert logits.shape == (2,)
            backwards = VAEGAN(built, layer=layer - depth - 1).discriminator
            assert len(backwards.near) == len(model.discriminator.near)
            body = [value.shape for value in model.encoder.body.parameters()]
            assert [value.shape for value in model.discriminator.parameters()][: len(body)] == body


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        (AAE, {"weight": 0.0}, "weight lies between 0 and 1, not at 0.0"),
        (AAE, {"weight": math.nan}, "weight lies between 0 and 1"),
        (AAE, {"likelihood": "poisson"}, "'calibrated' or 'fixed'"),
        (VAEGAN, {"balance": 1.0}, "balance lies between 0 and 1, not at 1.0"),
        (VAEGAN, {"layer": 0}, "has 2 layers: layer lies between 1 and 2, or -2 and -1, not at 0"),
        (VAEGAN, {"layer": 3}, "not at 3"),
        (VAEGAN, {"layer": -3}, "not at -3"),
    ],
)
def test_games_that_cannot_be(kind, settings, says):
    with pytest.raises(UsageError, match=says):
        kind(Architecture("conv", (16, 16), 3, channels=4), **settings)
