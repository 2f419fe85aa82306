"""The metric that a decoder pulls back to the latents, J^T J, beside the precision of the posteriors (Sec. 4.4).

For a loss |x - g(z)|^2 / (2 v) + beta KL, a decoder g that is straight across a posterior, and the prior N(0, I), the best diagonal
posterior has (Eq. 11, Kumar and Poole 2020)

    diag Sigma^-1 = 1 + diag(J^T J) / (beta v).

The likelihood ``fixed`` is |x - g(z)|^2, so v = 1/2: 1 + 2 / beta diag(J^T J). That of the paper's last line is without the 2, because
its loss is half a square.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Decode = Callable[[Tensor], Tensor]
FIXED_VARIANCE = 0.5


@dataclass(frozen=True)
class Agreement:
    """How far two positive quantities agree: correlation of logarithms; quantiles 0.05, 0.5 and 0.95 of the first by the second."""

    log_correlation: float
    low: float
    median: float
    high: float


@torch.no_grad()
def pullback(decode: Decode, z: Tensor, *, batch_size: int = 16) -> Tensor:
    """J^T J at ``z`` ``(n, D)``: ``(n, D, D)``, J being the Jacobian of the decoded images' voxels.

    Parameters
    ----------
    decode : callable
        From ``(n, D)`` to ``(n, ...)``, each row by itself: a network in evaluation mode.
    z : torch.Tensor
        Where.
    batch_size : int
        Rows at a time, whose Jacobians are held.
    """
    return torch.cat([_gram(decode, rows) for rows in z.split(batch_size)])


def best_precision(pulled: Tensor, *, beta: float, variance: float = FIXED_VARIANCE) -> Tensor:
    """diag Sigma^-1 of the best posteriors, ``(n, D)``, of J^T J ``(n, D, D)``; ``variance`` is the likelihood's v."""
    return 1 + pulled.diagonal(dim1=1, dim2=2) / (beta * variance)


def agreement(found: Tensor, expected: Tensor) -> Agreement:
    """How far all entries agree of two positive tensors of one shape."""
    a, b = (values.double().flatten().numpy() for values in (found, expected))
    return Agreement(float(np.corrcoef(np.log(a), np.log(b))[0, 1]), *map(float, np.quantile(a / b, (0.05, 0.5, 0.95))))


def _gram(decode: Decode, z: Tensor) -> Tensor:
    # A row's image depends on that row alone: one forward derivative gives a column of every row's Jacobian.
    directions = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    columns = [torch.func.jvp(decode, (z,), (direction.expand_as(z),))[1].flatten(1) for direction in directions]
    jacobian = torch.stack(columns, dim=2)
    return jacobian.mT @ jacobian
