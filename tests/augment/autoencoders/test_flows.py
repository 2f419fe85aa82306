"""Flows: determinants against autograd, inverses, masks; and a fitted model whose codes are not its posterior means."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from tinycohort.augment.autoencoders import build_autoencoder, count_parameters
from tinycohort.augment.autoencoders.flows import LEAST_SLOPE, FlowVAE, InverseAutoregressive, NormalizingFlowVAE, Planar, Radial
from tinycohort.augment.commands.fit import FitRequest, fit_models
from tinycohort.augment.fitting import figures
from tinycohort.augment.fitting.model import FittedModel, encode
from tinycohort.augment.fitting.settings import FitSettings
from tinycohort.augment.fitting.training import TrainingSettings
from tinycohort.augment.networks import Architecture
from tinycohort.augment.posterior import Posterior
from tinycohort.augment.release.generation import build_sampler, generate_class
from tinycohort.augment.samplers.registry import SAMPLERS, samplers_for
from tinycohort.datasets.common.errors import UsageError
from tinycohort.datasets.common.seeds import seeded_generator
from tinycohort.datasets.readers import Source

FLOWS = [("vae-nf", {"flow": "planar"}), ("vae-nf", {"flow": "radial"}), ("vae-iaf", {})]
each_flow = pytest.mark.parametrize(("name", "settings"), FLOWS, ids=["planar", "radial", "iaf"])
each_dim = pytest.mark.parametrize("dim", [1, 2, 5])
each_scale = pytest.mark.parametrize("scale", [0.1, 1.0, 4.0])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def step(kind: str, dim: int, scale: float, dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
    """With random parameters of a size, of which three layers in a row have less: their gates would be 0 even to float64."""
    made = {
        "planar": lambda: Planar(dim),
        "radial": lambda: Radial(dim),
        "iaf": lambda: InverseAutoregressive(dim, 16),
        "iaf-reverse": lambda: InverseAutoregressive(dim, 16, reverse=True),
    }[kind]().to(dtype)
    with torch.no_grad():
        for i, parameter in enumerate(made.parameters()):
            parameter.copy_((scale / 8 if "iaf" in kind else scale) * normal(tuple(parameter.shape), 100 * seed + i))
    return made


def jacobians(function, z: Tensor) -> Tensor:
    """``(n, ..., D)`` of a function that gives ``(n, ...)`` of ``(n, D)``, row by row."""
    return torch.autograd.functional.jacobian(lambda rows: function(rows).sum(0), z).movedim(-2, 0)


@each_dim
@each_scale
@pytest.mark.parametrize("kind", ["planar", "radial", "iaf", "iaf-reverse"])
def test_the_determinant_is_autograd_s(kind, dim, scale):
    for seed in range(5):
        made, z = step(kind, dim, scale, seed=seed), 2 * normal((30, dim), 50)
        _, log_det = made(z)
        sign, expected = torch.linalg.slogdet(jacobians(lambda rows, made=made: made(rows)[0], z))
        assert (sign > 0).all()
        torch.testing.assert_close(log_det, expected, rtol=1e-8, atol=1e-8)


@each_dim
@pytest.mark.parametrize("kind", ["planar", "radial"])
@torch.no_grad()
def test_extreme_parameters_leave_planar_and_radial_steps_invertible_in_float32(kind, dim):
    lowest = math.inf
    for seed in range(200):
        made = step(kind, dim, 10.0 ** (seed % 9 - 4), torch.float32, seed)
        z = 10 * torch.randn((20, dim), generator=seeded(seed))
        # Where the slope is least: on the plane where tanh is 0, and at the centre.
        worst = -made.b * made.w / made.w.square().sum() if kind == "planar" else made.centre
        moved, log_det = made(torch.cat([z, worst[None]]))
        assert moved.isfinite().all()
        assert log_det.isfinite().all()
        assert (log_det >= (1 if kind == "planar" else dim) * math.log(LEAST_SLOPE) * 1.001).all()
        lowest = min(lowest, float(log_det.min()))
    assert lowest < 0.99 * math.log(LEAST_SLOPE)  # the bound was met


@torch.no_grad()
def test_extreme_gates_are_finite_in_float32():
    for seed in range(20):
        moved, log_det = step("iaf", 4, 1e4, torch.float32, seed)(10 * torch.randn((20, 4), generator=seeded(seed)))
        assert moved.isfinite().all()
        assert log_det.isfinite().all()


@torch.no_grad()
def test_a_planar_step_without_direction_is_a_shift():
    made = step("planar", 3, 1.0, torch.float32)
    made.w.zero_()
    z = torch.randn((5, 3), generator=seeded(0))
    moved, log_det = made(z)
    torch.testing.assert_close(moved, z + made.u * torch.tanh(made.b))
    assert float(log_det.abs().max()) < 1e-6


def bisect(increasing, target: Tensor) -> Tensor:
    """Where ``increasing`` takes the value ``target``, elementwise."""
    low, high = torch.full_like(target, -1e3), torch.full_like(target, 1e3)
    for _ in range(100):
        middle = (low + high) / 2
        above = increasing(middle) > target
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (low + high) / 2


@each_dim
@each_scale
@torch.no_grad()
def test_planar_and_radial_steps_are_inverted_along_the_one_line_that_they_stretch(dim, scale):
    z = 2 * normal((30, dim), 50)
    for seed in range(5):
        made = step("planar", dim, scale, seed=seed)
        moved, _ = made(z)
        unit = made.w / made.w.norm()
        # Along w the step depends on the place along w alone; across it, it shifts by what that place says.
        place = bisect(lambda t, made=made, unit=unit: made(t[:, None] * unit)[0] @ unit, moved @ unit)
        shift = made(place[:, None] * unit)[0] - place[:, None] * unit
        torch.testing.assert_close(moved - shift, z, rtol=1e-6, atol=1e-6)

        made = step("radial", dim, scale, seed=seed)
        moved, _ = made(z)
        offset = moved - made.centre
        direction = offset / offset.norm(dim=1, keepdim=True)
        far = bisect(
            lambda r, made=made, d=direction: ((made(made.centre + r[:, None] * d)[0] - made.centre) * d).sum(1), offset.norm(dim=1)
        )
        torch.testing.assert_close(made.centre + far[:, None] * direction, z, rtol=1e-6, atol=1e-6)


@each_dim
@pytest.mark.parametrize("reverse", [False, True])
@torch.no_grad()
def test_a_block_is_inverted_unit_by_unit(dim, reverse):
    made, z = step("iaf-reverse" if reverse else "iaf", dim, 4.0), 2 * normal((30, dim), 50)
    moved, _ = made(z)
    found = torch.zeros_like(z)
    for unit in reversed(range(dim)) if reverse else range(dim):
        # At this unit gates and means read only what is found already; both follow from two values of it.
        zero, one = found.clone(), found.clone()
        zero[:, unit], one[:, unit] = 0, 1
        shift, slope = made(zero)[0][:, unit], made(one)[0][:, unit] - made(zero)[0][:, unit]
        found[:, unit] = (moved[:, unit] - shift) / slope
    torch.testing.assert_close(found, z, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dim", [2, 5, 16])
def test_gates_and_means_read_all_units_before_their_own_and_no_other(dim, reverse):
    made = step("iaf-reverse" if reverse else "iaf", dim, 2.0)

    def outputs(z):
        features = nn.functional.elu(made.second(nn.functional.elu(made.first(z))))
        return torch.stack([made.gate(features), made.mean(features)], 1)

    read = (jacobians(outputs, normal((4, dim), 0)) != 0).any(0)
    before = torch.ones(dim, dim).tril(-1).bool()
    for each in read:
        assert torch.equal(each.flip(0, 1) if reverse else each, before)
    whole = jacobians(lambda z: made(z)[0], normal((4, dim), 0))
    assert torch.equal(whole, whole.triu() if reverse else whole.tril())


def built(name, dim=3, **settings) -> FlowVAE:
    torch.manual_seed(0)
    return build_autoencoder(name, Architecture("conv", (9, 10), dim, channels=4), **settings)


@each_flow
def test_the_loss_is_its_equation(name, settings):
    model = built(name, beta=0.3, likelihood="fixed", **settings).double().eval()
    # The library computes posteriors in float32 on purpose; here everything is exact.
    model.posterior = lambda x: Posterior(*model.encoder(x))
    x = torch.rand((6, 1, 9, 10), generator=seeded(7), dtype=torch.float64)
    posterior = model.posterior(x)
    base = posterior.mean + posterior.std * torch.randn((6, 3), generator=seeded(1), dtype=torch.float64)
    z = model.transport(base)
    log_det = torch.linalg.slogdet(jacobians(model.transport, base.detach())).logabsdet
    log_q = Normal(posterior.mean, posterior.std).log_prob(base).sum(1) - log_det
    kl = (log_q - Normal(0.0, 1.0).log_prob(z).sum(1)).mean()
    terms = model.loss(x, seeded(1))
    assert log_det.abs().min() > 1e-3
    torch.testing.assert_close(terms["kl"], kl, rtol=1e-8, atol=1e-8)
    reconstruction = (x - model.decode(z)).square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(terms["reconstruction"], reconstruction, rtol=1e-5, atol=1e-5)  # its residual passes through float32
    torch.testing.assert_close(terms["loss"], terms["reconstruction"] + 0.3 * terms["kl"])


@each_flow
@torch.no_grad()
def test_what_comes_out_of_a_flow_has_a_density_of_mass_one(name, settings):
    """Of one unit: q(f(z)) = N(z) / |f'(z)|, summed over the cells between the moved points of a fine grid."""
    model = built(name, 1, **settings).double()
    z = torch.linspace(-8, 8, 20001, dtype=torch.float64)[:, None]
    moved, log_det = model.flow(z)
    assert (moved.diff(dim=0) > 0).all()
    density = torch.exp(Normal(0.0, 1.0).log_prob(z[:, 0]) - log_det)
    assert float(torch.trapezoid(density, moved[:, 0])) == pytest.approx(1, abs=1e-5)


