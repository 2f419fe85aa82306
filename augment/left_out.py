"""Latent laws on codes that are left out: how probable each is under a law fitted on the rest, and the settings that are best for them.

No code takes part in the choice that it is scored by: with each, those settings are taken that are best on all others.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .crowds import Crowd, log_constants
from .laws import Kernels, Mixture, Whitening, log_sums_of_kernels
from .manifold import HOLDS

FEWEST = 4  # codes of which some can be left out
ONE_BY_ONE = 200  # codes; of more, folds
FOLDS, FEW_FOLDS = 20, 5  # the few of laws that are fitted by EM
MOST_SCORED = 2000  # codes are left out, of however many
MOST_FITTED = 4000  # codes that EM sees while settings are chosen
SELECTION_PROPOSALS = 1000  # a fold
WIDTHS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
COMPONENTS = (1, 2, 3, 5, 10, 20)
FEWEST_OF_A_COMPONENT = 12  # codes

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
Settings = dict[str, Any]
# From rows that are kept and rows that are left out, log densities (candidates, out) of these under laws fitted on those.
Score = Callable[[Rows, Rows], Array]


@dataclass(frozen=True, eq=False)
class Choice:
    """Settings of a law, and how it does.

    Parameters
    ----------
    settings : dict
        Best on the codes left out.
    scores : array (s,)
        Log density of each code of ``scored_rows``, under the law with the settings that the others choose, fitted without it.
    """

    settings: Settings
    scores: Array


def scored_rows(n: int) -> Rows:
    """Which of ``n`` codes are left out: all, or of many a sample that is the same for every law."""
    return np.random.default_rng(0).permutation(n)[:MOST_SCORED]


def left_out(n: int, score: Score, *, n_folds: int | None = None, most: int | None = None) -> Array:
    """Log densities ``(candidates, s)`` of the ``scored_rows``, each under laws fitted without it, or without its fold.

    Parameters
    ----------
    n : int
        Number of codes.
    score : callable
        From the rows that are kept, at most ``most`` of them, and those that are left out.
    n_folds : int, optional
        At most so many fits; by default one for each code, and ``FOLDS`` where there are more than ``ONE_BY_ONE``.
    """
    rows = scored_rows(n)
    n_folds = n_folds or (n if n <= ONE_BY_ONE else FOLDS)
    scores: list[Array] = []
    for part in np.array_split(rows, min(n_folds, len(rows))):
        kept = np.delete(np.arange(n), part)
        if most is not None and len(kept) > most:
            kept = kept[:: math.ceil(len(kept) / most)]
        scores.append(score(kept, part))
    return np.concatenate(scores, axis=1)


def chosen_by_others(scores: Array) -> tuple[int, Array]:
    """The best of the candidates ``(c, s)`` on average, and for each code the score of the one that is best on all others ``(s,)``."""
    others = scores.sum(axis=1, keepdims=True) - scores
    return int(scores.mean(axis=1).argmax()), np.take_along_axis(scores, others.argmax(axis=0)[None], axis=0)[0]


def choose_kernels(codes: Tensor) -> Choice:
    """The width of kernels around codes ``(n, D)``."""
    if len(codes) < FEWEST:
        return Choice({"width": WIDTHS[-1]}, np.empty(0))

    def score(kept: Rows, out: Rows) -> Array:
        return _numpy(Kernels.fit(codes[kept], width=1.0).log_densities(codes[out], WIDTHS))

    best, scores = chosen_by_others(left_out(len(codes), score))
    return Choice({"width": WIDTHS[best]}, scores)


def choose_mixture(codes: Tensor, *, seed: int = 0) -> Choice:
    """Number of components of a mixture fitted on codes ``(n, D)``, and kind of their covariances."""
    candidates: list[Settings] = []
    scores: list[Array] = []
    for covariance in ("full", "diag"):
        best = -math.inf
        for n_components in COMPONENTS:
            settings = {"n_components": n_components, "covariance": covariance}
            if n_components > 1 and n_components > (len(codes) - 1) // FEWEST_OF_A_COMPONENT:
                break
            candidates.append(settings)
            if len(codes) < FEWEST:
                return Choice(settings, np.empty(0))

            def score(kept: Rows, out: Rows, settings: Settings = settings) -> Array:
                return _numpy(Mixture.fit(codes[kept], **settings, seed=seed).log_density(codes[out]))[None]

            scores.append(left_out(len(codes), score, n_folds=FEW_FOLDS, most=MOST_FITTED)[0])
            # Once more components are worse, still more are worse still.
            if scores[-1].mean() < best:
                break
            best = scores[-1].mean()
    chosen, of_others = chosen_by_others(np.stack(scores))
    return Choice(candidates[chosen], of_others)


def choose_manifold(codes: Tensor, centroids: Tensor, *, holds: float = HOLDS) -> Choice:
    """Crowding, width and threshold of the manifold of codes ``(n, D)`` with some or all of them as ``centroids`` ``(k, D)``.

    The scores are of the law before it is cut: people beside the manifold have the density that its volume would go on with.
    """
    n, dim = codes.shape
    if n < FEWEST:
        return Choice({"crowding": 2, "width": 1.0, "log_threshold": None, "holds": 1.0}, np.empty(0))
    # Which code each centroid is: it is left out with it.
    owner = np.concatenate([torch.cdist(rows, codes).argmin(dim=1).cpu().numpy() for rows in centroids.split(64)])
    # At a square of 1 the law of Gaussian codes has their own variance; the least are for modes that lie far apart, in few dimensions.
    squares = {2: (0.1, 0.25, 0.6, 0.8, 1.0, 1.3), 4: (0.85, 1.0), max(5, round(dim / 2)): (1.0, 1.15)}
    candidates: list[Settings] = [{"crowding": m, "width": math.sqrt(s * (m - 1))} for m, shares in squares.items() for s in shares]

    def score(kept: Rows, out: Rows) -> Array:
        whitening = Whitening.of(codes[kept])
        own = whitening.to(centroids[torch.as_tensor(np.isin(owner, kept))])
        crowds = [Crowd(own, **settings) for settings in candidates]
        # Of each fold its own, and of all candidates the same: errors of the constants average out over folds, and between candidates.
        generator = torch.Generator(codes.device).manual_seed(int(out[0]))
        constants = [log_constant for log_constant, _ in log_constants(crowds, SELECTION_PROPOSALS, generator)]
        sums = log_sums_of_kernels(whitening.to(codes[out]), own, [crowd.width for crowd in crowds])
        powers = torch.tensor([[crowd.crowding] for crowd in crowds], device=sums.device)
        return _numpy(powers * sums - torch.tensor(constants, dtype=sums.dtype, device=sums.device)[:, None] - whitening.log_det)

    matrix = left_out(n, score, n_folds=n if n <= ONE_BY_ONE / 4 else FOLDS)
    best, scores = chosen_by_others(matrix)
    threshold = conformal_threshold(matrix[best], holds)
    return Choice({**candidates[best], "log_threshold": threshold, "holds": holds if threshold is not None else 1.0}, scores)


def conformal_threshold(scores: Array, holds: float) -> float | None:
    """What a new person's score reaches with probability ``holds``, as those left out ``(s,)`` tell; ``None`` if they are too few."""
    # Of n + 1 exchangeable scores the last is among the k lowest with probability k / (n + 1). 1 - 0.9 is a little below a tenth.
    below = math.floor((1 - holds) * (len(scores) + 1) + 1e-9)
    return float(np.sort(scores)[below - 1]) if below else None


def _numpy(densities: Tensor) -> Array:
    return densities.double().cpu().numpy()
