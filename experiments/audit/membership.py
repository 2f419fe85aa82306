"""Can somebody who holds the synthetic images tell who was trained on? Attacks, and how well they do.

The attacker has a person's image and the synthetic ones, no model. A score says how strongly they point to the person; the area under its
curve, from those trained on against those who were not, is the probability that it ranks a random pair rightly: 1/2 for a guess.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

LEVEL = 0.05
ROUNDING = 1e-9


@dataclass(frozen=True)
class Attack:
    """How well an attack tells people apart.

    Parameters
    ----------
    auc : float
        Area under the curve.
    low, high : float
        95 % interval.
    p : float
        Of so large an area where it can tell nothing (Mann and Whitney), one-sided.
    """

    auc: float
    low: float
    high: float
    p: float


def distance_scores(to_people: NDArray[np.floating]) -> NDArray[np.floating]:
    """How near the closest synthetic image is to each person ``(people,)``, negated (Chen et al. 2020, "GAN-Leaks", full black box)."""
    return -to_people.min(axis=0)


def density_scores(to_people: NDArray[np.floating]) -> NDArray[np.floating]:
    """The share of the synthetic images in a ball around each person ``(people,)``: a Monte Carlo estimate of the generator's density.

    The radius is the median over people of the distance to their closest image (Hilprecht et al. 2019, "Monte Carlo and reconstruction
    membership inference attacks against generative models", their median heuristic).
    """
    radius = np.median(to_people.min(axis=0))
    return np.mean(to_people <= radius, axis=0)


def attack(scores: NDArray[np.floating], training: NDArray[np.bool_]) -> Attack:
    """The attack by ``scores`` ``(people,)`` on who was trained on ``(people,)``: one or more people of each kind."""
    found = stats.mannwhitneyu(scores[training], scores[~training], alternative="greater")
    members, others = int(training.sum()), int((~training).sum())
    auc = float(found.statistic) / (members * others)
    return Attack(auc, *auc_interval(auc, members, others), float(found.pvalue))


def auc_interval(auc: float, members: int, others: int, level: float = LEVEL) -> tuple[float, float]:
    """Interval of confidence of an area under the curve: the areas whose own standard error reaches the one that was found.

    Method 5 of Newcombe 2006, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2", with Hanley
    and McNeil's standard error in the form that treats both kinds of people alike. It keeps its level for few people and for areas near 1,
    where the usual interval has no width.
    """
    z = float(stats.norm.isf(level / 2))
    pairs, half = members * others, (members + others) / 2 - 1

    def reach(area: float) -> float:
        return z * math.sqrt(area * (1 - area) * (1 + half * ((1 - area) / (2 - area) + area / (1 + area))) / pairs)

    # At 0 and 1 the standard error is 0, which solves for these too; the other solution is meant.
    low = 0.0 if auc == 0 else optimize.root_scalar(lambda area: auc - area - reach(area), bracket=(0, auc - ROUNDING)).root
    high = 1.0 if auc == 1 else optimize.root_scalar(lambda area: area - auc - reach(area), bracket=(auc + ROUNDING, 1)).root
    return float(low), float(high)
