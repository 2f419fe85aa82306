"""Can somebody who holds the synthetic images, or the model, tell who was trained on? Attacks, and how well they do.

The attacker has a person's image and the synthetic ones; only for the attacks by loss and by reconstruction also the model. A score says
how strongly these point to the person; the area under its curve, from those trained on against those who were not, is the probability that
it ranks a random pair rightly: 1/2 for a guess.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize, stats
from torch import Tensor

from ...augment.autoencoders import Autoencoder
from ...augment.fitting.model import decode, encode, place_of
from ...datasets.common.seeds import seeded_generator

DEALS = 499  # of those trained on into two halves
DRAWS = 8  # of a model's noise, over which the loss of an image is averaged
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
        Probability of so large an area where the attack can tell nothing (Mann and Whitney), one-sided.
    control : float
        The area that 95 % of deals of those trained on into two halves stay below, of whom there is nothing to tell: how far chance goes
        among so many. NaN of fewer than 4.
    """

    auc: float
    low: float
    high: float
    p: float
    control: float


def distance_scores(to_people: NDArray[np.floating], among: NDArray[np.floating]) -> NDArray[np.floating]:
    """How much nearer the closest synthetic image is to each person ``(people,)`` than the closest other person, as a log of their ratio.

    The black-box attack of Chen et al. 2020 ("GAN-Leaks") with its calibration, for which other people stand in place of images of another
    generator: somebody who looks like many is near to synthetic images too, and was not trained on for that.
    """
    return _log(among.min(axis=0)) - _log(to_people.min(axis=0))


def density_scores(to_people: NDArray[np.floating], among: NDArray[np.floating]) -> NDArray[np.floating]:
    """How much denser the synthetic images lie around each person ``(people,)`` than other people, as a log of their ratio.

    This is DOMIAS (van Breugel et al. 2023, "Membership inference attacks against synthetic data through overfitting detection") with
    densities by Monte Carlo: the share of images in a ball, whose radius is the median over people of the distance to their closest
    image (Hilprecht et al. 2019, "Monte Carlo and reconstruction membership inference attacks against generative models").
    """
    radius = np.median(to_people.min(axis=0))
    # Half an image more keeps the logarithm of an empty ball finite.
    synthetic, real = ((np.sum(distances <= radius, axis=0) + 0.5) / (len(distances) + 0.5) for distances in (to_people, among))
    # Equal ratios of other counts differ in their last digits, which would break ties.
    return np.round(np.log(synthetic) - np.log(real), 9)


@torch.no_grad()
def reconstruction_scores(model: Autoencoder, images: Tensor) -> NDArray[np.floating]:
    """How well a model rebuilds each image ``(n,)``: minus the mean squared error (Hilprecht et al. 2019, their attack by reconstruction,
    at the posterior's mean)."""
    return -(decode(model, encode(model, images)) - images).square().flatten(1).mean(1).double().numpy()


@torch.no_grad()
def loss_scores(model: Autoencoder, images: Tensor, seed: int) -> NDArray[np.floating]:
    """Minus what each image ``(n,)`` costs the model, averaged over some draws of its noise: the attack by loss (Yeom et al. 2018,
    "Privacy risk in machine learning: analyzing the connection to overfitting").

    Of a game of two players it is what validation chooses the epoch by.
    """
    losses, place = [], place_of(model)
    for image in images:
        # The same noise for everybody: nobody is told by their luck.
        found = model.loss(image.to(place).expand(DRAWS, *image.shape), seeded_generator(seed, "membership by loss"))
        losses.append(float(found[model.selected_by]))
    return -np.array(losses)


def attack(scores: NDArray[np.floating], training: NDArray[np.bool_], rng: np.random.Generator) -> Attack:
    """The attack by ``scores`` ``(people,)`` on who was trained on ``(people,)``: one or more people of each kind."""
    found = stats.mannwhitneyu(scores[training], scores[~training], alternative="greater")
    members, others = int(training.sum()), int((~training).sum())
    auc = float(found.statistic) / (members * others)
    return Attack(auc, *auc_interval(auc, members, others), float(found.pvalue), control_area(scores[training], rng))


def control_area(scores: NDArray[np.floating], rng: np.random.Generator) -> float:
    """The area that 95 % of deals of ``scores`` ``(people,)`` into halves stay below; NaN of fewer than 4."""
    if len(scores) < 4:
        return math.nan
    half = len(scores) // 2
    dealt = rng.permuted(np.tile(stats.rankdata(scores), (DEALS, 1)), axis=1)[:, :half]
    areas = (dealt.sum(axis=1) - half * (half + 1) / 2) / (half * (len(scores) - half))
    return float(np.quantile(areas, 1 - LEVEL))


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


def _log(distances: NDArray[np.floating]) -> NDArray[np.floating]:
    """Logarithm of distances, finite at the distance 0 of an exact copy."""
    return np.log(np.maximum(distances, np.finfo(np.float32).tiny))
