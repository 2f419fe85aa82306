"""The Riemannian Hamiltonian VAE: its metric, its integrator's laws in float64, and the sampler that its metric gives."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tinycohort.augment import hmc
from tinycohort.augment.autoencoders import LearntMetric
from tinycohort.augment.autoencoders.hvae import HVAE
from tinycohort.augment.autoencoders.rhvae import RHVAE, KernelMetric, Point, Solver, _squares, generalised_leapfrog
from tinycohort.augment.networks import Architecture
from tinycohort.augment.samplers.own_metric import OwnMetric
from tinycohort.datasets.common.errors import UsageError

D, K = 3, 5
EXACT = Solver(1e-15, 200)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def kernel(dim: int = D, lam: float = 0.1, temperature: float = 1.5) -> KernelMetric:
    factors = 0.6 * torch.tril(normal((K, dim, dim), 1))
    return KernelMetric(normal((K, dim), 0), factors @ factors.mT, temperature, lam)


def curved(z: Tensor) -> tuple[Tensor, Tensor]:
    """-|z|^2 / 2 - sin(z_0 z_1), nothing like a Gaussian."""
    a, b = z[:, 0], z[:, 1]
    slope = torch.cos(a * b)[:, None] * torch.cat([b[:, None], a[:, None], torch.zeros_like(z[:, 2:])], dim=1)
    return -0.5 * z.square().sum(1) - torch.sin(a * b), -z - slope


def built(shape=(8, 8), latent_dim=D, **settings) -> RHVAE:
    torch.manual_seed(0)
    return RHVAE(Architecture("conv", shape, latent_dim, channels=4), **settings)


def images(n: int, shape=(8, 8)) -> Tensor:
    return torch.rand((n, 1, *shape), generator=seeded(0))


# The metric.


def test_the_metric_is_its_sum():
    metric, z = kernel(), normal((20, D), 2)
    found = metric.inverse(metric.weights(z))
    for i in range(20):
        expected = 0.1 * torch.eye(D, dtype=torch.float64)
        for c, product in zip(metric.centroids, metric.products, strict=True):
            expected += product * math.exp(-float((z[i] - c).square().sum()) / 1.5**2)
        torch.testing.assert_close(found[i], expected)
    assert torch.equal(found, found.mT)
    assert float(torch.linalg.eigvalsh(found).min()) >= 0.1 * (1 - 1e-12)


def test_what_a_point_holds_is_of_the_same_metric():
    metric, z = kernel(), normal((20, D), 2)
    point = Point.at(z, curved, metric)
    identity = torch.eye(D, dtype=torch.float64).expand(20, D, D)
    torch.testing.assert_close(point.tensor @ point.inverse, identity)
    torch.testing.assert_close(point.log_det(), torch.linalg.slogdet(point.tensor).logabsdet)
    rho = normal((20, D), 3)
    quadratic = torch.einsum("ni,nij,nj->n", rho, point.inverse, rho)
    torch.testing.assert_close(point.kinetic(rho), 0.5 * (quadratic + point.log_det()))
    # momentum is linear in the noise, and that map's square is G: N(0, G).
    root = torch.stack([point.momentum(axis.expand(20, D)) for axis in torch.eye(D, dtype=torch.float64)], dim=2)
    torch.testing.assert_close(root @ root.mT, point.tensor)


def test_under_autocast_the_metric_stays_positive_definite():
    # In bf16 the smallest eigenvalue of a sum of matrices of norm 10 is lost, and with it the Cholesky factor, and the loss.
    factors = torch.tril(torch.randn((30, 16, 16), generator=torch.Generator().manual_seed(0)))
    z = torch.randn((50, 16), generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        metric = KernelMetric(factors[:, 0], _squares(factors * torch.linspace(1, 0.01, 16)), 4.0, 0.01)
        point = Point.at(z, lambda z: (z.square().sum(1), 2 * z), metric)
        rho = point.momentum(torch.ones_like(z))
        kinetic = point.kinetic(rho)
    assert torch.linalg.eigvalsh(point.inverse.double()).min() >= 0.01 * (1 - 1e-3)
    assert torch.allclose(kinetic, 0.5 * (16 + point.log_det()), rtol=1e-3)


def test_the_metric_s_force_is_the_gradient_of_the_kinetic_energy():
    metric, rho = kernel(), normal((20, D), 3)
    z = normal((20, D), 2).requires_grad_()
    point = Point.at(z, curved, metric)
    (expected,) = torch.autograd.grad(point.kinetic(rho).sum(), z)
    outer = rho[:, :, None] * rho[:, None, :]
    torch.testing.assert_close(metric.pull(z, point.weights, point.tensor - outer), expected, rtol=1e-10, atol=1e-12)


# The integrator.


def moved(z: Tensor, rho: Tensor, step: float, n: int, metric: KernelMetric | None = None) -> tuple[Point, Tensor]:
    metric = kernel() if metric is None else metric
    point, eps = Point.at(z, curved, metric), step * torch.linspace(0.8, 1.2, D, dtype=torch.float64)
    for _ in range(n):
        point, rho, residual = generalised_leapfrog(point, rho, curved, metric, eps, EXACT)
        assert float(residual.max()) < 1e-13
    return point, rho


def test_the_generalised_leapfrog_runs_back():
    start, momentum = normal((30, D), 4), normal((30, D), 5)
    end, rho = moved(start, momentum, 0.04, 20)
    assert float((end.state.z - start).abs().max()) > 0.5
    back, back_rho = moved(end.state.z, -rho, 0.04, 20)
    torch.testing.assert_close(back.state.z, start, rtol=0, atol=1e-10)
    torch.testing.assert_close(-back_rho, momentum, rtol=0, atol=1e-10)


def test_the_generalised_leapfrog_preserves_volume():
    def flow(phase: Tensor) -> Tensor:
        end, rho = moved(phase[None, :D], phase[None, D:], 0.04, 6)
        return torch.cat([end.state.z, rho], dim=1)[0]

    for phase in normal((6, 2 * D), 6):
        jacobian = torch.autograd.functional.jacobian(flow, phase)
        assert float(torch.linalg.cond(jacobian)) > 1.5
        assert float(torch.linalg.det(jacobian)) == pytest.approx(1, abs=1e-10)


def test_energy_error_is_of_order_two():
    z, rho = 0.7 * normal((100, D), 7), normal((100, D), 8)
    counts = np.array([24, 48, 96])

    def energy(point: Point, rho: Tensor) -> Tensor:
        return point.kinetic(rho) - point.state.log_p

    before = energy(Point.at(z, curved, kernel()), rho)
    errors = [float((energy(*moved(z, rho, 1 / count, count)) - before).abs().mean()) for count in counts.tolist()]
    assert errors[0] > 1e-4
    slope = np.polyfit(np.log(1 / counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(2, abs=0.1)


def test_in_a_flat_metric_it_is_the_leapfrog():
    flat = KernelMetric(torch.zeros((1, D)).double(), torch.zeros((1, D, D)).double(), 1.0, 1.0)
    z, rho = normal((10, D), 4), normal((10, D), 5)
    eps = 0.3 * torch.linspace(0.8, 1.2, D, dtype=torch.float64)
    end, end_rho = moved(z, rho, 0.3, 1, flat)
    expected, expected_rho = hmc.leapfrog(hmc.init(z, curved), rho, curved, eps, 1)
    torch.testing.assert_close(end.state.z, expected.z)
    torch.testing.assert_close(end_rho, expected_rho)


def test_a_fixed_point_that_runs_away_stays_finite_and_says_so():
    """x = 0.2 + x^2 has a fixed point that attracts and x = 5 + x^2 has none; the rows do not disturb each other."""
    constant = torch.tensor([[0.2], [5.0]], dtype=torch.float64)
    point, residual = Solver(1e-12, 100).solve(lambda x: constant + x.square(), constant)
    assert float(point[0]) == pytest.approx((1 - math.sqrt(0.2)) / 2, abs=1e-10)
    assert float(residual[0]) < 1e-12
    assert point.isfinite().all()
    assert float(residual[1]) > 0.1


# The model.


def trained_bank(model: RHVAE, n: int = 12) -> RHVAE:
    model.before_epoch(images(n), seeded(0))
    return model.eval()


@torch.no_grad()
def test_the_kept_metric_is_that_of_the_training_images():
    model = trained_bank(built(n_centroids=20))
    x, z = images(12), torch.randn((7, D), generator=seeded(1))
    centroids, factors = model.base(x).mean, model.factors(x)
    assert model.centroids().shape == (12, D)
    distances = (z[:, None] - centroids).square().sum(2)
    expected = torch.einsum("nk,kij,klj->nil", torch.exp(-distances / model.temperature**2), factors, factors) + 0.01 * torch.eye(D)
    torch.testing.assert_close(model.inverse_metric(z), expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(factors, factors.tril())
    assert float(factors.diagonal(dim1=1, dim2=2).min()) > 0
    assert float(factors.tril(-1).abs().max()) > 0


def test_the_metric_does_not_grow(monkeypatch):
    """However many images and epochs: as many centroids, encoded once; an image in the model's weights would have another shape."""
    model = built(n_centroids=10, likelihood="fixed")
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    seen, factors = [], model.factors
    monkeypatch.setattr(model, "factors", lambda x: (seen.append(len(x)), factors(x))[1])
    banks = []
    for epoch in range(3):
        model.before_epoch(images(40), seeded(epoch))
        banks.append(model.centroids().clone())
    assert sum(seen) == 3 * 10
    assert {name: value.shape for name, value in model.state_dict().items()} == shapes
    assert not torch.equal(banks[0], banks[1])
    model.before_epoch(images(4), seeded(9))
    assert model.centroids().shape == (4, D)
    assert not model.kept_factors[4:].any()
    assert model.training
    assert not model.kept_factors.requires_grad


