"""Centroids: the k training means at which the metric is anchored (Sec. 4.3; Appendix F uses k-medoids).

A centroid is one of the means, never an average of them: the metric needs the covariance that the encoder gave at that very point.
"""

import copy
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...datasets.common.errors import UsageError
from .medoids import faster_pam

EXACT_POINTS = 5_000  # up to here k-medoids sees every point: its float32 distance matrix takes 100 MB
MATRIX_POINTS = 20_000  # no distance matrix is made of more: 1.6 GB
DRAWS = 5  # Kaufman & Rousseeuw 1990, Ch. 3: CLARA keeps the best of five
MANY = 100  # of so many medoids on, totals of starts on all points differ by some tenths of a percent, and one start is enough
CHUNK_DISTANCES = 2**22  # held at once outside of k-medoids: 32 MiB in float64


@runtime_checkable
class MedoidEstimator(Protocol):
    """What ``sklearn_extra.cluster.KMedoids`` and its like have in common: ``fit(X)`` sets ``medoid_indices_``."""

    def fit(self, X: Any) -> Any:
        """Choose the medoids of ``X``, ``(n, D)`` points or, if ``metric`` is "precomputed", their ``(n, n)`` distances."""
        ...


def choose_centroids(
    means: ArrayLike,
    k: int,
    *,
    method: str | MedoidEstimator = "k-medoids",
    seed: int | np.random.Generator = 0,
    exact_points: int = EXACT_POINTS,
) -> NDArray[np.int64]:
    """Choose ``k`` of the ``n`` means.

    Parameters
    ----------
    means : array_like
        ``(n, D)``: the posterior means of the training images, finite.
    k : int
        How many, at least 1; ``k >= n`` takes them all.
    method : str or estimator
        ``"k-medoids"``
            Least total Euclidean distance from each mean to its nearest centroid: FasterPAM (Schubert & Rousseeuw 2021), the best of
            five starts; of 100 centroids and more, one start. Above ``exact_points`` means, five starts see a random subsample each
            (``exact_points`` of them, or ``2 k`` where that is more), and the medoids with the least total distance over *all* means
            are kept (CLARA, Kaufman & Rousseeuw 1990). Memory is that of the subsample's distance matrix, time is linear in n.
        ``"random"``
            Uniformly, without replacement.
        ``"first"``
            The first ``k``.
        an object with ``fit`` that sets ``medoid_indices_``
            A copy is fitted, with its own number of clusters and its own seed; it must find ``k`` distinct medoids. If its ``metric``
            is ``"precomputed"`` it gets the distances, else the means.
    seed : int or numpy.random.Generator
        Same seed, same centroids, whatever the number of processors. A generator is advanced.
    exact_points : int
        See ``"k-medoids"``.

    Returns
    -------
    numpy.ndarray
        ``(min(k, n),)`` int64: distinct row indices of ``means``, in ascending order.

    Raises
    ------
    UsageError
        For an unknown method, ``k < 1``, means that are not a finite non-empty ``(n, D)`` array, an estimator that does not find ``k``
        distinct medoids, and where a distance matrix of more than 20,000 points would be needed.
    """
    choose = _chooser(method, exact_points)
    points = _checked(means)
    if k < 1:
        raise UsageError(f"The number of centroids must be at least 1, and is {k}; give a larger one.")
    if k >= len(points):
        return np.arange(len(points), dtype=np.int64)
    return np.sort(choose(points, int(k), np.random.default_rng(seed))).astype(np.int64)


