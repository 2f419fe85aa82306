"""The choice of centroids among posterior means."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinycohort.augment.geometry import centroids
from tinycohort.augment.geometry.centroids import choose_centroids, total_distance
from tinycohort.datasets.common.errors import UsageError

NAMES = ("k-medoids", "random", "first")
NO_EXTRA = "scikit-learn-extra needs numpy below 2: `make test-sklearn-extra` tests it in an environment of its own"


def gaussian(n: int, dim: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim))


def blobs(n: int, dim: int, k: int, seed: int = 0) -> np.ndarray:
    """``n`` points around ``k`` well separated places, in turn."""
    generator = np.random.default_rng(seed)
    places = 100 * generator.normal(size=(k, dim))
    return places[np.arange(n) % k] + generator.normal(size=(n, dim))


def by_hand(points: np.ndarray, medoids) -> float:
    return float(np.linalg.norm(points[:, None] - points[list(medoids)], axis=2).min(axis=1).sum())


class FarthestFirst:
    """An estimator of our own with the interface of scikit-learn-extra's KMedoids: each medoid is the farthest point from those before."""

    def __init__(self, n_clusters: int, metric: str = "euclidean"):
        self.n_clusters = n_clusters
        self.metric = metric

    def fit(self, X, y=None):
        self.seen_ = np.asarray(X)
        distances = self.seen_ if self.metric == "precomputed" else np.linalg.norm(self.seen_[:, None] - self.seen_, axis=2)
        chosen = [0]
        while len(chosen) < self.n_clusters:
            chosen.append(int(distances[:, chosen].min(axis=1).argmax()))
        self.medoid_indices_ = np.array(chosen[::-1])
        return self


class Leaves:
    """An estimator that finds what it is told."""

    def __init__(self, medoids, metric: str = "euclidean"):
        self.medoids = medoids
        self.metric = metric

    def fit(self, X, y=None):
        self.medoid_indices_ = self.medoids


@pytest.mark.parametrize("method", NAMES)
@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 40), k=st.integers(1, 45), dim=st.integers(1, 4), seed=st.integers(0, 2**32), same=st.booleans())
def test_indices_are_distinct_sorted_and_in_range(method, n, k, dim, seed, same):
    means = np.ones((n, dim)) if same else gaussian(n, dim)
    chosen = choose_centroids(means, k, method=method, seed=seed, exact_points=20)
    assert chosen.dtype == np.int64
    assert chosen.shape == (min(k, n),)
    assert (np.diff(chosen) > 0).all()
    assert chosen[0] >= 0
    assert chosen[-1] < n


@pytest.mark.parametrize("method", [*NAMES, pytest.param(FarthestFirst(3), id="estimator")])
@pytest.mark.parametrize("k", [7, 8, 1000])
def test_asking_for_all_takes_all_in_order(method, k):
    assert choose_centroids(gaussian(7), k, method=method).tolist() == list(range(7))


def test_first_takes_the_first():
    assert choose_centroids(gaussian(9), 3, method="first").tolist() == [0, 1, 2]


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("exact_points", [5_000, 50], ids=["exact", "subsampled"])
def test_a_seed_reproduces(method, exact_points):
    means = gaussian(200)
    once, again = (choose_centroids(means, 10, method=method, seed=3, exact_points=exact_points) for _ in range(2))
    assert (once == again).all()
    generators = [np.random.default_rng(3) for _ in range(2)]
    by_generator = [choose_centroids(means, 10, method=method, seed=generator, exact_points=exact_points) for generator in generators]
    assert (by_generator[0] == once).all()
    assert (by_generator[1] == once).all()


def test_random_depends_on_the_seed_and_reaches_every_mean_alike():
    means = gaussian(10)
    counts = np.bincount(np.concatenate([choose_centroids(means, 3, method="random", seed=seed) for seed in range(2000)]), minlength=10)
    # Each count is binomial(2000, 0.3), standard deviation 20.5; 5 of them.
    assert np.abs(counts - 600).max() < 103