def test_before_the_first_epoch_there_is_one_centroid_at_the_origin():
    model, z = built(), torch.tensor([[0.0, 0, 0], [1, 0, 0]])
    assert torch.equal(model.centroids(), torch.zeros(1, D))
    expected = (torch.exp(-z.square().sum(1) / 1.5**2) + 0.01)[:, None, None] * torch.eye(D)
    torch.testing.assert_close(model.inverse_metric(z), expected)


@pytest.mark.parametrize("tempering", ["fixed", "free", "none"])
def test_the_flow_multiplies_volume_by_a_power_of_beta_zero(tempering):
    model = trained_bank(built(tempering=tempering, beta_zero=0.2, step_size=0.1, regularisation=0.1)).double()
    model.solver = EXACT
    beta_zero = 1 if tempering == "none" else 0.2
    model.log_density = lambda x: curved

    def flow(phase: Tensor) -> Tensor:
        return torch.cat(model.flow(phase, phase[None, :D], phase[None, D:]), dim=1)[0]

    for phase in normal((5, 2 * D), 3):
        jacobian = torch.autograd.functional.jacobian(flow, phase)
        assert float(torch.linalg.det(jacobian)) == pytest.approx(beta_zero ** (D / 2), rel=1e-6)


def test_the_bound_is_its_equation():
    """log p(x, z_K) + log N(rho_K; 0, G) - log q(z_0) - log N(rho_0; 0, G / beta_0) + D / 2 log beta_0, averaged over noise, by torch."""
    model = trained_bank(built(step_size=0.25, likelihood="fixed", regularisation=0.1))
    x = images(1).expand(500, -1, -1, -1)
    base, metric = model.base(x), model.kept_metric()
    values, kls, volumes = [], [], []
    with torch.no_grad():
        for seed in range(12):
            kls.append(model.loss(x, seeded(seed))["kl"])
            z = base.sample(seeded(1000 + seed))
            scale = model.alphas().prod()
            start = Point.at(z, model.log_density(x), metric)
            rho = start.momentum(torch.randn(z.shape, generator=seeded(2000 + seed))) / scale
            end, end_rho = model.flow(x, z, rho)
            volumes.append(torch.linalg.slogdet(model.inverse_metric(end)).logabsdet.mean() + start.log_det().mean())

            def momentum(z: Tensor, beta: Tensor | float) -> torch.distributions.MultivariateNormal:
                return torch.distributions.MultivariateNormal(torch.zeros(D), precision_matrix=model.inverse_metric(z) * beta)

            def standard(z: Tensor) -> Tensor:
                return torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)

            log_q = torch.distributions.Normal(base.mean, base.std).log_prob(z).sum(1)
            log_q = log_q + momentum(z, scale**2).log_prob(rho) - D * scale.log()
            values.append((log_q - standard(end) - momentum(end, 1.0).log_prob(end_rho)).mean())
    found, expected = torch.stack(kls), torch.stack(values)
    error = math.sqrt((float(found.var()) + float(expected.var())) / 12)
    assert abs(float(found.mean() - expected.mean())) < 4 * error
    # Enough draws to see each term: the smallest is that of the volumes.
    assert error < 0.2 * abs(float(torch.stack(volumes).mean()))


