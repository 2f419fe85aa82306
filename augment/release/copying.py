"""Is an image a copy of a training image? The evidence is how much nearer it is to one person than to anybody else.

Let ``ratio`` be an image's distance to the nearest training participant over that to the second nearest (the nearest-neighbour distance
ratio). Of points drawn from one law whose density hardly changes between the two, ratio^d is uniform, d being the dimension of what the
points lie on (Facco et al. 2017, "Estimating the intrinsic dimension of datasets by a minimal neighborhood information"): -log ratio is
exponential with mean 1/d. What real people's ratios are among themselves says how large d is, and the F law how improbable a ratio is
beside theirs, however few they are.

A blurred image is nearer to everybody, which leaves its ratio alone; a distance by itself would call it a copy.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from torch import Tensor

from ..posterior import Posterior
from .gate import Gate

FEWEST_PEOPLE = 3  # with fewer, nobody has two others to compare
# Of the real ratios the smallest tenth is only counted as being small: a pair of twins among the patients would else blunt the test.
CENSORED = 0.1
EXAMPLES = 1000  # people whose ratios among all others tell what is usual; of more, as many spread evenly over them
CANCELLED = 1e-3  # squared distances below it have lost three digits and more
NEAREST = 8  # of these the distances are taken again
CHUNK = 256  # images, or people, that are compared with all others at a time


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


def standardised(images: NDArray[Any]) -> NDArray[np.float32]:
    """Images ``(n, ...)`` as rows ``(n, voxels)`` of mean 0 and norm 1; a constant one as zeros."""
    rows = np.array(images, dtype=np.float32).reshape(len(images), -1)
    rows -= rows.mean(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
    norms = np.sqrt(np.square(rows).sum(axis=1, dtype=np.float64, keepdims=True)).astype(np.float32)
    # The mean of a constant image is rounded, which leaves a pattern where there is none.
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 1e-6 * np.sqrt(rows.shape[1]))


def aligned_distances(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distances ``(n, m)`` between ``standardised`` images, in [0, 2]: 0 for images that differ in brightness and contrast alone.

    It is the Euclidean distance with scale and offset regressed out of both, sqrt(2 (1 - r)) with Pearson's correlation r: symmetric, and
    bound to the triangle inequality, which residuals of a regression of one image on the other are not.
    """
    squares = np.clip(2 - 2 * some @ others.T, 0, 4)
    # The products of float32 leave of a copy's distance what the machine rounds; the differences do not.
    for row in np.flatnonzero((squares < CANCELLED).any(axis=1)):
        # Of many that are nearly the same, as a collapsed model draws them, the nearest few.
        near = np.argpartition(squares[row], min(NEAREST, len(others)) - 1)[:NEAREST]
        near = near[squares[row, near] < CANCELLED]
        squares[row, near] = np.square(others[near] - some[row]).sum(axis=1, dtype=np.float64)
    return np.sqrt(squares)


def per_person(distances: ArrayLike, people: ArrayLike) -> tuple[NDArray[np.floating], list[str]]:
    """Distances ``(n, people)`` to each person's nearest image, and their names, from those ``(n, m)`` to images of ``people`` ``(m,)``."""
    distances, owners = np.asarray(distances), np.asarray(people).astype(str)
    names, starts = np.unique(np.sort(owners), return_index=True)
    return np.minimum.reduceat(distances[:, np.argsort(owners, kind="stable")], starts, axis=1), names.tolist()


def among_people(distances: ArrayLike, people: ArrayLike) -> tuple[NDArray[np.floating], list[str]]:
    """Distances ``(people, people)`` between the nearest images of each two, infinite on the diagonal, from those of images ``(m, m)``."""
    rows, names = per_person(np.asarray(distances).T, people)
    between, _ = per_person(rows.T, people)
    between = between.copy()
    np.fill_diagonal(between, np.inf)
    return between, names


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


