"""Measures by nearest neighbours: improved precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

Each image of a sample has a ball that reaches to its k-th nearest neighbour in that sample; distances are Euclidean, balls closed.
"""

from collections.abc import Iterator

import numpy as np

CHUNK = 1024  # rows of a distance matrix held at a time


def precision_recall(real: np.ndarray, synthetic: np.ndarray, k: int = 3) -> tuple[float, float]:
    """The share of synthetic images in some real image's ball, and of real images in some synthetic image's ball.

    Parameters
    ----------
    real, synthetic : array (n, d) and (m, d)
        Features, more than ``k`` of each.
    k : int
        3 in the paper.
    """
    real, synthetic = _centred(real, synthetic)
    return _share_inside(synthetic, real, k), _share_inside(real, synthetic, k)


def density_coverage(real: np.ndarray, synthetic: np.ndarray, k: int = 5) -> tuple[float, float]:
    """How many real balls a synthetic image lies in, over ``k``; and the share of real balls that hold a synthetic image.

    Parameters
    ----------
    real, synthetic : array (n, d) and (m, d)
        Features, more than ``k`` real ones.
    k : int
        5 in the paper.

    Returns
    -------
    tuple of float
        For equal laws density is 1 on average, and may exceed it.
    """
    real, synthetic = _centred(real, synthetic)
    radii = _radii(real, k)
    inside, covered = 0, 0
    for rows, squares in _squared_distances(real, synthetic):
        held = squares <= radii[rows, None]
        inside += int(held.sum())
        covered += int(held.any(axis=1).sum())
    return inside / (k * len(synthetic)), covered / len(real)


def _share_inside(some: np.ndarray, references: np.ndarray, k: int) -> float:
    radii = _radii(references, k)
    return sum(int((squares <= radii).any(axis=1).sum()) for _, squares in _squared_distances(some, references)) / len(some)


def _radii(points: np.ndarray, k: int) -> np.ndarray:
    """Squared, ``(n,)``."""
    if len(points) <= k:
        raise ValueError(f"a {k}-th nearest neighbour needs more than {len(points)} images")
    radii = np.empty(len(points))
    for rows, squares in _squared_distances(points, points):
        squares[np.arange(len(squares)), rows] = np.inf
        radii[rows] = np.partition(squares, k - 1, axis=1)[:, k - 1]
    return radii


def _squared_distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of ``x``, and their squared distances to all of ``y``, chunk by chunk."""
    norms = np.square(y).sum(axis=1)
    for start in range(0, len(x), CHUNK):
        part = x[start : start + CHUNK]
        squares = np.square(part).sum(axis=1)[:, None] - 2 * part @ y.T + norms
        yield np.arange(start, start + len(part)), squares.clip(min=0)


def _centred(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """In float64 and about their common mean, where the expanded square loses fewest digits."""
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    middle = (x.sum(axis=0) + y.sum(axis=0)) / (len(x) + len(y))
    return x - middle, y - middle