def test_the_global_random_state_is_left_alone():
    np.random.seed(0)  # noqa: NPY002 - the legacy global state is what is tested
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    choose_centroids(gaussian(100), 5, exact_points=50)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize("offset", [0.0, 1e6], ids=["centred", "far away"])
def test_total_distance_is_its_definition_in_chunks_too(offset, monkeypatch):
    monkeypatch.setattr(centroids, "CHUNK_DISTANCES", 64)
    points = gaussian(101, 3) + offset
    assert total_distance(points, np.array([5, 17, 99])) == pytest.approx(by_hand(points, [5, 17, 99]), rel=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e6], ids=["centred", "far away"])
def test_distances_are_exact_to_float32_in_chunks_too(offset, monkeypatch):
    monkeypatch.setattr(centroids, "CHUNK_DISTANCES", 64)
    points = gaussian(33, 3) + offset
    expected = np.linalg.norm(points[:, None] - points, axis=2)
    np.testing.assert_allclose(centroids._distances(points), expected, rtol=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 2, 3, 8])
def test_no_swap_of_a_medoid_improves_the_choice(k, seed):
    points = gaussian(40, 2, seed)
    medoids = choose_centroids(points, k, seed=seed).tolist()
    swapped = ([*medoids[:i], other, *medoids[i + 1 :]] for i in range(k) for other in range(40) if other not in medoids)
    assert by_hand(points, medoids) <= (1 + 1e-6) * min(by_hand(points, choice) for choice in swapped)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_medoids_are_the_optimum_where_all_choices_can_be_tried(k):
    excess = []
    for seed in range(20):
        points = gaussian(12, 2, seed)
        least = min(by_hand(points, medoids) for medoids in combinations(range(12), k))
        excess.append(by_hand(points, choose_centroids(points, k)) / least - 1)
    # A local search may end beside the optimum; with one medoid every start leads to it.
    assert max(excess) < (1e-6 if k == 1 else 0.1)
    assert np.median(excess) < 1e-6


@pytest.mark.parametrize("exact_points", [5_000, 100], ids=["exact", "subsampled"])
def test_medoids_beat_every_random_choice(exact_points):
    points = gaussian(500, 4)
    medoids = total_distance(points, choose_centroids(points, 20, exact_points=exact_points))
    assert medoids < min(total_distance(points, choose_centroids(points, 20, method="random", seed=seed)) for seed in range(100))


@pytest.mark.parametrize("exact_points", [5_000, 120], ids=["exact", "subsampled"])
def test_each_blob_gets_one_medoid(exact_points):
    chosen = choose_centroids(blobs(600, 8, 12), 12, exact_points=exact_points)
    assert sorted(chosen % 12) == list(range(12))


@pytest.mark.parametrize(
    ("n", "k"), [pytest.param(20_000, 20, id="20,000"), pytest.param(50_000, 100, id="50,000", marks=pytest.mark.slow)]
)
def test_large_cohorts_are_subsampled(n, k, monkeypatch):
    sizes = []
    real = centroids._distances
    monkeypatch.setattr(centroids, "_distances", lambda points: sizes.append(len(points)) or real(points))
    points = gaussian(n, 16)
    exact_points = 5_000 if n == 50_000 else 1_000
    medoids = choose_centroids(points, k, exact_points=exact_points)
    assert sizes == [exact_points] * centroids.DRAWS
    assert total_distance(points, medoids) < min(
        total_distance(points, choose_centroids(points, k, method="random", seed=seed)) for seed in range(3)
    )


def test_subsampling_keeps_the_draw_that_is_best_over_all_means(monkeypatch):
    points = gaussian(300)
    totals = []
    real = centroids.total_distance
    monkeypatch.setattr(centroids, "total_distance", lambda *given: totals.append(real(*given)) or totals[-1])
    medoids = choose_centroids(points, 5, exact_points=40)
    assert len(totals) == centroids.DRAWS
    assert len(set(totals)) > 1
    assert real(points, medoids) == pytest.approx(min(totals))


@pytest.mark.parametrize(("k", "starts"), [(10, centroids.DRAWS), (centroids.MANY, 1)])
def test_the_best_start_is_kept_and_many_centroids_need_but_one(k, starts, monkeypatch):
    points = gaussian(centroids.MANY + 50)
    totals = []
    real = centroids.total_distance
    monkeypatch.setattr(centroids, "total_distance", lambda *given: totals.append(real(*given)) or totals[-1])
    medoids = choose_centroids(points, k)
    assert len(totals) == starts
    assert real(points, medoids) == pytest.approx(min(totals))