@each_flow
@torch.no_grad()
def test_a_flow_computes_in_float32_within_autocast(name, settings):
    model, z = built(name, **settings), torch.randn((8, 3), generator=seeded(0))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.flow(z)
    for found, expected in zip(rounded, model.flow(z), strict=True):
        assert torch.equal(found, expected)


@each_flow
def test_parameters_are_counted_without_being_made_and_masks_are_not_stored(name, settings):
    model = built(name, **settings)
    architecture = Architecture("conv", (9, 10), latent_dim=3, channels=4)
    assert count_parameters(name, architecture, **settings) == sum(parameter.numel() for parameter in model.parameters())
    assert not [key for key in model.state_dict() if "mask" in key]


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("vae-nf", {"flow": "spline"}, "'planar' or 'radial', not 'spline'"),
        ("vae-nf", {"length": 0}, "length lies between 1 and 1000, not at 0"),
        ("vae-iaf", {"blocks": 0}, "blocks lies between 1 and 1000 and hidden is 1 or more, not 0 and 64"),
        ("vae-iaf", {"hidden": 0}, "blocks lies between 1 and 1000 and hidden is 1 or more, not 4 and 0"),
    ],
)
def test_flows_that_cannot_be(name, settings, says):
    with pytest.raises(UsageError, match=says):
        built(name, **settings)