def total_distance(points: NDArray[np.float64], medoids: NDArray[np.integer]) -> float:
    """Sum over ``points``, ``(n, D)``, of the Euclidean distance to the nearest of ``points[medoids]``: what k-medoids minimises."""
    rows = max(1, CHUNK_DISTANCES // len(medoids))
    chunks = (points[start : start + rows] for start in range(0, len(points), rows))
    return float(sum(np.sqrt(_squared_distances(chunk, points[medoids]).min(axis=1)).sum() for chunk in chunks))


Chooser = Callable[[NDArray[np.float64], int, np.random.Generator], NDArray[np.integer]]


def _chooser(method: str | MedoidEstimator, exact_points: int) -> Chooser:
    named: dict[str, Chooser] = {
        "k-medoids": lambda points, k, generator: _k_medoids(points, k, generator, exact_points),
        "random": lambda points, k, generator: generator.choice(len(points), size=k, replace=False),
        "first": lambda points, k, generator: np.arange(k),
    }
    if isinstance(method, str) and method in named:
        return named[method]
    if isinstance(method, MedoidEstimator) and not isinstance(method, type):
        return lambda points, k, generator: _from_estimator(method, points, k)
    raise UsageError(
        f"No way of choosing centroids is called {method!r}; give one of {', '.join(named)}, "
        "or an estimator object with fit and medoid_indices_."
    )


def _checked(means: ArrayLike) -> NDArray[np.float64]:
    points = np.asarray(means, dtype=np.float64)
    if points.ndim != 2 or points.size == 0:
        raise UsageError(f"Centroids are chosen among (n, D) means, and these have the shape {points.shape}; give one row per image.")
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(bad):
        raise UsageError(
            f"{len(bad)} of {len(points)} means are not finite (the first is row {bad[0]}); "
            "the model that gave them has diverged: train it again, with a smaller learning rate."
        )
    return points


def _k_medoids(points: NDArray[np.float64], k: int, generator: np.random.Generator, exact_points: int) -> NDArray[np.integer]:
    n = len(points)
    size = n if n <= exact_points else min(n, max(exact_points, 2 * k))
    if size > MATRIX_POINTS:
        raise UsageError(
            f"k-medoids for {k} centroids among {n} means needs the distances between {size} points, and {MATRIX_POINTS} is the limit; "
            "choose fewer centroids, or choose them at random."
        )
    best, least = np.arange(k), np.inf
    distances = _distances(points) if size == n else None
    for _ in range(1 if size == n and k >= MANY else DRAWS):
        subset = np.arange(n) if size == n else generator.choice(n, size=size, replace=False)
        medoids = subset[faster_pam(_distances(points[subset]) if distances is None else distances, k, generator)]
        total = total_distance(points, medoids)
        if total < least:
            best, least = medoids, total
    return best


def _from_estimator(estimator: MedoidEstimator, points: NDArray[np.float64], k: int) -> NDArray[np.integer]:
    name = type(estimator).__name__
    precomputed = getattr(estimator, "metric", None) == "precomputed"
    if precomputed and len(points) > MATRIX_POINTS:
        raise UsageError(
            f"{name} asks for the distances between all {len(points)} means, and {MATRIX_POINTS} is the limit; "
            "give it another metric, or use the method k-medoids, which subsamples."
        )
    # A copy, so that the caller's object, and a random state that it may hold, stay as they were: same call, same centroids.
    fitted = copy.deepcopy(estimator)
    fitted.fit(_distances(points) if precomputed else points)
    medoids = np.asarray(getattr(fitted, "medoid_indices_", ()))
    if medoids.ndim != 1 or not np.issubdtype(medoids.dtype, np.integer) or len(medoids) != k or len(np.unique(medoids)) != k:
        found = len(np.unique(medoids))
        raise UsageError(
            f"{name} left {found} distinct medoid_indices_ where {k} centroids were asked for; "
            "set its number of clusters to that, or use the method k-medoids."
        )
    if medoids.min() < 0 or medoids.max() >= len(points):
        raise UsageError(f"{name} left medoid_indices_ outside the {len(points)} means; use the method k-medoids.")
    return medoids


def _distances(points: NDArray[np.float64]) -> NDArray[np.float32]:
    """``(n, n)`` Euclidean distances, exactly 0 on the diagonal; rounded to float32, which halves what k-medoids holds."""
    n = len(points)
    distances = np.empty((n, n), dtype=np.float32)
    rows = max(1, CHUNK_DISTANCES // n)
    for start in range(0, n, rows):
        distances[start : start + rows] = np.sqrt(_squared_distances(points[start : start + rows], points))
    np.fill_diagonal(distances, 0)
    return distances


def _squared_distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(n, m)`` from ``(n, D)`` and ``(m, D)``."""
    # |a - b|^2 = |a|^2 + |b|^2 - 2 a.b loses what the norms dwarf, so both are first moved to where they lie.
    origin = b.mean(axis=0)
    a, b = a - origin, b - origin
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * (a @ b.T)
    return np.maximum(squared, 0, out=squared)
