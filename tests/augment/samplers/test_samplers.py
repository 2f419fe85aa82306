"""Every latent sampler: what all keep, then the law of each."""

import json
import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import chi2, norm
from torch import Tensor

from tinycohort.augment import hmc
from tinycohort.augment.autoencoders import AUTOENCODERS, GaussianAutoencoder
from tinycohort.augment.autoencoders.ae import AE
from tinycohort.augment.geometry.metric import RiemannianMetric
from tinycohort.augment.geometry.support import default_log_threshold, off_manifold
from tinycohort.augment.networks import Architecture
from tinycohort.augment.posterior import Posterior
from tinycohort.augment.samplers.latents import Latents
from tinycohort.augment.samplers.plain import AggregatedPosterior, GaussianMixture, Normal
from tinycohort.augment.samplers.published import DETERMINANT_CLAMP, RiemannianPaper, RiemannianReleased
from tinycohort.augment.samplers.registry import AUTO, DEFAULT_SAMPLER, SAMPLERS, fit_sampler, samplers_for
from tinycohort.augment.samplers.riemannian import Riemannian
from tinycohort.datasets.common.errors import UsageError

CONFIDENCE = 1 - 1e-4  # per test, all its comparisons together; seeds are fixed
CHAINS = ("riemannian", "riemannian-paper", "riemannian-released")
QUICK = {"n_iterations": 6, "n_leapfrog": 3}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def assert_mean(values: Tensor, expected: Tensor) -> None:
    """``values``, ``(n, m)`` independent rows, average to ``expected`` ``(m,)``, all within a quantile of their own standard errors."""
    error = values.std(dim=0) / math.sqrt(len(values))
    assert (error > 0).all()
    deviation = (values.mean(dim=0) - expected) / error
    assert float(deviation.abs().max()) < norm.ppf(1 - (1 - CONFIDENCE) / 2 / len(expected)), f"off by {deviation} standard errors"


def products(z: Tensor) -> Tensor:
    """The distinct second moments, ``(n, D (D + 1) / 2)``."""
    rows, columns = torch.triu_indices(z.shape[1], z.shape[1])
    return z[:, rows] * z[:, columns]


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def posterior(request) -> Posterior:
    log_var = -3 + 0.3 * normal((40, 3), 1)
    return Posterior(normal((40, 3), 0).to(request.param), log_var.to(request.param))


@pytest.fixture
def metric(posterior) -> RiemannianMetric:
    return RiemannianMetric.from_posterior(posterior, n_centroids=12)


def latents_for(name: str, posterior: Posterior, metric: RiemannianMetric) -> Latents:
    """With the first model that the sampler serves, of 3 latent dimensions."""
    kind = next(kind for kind in AUTOENCODERS.values() if issubclass(kind, SAMPLERS[name].needs))
    torch.manual_seed(0)
    autoencoder = kind(Architecture("conv", (8, 8), latent_dim=3, channels=2)).to(posterior.mean.dtype).eval()
    return Latents(posterior.mean, autoencoder, posterior, metric)


def quick(name: str) -> dict[str, int]:
    settings = QUICK | {"n_warm_up": 4, "n_training_steps": 5}
    return {key: value for key, value in settings.items() if key in SAMPLERS[name].settings}


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler(name, posterior, metric):
    sampler = fit_sampler(name, latents_for(name, posterior, metric), seed=5, **quick(name))
    before, ticks = torch.get_rng_state(), []
    z, diagnostics = sampler.sample(50, seeded(0), lambda: ticks.append(1))
    again, _ = fit_sampler(name, latents_for(name, posterior, metric), seed=5, **quick(name)).sample(50, seeded(0))
    other, _ = sampler.sample(50, seeded(1))
    assert torch.equal(torch.get_rng_state(), before)
    assert z.shape == (50, 3)
    assert z.dtype == posterior.mean.dtype
    assert z.isfinite().all()
    assert torch.equal(z, again)
    assert not torch.equal(z, other)
    assert len(ticks) == sampler.n_steps
    assert (sampler.name, diagnostics.sampler, diagnostics.n_samples) == (name, name, 50)
    # Of the others, which have no support of their own, whoever draws knows the manifold (generation.py).
    assert diagnostics.off_manifold == (off_manifold(metric, z) if name in CHAINS else None)
    json.dumps(diagnostics.as_dict(), allow_nan=False)
    if name in CHAINS:
        assert 0 < diagnostics.acceptance <= 1
        assert diagnostics.step_size > 0
        assert diagnostics.distance > 0
        assert diagnostics.traced == 50
        assert diagnostics.r_hat > 0
        assert diagnostics.ess > 0


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("n", [1, 70])
def test_any_number_of_samples(name, n, posterior, metric):
    z, diagnostics = fit_sampler(name, latents_for(name, posterior, metric), **quick(name)).sample(n, seeded(0))
    assert z.shape == (n, 3)
    if name in CHAINS:
        assert diagnostics.traced == min(n, 64)


