"""FasterPAM against brute force: what a swap is said to change, what is kept of the clusters, and where it ends."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinycohort.augment.geometry import medoids
from tinycohort.augment.geometry.medoids import _Clusters, faster_pam


def distances(n: int, seed: int = 0, *, whole: bool = False) -> np.ndarray:
    """Of points in the plane; of whole numbers many are at the same place, or equally far."""
    points = np.random.default_rng(seed).normal(scale=2, size=(n, 2))
    points = points.round() if whole else points
    return np.linalg.norm(points[:, None] - points, axis=2).astype(np.float32)


def total(matrix: np.ndarray, chosen) -> float:
    return float(matrix[:, list(chosen)].astype(float).min(axis=1).sum())


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("k", [2, 3, 7])
def test_the_best_swap_is_the_best_of_all(k, whole):
    matrix = distances(20, whole=whole)
    chosen = np.random.default_rng(1).choice(20, size=k, replace=False)
    clusters = _Clusters(matrix, chosen.copy())
    for candidate in np.setdiff1d(np.arange(20), chosen):
        after = [total(matrix, [*chosen[:slot], candidate, *chosen[slot + 1 :]]) for slot in range(k)]
        slot, change = clusters.best_swap(candidate)
        assert change == pytest.approx(min(after) - total(matrix, chosen), abs=1e-12)
        assert after[slot] == pytest.approx(min(after), abs=1e-12)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("chunk", [2**22, 8], ids=["whole", "chunks"])
def test_what_is_kept_after_swaps_is_what_a_fresh_look_finds(chunk, whole, monkeypatch):
    monkeypatch.setattr(medoids, "CHUNK_DISTANCES", chunk)
    matrix, generator = distances(30, whole=whole), np.random.default_rng(2)
    clusters = _Clusters(matrix, generator.choice(30, size=4, replace=False))
    for _ in range(50):
        slot, candidate = generator.integers(4), generator.choice(np.flatnonzero(~clusters.is_medoid))
        clusters.swap(slot, candidate)
        assert clusters.medoids[slot] == candidate
        assert np.flatnonzero(clusters.is_medoid).tolist() == sorted(clusters.medoids)
        two = np.sort(matrix[:, clusters.medoids], axis=1)[:, :2]
        assert (np.stack([clusters.to_nearest, clusters.to_second], axis=1) == two).all()
        # Of equally near medoids it may hold either, but never one twice.
        assert (clusters.nearest != clusters.second).all()
        assert (matrix[np.arange(30), clusters.medoids[clusters.nearest]] == two[:, 0]).all()
        assert (matrix[np.arange(30), clusters.medoids[clusters.second]] == two[:, 1]).all()
        assert clusters.total == pytest.approx(total(matrix, clusters.medoids), rel=1e-12)
        without = [total(matrix, np.delete(clusters.medoids, gone)) - clusters.total for gone in range(4)]
        np.testing.assert_allclose(clusters.removal, without, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(n=st.integers(2, 25), share=st.floats(0, 1), seed=st.integers(0, 2**32), whole=st.booleans())
def test_it_ends_where_no_swap_helps(n, share, seed, whole):
    matrix, k = distances(n, seed, whole=whole), 1 + int(share * (n - 2))
    chosen = faster_pam(matrix, k, np.random.default_rng(seed))
    assert len(set(chosen.tolist())) == k
    swapped = (total(matrix, [*np.delete(chosen, slot), other]) for slot, other in product(range(k), set(range(n)) - set(chosen)))
    assert total(matrix, chosen) <= min(swapped) + 1e-9


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_the_best_of_some_starts_is_the_best_of_all_choices(k):
    for seed in range(10):
        matrix = distances(11, seed)
        least = min(total(matrix, choice) for choice in combinations(range(11), k))
        found = min(total(matrix, faster_pam(matrix, k, np.random.default_rng(start))) for start in range(20))
        assert found == pytest.approx(least, rel=1e-12)


def test_points_at_one_place_are_no_endless_search():
    assert len(set(faster_pam(np.zeros((9, 9), dtype=np.float32), 4, np.random.default_rng(0)).tolist())) == 4
