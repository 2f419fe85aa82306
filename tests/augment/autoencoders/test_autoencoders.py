"""One walk over every autoencoder, and the VAE's loss against its equations."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from tinycohort.augment.autoencoders import AUTOENCODERS, GaussianAutoencoder, build_autoencoder, settings_of_model
from tinycohort.augment.autoencoders.likelihood import VARIANCE_FLOOR
from tinycohort.augment.autoencoders.vae import VAE
from tinycohort.augment.networks import Architecture
from tinycohort.augment.posterior import Posterior
from tinycohort.datasets.common.errors import UsageError

SHAPES = [(16, 16), (9, 13), (10, 12, 10)]
DETERMINISTIC = ("ae", "rae", "rae-l2", "rae-sn")  # their losses draw no noise
WALK = [
    *((name, {}) for name in AUTOENCODERS),
    ("vae", {"likelihood": "fixed", "beta": 0.5}),
    ("vae", {"bounded_log_var": True, "likelihood": "fixed"}),
    ("iwae", {"likelihood": "fixed", "samples": 1}),
    ("vae-nf", {"flow": "radial"}),
    ("wae", {"kernel": "rbf", "weight": 10.0}),
    ("hvae", {"tempering": "free", "likelihood": "fixed", "beta": 0.5}),
    ("rhvae", {"tempering": "none", "likelihood": "fixed", "n_centroids": 2}),
]
each_model = pytest.mark.parametrize(("name", "settings"), WALK, ids=lambda value: value if isinstance(value, str) else "-".join(value))
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
each_likelihood = pytest.mark.parametrize("likelihood", ["fixed", "calibrated"])


def built(name, shape, settings, seed=0, latent_dim=3):
    torch.manual_seed(seed)
    return build_autoencoder(name, Architecture("conv", shape, latent_dim, channels=4), **settings)


def images(shape, n=6) -> Tensor:
    """Smooth, each another one."""
    axes = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in shape), indexing="ij")
    middles = torch.linspace(-0.5, 0.5, n)
    return torch.stack([torch.exp(-4 * sum((axis - middle) ** 2 for axis in axes)) for middle in middles])[:, None]


def noise(seed=1):
    return torch.Generator().manual_seed(seed)


def test_every_model_is_walked():
    assert {name for name, _ in WALK} >= set(AUTOENCODERS)


@each_model
@each_shape
def test_shapes_and_terms(name, settings, shape):
    model, x = built(name, shape, settings), images(shape)
    z = model.encode(x)
    assert tuple(z.shape) == (6, 3)
    assert tuple(model.decode(z).shape) == tuple(model.reconstruct(x).shape) == tuple(x.shape)
    terms = model.loss(x, noise())
    assert {"loss", "reconstruction"} <= set(terms)
    assert all(term.shape == () and term.dtype == torch.float32 for term in terms.values())
    assert repr(model).startswith(type(model).__name__)
    if isinstance(model, GaussianAutoencoder):
        posterior = model.posterior(x)
        assert posterior.mean.shape == posterior.log_var.shape == (6, 3)
        assert torch.equal(model.eval().encode(x), model.transport(model.posterior(x).mean))


@each_model
@each_shape
def test_a_gradient_reaches_every_parameter(name, settings, shape):
    model = built(name, shape, settings)
    model.loss(images(shape), noise())["loss"].backward()
    for parameter, value in model.named_parameters():
        # A bias before batch norm shifts what the norm takes away again: its gradient would be 0 but for rounding.
        if value.requires_grad or not parameter.endswith("conv.bias"):
            assert value.grad is not None, parameter
            assert value.grad.abs().max() > 0, parameter


@each_model
@each_shape
def test_save_and_load_are_equal(name, settings, shape, tmp_path):
    model, x = built(name, shape, settings), images(shape)
    model.loss(x, noise())  # moves the statistics of batch norm
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    again = built(name, shape, settings, seed=99)
    again.load_state_dict(load_file(tmp_path / "a.safetensors"))
    assert torch.equal(again.eval().reconstruct(x), model.eval().reconstruct(x))
    assert not torch.equal(built(name, shape, settings, seed=99).eval().reconstruct(x), model.reconstruct(x))


@each_model
def test_a_seed_gives_the_same_and_another_seed_another(name, settings):
    x = images((16, 16))

    def losses(seed, draw):
        return built(name, (16, 16), settings, seed).loss(x, noise(draw))["loss"]

    assert losses(0, 1) == losses(0, 1)
    assert losses(0, 1) != losses(5, 1)
    assert (losses(0, 1) != losses(0, 2)) == (name not in DETERMINISTIC)


@each_model
@each_shape
def test_a_few_steps_lower_the_loss(name, settings, shape):
    model, x = built(name, shape, settings), images(shape)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    model.before_epoch(x, noise())
    # A game's reconstruction may rise until its players have found each other.
    for _ in range(15 if model.selected_by == "loss" else 100):
        optimizer.zero_grad()
        terms = model.loss(x, noise())
        terms["loss"].backward()
        optimizer.step()
        losses.append(float(terms[model.selected_by].detach()))
    assert losses[-1] < losses[0]
    assert losses[-1] == pytest.approx(min(losses), rel=0.2, abs=5)


@each_model
@each_shape
@torch.no_grad()
def test_bf16_and_float32_agree(name, settings, shape):
    """bf16 keeps 8 bits: each layer's output is off by 2^-9 of its size, and L layers' by sqrt(L) of that where errors are independent."""
    model, x = built(name, shape, settings), images(shape)
    exact = model.loss(x, noise())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.loss(x, noise())
    layers = sum(1 for module in model.modules() if isinstance(module, torch.nn.Linear) or hasattr(module, "kernel_size"))
    tolerance = 8 * math.sqrt(layers) * 2**-9
    for term, value in exact.items():
        assert rounded[term].dtype == torch.float32
        # The likelihood is a logarithm times half the number of voxels: a relative error within is an absolute one without.
        calibrated = settings.get("likelihood", "likelihood" in settings_of_model(name) and "calibrated") == "calibrated"
        slack = 0.5 * x[0].numel() * tolerance if calibrated else 0
        assert abs(float(rounded[term] - value)) <= tolerance * abs(float(value)) + slack + tolerance, term
    assert any(rounded[term] != exact[term] for term in exact)


@each_model
@each_shape
@pytest.mark.parametrize("content", ["black", "white", "one bright voxel", "checkerboard", "one image"])
def test_extreme_images_give_finite_numbers(name, settings, shape, content):
    n = 1 if content == "one image" else 4
    x = torch.zeros(n, 1, *shape)
    if content == "white":
        x += 1
    elif content == "one bright voxel":
        x.flatten(1)[:, 0] = 1
    elif content == "checkerboard":
        x.flatten(1)[:, ::2] = 1
    model = built(name, shape, settings)
    terms = model.loss(x, noise())
    terms["loss"].backward()
    assert all(term.isfinite() for term in terms.values())
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    assert model.eval().reconstruct(x).isfinite().all()


@each_model
def test_colour_images_count_each_channel(name, settings):
    torch.manual_seed(0)
    model = build_autoencoder(name, Architecture("conv", (9, 13), 3, channels=4, image_channels=3), **settings)
    x = images((9, 13)) * torch.tensor([1.0, 0.5, 0.1])[:, None, None]
    terms = model.loss(x, noise())
    terms["loss"].backward()
    assert tuple(model.reconstruct(x).shape) == (6, 3, 9, 13)
    assert all(p.grad.abs().max() > 0 for p in model.decoder.parameters() if p.ndim > 1)


# The VAE's loss against its equations, in float64.


def vae_and_parts(likelihood, beta=0.7, bounded=False, shape=(9, 10)):
    """A VAE, images, and what its loss is made of: their posterior, and the noise that it will draw."""
    model = built("vae", shape, {"beta": beta, "likelihood": likelihood, "bounded_log_var": bounded}).double().eval()
    # The library computes posteriors in float32 on purpose; here everything is exact.
    model.posterior = lambda x: Posterior(*_raw(model, x, bounded))
    x = images(shape).double()
    posterior = model.posterior(x)
    draw = torch.randn(posterior.mean.shape, generator=noise(), dtype=torch.float64)
    return model, x, posterior, draw


def _raw(model, x, bounded):
    mean, log_var = model.encoder(x)
    return mean, torch.tanh(log_var) if bounded else log_var


def kl_by_torch(posterior: Posterior) -> Tensor:
    return kl_divergence(Normal(posterior.mean, posterior.std), Normal(0.0, 1.0)).sum(1).mean()


def test_kl_is_torch_s():
    posterior = Posterior(torch.randn(50, 4, dtype=torch.float64) * 3, torch.randn(50, 4, dtype=torch.float64) * 2)
    expected = kl_divergence(Normal(posterior.mean, posterior.std), Normal(0.0, 1.0))
    assert torch.allclose(posterior.kl(), expected, rtol=1e-12, atol=1e-12)


@each_likelihood
@pytest.mark.parametrize("bounded", [False, True])
def test_the_vae_s_loss_is_its_equation(likelihood, bounded):
    beta = 0.7
    model, x, posterior, draw = vae_and_parts(likelihood, beta, bounded)
    terms = model.loss(x, noise())
    decoded = model.decoder(posterior.mean + posterior.std * draw)
    # The residual passes through float32: 2^-24 of numbers up to 1, squared and summed over 90 voxels.
    close = {"rtol": 1e-5, "atol": 1e-5}
    squared_error = (x - decoded).square().sum(dim=(1, 2, 3))
    if likelihood == "fixed":
        reconstruction = squared_error.mean()  # Eq. 3
    else:
        # -log N(x; decoded, v) averaged over the batch, at the v that is best for the batch; found by search, not by its formula.
        variances = torch.logspace(-4, 0, 200001, dtype=torch.float64)
        voxels = x[0].numel()
        nll = 0.5 * (squared_error.mean() / variances + voxels * torch.log(2 * math.pi * variances))
        reconstruction = nll.min()
    kl = kl_by_torch(posterior)
    assert torch.allclose(terms["kl"].double(), kl, **close)
    assert torch.allclose(terms["reconstruction"].double(), reconstruction, **close)
    assert torch.allclose(terms["loss"].double(), reconstruction + beta * kl, **close)


def test_the_calibrated_gradient_is_that_of_the_likelihood_at_its_best_variance():
    model, x, _, draw = vae_and_parts("calibrated", beta=0.0)
    model.loss(x, noise())["loss"].backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    posterior = model.posterior(x)
    decoded = model.decoder(posterior.mean + posterior.std * draw)
    variance = (x - decoded).square().mean().detach()
    (-Normal(decoded, variance.sqrt()).log_prob(x).sum(dim=(1, 2, 3)).mean()).backward()
    for name in found:
        parameter = model.get_parameter(name)
        scale = float(parameter.grad.abs().max())
        assert torch.allclose(found[name], parameter.grad, rtol=1e-4, atol=1e-5 * scale + 1e-12), name


def test_the_calibrated_variance_has_a_floor():
    model = built("vae", (9, 10), {})
    x = images((9, 10))
    model.decode = lambda z: x
    at_floor = 0.5 * 90 * math.log(2 * math.pi * VARIANCE_FLOOR)  # no error is left to weigh
    assert float(model.loss(x, noise())["reconstruction"]) == pytest.approx(at_floor, rel=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
@torch.no_grad()
def test_a_bounded_log_variance_is_bounded(scale):
    model = built("vae", (16, 16), {"bounded_log_var": True})
    free = built("vae", (16, 16), {})
    for other in (model, free):
        torch.nn.init.constant_(other.encoder.heads[1].bias, scale)
    x = images((16, 16))
    found = model.posterior(x).log_var
    assert torch.allclose(found, torch.tanh(free.posterior(x).log_var))
    assert float(found.abs().max()) <= 1
    assert scale < 1 or float(found.min()) > 0.5
    assert scale < 100 or float(free.posterior(x).log_var.min()) > 10


def test_beta_multiplies_the_kl_alone():
    x = images((16, 16))
    one, three = (built("vae", (16, 16), {"beta": beta}).loss(x, noise()) for beta in (1.0, 3.0))
    assert torch.allclose(three["loss"] - one["loss"], 2 * one["kl"], rtol=1e-4)
    assert one["reconstruction"] == three["reconstruction"]


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("gan", {}, "no model 'gan'; choose one of: ae, "),
        ("ae", {"beta": 1.0}, "'ae' has no setting beta; it takes none"),
        ("vae", {"gamma": 1.0}, "gamma"),
        ("vae", {"beta": -0.1}, "beta must be 0 or more"),
        ("vae", {"beta": math.nan}, "beta must be 0 or more"),
        ("vae", {"likelihood": "poisson"}, "'calibrated' or 'fixed', not 'poisson'"),
    ],
)
def test_models_that_cannot_be(name, settings, says):
    with pytest.raises(UsageError, match=says):
        built(name, (16, 16), settings)


def test_a_vae_is_gaussian_and_an_ae_is_not():
    assert isinstance(built("vae", (16, 16), {}), GaussianAutoencoder)
    assert not isinstance(built("ae", (16, 16), {}), GaussianAutoencoder)
    assert issubclass(VAE, GaussianAutoencoder)