def test_plain_samplers_need_no_posterior():
    latents = Latents(normal((20, 3), 0), AE(Architecture("conv", (8, 8), latent_dim=3, channels=2)))
    usable = samplers_for(AE)
    assert {"normal", "gmm"} <= set(usable)
    assert not {"posterior", *CHAINS} & set(usable)
    for name in SAMPLERS:
        if name in usable:
            assert fit_sampler(name, latents, **quick(name)).sample(5, seeded(0))[1].off_manifold is None
        else:
            with pytest.raises(UsageError, match=f"'{name}' needs a model with a .*choose one of: {', '.join(usable)}\\."):
                fit_sampler(name, latents)


# What the paper's comparison draws each model with; a sampler of more models than these is welcome.
COMPARED = {
    "ae": "normal gmm two-stage",
    "vae": "normal gmm posterior two-stage riemannian riemannian-paper riemannian-released",
    "wae": "normal gmm",
    "vamp": "vamp gmm riemannian",
    "hvae": "normal gmm",
    "rhvae": "normal gmm own-metric",
    "rae": "gmm normal",
    "rae-l2": "gmm normal",
    "rae-gp": "gmm normal",
    "rae-sn": "gmm normal",
    "iwae": "normal riemannian",
    "vae-iaf": "normal gmm",
    "vae-nf": "normal gmm",
    "aae": "normal riemannian",
    "vaegan": "normal riemannian",
}


def test_every_system_of_the_paper_can_be_asked_for_and_is_listed_with_its_source(augment):
    assert set(COMPARED) <= set(AUTOENCODERS)
    for name, kind in AUTOENCODERS.items():
        usable = samplers_for(kind)
        assert set(COMPARED.get(name, "").split()) | {"two-stage"} <= set(usable), name
        # Of a model without a Gaussian posterior no chain on a metric of posteriors may be asked for.
        assert bool({"posterior", *CHAINS} & set(usable)) == issubclass(kind, GaussianAutoencoder), name
    listed = augment("models").words
    for each in (*AUTOENCODERS.values(), *SAMPLERS.values()):
        assert each.source in listed


def test_the_default_is_no_sampler_but_a_choice_and_an_unknown_name_lists_them(posterior, metric):
    assert DEFAULT_SAMPLER == AUTO
    assert AUTO not in SAMPLERS
    with pytest.raises(UsageError, match=", ".join([AUTO, *SAMPLERS])):
        fit_sampler("hmc", latents_for("normal", posterior, metric))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_setting_of_another_sampler_is_refused(name, posterior, metric):
    foreign = "n_components" if name not in ("gmm", "mixture") else "n_leapfrog"
    with pytest.raises(UsageError, match=f"'{name}' has no setting {foreign}"):
        fit_sampler(name, latents_for(name, posterior, metric), **{foreign: 3})
    fit_sampler(name, latents_for(name, posterior, metric), **quick(name), **{foreign: None})


@pytest.mark.parametrize(
    ("name", "bad"),
    [(name, bad) for name in CHAINS for bad in ({"n_iterations": 0}, {"n_leapfrog": 0})]
    + [(name, {"step_size": value}) for name in CHAINS[1:] for value in (0.0, -0.1, math.nan)]
    + [("riemannian", {"n_warm_up": -1})]
    + [("riemannian", {"target_acceptance": value}) for value in (0.0, 1.0, 1.5, math.nan)]
    + [("riemannian", {"log_threshold": value}) for value in (0.0, 1.0, math.nan)]
    + [("gmm", {"n_components": value}) for value in (0, -1, 41)],
)
def test_settings_that_cannot_be_are_refused(name, bad, posterior, metric):
    with pytest.raises(UsageError):
        fit_sampler(name, latents_for(name, posterior, metric), **bad)