def copies(closeness: Closeness, p: ArrayLike, names: Sequence[str], gate: Gate, *, where: str, looks: int) -> dict[int, str]:
    """The images that copy somebody, by row, and why: their ratio is at most the gate's, and too small for a new person's.

    Parameters
    ----------
    closeness : Closeness
    p : array (n,)
        p-values of ``closeness_p``.
    names : sequence of str
        Names of the people.
    gate : Gate
    where : str
        Where the distances were measured, for the reason.
    looks : int
        Number of p-values over which the gate's ``level`` is shared out (Bonferroni): the images, times the spaces in which they are
        looked at.
    """
    found = (np.asarray(p) <= gate.level / looks) & (closeness.ratio <= gate.ratio)
    return {
        int(row): f"a copy of {names[who]} ({where}: {ratio:.2f} times as far from them as from anybody else)"
        for row, who, ratio in zip(np.flatnonzero(found), closeness.person[found], closeness.ratio[found], strict=True)
    }


@dataclass(frozen=True, eq=False)
class Patients:
    """The people trained on, as images are compared with them: ``standardised`` images ``(m, voxels)``, and whose each is ``(m,)``."""

    images: NDArray[np.float32]
    people: NDArray[np.str_]

    @classmethod
    def of(cls, images: Tensor, people: Sequence[str]) -> "Patients":
        """The patients of images ``(m, 1, ...)``, by participant."""
        return cls(standardised(images.numpy()), np.asarray(people).astype(str))

    @cached_property
    def ratios(self) -> NDArray[np.float64]:
        """Their own ratios, among themselves: what is usual."""
        return usual_ratios(self.images, self.people)


def screen_images(images: Tensor, patients: Patients, gate: Gate, *, looks: int) -> dict[int, str]:
    """The images ``(n, 1, ...)`` that copy a patient, by row, and why: in brightness and contrast of their own, but in place.

    Nothing can be told, and nothing is found, if there are fewer than 3 patients. ``looks`` is as for ``copies``.
    """
    names = np.unique(patients.people)
    if len(names) < FEWEST_PEOPLE:
        return {}
    distances = (
        per_person(aligned_distances(standardised(chunk.numpy()), patients.images), patients.people)[0] for chunk in images.split(CHUNK)
    )
    closeness = Closeness.joined([Closeness.of(chunk) for chunk in distances])
    p = closeness_p(closeness.ratio, patients.ratios)
    return copies(closeness, p, names.tolist(), gate, where="image", looks=looks)


def usual_ratios(images: NDArray[np.float32], people: NDArray[np.str_]) -> NDArray[np.float64]:
    """Ratios ``(EXAMPLES,)`` of people among all others, by their ``standardised`` images ``(m, voxels)``; of fewer people, of each."""
    names = np.unique(people)
    chosen = names[:: math.ceil(len(names) / EXAMPLES)]
    ratios = []
    for start in range(0, len(chosen), CHUNK):
        rows = np.isin(people, chosen[start : start + CHUNK])
        to_people, _ = per_person(aligned_distances(images[rows], images), people)
        between, members = per_person(to_people.T, people[rows])
        others = np.where(names == np.array(members)[:, None], np.inf, between.T)
        ratios.append(Closeness.of(others).ratio)
    return np.concatenate(ratios)


def screen_latents(z: Tensor, posterior: Posterior, gate: Gate, *, looks: int) -> dict[int, str]:
    """The latents ``(n, D)`` that decode to the reconstruction of one patient, by row: nearer to a posterior's mean than its draws come.

    The squared distance in standard deviations follows the chi-squared law with D degrees for draws of that posterior, so that of ``looks``
    such draws any is called a reconstruction with probability ``gate.level`` at most: every patient is looked at. Where the latent may as
    well be a draw of another patient's posterior, as all may once the posterior has collapsed, it shows neither.
    """
    if len(posterior) < 2:
        return {}
    chunks = z.split(max(1, CHUNK * EXAMPLES // len(posterior)))
    squares = torch.cat(
        [((rows[:, None] - posterior.mean) / posterior.std).square().sum(-1).topk(2, largest=False).values for rows in chunks]
    )
    nearest, second = squares.T.numpy()
    at_a_mean = nearest <= stats.chi2.ppf(gate.level / (looks * len(posterior)), posterior.dim)
    found = at_a_mean & (second > stats.chi2.isf(gate.level, posterior.dim))
    return {int(row): "the reconstruction of a patient: decoded from where their posterior has its mean" for row in np.flatnonzero(found)}
