"""One person under two names, found by likeness of their images: small versions of all, compared with each other.

Whether a likeness is more than that of two people, the law in ``likeness.py`` says, whatever is usual in the cohort: digits are much alike,
and no two of them more than others are.

Somebody may have three names, or four, whose images are alike one as the other. So it is the steps that are judged: from the nearest
person to the second, from the second to the third, up to ``NAMES``. The k-th power of the k-th ratio has the law of the first, whatever k,
and the step after ``NAMES`` says what is usual: it knows nothing of other names, be half the cohort there twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .likeness import aligned_distances, closeness_p, per_person
from .small_images import SIDE, Small, views_of

NAMES = 3  # other names of one person that are looked for
LEVEL = 0.01  # probability of one pair or more in a cohort of different people
CANDIDATE = 0.1  # distance of small versions below which the images themselves are compared
CHUNK = 256  # images compared with all others at a time
MOST = 10_000  # images: the work grows with their square


@dataclass(frozen=True)
class Likeness:
    """Two images, by row, that may be one person's.

    Parameters
    ----------
    rows : (int, int)
        In order.
    distance : float
        ``aligned_distances`` of their small versions.
    p : float
        How probable two people as alike are in a cohort of different people, for all who were looked at; above ``LEVEL`` it shows nothing.
    """

    rows: tuple[int, int]
    distance: float
    p: float

    @property
    def correlation(self) -> float:
        """Pearson's, of the small versions."""
        return 1 - self.distance**2 / 2


def look_alikes(smalls: Sequence[Small | None], people: Sequence[str], cohorts: Sequence[str] | None = None) -> list[Likeness]:
    """Pairs of images of different people that are too alike for two people, or may be copies of each other.

    Parameters
    ----------
    smalls : sequence of Small
        Small versions; slices are compared with slices, volumes with volumes, and ``None`` with nothing.
    people : sequence of str
        Whose each is.
    cohorts : sequence of str, optional
        Of which each is: those of one cohort are not compared.

    Returns
    -------
    list of Likeness
        By rows. Either ``p`` is at most ``LEVEL``, or ``distance`` at most ``CANDIDATE``.
    """
    found: list[Likeness] = []
    for axes in SIDE:
        rows = [row for row, small in enumerate(smalls) if small is not None and small.pixels.ndim == axes]
        if rows:
            parts = None if cohorts is None else np.array([cohorts[row] for row in rows])
            found += _among([smalls[row] for row in rows], np.array([people[row] for row in rows]), parts, rows)
    return sorted(found, key=lambda one: one.rows)


def _among(
    smalls: Sequence[Small | None], people: NDArray[np.str_], cohorts: NDArray[np.str_] | None, rows: Sequence[int]
) -> list[Likeness]:
    looks = views_of([small for small in smalls if small is not None])
    names, owner = np.unique(people, return_inverse=True)
    if len(names) < 2:
        return []
    if cohorts is None:
        nearest, distances = _neighbours(looks, people, lambda rows: owner[rows, None] != owner)
        return _mutual(nearest, distances, _evidence(distances), owner, rows)
    # What is usual, people say who are compared with their own cohort: of the other there may be few, or all there may be somebody here.
    if len(np.unique(cohorts)) < 2:
        return []
    _, own = _neighbours(looks, people, lambda rows: (cohorts[rows, None] == cohorts) & (owner[rows, None] != owner))
    nearest, distances = _neighbours(looks, people, lambda rows: cohorts[rows, None] != cohorts)
    enough = np.isfinite(own).all(axis=1)
    usual = _steps(own[enough])[:, -1] if own.shape[1] > NAMES + 1 else np.empty(0)
    return _mutual(nearest, distances, _evidence(distances, usual), owner, rows)


def _neighbours(
    looks: Sequence[Tensor], people: NDArray[np.str_], may: Callable[[slice], NDArray[np.bool_]]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The images ``(n, NAMES)`` of the people next to each, and the distances ``(n, NAMES + 2)`` to these people and two more.

    Of fewer people there are fewer; infinite where two images may not be compared, which ``may`` says of some rows and all others.
    """
    owner = np.unique(people, return_inverse=True)[1]  # the column of ``per_person``
    near = min(NAMES + 1, owner.max())
    nearest, distances = [], []
    for start in range(0, len(people), CHUNK):
        chunk = slice(start, start + CHUNK)
        between = np.min([aligned_distances(look[chunk], look).numpy() for look in looks], axis=0)
        between[~may(chunk)] = np.inf
        to_people, _ = per_person(between, people)
        next_to = np.argpartition(to_people, near, axis=1)[:, : near + 1]
        next_to = np.take_along_axis(next_to, np.take_along_axis(to_people, next_to, axis=1).argsort(axis=1), axis=1)
        distances.append(np.take_along_axis(to_people, next_to, axis=1).astype(np.float64))
        nearest.append([np.where(person[:, None] == owner, between, np.inf).argmin(axis=1) for person in next_to.T[:NAMES]])
    return np.concatenate(nearest, axis=1).T, np.concatenate(distances)


def _mutual(
    nearest: NDArray[np.int64], distances: NDArray[np.float64], p: NDArray[np.float64], owner: NDArray[np.int64], rows: Sequence[int]
) -> list[Likeness]:
    """The pairs of images whose people are next to each other, with the lesser evidence of both."""
    places = nearest.shape[1]
    evidence = {(row, owner[image]): p[row, place] for (row, place), image in np.ndenumerate(nearest)}
    near = np.isfinite(distances[:, :places]) & ((p[:, :places] <= LEVEL) | (distances[:, :places] <= CANDIDATE))
    found = {}
    for row, place in np.argwhere(near):
        image = int(nearest[row, place])
        # A nondescript image may have others around it that have nearer ones themselves: it takes both to say so.
        if (image, owner[row]) in evidence:
            both = np.fmax(p[row, place], evidence[image, owner[row]])
            if both <= LEVEL or distances[row, place] <= CANDIDATE:
                pair = (rows[min(row, image)], rows[max(row, image)])
                found[pair] = Likeness(pair, float(distances[row, place]), float(np.fmin(both, 1)))
    return list(found.values())


def _evidence(distances: NDArray[np.float64], usual: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """How probable it is that the person at each place, and all before, are so near in a cohort of different people, for all looks.

    NaN where there are too few people to tell. ``usual`` are ratios of people who are known to be different, by default those of the step
    after the last that is judged.
    """
    p = np.full(distances.shape, np.nan)
    # Of a cohort of few people the distances are fewer, and of two cohorts the images of each have other numbers of people to look at.
    counts = np.isfinite(distances).sum(axis=1)
    for people in np.unique(counts):
        rows, judged = counts == people, min(NAMES, people - (2 if usual is None else 1))
        if judged < 1:
            continue
        ratios = _steps(distances[rows, :people])
        known = ratios[:, judged] if usual is None else usual
        if len(known) == 0:
            continue
        of_step = [closeness_p(column, known) for column in ratios.T[:judged]]
        # What is improbable of the step after several people is so of each of them.
        p[rows, :judged] = np.minimum.accumulate(np.array(of_step)[::-1], axis=0)[::-1].T * (len(p) * judged)
    return p


def _steps(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """The k-th power of the ratio of the k-th distance to the next ``(n, places - 1)``."""
    near, following = distances[:, :-1], distances[:, 1:]
    return np.divide(near, following, out=np.ones_like(near), where=following > 0) ** np.arange(1, near.shape[1] + 1)