def test_more_centroids_than_the_subsample_holds_enlarge_it():
    assert len(choose_centroids(gaussian(300), 120, exact_points=50)) == 120


@pytest.mark.parametrize("metric", ["euclidean", "precomputed"])
def test_any_estimator_with_medoid_indices_plugs_in(metric):
    points = np.array([[0.0], [1.0], [2.0], [10.0], [7.0]])
    estimator = FarthestFirst(3, metric=metric)
    assert choose_centroids(points, 3, method=estimator).tolist() == [0, 3, 4]
    assert not hasattr(estimator, "medoid_indices_")  # the caller's object is left alone


@pytest.mark.parametrize("metric", ["euclidean", "precomputed"])
@pytest.mark.parametrize("algorithm", ["pam", "alternate"])
def test_the_scikit_learn_extra_estimator_plugs_in(metric, algorithm):
    cluster = pytest.importorskip("sklearn_extra.cluster", reason=NO_EXTRA, exc_type=ImportError)
    points = blobs(60, 3, 4)
    estimator = cluster.KMedoids(4, metric=metric, method=algorithm, init="k-medoids++", random_state=0)
    assert sorted(choose_centroids(points, 4, method=estimator) % 4) == [0, 1, 2, 3]


@pytest.mark.parametrize("k", [2, 10, 120])
def test_medoids_are_as_good_as_those_of_scikit_learn_extra(k):
    cluster = pytest.importorskip("sklearn_extra.cluster", reason=NO_EXTRA, exc_type=ImportError)
    points = gaussian(400, 8)
    theirs = cluster.KMedoids(k, method="pam", init="build").fit(points).medoid_indices_
    assert total_distance(points, choose_centroids(points, k)) < 1.01 * total_distance(points, theirs)


NAN = np.array([[0.0, 1.0], [np.nan, 0.0], [2.0, 3.0]])


@pytest.mark.parametrize(
    ("means", "k", "method", "words"),
    [
        pytest.param(gaussian(5), 2, "kmeans", "k-medoids, random, first", id="unknown method"),
        pytest.param(gaussian(5), 9, "kmeans", "k-medoids, random, first", id="unknown method, all wanted"),
        pytest.param(gaussian(5), 2, None, "k-medoids, random, first", id="no method"),
        pytest.param(gaussian(5), 2, FarthestFirst, "estimator object", id="a class for an object"),
        pytest.param(gaussian(5), 0, "random", "at least 1, and is 0", id="k = 0"),
        pytest.param(gaussian(5), -3, "k-medoids", "at least 1, and is -3", id="k < 0"),
        pytest.param(NAN, 2, "first", "1 of 3 means are not finite .* row 1", id="NaN"),
        pytest.param(NAN, 5, "k-medoids", "not finite", id="NaN, all wanted"),
        pytest.param(np.full((4, 2), np.inf), 2, "random", "4 of 4", id="infinite"),
        pytest.param(np.zeros(4), 2, "random", r"shape \(4,\)", id="a vector"),
        pytest.param(np.zeros((0, 3)), 2, "random", r"shape \(0, 3\)", id="no mean"),
        pytest.param(gaussian(5), 2, FarthestFirst(3), "FarthestFirst left 3 .* where 2", id="an estimator that finds more"),
        pytest.param(gaussian(5), 2, Leaves(np.array([1, 1])), "left 1 distinct", id="an estimator that repeats itself"),
        pytest.param(gaussian(5), 2, Leaves(np.array([1, 5])), "outside the 5 means", id="an estimator that invents"),
        pytest.param(gaussian(5), 2, Leaves(np.array([-1, 2])), "outside the 5 means", id="an estimator that counts from the end"),
        pytest.param(gaussian(5), 2, Leaves(None), "Leaves left", id="an estimator that finds nothing"),
        pytest.param(np.zeros((20_001, 1)), 2, Leaves([0, 1], "precomputed"), "all 20001 means", id="too many for one matrix"),
        pytest.param(np.zeros((30_000, 1)), 15_000, "k-medoids", "15000 centroids among 30000", id="too many centroids for one matrix"),
    ],
)
def test_what_cannot_be_followed_is_said(means, k, method, words):
    with pytest.raises(UsageError, match=words):
        choose_centroids(means, k, method=method)
