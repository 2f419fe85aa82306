"""The metric of Eq. 7, its volume element and the closed form of its gradient."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tinycohort.augment.geometry import metric as metric_module
from tinycohort.augment.geometry.metric import RiemannianMetric, largest_nearest_distance, nearest_distances
from tinycohort.augment.posterior import Posterior
from tinycohort.datasets.common.errors import UsageError

EPS64 = torch.finfo(torch.float64).eps
EPS32 = torch.finfo(torch.float32).eps
SIZES = [(1, 1), (1, 5), (7, 2), (40, 16)]  # k, D


def made(k: int, dim: int, *, sigma: float = 0.3, centre: float = 0.0, seed: int = 0, **settings: float) -> RiemannianMetric:
    generator = torch.Generator().manual_seed(seed)
    centroids = centre + torch.randn((k, dim), generator=generator, dtype=torch.float64)
    std = sigma * torch.exp(0.5 * torch.randn((k, dim), generator=generator, dtype=torch.float64))
    return RiemannianMetric(centroids, std**-2, **({"rho": 2.0, "lam": 0.01} | settings))


def points(metric: RiemannianMetric, n: int = 60, *, spread: float = 1.0, seed: int = 1) -> Tensor:
    """On centroids, around them, and between them."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(len(metric.centroids), (n,), generator=generator)
    noise = torch.randn((n, metric.dim), generator=generator, dtype=torch.float64)
    distance = spread * torch.rand((n, 1), generator=generator, dtype=torch.float64)
    distance[: n // 6] = 0
    return metric.centroids[index].double() + distance * noise


def dense_tensor(metric: RiemannianMetric, z: Tensor) -> Tensor:
    """Eq. 7 (Eq. 17) as it is printed: ``(n, D, D)``."""
    inverse_covariances = torch.diag_embed(metric.precisions.double())
    difference = z[:, None] - metric.centroids.double()
    omega = torch.exp(-torch.einsum("nkd,kde,nke->nk", difference, inverse_covariances, difference) / metric.rho**2)
    background = metric.lam * torch.exp(-metric.tau * z.square().sum(1))
    return torch.einsum("nk,kde->nde", omega, inverse_covariances) + background[:, None, None] * torch.eye(z.shape[1], dtype=z.dtype)


def dense_volume(metric: RiemannianMetric, z: Tensor) -> tuple[Tensor, Tensor]:
    """log sqrt det G by a dense determinant, and its gradient by autograd."""
    z = z.clone().requires_grad_()
    log_volume = 0.5 * torch.linalg.slogdet(dense_tensor(metric, z)).logabsdet
    return log_volume.detach(), torch.autograd.grad(log_volume.sum(), z)[0]


def rounding(metric: RiemannianMetric, z: Tensor, eps: float) -> tuple[float, Tensor]:
    """Bounds on the rounding error of log omega, and of the gradient ``(n, D)``, evaluated in arithmetic of unit ``eps``.

    log omega is a sum of 2 D products and a constant, of which the absolute values sum to at most
    M = sum_d s_d (|z_d| + |c_d|)^2 / rho^2, counted from the centroids' mean; inputs to the sum are themselves rounded some four times.
    The gradient is a sum over centroids of terms of absolute value A, each with the relative errors of omega and of 1 / g.
    """
    centroids, precisions = metric.centroids.double(), metric.precisions.double()
    z, centroids = z.double() - centroids.mean(0), centroids - centroids.mean(0)
    reach = z.abs()[:, None] + centroids.abs()
    largest = float((precisions * reach.square()).sum(-1).amax()) / metric.rho**2
    log_omega = (2 * metric.dim + 6) * eps * largest
    omega = torch.exp(-(precisions * (z[:, None] - centroids).square()).sum(-1) / metric.rho**2)
    inverse = 1 / (omega @ precisions + metric.lam)
    ratios = omega * (inverse @ precisions.T)
    terms = torch.einsum("nk,kd,nkd->nd", ratios, precisions, reach) / metric.rho**2
    gradient = terms * (2 * log_omega + (2 * len(centroids) + metric.dim + 10) * eps)
    return log_omega, gradient


@pytest.mark.parametrize("tau", [0.0, 0.3])
@pytest.mark.parametrize("lam", [1e-4, 1.0])
@pytest.mark.parametrize(("k", "dim"), SIZES)
def test_closed_forms_are_those_of_the_printed_equation(k, dim, lam, tau):
    metric = made(k, dim, lam=lam, tau=tau)
    z = points(metric)
    dense = dense_tensor(metric, z)
    log_volume, gradient = dense_volume(metric, z)
    found = metric.volume(z)
    # Rounding of log omega is at most `error`; log det of D diagonal terms carries it D / 2 times.
    error, gradient_error = rounding(metric, z, EPS64)
    assert error < 1e-11
    torch.testing.assert_close(torch.diag_embed(metric.tensor(z)), dense, rtol=2 * error + 100 * EPS64, atol=0)
    torch.testing.assert_close(metric.log_volume(z), log_volume, rtol=1e-13, atol=dim * error)
    torch.testing.assert_close(found.log, log_volume, rtol=1e-13, atol=dim * error)
    # Twice: autograd rounds too.
    assert ((found.gradient - gradient).abs() <= 2 * gradient_error + 1e-12 * gradient.abs().amax()).all()
    torch.testing.assert_close(found.gradient, gradient, rtol=0, atol=1e-10)


def test_gradient_is_the_slope_of_the_volume():
    """A difference quotient knows nothing of either derivation."""
    metric = made(7, 3, tau=0.2)
    z, step = points(metric, 20), 1e-5
    for d in range(3):
        shift = step * torch.eye(3, dtype=torch.float64)[d]
        slope = (metric.log_volume(z + shift) - metric.log_volume(z - shift)) / (2 * step)
        # Central differences: step^2 / 6 times the third derivative, here below 1e4, and rounding over the step.
        torch.testing.assert_close(slope, metric.volume(z).gradient[:, d], rtol=0, atol=step**2 / 6 * 1e4 + 100 * EPS64 / step)


@pytest.mark.parametrize("tau", [0.0, 0.3])
def test_chunks_change_nothing(tau, monkeypatch):
    metric = made(7, 3, tau=tau)
    z = points(metric, 50)
    whole, tensor, proximity = metric.volume(z), metric.tensor(z), metric.log_proximity(z)
    monkeypatch.setattr(metric_module, "CHUNK_WEIGHTS_CPU", 4 * 7)
    chunked = metric.volume(z)
    error, gradient_error = rounding(metric, z, EPS64)
    torch.testing.assert_close(chunked.log, whole.log, rtol=0, atol=3 * error)
    torch.testing.assert_close(chunked.log_proximity, whole.log_proximity, rtol=0, atol=2 * error)
    torch.testing.assert_close(metric.log_proximity(z), proximity, rtol=0, atol=2 * error)
    torch.testing.assert_close(metric.tensor(z), tensor, rtol=2 * error, atol=0)
    assert ((chunked.gradient - whole.gradient).abs() <= 2 * gradient_error + 1e-14).all()


def test_a_batch_equals_its_items_one_by_one():
    metric = made(7, 3, tau=0.1)
    z = points(metric, 12)
    batch, items = metric.volume(z), [metric.volume(row[None]) for row in z]
    error, gradient_error = rounding(metric, z, EPS64)
    torch.testing.assert_close(batch.log, torch.cat([item.log for item in items]), rtol=1e-14, atol=3 * error)
    torch.testing.assert_close(batch.log_proximity, torch.cat([item.log_proximity for item in items]), rtol=0, atol=2 * error)
    assert ((batch.gradient - torch.cat([item.gradient for item in items])).abs() <= 2 * gradient_error + 1e-14).all()


def test_no_rows_no_values():
    volume = made(3, 2).volume(torch.empty((0, 2), dtype=torch.float64))
    assert (volume.log.shape, volume.gradient.shape, volume.log_proximity.shape) == ((0,), (0, 2), (0,))


@pytest.mark.parametrize("sigma", [1.0, 0.1, 0.02])
@pytest.mark.parametrize("centre", [0.0, 300.0])
def test_float32_loses_no_more_than_its_rounding_however_far_off_the_latents_lie(sigma, centre):
    exact = made(40, 16, sigma=sigma, centre=centre, rho=5.0).to(torch.float32).to(torch.float64)
    metric = exact.to(torch.float32)
    z = points(exact, 200, spread=3 * sigma).float()
    truth, found = exact.volume(z.double()), metric.volume(z)
    # 'centre' is not in these bounds: they count from the centroids' mean.
    error, gradient_error = rounding(metric, z, EPS32)
    assert found.log.dtype == found.gradient.dtype == torch.float32
    assert float((found.log - truth.log).abs().amax()) <= 8 * error + 100 * EPS32 * float(truth.log.abs().amax())
    assert ((found.gradient - truth.gradient).abs() <= 1.01 * gradient_error + EPS32).all()
    assert float((found.log_proximity - truth.log_proximity).abs().amax()) <= error


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_too_small_for_the_dtype_count_as_nothing(dtype):
    metric = RiemannianMetric(torch.tensor([[0.0], [50.0]], dtype=dtype), torch.ones((2, 1), dtype=dtype), rho=1.0, lam=0.01)
    z = torch.linspace(5, 45, 81, dtype=dtype)[:, None]  # log omega from -25 to -2025
    exact = dense_tensor(metric, z.double())[:, 0]
    torch.testing.assert_close(metric.tensor(z).double(), exact, rtol=4 * torch.finfo(dtype).eps, atol=0)
    torch.testing.assert_close(metric.log_proximity(z).double(), -(torch.minimum(z, 50 - z)[:, 0].double() ** 2))


@pytest.mark.parametrize(("k", "dim"), SIZES)
def test_a_centroid_is_where_the_proximity_is_one(k, dim):
    metric = made(k, dim)
    error, _ = rounding(metric, metric.centroids, EPS64)
    assert float(metric.log_proximity(metric.centroids).abs().amax()) <= error
    for dtype in (torch.float32, torch.float64):
        assert (metric.to(dtype).log_proximity(points(metric).to(dtype)) <= 0).all()


def test_proximity_is_that_of_the_nearest_centroid():
    metric = made(7, 3)
    z = points(metric)
    by_hand = [max(-float((s * (row - c) ** 2).sum()) / 4 for c, s in zip(metric.centroids, metric.precisions, strict=True)) for row in z]
    torch.testing.assert_close(metric.log_proximity(z), torch.tensor(by_hand, dtype=torch.float64))
    assert (metric.volume(z).log_proximity == metric.log_proximity(z)).all()


@pytest.mark.parametrize(("k", "dim"), SIZES)
def test_far_away_only_lambda_is_left(k, dim):
    metric = made(k, dim, lam=0.3)
    far = 1e3 * torch.eye(dim, dtype=torch.float64)
    volume = metric.volume(far)
    assert (metric.tensor(far) == 0.3).all()
    torch.testing.assert_close(volume.log, torch.full((dim,), dim / 2 * math.log(0.3), dtype=torch.float64))
    assert float(volume.gradient.abs().max()) < 1e-290  # the smallest weight that counts is 1e-308


def test_tau_makes_the_volume_fall_without_end():
    metric = made(7, 2, lam=0.3, tau=0.01)
    far = torch.tensor([[60.0, 0.0], [0.0, -90.0]], dtype=torch.float64)
    volume = metric.volume(far)
    torch.testing.assert_close(volume.log, math.log(0.3) - 0.01 * far.square().sum(1))
    torch.testing.assert_close(volume.gradient, -2 * 0.01 * far)


# Each: what becomes of the metric and of z, by how much log sqrt det G changes, and how its gradient changes.
A = 1.7
SHIFT = torch.tensor([3.0, -2.0, 5.0], dtype=torch.float64)
ORDER = torch.tensor([2, 0, 1])
LAWS = {
    "moving everything": (lambda m: replace(m, centroids=m.centroids + SHIFT), lambda z: z + SHIFT, 0.0, lambda g: g),
    "another order of centroids": (
        lambda m: replace(m, centroids=m.centroids.flip(0), precisions=m.precisions.flip(0)),
        lambda z: z,
        0.0,
        lambda g: g,
    ),
    "another order of axes": (
        lambda m: replace(m, centroids=m.centroids[:, ORDER], precisions=m.precisions[:, ORDER]),
        lambda z: z[:, ORDER],
        0.0,
        lambda g: g[:, ORDER],
    ),
    "another unit of length": (
        lambda m: replace(m, centroids=A * m.centroids, precisions=m.precisions / A**2, lam=m.lam / A**2),
        lambda z: A * z,
        -3 * math.log(A),
        lambda g: g / A,
    ),
    "wider posteriors of less reach": (
        lambda m: replace(m, precisions=m.precisions / A**2, rho=m.rho / A, lam=m.lam / A**2),
        lambda z: z,
        -3 * math.log(A),
        lambda g: g,
    ),
    "a reflection": (lambda m: replace(m, centroids=-m.centroids), lambda z: -z, 0.0, lambda g: -g),
    "every centroid twice at half the weight": (
        lambda m: replace(m, centroids=m.centroids.repeat(2, 1), precisions=m.precisions.repeat(2, 1), lam=2 * m.lam),
        lambda z: z,
        1.5 * math.log(2),
        lambda g: g,
    ),
}


@pytest.mark.parametrize("law", LAWS)
def test_invariance(law):
    change, move, shift, turn = LAWS[law]
    metric = made(7, 3)
    z = points(metric)
    before, after = metric.volume(z), change(metric).volume(move(z))
    error, gradient_error = rounding(metric, z, EPS64)
    torch.testing.assert_close(after.log, before.log + shift, rtol=1e-13, atol=10 * error)
    torch.testing.assert_close(after.log_proximity, before.log_proximity, rtol=0, atol=10 * error)
    assert ((after.gradient - turn(before.gradient)).abs() <= 10 * turn(gradient_error).abs() + 1e-13).all()


@pytest.mark.parametrize(("k", "dim"), [(2, 1), (7, 2), (60, 16)])
def test_rho_is_the_largest_distance_to_a_nearest_neighbour(k, dim):
    centroids = made(k, dim, centre=1e4).centroids
    by_hand = [min(math.dist(a, b) for j, b in enumerate(centroids.tolist()) if j != i) for i, a in enumerate(centroids.tolist())]
    assert nearest_distances(centroids).tolist() == pytest.approx(by_hand, rel=1e-12)
    assert largest_nearest_distance(centroids) == pytest.approx(max(by_hand), rel=1e-12)


def test_rho_of_points_at_one_place_is_0_exactly():
    """Far from the origin and more than 25: where the expanded square would be taken, and not give 0."""
    assert largest_nearest_distance(torch.full((40, 16), 123.456)) == 0
    assert largest_nearest_distance(torch.zeros((1, 3))) == 0


def posterior(n: int, dim: int = 4) -> Posterior:
    generator = torch.Generator().manual_seed(0)
    return Posterior(torch.randn((n, dim), generator=generator), torch.randn((n, dim), generator=generator) - 3)


@pytest.mark.parametrize("selection", ["k-medoids", "random", "first"])
def test_centroids_are_posteriors(selection):
    posteriors = posterior(30)
    metric = RiemannianMetric.from_posterior(posteriors, n_centroids=8, selection=selection, lam=0.5, tau=0.25, rho_scale=3)
    rows = [int((posteriors.mean == centroid).all(1).nonzero()) for centroid in metric.centroids]
    assert len(set(rows)) == 8
    assert (metric.precisions == torch.exp(-posteriors.log_var[rows])).all()
    assert metric.rho == pytest.approx(3 * largest_nearest_distance(metric.centroids))
    assert (metric.lam, metric.tau, metric.dim) == (0.5, 0.25, 4)


def test_every_posterior_is_a_centroid_by_default_up_to_a_thousand():
    assert len(RiemannianMetric.from_posterior(posterior(30)).centroids) == 30
    assert len(RiemannianMetric.from_posterior(posterior(1001), selection="first").centroids) == 1000


@pytest.mark.parametrize("selection", [pytest.param("k-medoids", marks=pytest.mark.slow), "random"])
def test_fifty_thousand_posteriors(selection):
    posteriors = posterior(50_000)
    metric = RiemannianMetric.from_posterior(posteriors, n_centroids=100, selection=selection)
    assert metric.centroids.shape == (100, 4)
    assert metric.volume(posteriors.mean).gradient.isfinite().all()


def test_mean_width_is_the_geometric_mean():
    metric = made(7, 3)
    torch.testing.assert_close(metric.log_mean_std.exp(), (metric.precisions**-0.5).prod(0) ** (1 / 7))


FINE = {"centroids": torch.zeros((2, 3)), "precisions": torch.ones((2, 3)), "rho": 1.0, "lam": 0.01, "tau": 0.0}
NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    "bad",
    [{name: value} for name in ("rho", "lam") for value in (0.0, -1.0, NAN, INF)]
    + [{"tau": value} for value in (-0.1, NAN, INF)]
    + [{"precisions": torch.full((2, 3), value)} for value in (0.0, -1.0, NAN, INF)]
    + [{"centroids": torch.full((2, 3), value)} for value in (NAN, INF)],
    ids=lambda bad: " ".join(f"{name} {value if isinstance(value, float) else float(value[0, 0])}" for name, value in bad.items()),
)
def test_numbers_that_make_no_metric_are_refused(bad):
    RiemannianMetric(**FINE)
    with pytest.raises(UsageError):
        RiemannianMetric(**FINE | bad)


