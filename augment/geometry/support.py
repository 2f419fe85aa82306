"""The support A of a metric: where the nearest centroid is near enough, a set of finite volume (Sec. 4.5); and what lies near to what."""

import torch
from scipy.stats import chi2
from torch import Tensor

from .metric import RiemannianMetric

CHUNK_MATRICES = 2**22  # entries of n x D x D or n x k x D matrices held at once: 16 MiB in float32


def default_log_threshold(dim: int, kept: float = 0.99) -> float:
    """Log of the default threshold of the support A in ``dim`` dimensions.

    Near an isolated centroid, lambda being negligible, p is N(c, rho^2 / D Sigma), so -D log omega follows a chi-squared law with D
    degrees of freedom: A keeps the share ``kept`` of it. exp of this is 0.135 at D = 16 and 0.010 at D = 2.
    """
    return -float(chi2.ppf(kept, dim)) / dim


def off_manifold(metric: RiemannianMetric, z: Tensor, log_threshold: float | None = None) -> float:
    """Share of the latents ``(n, D)`` outside the support A (by default that of ``default_log_threshold``)."""
    limit = default_log_threshold(metric.dim) if log_threshold is None else log_threshold
    return float((metric.log_proximity(z) < limit).double().mean())


def nearest_centroids(metric: RiemannianMetric, z: Tensor) -> Tensor:
    return torch.cat([torch.cdist(rows, metric.centroids).argmin(dim=1) for rows in z.split(4096)])


def effective_centroids(metric: RiemannianMetric, z: Tensor) -> float:
    """exp of the entropy of the weights omega at latents ``(n, D)``, on average: about how many centroids each is near to."""
    total = 0.0
    for rows in z.split(max(1, CHUNK_MATRICES // len(metric.centroids))):
        log_p = metric.log_omega(rows).log_softmax(dim=1)
        total += float((-(log_p.exp() * log_p).sum(dim=1)).exp().sum())
    return total / len(z)
