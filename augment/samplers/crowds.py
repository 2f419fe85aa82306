"""The law of places where people crowd: p(y) proportional to (sum_i omega_i(y))^m, its constant and its draws.

In whitened coordinates, omega_i(y) = exp(-|y - c_i|^2 / (2 width^2)). For a whole m the power is a sum over all m-tuples of people, each of
which is a Gaussian around their mean:

    (sum_i omega_i)^m = sum_(i_1 .. i_m) exp(-(sum_j |c_(i_j) - c|^2 + m |y - c|^2) / (2 width^2)),    c the mean of c_(i_1) .. c_(i_m)

so a draw is people who are near to each other, and a variation of their mean. Pairs are drawn directly, and their law has a closed
constant. Of more, importance sampling tells the constant, and Gibbs steps draw: people by how near they are to y, then y around
their mean. They leave the law invariant and need no tuning.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..draws import normal, random_rows, uniform, weighted_rows
from .laws import log_normal, log_sum_of_kernels, log_sums_of_kernels, squared_distances

WIDER = 1.2  # variance of proposals, in the law's own, which it must not fall below anywhere


@dataclass(frozen=True, eq=False)
class Crowd:
    """The law of crowding m.

    Parameters
    ----------
    centroids : torch.Tensor
        ``(k, D)``: whitened.
    crowding : int
        m, 2 or more.
    width : float
        Width of omega.
    """

    centroids: Tensor
    crowding: int
    width: float

    @property
    def direct(self) -> bool:
        """Whether it is drawn directly, and its constant is closed."""
        return self.crowding == 2

    @property
    def spread(self) -> float:
        """Standard deviation of a draw around the mean of its people."""
        return self.width / math.sqrt(self.crowding)

    def log_volume(self, y: Tensor) -> Tensor:
        """m log sum_i omega_i, ``(n,)`` at ``(n, D)``."""
        return self.crowding * log_sum_of_kernels(y, self.centroids, self.width)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` direct draws ``(n, D)`` of pairs."""
        first = weighted_rows(self._log_partners().softmax(dim=0), n, generator)
        mean = self.centroids[first]
        mean = (mean + self._mean_of_near(mean, math.sqrt(2) * self.width, 1, generator)) / 2
        return mean + self.spread * normal(mean.shape, generator, mean)

    def step(self, y: Tensor, generator: torch.Generator) -> Tensor:
        """A Gibbs step of every chain ``(n, D)``."""
        mean = self._mean_of_near(y, self.width, self.crowding, generator)
        return mean + self.spread * normal(y.shape, generator, y)

    def log_constant(self) -> float:
        """log of the integral of (sum omega)^m over all y, of pairs."""
        return float(self._log_partners().logsumexp(dim=0)) + self.centroids.shape[1] * math.log(math.sqrt(2 * math.pi) * self.spread)

    def effective_centroids(self, y: Tensor) -> float:
        """exp of the entropy of omega at ``(n, D)``, on average: about how many people each is a blend of."""
        total = 0.0
        for distances in squared_distances(y, self.centroids):
            log_p = torch.log_softmax(distances * (-0.5 / self.width**2), dim=1)
            total += float((-(log_p.exp() * log_p).sum(dim=1)).exp().sum())
        return total / len(y)

    def _log_partners(self) -> Tensor:
        """log sum_j exp(-|c_i - c_j|^2 / (4 width^2)), ``(k,)``: how often each centroid is the first of a pair."""
        return log_sum_of_kernels(self.centroids, self.centroids, math.sqrt(2) * self.width)

    def _mean_of_near(self, y: Tensor, width: float, n_people: int, generator: torch.Generator) -> Tensor:
        """The mean ``(n, D)`` of people drawn by how near they are to each ``y`` ``(n, D)``."""
        means = []
        for distances in squared_distances(y, self.centroids):
            # By the inverse of the distribution function: torch.multinomial takes up to ten times as long.
            cumulative = ((distances.amin(dim=1, keepdim=True) - distances) * (0.5 / width**2)).exp_().cumsum(dim=1)
            shares = uniform((len(distances), n_people), generator, y)
            index = torch.searchsorted(cumulative, shares * cumulative[:, -1:], right=True)
            means.append(self.centroids[index.clamp_(max=len(self.centroids) - 1)].mean(dim=1))
        return torch.cat(means)


def log_constants(crowds: Sequence[Crowd], n_proposals: int, generator: torch.Generator) -> list[tuple[float, float]]:
    """log of the integral of each (sum omega)^m, and its standard error, of laws with the same centroids: those of many share proposals."""
    found = [(crowd.log_constant() if crowd.direct else math.nan, 0.0) for crowd in crowds]
    many = [number for number, crowd in enumerate(crowds) if not crowd.direct]
    if many:
        y, log_proposal = proposals([crowds[number] for number in many], n_proposals, generator)
        sums = log_sums_of_kernels(y, crowds[0].centroids, [crowds[number].width for number in many])
        for number, log_sum in zip(many, sums, strict=True):
            log_weights = crowds[number].crowding * log_sum - log_proposal
            weights = (log_weights - log_weights.amax()).exp()
            # Each kind of proposal is drawn so many times, not so often on average.
            variance = sum(float(part.var()) * len(part) for part in weights.split(_parts(len(y))))
            error = math.sqrt(variance) / float(weights.sum())
            found[number] = (float(log_weights.amax() + weights.mean().log()), error)
    return found


def proposals(crowds: Sequence[Crowd], n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draws ``(n, D)`` for laws of more than pairs with the same centroids, and their log density ``(n,)``.

    A third each of pairs, which find the crowds; of kernels around people drawn towards the middle, as means of several are; of one
    Gaussian, whose tails are wider than any of the laws'. Where codes are Gaussian and of variance 1, that of a law is (1 + width^2) / m.
    """
    centroids = crowds[0].centroids
    k, dim = centroids.shape
    narrow = min(crowds, key=lambda crowd: crowd.spread)
    m, square = narrow.crowding, narrow.width**2
    pairs = Crowd(centroids, 2, math.sqrt(max(2 * WIDER * (1 + square) / m - 1, 2 * square / m)))
    drawn, kernel = math.sqrt(WIDER / m) * centroids, math.sqrt(WIDER * square / m)
    wide = math.sqrt(WIDER * max(1, *((1 + crowd.width**2) / crowd.crowding for crowd in crowds)))

    n_pairs, n_around, n_wide = _parts(n)
    around = drawn[random_rows(k, n_around, generator, drawn)] + kernel * normal((n_around, dim), generator, drawn)
    y = torch.cat([pairs.draw(n_pairs, generator), around, wide * normal((n_wide, dim), generator, drawn)])
    log_shares = torch.tensor(_parts(n), dtype=y.dtype, device=y.device).log()[:, None] - math.log(n)
    log_parts = [
        pairs.log_volume(y) - pairs.log_constant(),
        log_sum_of_kernels(y, drawn, kernel) - math.log(k) - dim * math.log(math.sqrt(2 * math.pi) * kernel),
        log_normal(y / wide) - dim * math.log(wide),
    ]
    return y, (torch.stack(log_parts) + log_shares).logsumexp(dim=0)


def _parts(n: int) -> list[int]:
    return [n // 3, n // 3, n - 2 * (n // 3)]