@pytest.mark.parametrize("shape", [(2, 4), (3,), (1, 2, 3)])
def test_shapes_that_disagree_are_a_programming_error(shape):
    with pytest.raises(ValueError, match="alike"):
        RiemannianMetric(torch.zeros((2, 3)), torch.ones(shape), rho=1.0, lam=0.01)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"n_centroids": 1}, "two different centroids"),
        ({"n_centroids": 0}, "at least 1"),
        ({"selection": "best"}, "best"),
        ({"rho": 0.0}, "rho lies between"),
        ({"rho": -1.0}, "rho lies between"),
        ({"rho_scale": 0.0}, "scale of rho"),
        ({"rho_scale": NAN}, "scale of rho"),
        ({"rho": 1e-300}, "rho lies between"),
        ({"rho": 1e300}, "rho lies between"),
        ({"rho_scale": 1e300}, "rho lies between"),
        ({"lam": 1e300}, "lambda between"),
        ({"lam": 0.0}, "lambda between"),
        ({"tau": -1.0}, "tau"),
    ],
)
def test_bad_settings_are_told_by_name(bad, words):
    with pytest.raises(UsageError, match=words):
        RiemannianMetric.from_posterior(posterior(9), **bad)


@pytest.mark.parametrize("name", ["centroids", "precisions"])
def test_numbers_whose_products_are_none_are_told(name):
    parts = {"centroids": torch.randn((5, 3), generator=torch.Generator().manual_seed(0)), "precisions": torch.ones((5, 3))}
    parts[name][:2] = torch.tensor([[3e38], [-1e38 if name == "centroids" else 1e38]])
    with pytest.raises(UsageError, match="so large that the metric is no number"):
        RiemannianMetric(**parts, rho=1e-3, lam=0.01)


def test_one_centroid_or_several_at_one_place_need_a_rho():
    same = Posterior(torch.ones((5, 3)), torch.zeros((5, 3)))
    for posteriors in (posterior(1), same):
        with pytest.raises(UsageError, match="--rho"):
            RiemannianMetric.from_posterior(posteriors)
        assert RiemannianMetric.from_posterior(posteriors, rho=1.5).rho == 1.5


@pytest.mark.parametrize("value", [NAN, -200.0, 200.0])
def test_posteriors_of_a_model_that_diverged_are_refused(value):
    with pytest.raises(UsageError, match="diverged"):
        RiemannianMetric.from_posterior(Posterior(torch.randn((5, 3)), torch.full((5, 3), value)))
