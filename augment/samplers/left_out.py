"""Latent laws on people who are left out: how probable their codes are under a law fitted on the rest, and the settings that are best.

A person is left out with all of their codes: beside another scan of the same person any code is probable, under the narrowest laws most.
Nobody takes part in the choice that they are scored by: with each, those settings are taken that are best on all others.
All laws are fitted without the same people: one that had learnt from more would be ahead by that alone. (Of more than ``MOST_FITTED`` codes
EM sees that many.)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .crowds import Crowd, log_constants
from .laws import Kernels, Mixture, Whitening, log_sums_of_kernels
from .manifold import HOLDS

FEWEST = 4  # people of whom some can be left out
FOLDS = 20  # of people; of fewer people, one each
MOST_SCORED = 2000  # codes, of however many; of everybody who is left out as many
MOST_FITTED = 4000  # codes that EM sees while settings are chosen
SELECTION_PROPOSALS = 1000  # a fold
WIDTHS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
COMPONENTS = (1, 2, 3, 5, 10, 20)
FEWEST_OF_A_COMPONENT = 12  # people

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
Settings = dict[str, Any]
# From rows that are kept and rows that are scored, log densities (candidates, scored) of these under laws that are fitted on those.
Score = Callable[[Rows, Rows], Array]


@dataclass(frozen=True, eq=False)
class Choice:
    """Settings of a law, and how it does.

    Parameters
    ----------
    settings : dict
        Best for people left out.
    scores : array (p,)
        Mean log density of the codes of each person, under the law with the settings that the others choose, fitted without them; empty
        where too few could be left out.
    error : float
        Standard error of all scores together, of a law whose constant is estimated.
    """

    settings: Settings
    scores: Array
    error: float = 0.0


@dataclass(frozen=True, eq=False)
class People:
    """Whose the codes are.

    Parameters
    ----------
    of_codes : array (n,)
        The number of each code's person.
    """

    of_codes: Rows

    @classmethod
    def of(cls, codes: Tensor, person: Tensor | None = None) -> "People":
        """Everybody whose codes ``(n, D)`` these are: as ``person`` ``(n,)`` numbers them, or each somebody else's."""
        numbers = np.arange(len(codes)) if person is None else person.cpu().numpy()
        return cls(np.unique(numbers, return_inverse=True)[1])

    def __len__(self) -> int:
        return int(self.of_codes.max(initial=-1)) + 1

    @cached_property
    def left_out(self) -> list[Rows]:
        """All codes of each who is left out: of everybody, or of many people a sample that is the same for every law."""
        order = np.random.default_rng(0).permutation(len(self))[:MOST_SCORED]
        by_person = np.split(np.argsort(self.of_codes, kind="stable"), np.cumsum(np.bincount(self.of_codes))[:-1])
        return [by_person[number] for number in order]

    @cached_property
    def scored(self) -> list[Rows]:
        """Those codes of each who is left out that are scored: all, or of many codes a sample that is the same for every law."""
        if len(self.of_codes) <= MOST_SCORED:
            return self.left_out
        # Fewer of each, and not fewer people: the threshold and the errors are by people.
        generator, most = np.random.default_rng(1), MOST_SCORED // len(self.left_out)
        return [np.sort(generator.permutation(rows)[:most]) for rows in self.left_out]

    @property
    def rows(self) -> Rows:
        """The codes that are scored, person by person."""
        return np.concatenate(self.scored)

    @property
    def first(self) -> Rows:
        """Where in ``rows`` each person begins."""
        return np.cumsum([0, *(len(rows) for rows in self.scored[:-1])])

    def means(self, scores: Array) -> Array:
        """Each person's mean of ``(c, s)``, which are for one of ``rows`` each: ``(c, p)``."""
        return np.add.reduceat(scores, self.first, axis=1) / [len(rows) for rows in self.scored]

    def mean(self, values: Tensor) -> float:
        """Mean over people of each one's mean of ``values`` ``(n,)``, one for each code."""
        rows = torch.as_tensor(self.of_codes)
        sums = torch.zeros(len(self), dtype=torch.float64).index_add_(0, rows, values.double().cpu())
        return float((sums / rows.bincount()).mean())

    def scores(self, score: Score, *, most: int | None = None) -> Array:
        """Log densities ``(candidates, s)`` of ``rows``, each under laws fitted without their person, or without their fold.

        Parameters
        ----------
        score : callable
            From the rows that are kept, at most ``most`` of them, and those that are scored.
        """
        return np.concatenate([score(_thinned(kept, most), out) for kept, out in self.folds], axis=1)

    @cached_property
    def folds(self) -> list[tuple[Rows, Rows]]:
        """Rows that are kept, which are of other people, and rows that are scored, of each fold."""
        parts = np.array_split(np.arange(len(self.left_out)), min(FOLDS, len(self.left_out)))
        everybody = np.arange(len(self.of_codes))
        kept = [np.delete(everybody, np.concatenate([self.left_out[number] for number in part])) for part in parts]
        return [(rows, np.concatenate([self.scored[number] for number in part])) for rows, part in zip(kept, parts, strict=True)]


def chosen_by_others(scores: Array) -> tuple[int, Array]:
    """The best of the candidates ``(c, s)`` on average, and for each code the score of the one that is best on all others ``(s,)``."""
    others = scores.sum(axis=1, keepdims=True) - scores
    return int(scores.mean(axis=1).argmax()), np.take_along_axis(scores, others.argmax(axis=0)[None], axis=0)[0]


