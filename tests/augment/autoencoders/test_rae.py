"""The regularisers of the RAE against autograd's exact derivatives, and spectral norm through the engine."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from tinycohort.augment.autoencoders.rae import RAE, RAEGP, RAEL2, RAESN
from tinycohort.augment.fitting.fit import fit_class
from tinycohort.augment.fitting.model import FittedModel
from tinycohort.augment.fitting.plan import FitPlan
from tinycohort.augment.fitting.settings import FitSettings
from tinycohort.augment.fitting.training import TrainingSettings, train
from tinycohort.augment.networks import Architecture
from tinycohort.datasets.common.errors import UsageError
from tinycohort.datasets.readers import read_cohort
from tinycohort.datasets.splits import split_cohort

Z_QUANTILE = 4.5  # of a normal law: two-sided, less than 1e-5
each_shape = pytest.mark.parametrize("shape", [(9, 13), (8, 10, 9)], ids=str)


def built(kind, shape=(9, 13), **settings):
    torch.manual_seed(0)
    return kind(Architecture("conv", shape, latent_dim=3, channels=3), **settings)


def images(shape=(9, 13), n=5):
    return torch.rand(n, 1, *shape, generator=torch.Generator().manual_seed(0))


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


@each_shape
@torch.no_grad()
def test_the_code_s_penalty_is_half_its_squared_length(shape):
    model, x = built(RAE, shape, code_weight=0.3).eval(), images(shape)
    z = model.encode(x).double()
    error = (x.double() - model.reconstruct(x).double()).square().sum() / len(x)
    expected = error + 0.3 * 0.5 * z.square().sum() / len(x)
    assert float(model.loss(x, noise())["loss"]) == pytest.approx(float(expected), rel=1e-5)


@each_shape
def test_weight_decay_adds_two_lambda_theta_to_the_gradient_of_weights_alone(shape):
    plain, decayed, x = built(RAE, shape), built(RAEL2, shape, weight_decay=0.2), images(shape)
    for model in (plain, decayed):
        model.loss(x, noise())["loss"].backward()
    expected = dict(plain.named_parameters())
    changed = []
    for name, parameter in decayed.named_parameters():
        if not parameter.requires_grad:  # a bias before batch norm
            continue
        weight = name.startswith("decoder") and parameter.ndim > 1
        added = 2 * 0.2 * parameter.detach() if weight else 0
        assert torch.allclose(parameter.grad, expected[name].grad + added, rtol=1e-4, atol=1e-4), name
        changed.append(weight)
    assert sum(changed) == 3  # a linear layer and two convolutions


def linear(model, shape=(9, 13)):
    """Replace the decoder by a linear map: its Jacobian is its matrix."""
    torch.manual_seed(1)
    model.decoder = nn.Sequential(nn.Linear(3, math.prod(shape)), nn.Unflatten(1, (1, *shape)))
    return model.decoder[0].weight


def mean_and_error(values):
    values = torch.tensor(values, dtype=torch.float64)
    return float(values.mean()), float(values.std() / len(values) ** 0.5)


@torch.no_grad()
def test_the_gradient_penalty_is_in_mean_the_matrix_s_squared_norm():
    model, x = built(RAEGP).eval(), images()
    exact = float(linear(model).double().square().sum())
    found, error = mean_and_error([float(model.loss(x, noise(seed))["gradient"]) for seed in range(800)])
    assert abs(found - exact) < Z_QUANTILE * error
    assert error < 0.02 * exact


@each_shape
@torch.no_grad()
def test_the_gradient_penalty_is_in_mean_autograd_s_jacobian_s(shape):
    model, x = built(RAEGP, shape).eval(), images(shape, n=2)
    with torch.enable_grad():
        jacobians = [torch.autograd.functional.jacobian(lambda z: model.decode(z[None])[0], z) for z in model.encode(x).detach()]
    exact = sum(float(jacobian.double().square().sum()) for jacobian in jacobians) / 2
    found, error = mean_and_error([float(model.loss(x, noise(seed))["gradient"]) for seed in range(300)])
    assert abs(found - exact) < Z_QUANTILE * error
    assert error < 0.05 * exact


@pytest.mark.parametrize("shape", [(8, 9), (8, 8, 8)], ids=str)
def test_the_gradient_penalty_has_the_gradient_of_its_draw(shape):
    """The same signs, with the Jacobian written out; in training, where batch norm ties the batch together."""
    model, x = built(RAEGP, shape, code_weight=0.0, gradient_weight=1.0), images(shape, n=2)
    terms = model.loss(x, noise())
    (terms["loss"] - terms["reconstruction"]).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    signs = 2.0 * torch.randint(2, x.shape, generator=noise(), dtype=torch.float32) - 1
    z = model.encode(x)
    jacobian = torch.autograd.functional.jacobian(model.decode, z, create_graph=True)  # (n, 1, *shape, n, D)
    penalty = torch.einsum("v,vnd->nd", signs.flatten(), jacobian.reshape(-1, *z.shape)).square().sum() / len(x)
    assert float(penalty.detach()) == pytest.approx(float(terms["gradient"].detach()), rel=1e-4)
    penalty.backward()
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-5 * scale), name
    assert float(found["decoder.body.0.weight"].abs().max()) > 0
    assert float(found["encoder.heads.0.weight"].abs().max()) > 0


@each_shape
def test_validation_needs_no_gradients(shape):
    model, x = built(RAEGP, shape).eval(), images(shape)
    trained = model.loss(x, noise())
    with torch.no_grad():
        validated = model.loss(x, noise())
        assert not torch.is_grad_enabled()
    assert not validated["gradient"].requires_grad
    for name, value in trained.items():
        assert torch.allclose(validated[name], value, rtol=1e-5), name


def matrices(model):
    """The decoder's weights as matrices with a row per output (of a transposed convolution the second index)."""
    for name, module in model.decoder.named_modules():
        if is_parametrized(module):
            transposed = isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d)
            yield name, (module.weight.transpose(0, 1) if transposed else module.weight).flatten(1)


