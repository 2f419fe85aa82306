"""Precision and recall of distributions (PRD; Sajjadi et al. 2018).

With P the real and Q the synthetic law over the same clusters, the curve has a point for each slope lambda (Eq. 7):

    precision alpha(lambda) = sum min(lambda P, Q),    recall beta(lambda) = sum min(P, Q / lambda)

A generator that misses modes loses recall, one that adds junk loses precision. F_8 weighs recall eight times as much, F_1/8 precision; the
order in which the reference implementation's notes name the two is easily read the wrong way round.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from ...datasets.common.seeds import derived_seed

N_CLUSTERS = 20
N_ANGLES = 1001
N_RUNS = 10


@dataclass(frozen=True, eq=False)
class PrdCurve:
    """Precision and recall over the angles, each ``(n_angles,)`` in [0, 1]: from most recall to most precision."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]

    def best_f(self, beta: float) -> float:
        """The largest F_beta on the curve; ``beta`` above 1 weighs recall more, below 1 precision."""
        weight = beta**2
        above, below = (1 + weight) * self.precision * self.recall, weight * self.precision + self.recall
        return float(np.divide(above, below, out=np.zeros_like(above), where=below > 0).max())


def prd_of_histograms(real: np.ndarray, synthetic: np.ndarray, n_angles: int = N_ANGLES) -> PrdCurve:
    """The curve of two laws over the same clusters, each ``(k,)`` and adding up to 1."""
    # Just inside the quadrant: slopes of 0 and infinity have no ratio.
    slopes = np.tan(np.linspace(1e-10, np.pi / 2 - 1e-10, n_angles))
    precision = np.minimum(slopes[:, None] * real, synthetic).sum(axis=1)
    # Sums of shares may come out a rounding above 1.
    return PrdCurve(precision.clip(0, 1), (precision / slopes).clip(0, 1))


def prd_curve(
    real: np.ndarray,
    synthetic: np.ndarray,
    *,
    seed: int,
    n_clusters: int = N_CLUSTERS,
    n_angles: int = N_ANGLES,
    n_runs: int = N_RUNS,
) -> PrdCurve:
    """The curve of two samples of features, averaged over runs of k-means on their union.

    Parameters
    ----------
    real, synthetic : array (n, d)
        As many of each: the clusters would else be those of the larger sample.
    seed : int
        Seed of the clusters.
    n_clusters, n_angles, n_runs : int
        The paper's, by default.
    """
    if len(real) != len(synthetic):
        raise ValueError(f"PRD compares as many images of each, not {len(real)} and {len(synthetic)}")
    union, n = np.concatenate([real, synthetic]), len(real)
    curves = []
    for run in range(n_runs):
        clusters = KMeans(n_clusters, random_state=derived_seed(seed, "prd", run) % 2**32).fit_predict(union)
        shares = [np.bincount(part, minlength=n_clusters) / n for part in (clusters[:n], clusters[n:])]
        curves.append(prd_of_histograms(*shares, n_angles=n_angles))
    return PrdCurve(np.mean([curve.precision for curve in curves], axis=0), np.mean([curve.recall for curve in curves], axis=0))