def test_the_residual_is_reported_and_falls_with_the_tolerance():
    x = images(6)
    loose, tight = (float(built(tolerance=t, step_size=0.1).loss(x, seeded(1))["residual"].detach()) for t in (1e-1, 1e-5))
    assert tight <= 1e-5 < loose <= 1e-1
    one = float(built(max_iterations=1, step_size=0.1).loss(x, seeded(1))["residual"].detach())
    assert one > 1e-5


@pytest.mark.parametrize("shape", [(9, 13), (8, 10, 8)], ids=str)
@pytest.mark.parametrize("latent_dim", [16, 32])
@pytest.mark.parametrize("content", ["black", "white", "binary noise", "one image"])
@pytest.mark.parametrize(("kind", "settings"), [(HVAE, {}), (RHVAE, {"regularisation": 1e-3})], ids=["hvae", "rhvae"])
def test_no_nan_in_many_dimensions(kind, settings, shape, latent_dim, content):
    """With a step near its bound and a learning rate ten times the default."""
    x = torch.zeros(1 if content == "one image" else 8, 1, *shape) + (content == "white")
    if content == "binary noise":
        x = (images(8, shape) > 0.5).float()
    torch.manual_seed(0)
    model = kind(Architecture("conv", shape, latent_dim, channels=4), step_size=0.4, **settings)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for epoch in range(4):
        model.before_epoch(x, seeded(epoch))
        optimizer.zero_grad()
        terms = model.loss(x, seeded(epoch))
        terms["loss"].backward()
        assert all(term.isfinite() for term in terms.values())
        assert all(value.grad.isfinite().all() for value in model.parameters() if value.requires_grad)
        optimizer.step()
    with torch.no_grad():
        assert all(term.isfinite() for term in model.eval().loss(x, seeded(9)).values())
        assert model.reconstruct(x).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"regularisation": -1.0}, "regularisation must be above 0"),
        ({"tolerance": math.nan}, "tolerance must be above 0"),
        ({"n_centroids": 0}, "n_centroids and max_iterations must be 1 or more"),
        ({"max_iterations": 0}, "n_centroids and max_iterations must be 1 or more"),
        ({"leapfrogs": 0}, "leapfrogs must be 1 or more"),
    ],
)
def test_settings_that_cannot_be(settings, says):
    with pytest.raises(UsageError, match=says):
        built(**settings)


