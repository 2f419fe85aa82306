"""The Fréchet distance between Gaussians of the same moments as two samples of features (Heusel et al. 2017; Dowson and Landau 1982).

    d^2 = |mu_1 - mu_2|^2 + tr S_1 + tr S_2 - 2 tr (S_1^(1/2) S_2 S_1^(1/2))^(1/2)

The matrix below the outer root is symmetric and positive semi-definite even where the covariances do not commute or lack rank, so symmetric
eigendecompositions do, in float64; a root of the product S_1 S_2 itself turns complex there.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance of features.

    Parameters
    ----------
    n : int
        Number of images.
    mean : array (d,)
        float64.
    covariance : array (d, d)
        float64, with n - 1 degrees of freedom.
    """

    n: int
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @classmethod
    def of(cls, features: np.ndarray) -> "Moments":
        """The moments of features ``(n, d)``, of two images or more."""
        rows = np.asarray(features, dtype=np.float64)
        mean = rows.mean(axis=0)
        return cls(len(rows), mean, (rows - mean).T @ (rows - mean) / (len(rows) - 1))


def frechet_distance(first: Moments, second: Moments) -> float:
    """The squared Fréchet distance between Gaussians of these moments: what FID is of InceptionV3's features.

    Parameters
    ----------
    first, second : Moments
        Moments of at least two images each, with features of one dimension; the order makes no difference.

    Returns
    -------
    float
        0 or more.
    """
    # Eigenvalues that are 0 come out at rounding's size, and their roots at the root of it: the root is of the lesser rank, in its range.
    lesser, greater = sorted((first, second), key=lambda moments: moments.n)
    values, vectors = np.linalg.eigh(lesser.covariance)
    rank = values > max(values[-1], 0) * len(values) * np.finfo(np.float64).eps
    root = vectors[:, rank] * np.sqrt(values[rank])
    overlap = np.sqrt(np.linalg.eigvalsh(root.T @ greater.covariance @ root).clip(min=0)).sum()
    return _distance(first.mean, second.mean, float(np.trace(first.covariance)), float(np.trace(second.covariance)), float(overlap))


def frechet_distance_of_features(first: np.ndarray, second: np.ndarray) -> float:
    """``frechet_distance`` of features ``(n, d)`` and ``(m, d)``, by whichever way is cheaper.

    With the centred features X and Y the trace of the root is the nuclear norm of ``X Y^T``, over the root of the degrees of freedom: of
    fewer images than dimensions that is a smaller matrix than a covariance, and its null space is not rounded.
    """
    if min(len(first), len(second)) >= first.shape[1]:
        return frechet_distance(Moments.of(first), Moments.of(second))
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    x, y = (x - mean_x) / np.sqrt(len(x) - 1), (y - mean_y) / np.sqrt(len(y) - 1)
    overlap = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return _distance(mean_x, mean_y, float(np.square(x).sum()), float(np.square(y).sum()), float(overlap))


def _distance(mean_x: np.ndarray, mean_y: np.ndarray, trace_x: float, trace_y: float, overlap: float) -> float:
    return max(float(np.square(mean_x - mean_y).sum()) + trace_x + trace_y - 2 * overlap, 0.0)