def test_normal_is_the_prior():
    z, _ = Normal(torch.empty((0, 2), dtype=torch.float64)).sample(20_000, seeded(0))
    assert_mean(torch.cat([z, products(z)], dim=1), torch.tensor([0, 0, 1, 0, 1.0], dtype=torch.float64))


def test_aggregated_posterior_has_the_mixtures_moments():
    posterior = Posterior(normal((7, 2), 0), normal((7, 2), 1))
    z, _ = AggregatedPosterior(posterior).sample(20_000, seeded(0))
    second = products(posterior.mean).mean(0) + torch.tensor([1.0, 0, 1]) * posterior.std.square().mean(0)[[0, 0, 1]]
    fourth = (posterior.mean**4 + 6 * posterior.mean**2 * posterior.std**2 + 3 * posterior.std**4).mean(0)
    assert_mean(torch.cat([z, products(z), z**4], dim=1), torch.cat([posterior.mean.mean(0), second, fourth]))


def test_mixture_is_that_of_the_codes():
    """EM keeps the codes' mean and covariance whatever it finds, and finds components that lie well apart."""
    centres = torch.tensor([[-8.0, 0.0], [8.0, 0.0], [0.0, 9.0]], dtype=torch.float64)
    shapes = torch.stack([torch.tensor([[a, 0.0], [b, c]], dtype=torch.float64) for a, b, c in ((1, 0.8, 0.5), (0.3, 0, 2), (1, -0.5, 1))])
    which = (torch.arange(600) % 3).clamp(max=1)
    which[:60] = 2  # a tenth; of the others one third and two thirds
    codes = centres[which] + torch.einsum("nij,nj->ni", shapes[which], normal((600, 2), 2))
    sampler = GaussianMixture.fit(codes, n_components=3)
    z, _ = sampler.sample(20_000, seeded(0))
    # 1e-6 is what scikit-learn adds to variances; its EM stops at a change of 1e-3 in the mean log-likelihood.
    expected = torch.cat([codes.mean(0), products(codes).mean(0)])
    assert_mean(torch.cat([z, products(z)], dim=1), expected)
    nearest = torch.cdist(z, centres).argmin(1)
    for i in range(3):
        inside, own = z[nearest == i], codes[which == i]
        assert_mean((nearest == i).double()[:, None], (which == i).double().mean()[None])
        assert_mean(inside - own.mean(0), torch.zeros(2, dtype=torch.float64))
        assert_mean(products(inside - own.mean(0)), products(own - own.mean(0)).mean(0))
    # Not grouped by component: neighbours differ as often as independent draws do.
    shares = torch.bincount(nearest) / len(nearest)
    assert_mean((nearest[1::2] != nearest[::2]).double()[:, None], (1 - shares.square().sum())[None])


def test_mixture_of_fewer_float32_codes_than_dimensions():
    """Covariances are singular but for the 1e-6 that scikit-learn adds: a factor of 100 in scale, and float32 alone loses it."""
    codes = 100 * torch.randn((12, 32), generator=seeded(0))
    z, _ = GaussianMixture.fit(codes, n_components=3).sample(100, seeded(0))
    assert z.dtype == torch.float32
    assert z.isfinite().all()


def test_mixture_has_ten_components_or_as_many_as_there_are_codes():
    assert len(GaussianMixture.fit(normal((40, 2), 0)).weights) == 10
    assert len(GaussianMixture.fit(normal((4, 2), 0)).weights) == 4


def isolated(dim: int, k: int = 2, *, lam: float = 1e-30) -> RiemannianMetric:
    """Centroids so far apart, and lambda so small, that near each the law is Gaussian; their posteriors differ in every width."""
    centroids = 1e3 * torch.arange(k, dtype=torch.float64)[:, None] * torch.ones(dim, dtype=torch.float64)
    return RiemannianMetric(centroids, torch.exp(normal((k, dim), 3)), rho=1.5, lam=lam)