# The sampler.


class Learnt(LearntMetric):
    """Just a metric."""

    def __init__(self, metric: KernelMetric):
        self.metric = metric

    def inverse_metric(self, z: Tensor) -> Tensor:
        return self.metric.inverse(self.metric.weights(z))

    def centroids(self) -> Tensor:
        return self.metric.centroids


def test_own_metric_s_density_and_gradient(monkeypatch):
    monkeypatch.setattr("tinycohort.augment.samplers.riemannian.CHUNK_MATRICES", 7 * D * K)  # in chunks of 7
    metric, z = kernel(), 0.5 * normal((30, D), 2)
    point = Point.at(z, curved, metric)
    log_p, gradient = OwnMetric(Learnt(metric)).log_density()(z)
    torch.testing.assert_close(log_p, 0.5 * torch.linalg.slogdet(point.inverse).logabsdet)
    # log sqrt det G^-1 = -log det G / 2, whose gradient the integrator has in closed form.
    torch.testing.assert_close(gradient, -metric.pull(z, point.weights, point.tensor), rtol=1e-10, atol=1e-12)


def test_own_metric_s_support_ends_at_the_loneliest_centroid_s_distance():
    centroids = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    metric = KernelMetric(centroids, torch.eye(2, dtype=torch.float64).expand(3, 2, 2), 1.0, 0.1)
    z = torch.tensor([[0, -2.99], [0, -3.01], [0, 5.99], [0, 6.01], [3.99, 0], [50, 50]], dtype=torch.float64)
    log_p, _ = OwnMetric(Learnt(metric)).log_density()(z)
    assert log_p.isfinite().tolist() == [True, False, True, False, True, False]
    alone = KernelMetric(centroids[:1], metric.products[:1], 1.0, 0.1)
    log_p, _ = OwnMetric(Learnt(alone)).log_density()(torch.tensor([[1.41, 0], [1.42, 0]], dtype=torch.float64))
    assert log_p.isfinite().tolist() == [True, False]