@pytest.fixture(scope="module")
def fitted(fakes, tmp_path_factory):
    """The folder of a fitted model with two latent units."""
    root = tmp_path_factory.mktemp("flow")
    training = TrainingSettings(epochs=2, batch_size=5, precision="fp32", device="cpu")
    settings = FitSettings(model="vae-nf", latent_dim=2, channels=2, training=training)
    (model,) = fit_models(FitRequest(Source(str(fakes.study(root / "study.npz"))), ["AD"], settings), root / "models").values()
    return model, root / "models" / "AD"


def test_a_fitted_flow_is_loaded_with_its_base_posteriors_beside_its_codes(fitted):
    model, folder = fitted
    again = FittedModel.load(folder)
    assert again.digest == model.digest
    assert torch.equal(again.codes, model.codes)
    assert torch.equal(again.posterior.mean, model.posterior.mean)
    assert torch.equal(again.posterior.log_var, model.posterior.log_var)
    assert not torch.allclose(again.codes, again.posterior.mean, atol=1e-3)
    with torch.no_grad():
        assert torch.allclose(again.autoencoder.transport(again.posterior.mean), again.codes, atol=1e-6)
    # The metric is one of the base: its centroids are posterior means.
    assert (torch.cdist(again.metric.centroids, again.posterior.mean).amin(1) == 0).all()


@pytest.mark.parametrize("sampler", samplers_for(NormalizingFlowVAE))
@torch.no_grad()
def test_draws_of_the_base_pass_through_the_flow_and_draws_of_codes_do_not(fitted, sampler):
    model = FittedModel.load(fitted[1])
    quick = {"n_iterations": 3} if sampler.startswith("riemannian") else {}
    part = generate_class(model, 6, sampler=sampler, seed=1, **quick)
    drawn, diagnostics = build_sampler(model, sampler, seed=1, **quick).sample(6, seeded_generator(1, "AD", sampler))
    in_base = SAMPLERS[sampler].in_base_space
    # Of codes behind the flow the manifold of the posteriors says nothing.
    assert (part.diagnostics.off_manifold is not None) == in_base
    assert diagnostics.off_manifold in (None, part.diagnostics.off_manifold)
    assert torch.equal(part.latents, model.autoencoder.transport(drawn) if in_base else drawn)
    assert torch.equal(part.images.pixels, model.autoencoder.decode(part.latents))


def test_the_latent_map_is_one_of_the_base(fitted, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: drawn.append(figure))
    model = FittedModel.load(fitted[1])
    figures.save_latent_map(tmp_path / "map.png", model)
    points = torch.as_tensor(drawn[0].axes[0].collections[0].get_offsets().data)
    assert torch.allclose(points.float(), model.posterior.mean)


def test_codes_are_those_that_encode_gives(fitted, fakes):
    model, _ = fitted
    x = torch.rand((3, 1, 16, 16), generator=seeded(0))
    codes = encode(model.autoencoder, x)
    with torch.no_grad():
        assert torch.equal(codes, model.autoencoder.transport(model.autoencoder.posterior(x).mean))
    with pytest.raises(ValueError, match="finite latents"):
        replace(model, codes=model.codes[:, :1])