@pytest.mark.parametrize(("dim", "threshold"), [(1, None), (2, 0.010), (16, 0.135), (64, None)])
def test_default_threshold_keeps_99_percent_of_the_local_law(dim, threshold):
    metric = isolated(dim, k=1)
    z = metric.centroids + metric.rho / math.sqrt(dim) * metric.precisions**-0.5 * normal((50_000, dim), 4)
    assert_mean((metric.log_proximity(z) >= default_log_threshold(dim)).double()[:, None], torch.tensor([0.99], dtype=torch.float64))
    assert off_manifold(metric, z) == float((metric.log_proximity(z) < default_log_threshold(dim)).double().mean())
    if threshold is not None:
        assert math.exp(default_log_threshold(dim)) == pytest.approx(threshold, abs=5e-4)


def test_isolated_centroids_have_the_same_mass():
    """Integrated on a grid over each centroid's support: (2 pi rho^2 / D)^(D / 2) times what the threshold keeps, whatever Sigma."""
    metric = isolated(2)
    cells = 800
    for centroid, precision in zip(metric.centroids, metric.precisions, strict=True):
        axis = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells * 2 - 1
        half = metric.rho * math.sqrt(-default_log_threshold(2)) * precision**-0.5
        volume = metric.volume(centroid + half * torch.cartesian_prod(axis, axis))
        inside = volume.log_proximity >= default_log_threshold(2)
        mass = float((volume.log.exp() * inside).sum() * (2 * half / cells).prod())
        # A grid counts the area of a disc of radius R cells within 2 sqrt(2) pi R cells; at its edge the density is 1 % of the peak's.
        error = 2 * math.sqrt(2) * math.pi * cells / 2 * 0.01 * float(precision.prod().sqrt() * (2 * half / cells).prod())
        exact = 0.99 * 2 * math.pi * metric.rho**2 / 2
        assert abs(mass - exact) < error
        assert error < 0.01 * exact


@pytest.mark.parametrize("n_iterations", [40, None], ids=["chains", "directly"])
@pytest.mark.parametrize("dim", [2, 8])
def test_riemannian_near_an_isolated_centroid(dim, n_iterations):
    """N(c, rho^2 / D Sigma), cut where chi-squared reaches 99 %: second and fourth moments of the cut law are known."""
    metric = isolated(dim)
    z, diagnostics = Riemannian(metric, n_iterations=n_iterations, n_warm_up=40).sample(4000, seeded(0))
    nearest = torch.cdist(z, metric.centroids).argmin(1)
    standard = (z - metric.centroids[nearest]) * metric.precisions[nearest].sqrt() * math.sqrt(dim) / metric.rho
    cut = chi2.ppf(0.99, dim)
    second, fourth = (chi2.cdf(cut, dim + power) / 0.99 for power in (2, 4))
    rows, columns = torch.triu_indices(dim, dim)
    expected = torch.cat([torch.zeros(dim), second * (rows == columns), torch.full((dim,), 3 * fourth)]).double()
    for i in range(2):
        own = standard[nearest == i]
        assert_mean(torch.cat([own, products(own), own**4], dim=1), expected)
    # Every centroid has the same mass; chains do not cross between those this far apart, and start on them with equal chances.
    assert_mean(nearest.double()[:, None], torch.tensor([0.5], dtype=torch.float64))
    assert diagnostics.off_manifold == 0
    assert diagnostics.effective_centroids == pytest.approx(1)
    if n_iterations is None:
        (alone,) = diagnostics.warnings()
        assert "every sample is a variation of one training image" in alone
        assert (diagnostics.home, diagnostics.r_hat, diagnostics.acceptance) == (None, None, None)
        return
    # Each chain stays with the image that it began at, which is said, and that no R-hat can be good where it is so.
    assert diagnostics.home == 1
    alone, apart = diagnostics.warnings()
    assert "100% of the chains end nearest to the image that they began at" in alone
    assert "have not mixed" in apart
    # Median over chains of the root mean square over dimensions, in posterior standard deviations of the start.
    radius = (standard.square().mean(1).sqrt() * metric.rho / math.sqrt(dim)).median()
    assert diagnostics.distance == pytest.approx(float(radius), rel=1e-9)
    assert diagnostics.unmoved == 0