def choose_kernels(codes: Tensor, person: Tensor | None = None) -> Choice:
    """The width of kernels around codes ``(n, D)``, of which ``person`` says whose each is (``People.of``)."""
    people = People.of(codes, person)
    if len(people) < FEWEST:
        return Choice({"width": WIDTHS[-1]}, np.empty(0))

    def score(kept: Rows, out: Rows) -> Array:
        return _numpy(Kernels.fit(codes[kept], width=1.0).log_densities(codes[out], WIDTHS))

    best, scores = chosen_by_others(people.means(people.scores(score)))
    return Choice({"width": WIDTHS[best]}, scores)


def choose_mixture(codes: Tensor, person: Tensor | None = None, *, seed: int = 0) -> Choice:
    """Number of components of a mixture fitted on codes ``(n, D)``, and kind of their covariances."""
    people = People.of(codes, person)
    candidates: list[Settings] = []
    scores: list[Array] = []
    for covariance in ("full", "diag"):
        best = -math.inf
        for n_components in COMPONENTS:
            settings = {"n_components": n_components, "covariance": covariance}
            if n_components > 1 and n_components > (len(people) - 1) // FEWEST_OF_A_COMPONENT:
                break
            candidates.append(settings)
            if len(people) < FEWEST:
                return Choice(settings, np.empty(0))

            def score(kept: Rows, out: Rows, settings: Settings = settings) -> Array:
                return _numpy(Mixture.fit(codes[kept], **settings, seed=seed).log_density(codes[out]))[None]

            scores.append(people.means(people.scores(score, most=MOST_FITTED))[0])
            # Once more components are worse, still more are worse still.
            if scores[-1].mean() < best:
                break
            best = scores[-1].mean()
    chosen, of_others = chosen_by_others(np.stack(scores))
    return Choice(candidates[chosen], of_others)


def choose_manifold(codes: Tensor, centroids: Tensor, person: Tensor | None = None, *, holds: float = HOLDS) -> Choice:
    """Crowding, width and threshold of the manifold of codes ``(n, D)`` with some or all of them as ``centroids`` ``(k, D)``.

    The scores are of the law before it is cut: people beside the manifold have the density that its volume would go on with. There are none
    where nobody could be left out without leaving no centroid.
    """
    people, dim = People.of(codes, person), codes.shape[1]
    folds = people.folds if len(people) else []
    owners = rows_of(centroids, codes)
    own = [torch.as_tensor((owners < 0) | np.isin(owners, kept), device=centroids.device) for kept, _ in folds]
    if len(people) < FEWEST or not all(bool(some.any()) for some in own):
        return Choice({"crowding": 2, "width": 1.0, "log_threshold": None, "holds": 1.0}, np.empty(0))
    # At a square of 1 the law of Gaussian codes has their own variance; the least are for modes that lie far apart, in few dimensions.
    squares = {2: (0.1, 0.25, 0.6, 0.8, 1.0, 1.3), 4: (0.85, 1.0), max(5, round(dim / 2)): (1.0, 1.15)}
    candidates: list[Settings] = [{"crowding": m, "width": math.sqrt(s * (m - 1))} for m, shares in squares.items() for s in shares]
    scores: list[Array] = []
    errors: list[Array] = []
    for (kept, out), near in zip(folds, own, strict=True):
        whitening = Whitening.of(codes[kept])
        crowds = [Crowd(whitening.to(centroids[near]), **settings) for settings in candidates]
        # Of each fold its own, and of all candidates the same: errors of the constants average out over folds, and between candidates.
        generator = torch.Generator().manual_seed(int(out[0]))
        constants = np.array(log_constants(crowds, SELECTION_PROPOSALS, generator))
        sums = _numpy(log_sums_of_kernels(whitening.to(codes[out]), crowds[0].centroids, [crowd.width for crowd in crowds]))
        powers = np.array([[crowd.crowding] for crowd in crowds])
        scores.append(powers * sums - constants[:, :1] - float(whitening.log_det))
        errors.append(constants[:, 1] * len(out))
    matrix = np.concatenate(scores, axis=1)
    best, of_others = chosen_by_others(people.means(matrix))
    # Of each person one image, so that they are exchangeable with somebody new, who comes with one.
    threshold = conformal_threshold(matrix[best, people.first], holds)
    error = float(np.sqrt(np.square(np.stack(errors)[:, best]).sum()) / len(people.rows))
    settings = {**candidates[best], "log_threshold": threshold, "holds": holds if threshold is not None else 1.0}
    return Choice(settings, of_others, error)


def rows_of(centroids: Tensor, codes: Tensor) -> Rows:
    """Which code each centroid is ``(k,)``: the same number for number, the first that no other centroid is; -1 where it is none."""
    numbered: dict[bytes, list[int]] = {}
    for row, code in reversed(list(enumerate(codes.cpu().numpy()))):
        numbered.setdefault(code.tobytes(), []).append(row)
    alike = (numbered.get(centroid.tobytes()) for centroid in centroids.to(codes.dtype).cpu().numpy())
    return np.array([rows.pop() if rows else -1 for rows in alike], dtype=np.int64)


def conformal_threshold(scores: Array, holds: float) -> float | None:
    """What a new person's score reaches with probability ``holds``, as those left out ``(s,)`` tell; ``None`` if they are too few."""
    # Of n + 1 exchangeable scores the last is among the k lowest with probability k / (n + 1). 1 - 0.9 is a little below a tenth.
    below = math.floor((1 - holds) * (len(scores) + 1) + 1e-9)
    return float(np.sort(scores)[below - 1]) if below else None


def _thinned(rows: Rows, most: int | None) -> Rows:
    return rows if most is None or len(rows) <= most else rows[:: math.ceil(len(rows) / most)]


def _numpy(densities: Tensor) -> Array:
    return densities.double().cpu().numpy()
