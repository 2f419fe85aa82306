"""Grids over the plane and over space, and draws against a density on them."""

from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import chi2
from torch import Tensor


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numpy_state() -> str:
    """Of NumPy's global generator, which nothing here may touch."""
    return str(np.random.get_state())  # noqa: NPY002


def grid(centre: Tensor, half: Tensor, side: int) -> tuple[Tensor, float]:
    """Midpoints ``(side ** D, D)`` of the cells of a box, in float64, and the volume of a cell."""
    steps = (2 * torch.arange(side, dtype=torch.float64) + 1) / side - 1
    points = torch.cartesian_prod(*[steps] * len(centre)).reshape(-1, len(centre))
    return centre + points * half, float((2 * half / side).prod())


def chi_squared(z: Tensor, log_density: Callable[[Tensor], Tensor], centre: Tensor, half: Tensor, *, bins: int, finer: int) -> float:
    """p-value of draws ``(n, D)`` under a density: counts in ``bins ** D`` cells of a box, each integrated over ``finer ** D`` points.

    What is expected fewer than 5 times, and what lies outside of the box, counts together; a density that is not normalised is.
    """
    dim = len(centre)
    points, volume = grid(centre, half, bins * finer)
    masses = log_density(points).double().exp().numpy() * volume
    masses = masses.reshape([bins, finer] * dim).sum(axis=tuple(range(1, 2 * dim, 2))).ravel()
    place = ((z.double() - centre) / half * 0.5 + 0.5).mul(bins).floor().long().numpy()
    inside = ((place >= 0) & (place < bins)).all(axis=1)
    counts = np.bincount(np.ravel_multi_index(place[inside].T, [bins] * dim), minlength=bins**dim)
    expected = masses / masses.sum() * len(z)
    often = expected >= 5
    observed = np.append(counts[often], len(z) - counts[often].sum())
    expected = np.append(expected[often], len(z) - expected[often].sum())
    observed, expected = (values if expected[-1] >= 5 else values[:-1] for values in (observed, expected))
    return float(chi2.sf(np.sum((observed - expected) ** 2 / expected), len(expected) - 1))