# Not below: at D = 2 acceptance falls from 0.7 to 0 at the leapfrog's limit of stability, and no average of steps stays on that edge.
@pytest.mark.parametrize("target", [0.8, 0.9])
@pytest.mark.parametrize("dim", [2, 8, 16])
def test_riemannian_adapts_to_the_target_and_mixes(dim, target, monkeypatch):
    """Round posteriors, where all trajectories have one period: with steps all alike, adaptation settles on a multiple of its half,
    accepts nearly all and goes nowhere (at D = 8 and a target of 0.8: acceptance 0.97, radii correlated by 0.98 from step to step).
    """
    metric = replace(isolated(dim, k=1), precisions=torch.full((1, dim), 3.0, dtype=torch.float64))
    radii, step = [], hmc.step

    def recorded(*args, **settings):
        state, info = step(*args, **settings)
        radii.append(state.z.square().sum(1))
        return state, info

    monkeypatch.setattr(hmc, "step", recorded)
    _, diagnostics = Riemannian(metric, n_iterations=40, target_acceptance=target).sample(1000, seeded(0))
    kept = torch.stack(radii[-40:])
    kept = kept - kept.mean()
    assert float((kept[1:] * kept[:-1]).mean() / kept.square().mean()) < 0.9
    # As in the tests of warm_up: dual averaging's own error, gamma |log(10 eps_0 / eps)| (T + t_0) / T^1.5, and Monte Carlo's.
    bound = 0.05 * abs(math.log(5 / diagnostics.step_size)) * 110 / 100**1.5
    assert abs(diagnostics.acceptance - target) < 2 * bound + norm.ppf(CONFIDENCE) * 0.5 / math.sqrt(40 * 1000)