@pytest.mark.parametrize("dim", [2, 8])
def test_own_metric_near_isolated_centroids(dim):
    """lambda negligible: det G^-1 is proportional to omega^D, so the law is N(c, T^2 / D I), and every centroid starts as many chains."""
    temperature = 1.3
    centroids = torch.stack([torch.full((dim,), value, dtype=torch.float64) for value in (0.0, 20.0)])
    factors = torch.tril(0.3 * normal((2, dim, dim), 1)) + torch.eye(dim, dtype=torch.float64)
    sampler = OwnMetric(
        Learnt(KernelMetric(centroids, factors @ factors.mT, temperature, 1e-25)), n_iterations=30, n_warm_up=50, n_leapfrog=6
    )
    z, diagnostics = sampler.sample(1000, seeded(0))
    nearest = torch.cdist(z, centroids).argmin(1)
    assert abs(float(nearest.double().mean()) - 0.5) < 4 * 0.5 / math.sqrt(1000)
    standard = (z - centroids[nearest]) * math.sqrt(dim) / temperature
    rows, columns = torch.triu_indices(dim, dim)
    for values, expected in (
        (standard, torch.zeros(dim).double()),
        (standard[:, rows] * standard[:, columns], (rows == columns).double()),
        (standard**4, torch.full((dim,), 3.0).double()),
    ):
        error = values.std(0) / math.sqrt(len(values))
        assert float(((values.mean(0) - expected) / error).abs().max()) < 4.5
    # No chain passes from one to the other, and that is told.
    (warning,) = diagnostics.warnings()
    assert "have not mixed" in warning
    assert abs(diagnostics.acceptance - 0.8) < 0.1
    assert diagnostics.unmoved == 0
    assert diagnostics.distance == pytest.approx(float(standard.square().mean(1).sqrt().median()) * temperature / math.sqrt(dim), rel=1e-9)
    assert diagnostics.r_hat > 0
    assert diagnostics.ess > 0


def test_own_metric_stays_where_lambda_makes_the_law_flat():
    """With lambda as large as the metric the density hardly falls: the support alone holds the chains."""
    metric = kernel(lam=1.0, temperature=0.5)
    sampler = OwnMetric(Learnt(metric), n_iterations=50, n_warm_up=50)
    z, _ = sampler.sample(200, seeded(0))
    assert sampler.log_density()(z)[0].isfinite().all()


def test_own_metric_of_a_trained_model():
    model = trained_bank(built())
    z, diagnostics = OwnMetric(model, n_iterations=10, n_warm_up=20).sample(20, seeded(0))
    assert z.dtype == torch.float32
    assert not z.requires_grad
    assert diagnostics.off_manifold is None
    assert diagnostics.unmoved == 0


@pytest.mark.parametrize("bad", [{"n_iterations": 0}, {"n_leapfrog": 0}, {"n_warm_up": -1}, {"target_acceptance": 1.0}])
def test_own_metric_s_settings(bad):
    with pytest.raises(UsageError):
        OwnMetric(Learnt(kernel()), **bad)