@each_shape
@torch.no_grad()
def test_the_decoder_s_weights_get_spectral_norm_1(shape):
    model, x = built(RAESN, shape), images(shape)
    for module in model.decoder.modules():
        if is_parametrized(module):
            module.parametrizations.weight.original.mul_(7)
    for _ in range(300):
        model.decode(model.encode(x))  # in training mode each pass is a power iteration
    model.eval()
    norms = {name: float(torch.linalg.matrix_norm(matrix.double(), 2)) for name, matrix in matrices(model)}
    weights = [name for name, p in built(RAE, shape).decoder.named_parameters() if p.ndim > 1]
    assert len(norms) == len(weights)
    assert all(norm == pytest.approx(1, abs=1e-4) for norm in norms.values()), norms
    assert not any(is_parametrized(module) for module in model.encoder.modules())


@each_shape
def test_spectral_norm_s_weights_are_kept_loaded_and_copied(shape, tmp_path):
    x = images(shape, n=8)
    settings = TrainingSettings(epochs=4, learning_rate=1e-2, batch_size=5, precision="fp32", device="cpu")
    model = built(RAESN, shape)
    result = train(model, x, x[:4], settings, seed=0)
    with torch.no_grad():
        loss = float(model.loss(x[:4], noise())["loss"])
        # The weights that are kept are those whose loss was the best.
        assert loss == pytest.approx(result.history["validation_loss"].min(), rel=1e-5)
        twin, other = copy.deepcopy(model), built(RAESN, shape, code_weight=0.5).eval()
        other.load_state_dict(model.state_dict())
        before = model.reconstruct(x)
        assert torch.equal(twin.reconstruct(x), before)
        assert torch.equal(other.reconstruct(x), before)
        twin.train().reconstruct(x)
        assert torch.equal(model.reconstruct(x), before)


@pytest.mark.parametrize("model", ["rae", "rae-l2", "rae-gp", "rae-sn"])
def test_a_fitted_one_is_saved_and_loaded(fakes, tmp_path, model):
    cohort = read_cohort(fakes.study(tmp_path / "study.npz"))
    training = TrainingSettings(epochs=2, batch_size=5, device="cpu")
    fitted = fit_class(
        FitPlan(cohort, split_cohort(cohort, seed=0), "AD", FitSettings(model=model, latent_dim=2, channels=2, training=training))
    )
    fitted.save(tmp_path)
    again = FittedModel.load(tmp_path)
    assert again.digest == fitted.digest
    with torch.no_grad():
        assert torch.equal(again.autoencoder.decode(again.codes), fitted.autoencoder.decode(fitted.codes))


@pytest.mark.parametrize(("kind", "setting"), [(RAE, "code_weight"), (RAEL2, "weight_decay"), (RAEGP, "gradient_weight")])
@pytest.mark.parametrize("value", [-0.1, math.nan])
def test_weights_that_cannot_be(kind, setting, value):
    with pytest.raises(UsageError, match=f"{setting} must be 0 or more"):
        built(kind, **{setting: value})