@pytest.mark.parametrize("log_threshold", [None, math.log(0.5), -20.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_riemannian_never_leaves_its_support(log_threshold, dtype):
    posterior = Posterior(normal((40, 4), 0).to(dtype), (-3 + 0.3 * normal((40, 4), 1)).to(dtype))
    metric = RiemannianMetric.from_posterior(posterior, n_centroids=12)
    limit = default_log_threshold(4) if log_threshold is None else log_threshold
    for n_iterations in (1, 2, 30):
        z, diagnostics = Riemannian(metric, n_iterations, n_warm_up=20, log_threshold=log_threshold).sample(500, seeded(0))
        # The chain decides in units of the posteriors' width, z = u width, and z is what comes of it: the same numbers.
        assert (metric.log_proximity(z) >= limit).all()
        assert diagnostics.off_manifold == 0


def test_riemannian_may_pass_between_centroids_whose_supports_meet():
    centroids = torch.tensor([[0.0, 0.0], [1.5, 0.0]], dtype=torch.float64)
    metric = RiemannianMetric(centroids, torch.ones((2, 2), dtype=torch.float64), rho=1.5, lam=0.01)
    z, _ = Riemannian(metric).sample(4000, seeded(0))
    on_grid(metric, z, default_log_threshold(2))


@pytest.mark.parametrize("distance", [2.5, 3.0, 4.0])
def test_riemannian_draws_directly_while_few_draws_are_rejected(distance):
    """Supports that meet, of widths that differ: the draws that are kept have the volume's law, and no chain has run."""
    centroids = torch.tensor([[0.0, 0.0], [distance, 0.0]], dtype=torch.float64)
    metric = RiemannianMetric(centroids, torch.tensor([[1.0, 2.0], [3.0, 1.0]], dtype=torch.float64), rho=1.5, lam=0.01)
    ticks: list[int] = []
    sampler = Riemannian(metric)
    z, diagnostics = sampler.sample(4000, seeded(0), lambda: ticks.append(1))
    assert diagnostics.acceptance is None
    assert len(ticks) == sampler.n_steps
    assert diagnostics.off_manifold == 0
    on_grid(metric, z, default_log_threshold(2))


def on_grid(metric: RiemannianMetric, z: Tensor, log_threshold: float = -math.inf, cells: int = 1200) -> None:
    """Moments of ``z`` are those of sqrt det G, on the support, by the midpoint rule on a grid."""
    low, high = metric.centroids.amin(0) - 5, metric.centroids.amax(0) + 5
    axes = [a + (torch.arange(cells, dtype=torch.float64) + 0.5) / cells * (b - a) for a, b in zip(low, high, strict=True)]
    grid = torch.cartesian_prod(*axes)
    volume = metric.volume(grid)
    weight = torch.softmax(volume.log.masked_fill(volume.log_proximity < log_threshold, -math.inf), dim=0)
    assert float(weight.reshape(cells, cells)[[0, -1]].sum() + weight.reshape(cells, cells)[:, [0, -1]].sum()) < 1e-8

    def statistics(values: Tensor) -> Tensor:
        centred = values - metric.centroids.mean(0)
        return torch.cat([centred, products(centred), torch.cos(2 * centred), centred[:, :1] ** 3], dim=1)

    assert_mean(statistics(z), (weight[:, None] * statistics(grid)).sum(0))


BUMPS = torch.tensor([[[-0.8, 0.0], [0.9, 0.4]], [[4.0, 9.0], [16.0, 5.0]]], dtype=torch.float64)
PROPER = RiemannianMetric(*BUMPS, rho=2.0, lam=0.1, tau=0.7)


def test_riemannian_paper_is_algorithm_2():
    """On a metric that tau makes proper; steps large enough that the acceptance matters."""
    z, diagnostics = RiemannianPaper(PROPER, n_iterations=100, n_leapfrog=4, step_size=0.45).sample(3000, seeded(0))
    assert 0.4 < diagnostics.acceptance < 0.97
    on_grid(PROPER, z)


def test_riemannian_paper_hardly_moves_at_the_papers_settings_and_says_so():
    """On posteriors as narrow as those of OASIS the step could be ten times larger: acceptance 1.00."""
    posterior = Posterior(normal((50, 16), 0), torch.full((50, 16), 2 * math.log(0.08), dtype=torch.float64))
    _, diagnostics = RiemannianPaper(RiemannianMetric.from_posterior(posterior), n_iterations=20).sample(50, seeded(0))
    assert diagnostics.acceptance > 0.98
    assert "so small that the chains hardly explore" in diagnostics.warnings()[0]


def test_chains_off_the_manifold_are_counted():
    """tau = 0: where lambda is large the law is nearly flat, and a chain of large steps leaves."""
    metric = RiemannianMetric(torch.zeros((1, 2)), torch.ones((1, 2)), rho=1.0, lam=10.0)
    z, diagnostics = RiemannianPaper(metric, n_iterations=20, step_size=1.0).sample(200, seeded(0))
    assert diagnostics.off_manifold == off_manifold(metric, z) > 0.9
    assert "off the manifold" in diagnostics.warnings()[-1]


def released(metric: RiemannianMetric, means: Tensor | None = None, **settings: float) -> RiemannianReleased:
    return RiemannianReleased(metric, metric.centroids if means is None else means, **settings)


@pytest.mark.parametrize("k", [1, 2, 50])
@pytest.mark.parametrize("lam", [1e-4, 1.0])
def test_released_gradient_against_the_true_one(k, lam):
    """Where all posteriors are round and alike g is the same in each dimension, and the ratio is 2 g / (g + (k - 1) lambda) exactly:
    2 at k = 1; for more centroids from 2 on a centroid to 2 / k far from all. At k = 50 and lambda = 1 it is a half where g is 49 / 3.
    """
    metric = RiemannianMetric(normal((k, 3), 5), torch.full((k, 3), 5.0, dtype=torch.float64), rho=1.0, lam=lam)
    sampler = released(metric)
    if k > 1:
        metric = replace(metric, rho=own_rho(metric.centroids))
    z = metric.centroids[torch.arange(40) % k] + torch.linspace(0.01, 2, 40, dtype=torch.float64)[:, None] * normal((40, 3), 6)
    g = metric.tensor(z)[:, :1]
    ratio = 2 * g / (g + (k - 1) * lam)
    torch.testing.assert_close(sampler.log_density()(z)[1], ratio * metric.volume(z).gradient, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(sampler.log_density()(z)[0], metric.log_volume(z))
    if k == 1:
        assert (ratio == 2).all()
    elif lam == 1.0:
        assert float(ratio.min()) < 1.1 * 2 / k


def own_rho(centroids: Tensor) -> float:
    """Largest distance to a nearest neighbour, the last centroid's own left out."""
    distances = [min(math.dist(a, b) for j, b in enumerate(centroids.tolist()) if j != i) for i, a in enumerate(centroids.tolist())]
    return max(distances[:-1])


def test_released_rho_leaves_out_the_last_centroid():
    centroids = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.5], [9.0, 9.0]], dtype=torch.float64)
    metric = RiemannianMetric(centroids, torch.ones((4, 2), dtype=torch.float64), rho=12.0, lam=0.1)
    z = normal((20, 2), 7)
    for order, rho in (([0, 1, 2, 3], 1.5), ([3, 0, 1, 2], math.hypot(9, 7.5))):
        log_p, _ = released(replace(metric, centroids=centroids[order])).log_density()(z)
        torch.testing.assert_close(log_p, replace(metric, rho=rho).log_volume(z))


