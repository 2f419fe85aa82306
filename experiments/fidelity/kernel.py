"""KID: the squared maximum mean discrepancy with a cubic kernel (Bińkowski et al. 2018), which small samples do not bias, unlike FID."""

import numpy as np

CHUNK = 2048  # rows of a kernel matrix held at a time


def kernel_distance(first: np.ndarray, second: np.ndarray) -> float:
    """The unbiased estimate of MMD^2 with ``k(x, y) = (x.y / d + 1)^3``.

    Parameters
    ----------
    first, second : array (n, d) and (m, d)
        Features of at least two images each.

    Returns
    -------
    float
        0 on average where the laws are the same, so it may be negative. Its standard error is had from disjoint subsets
        (``scores.score``).
    """
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    n, m = len(x), len(y)
    within = sum((_sum(z, z) - float(_kernel(np.square(z).sum(axis=1), z.shape[1]).sum())) / (len(z) * (len(z) - 1)) for z in (x, y))
    return within - 2 * _sum(x, y) / (n * m)


def _kernel(products: np.ndarray, dimension: int) -> np.ndarray:
    return (products / dimension + 1) ** 3


def _sum(x: np.ndarray, y: np.ndarray) -> float:
    """Sum of the kernel over all pairs."""
    return sum(float(_kernel(x[start : start + CHUNK] @ y.T, x.shape[1]).sum()) for start in range(0, len(x), CHUNK))
