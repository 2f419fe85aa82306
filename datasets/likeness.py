"""How alike two people's images are, and how improbable it is that two people's are so alike.

Let ``ratio`` be an image's distance to the nearest person over that to the second nearest (the nearest-neighbour distance ratio). Of points
drawn from one law whose density hardly changes between the two, ratio^d is uniform, d being the dimension of what the points lie on (Facco
et al. 2017, "Estimating the intrinsic dimension of datasets by a minimal neighborhood information"): -log ratio is exponential with mean
1/d. What real people's ratios are among themselves says how large d is, and the F law how improbable a ratio is beside theirs, however few
they are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from torch import Tensor

# Of the real ratios the smallest tenth is only counted as being small: a pair of twins among the patients would else blunt the test.
CENSORED = 0.1
CANCELLED = 1e-3  # squared distances below it have lost three digits and more
NEAREST = 8  # of these the distances are taken again


@dataclass(frozen=True, eq=False)
class Closeness:
    """How near images are to people.

    Parameters
    ----------
    distance : array (n,)
        Distance to the nearest person.
    ratio : array (n,)
        Ratio of that distance to the one to the second nearest person, in [0, 1]; 0 at distance 0.
    person : array (n,)
        The nearest person: a column of the distances.
    """

    distance: NDArray[np.float64]
    ratio: NDArray[np.float64]
    person: NDArray[np.int64]

    @classmethod
    def of(cls, distances: ArrayLike) -> "Closeness":
        """The closeness by distances ``(n, people)`` to two people or more; infinite where an image must not be compared."""
        distances = np.asarray(distances, dtype=np.float64)
        first, second = np.partition(distances, 1, axis=1)[:, :2].T
        ratio = np.divide(first, second, out=np.zeros_like(first), where=first > 0)
        return cls(first, ratio, distances.argmin(axis=1))

    @classmethod
    def joined(cls, parts: "Sequence[Closeness]") -> "Closeness":
        """The closeness of the images of all parts, which were compared with the same people."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("distance", "ratio", "person")))


def standardised(images: Tensor) -> Tensor:
    """Images ``(n, ...)`` as float32 rows ``(n, voxels)`` of mean 0 and norm 1, where they lie; a constant one as zeros."""
    rows = images.reshape(len(images), -1).float()
    means = rows.mean(dim=1, keepdim=True)
    rows = rows - means
    # By torch's sums, which keep all digits of a volume's millions of voxels; its norms add up one by one, and lose a thousandth.
    norms = rows.square().sum(dim=1, keepdim=True).sqrt()
    # The mean of a constant image is rounded, which leaves a pattern where there is none.
    pattern = 1e-6 * math.sqrt(rows.shape[1]) * means.abs().clamp(min=1)
    return rows.mul_(torch.where(norms > pattern, 1 / norms, 0.0))


def aligned_distances(some: Tensor, others: Tensor) -> Tensor:
    """Distances ``(n, m)`` between ``standardised`` images on one device, in [0, 2]: 0 if brightness and contrast alone tell them apart.

    It is the Euclidean distance with scale and offset regressed out of both, sqrt(2 (1 - r)) with Pearson's correlation r: symmetric, and
    bound to the triangle inequality, which residuals of a regression of one image on the other are not.
    """
    squares = _products(some, others).mul_(-2).add_(2).clamp_(0, 4)
    # The products of float32 leave of a copy's distance what the machine rounds; the differences do not.
    for row in (squares < CANCELLED).any(dim=1).nonzero()[:, 0].tolist():
        # Of many that are nearly the same, as a collapsed model draws them, the nearest few.
        near = squares[row].topk(min(NEAREST, len(others)), largest=False).indices
        near = near[squares[row, near] < CANCELLED]
        squares[row, near] = (others[near] - some[row]).square().sum(dim=1)
    return squares.sqrt_()


def _products(some: Tensor, others: Tensor) -> Tensor:
    """Of every two rows. On a processor NumPy's library is quicker than torch's: on an AMD EPYC by half."""
    if some.device.type == "cpu":
        return torch.from_numpy(some.numpy() @ others.numpy().T)
    return some @ others.T


def per_person(distances: ArrayLike, people: ArrayLike) -> tuple[NDArray[np.floating], list[str]]:
    """Distances ``(n, people)`` to each person's nearest image, and their names, from those ``(n, m)`` to images of ``people`` ``(m,)``."""
    distances, owners = np.asarray(distances), np.asarray(people).astype(str)
    names, starts = np.unique(np.sort(owners), return_index=True)
    return np.minimum.reduceat(distances[:, np.argsort(owners, kind="stable")], starts, axis=1), names.tolist()


def closeness_p(ratio: ArrayLike, real: ArrayLike) -> NDArray[np.float64]:
    """How probable it is that a new person of the same law has so small a ratio: ``(n,)``, uniform if the images are such people.

    Parameters
    ----------
    ratio : array (n,)
        Ratios of the images.
    real : array (m,)
        Ratios of real people, each to the others.

    Notes
    -----
    With the r smallest -log ratios of m real ones, the total time on test sum_i x_i + (m - r) x_r has r times the mean of a Gamma(r) law
    (Epstein and Sobel 1953), so that a new one over their mean follows F(2, 2 r).
    """
    with np.errstate(divide="ignore"):
        new, known = -np.log(np.asarray(ratio, dtype=float)), np.sort(-np.log(np.asarray(real, dtype=float)))
    kept = math.ceil((1 - CENSORED) * len(known))
    mean = np.minimum(known, known[kept - 1]).sum() / kept
    with np.errstate(divide="ignore", invalid="ignore"):
        # Where all real ratios are 1, or some new one 0 among real ones of 0, there is nothing to tell: no evidence.
        return np.nan_to_num(stats.f.sf(new / mean, 2, 2 * kept), nan=1.0)