def test_released_density_saturates():
    metric = RiemannianMetric(torch.zeros((1, 4), dtype=torch.float64), torch.full((1, 4), 400.0, dtype=torch.float64), rho=1.0, lam=0.1)
    z = torch.linspace(0, 0.1, 21, dtype=torch.float64)[:, None] * torch.ones(4, dtype=torch.float64) / 2
    true, (log_p, gradient) = metric.log_volume(z), released(metric).log_density()(z)
    limit = 0.5 * math.log(DETERMINANT_CLAMP)
    assert limit == pytest.approx(11.51, abs=0.005)
    torch.testing.assert_close(log_p, true.clamp(max=limit))
    assert 3 < int((true > limit).sum()) < 21
    # The gradient does not know of it.
    torch.testing.assert_close(gradient, 2 * metric.volume(z).gradient)


@pytest.mark.parametrize(("gradient", "exponent"), [("released", 7), ("true", 4)])
def test_released_chains_fit_a_sharper_law(gradient, exponent, monkeypatch):
    """Momenta of standard deviation 1/2 under an energy of unit mass: p^4 with the true gradient, for which the flow keeps H.

    With twice the gradient the flow keeps |v|^2 / 2 - 2 log p, which momenta of 1/2 turn into p^8, and acceptance by H divides by p:
    p^7 = (det G)^3.5. Near one centroid: variances 4 and 7 times less.
    """
    metric = RiemannianMetric(
        torch.zeros((1, 2), dtype=torch.float64), torch.tensor([[1.0, 2.0]], dtype=torch.float64), rho=math.sqrt(2), lam=1e-12
    )
    sampler = released(metric, n_iterations=60, n_leapfrog=15, step_size=0.05)
    if gradient == "true":

        def log_density(z: Tensor) -> tuple[Tensor, Tensor]:
            volume = metric.volume(z)
            return volume.log, volume.gradient

        monkeypatch.setattr(RiemannianReleased, "log_density", lambda self: log_density)
    z, _ = sampler.sample(4000, seeded(0))
    # rho^2 / D Sigma is diag(1, 1/2). The leapfrog's own bias is (omega eps)^2 / 4 = 0.25 % at most, a ninth of the standard error.
    assert_mean(torch.cat([z, products(z)], dim=1), torch.tensor([0, 0, 1, 0, 0.5], dtype=torch.float64) / exponent)


def test_released_chains_freeze_where_the_determinant_underflows():
    """lambda^16 is 0 in float32 at lambda = 1e-4: 0 / 0, and every proposal is rejected."""
    metric = RiemannianMetric(torch.zeros((2, 16)) + torch.tensor([[0.0], [1.0]]), torch.full((2, 16), 100.0), rho=1.0, lam=1e-4)
    far = 50 + torch.randn((20, 16), generator=seeded(0))
    z, diagnostics = released(metric, far, **QUICK).sample(30, seeded(1))
    assert (diagnostics.unmoved, diagnostics.acceptance, diagnostics.off_manifold) == (1, 0, 1)
    assert all((row == far).all(1).any() for row in z)
    told = ("acceptance 0.00", "never moved", "variation of one training image", "have not mixed", "off the manifold")
    assert [part in text for part, text in zip(told, diagnostics.warnings(), strict=True)] == [True] * 5


def test_released_chains_start_on_any_mean_and_the_others_on_centroids():
    means = normal((30, 2), 8)
    metric = RiemannianMetric(means[:5], torch.ones((5, 2), dtype=torch.float64), rho=1.0, lam=0.1)
    tiny = {"n_iterations": 1, "n_leapfrog": 1, "step_size": 1e-9}
    starts = torch.cdist(RiemannianReleased(metric, means, **tiny).sample(1000, seeded(0))[0], means).argmin(1)
    assert starts.unique().tolist() == list(range(30))
    z, _ = RiemannianPaper(metric, **tiny).sample(1000, seeded(0))
    assert torch.cdist(z, means).argmin(1).unique().tolist() == list(range(5))
