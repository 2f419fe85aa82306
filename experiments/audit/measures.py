"""Measures of memorisation by their published definitions, from distances alone, so that they serve in every space.

``to_people`` ``(n, people)`` are distances of synthetic images to people, ``among`` ``(people, people)`` those of people to each other,
infinite on the diagonal; of somebody with several images the nearest counts (``copying.per_person``).

A generator whose images are smoother than real ones brings them nearer to everybody, patient or not, and most of these measures take
that for memorisation. So each stands beside what held-out people score, and its p-value asks what cannot be blamed on smoothness: whether
the images are closer to those trained on than to as many others. The labels "trained on" and "held out" are dealt anew among all real
people; where the images are independent of who was trained on, every deal is as probable as the true one, and the test is exact.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ...datasets.likeness import Closeness

DEALS = 499
# Two images repeat each other if they are this much as far apart as real people are from their nearest others, in the median.
REPEATED = 0.1

Distances = NDArray[np.floating]


def nearer_share(to_people: Distances, training: NDArray[np.bool_]) -> float:
    """Share of the synthetic images whose closest record is one that was trained on (Platzer and Reutterer 2021, "Holdout-based empirical
    assessment of mixed-type synthetic data").

    They take as many training as held-out records and expect one half of images that copy nobody; here nobody is left out, and the share
    to expect is that of the training people ``(people,)`` among all. Ties count as one half.
    """
    to_training, to_others = to_people[:, training].min(axis=1), to_people[:, ~training].min(axis=1)
    return float(np.mean(to_training < to_others) + np.mean(to_training == to_others) / 2)


def authentic_share(to_training: Distances, among_training: Distances) -> float:
    """AuthPct (Alaa et al. 2022, "How faithful is your synthetic data?", Sec. 4.3): the share of the synthetic images that are farther from
    their nearest training record than this one is from its own nearest."""
    closeness = Closeness.of(to_training)
    return float(np.mean(closeness.distance > among_training.min(axis=1)[closeness.person]))


def identifiable_share(to_training: Distances, among_training: Distances) -> float:
    """Identifiability (Yoon et al. 2020, "Anonymization through data synthesis using generative adversarial networks", Def. 1): the share
    of the training people to whom some synthetic image is nearer than any other of them is.

    Their features are weighted by entropy; voxels, codes and learnt features are not. As there, it takes as many synthetic images as
    training records: of more, only the first are looked at.
    """
    to_training = to_training[: len(among_training)]
    return float(np.mean(to_training.min(axis=0) < among_training.min(axis=1)))


def expected_identifiable_share(n: int, people: int) -> float:
    """The share to expect of ``n`` new draws of the people's law: each of them, and of the other people, is as often the nearest."""
    n = min(n, people)
    return n / (n + people - 1)


def closeness_score(to_training: Distances) -> float:
    """Mean of -log of the nearest-neighbour distance ratio (as a measure of privacy: Zhao et al. 2021, "CTAB-GAN"): 0 for images as near to
    two patients, infinite for a copy; the inverse of Facco's dimension (``copying.py``)."""
    # A ratio of 0 is a copy beyond the digits of the distances, and must not hide all others in a mean.
    return float(np.mean(-np.log(np.maximum(Closeness.of(to_training).ratio, 1e-6))))


def repeated(nearest_other: Distances, among_training: Distances) -> NDArray[np.bool_]:
    """The synthetic images ``(n,)`` that repeat another: a tenth as far from it as people typically are from their nearest.

    Parameters
    ----------
    nearest_other : array (n,)
        Each image's distance to the nearest other synthetic one.
    among_training : array (people, people)

    Notes
    -----
    A sampler that draws a few images again and again has a small support, however many it draws: the birthday test of Arora et al. 2018
    ("Do GANs learn the distribution?") looks for such pairs.
    """
    return nearest_other <= REPEATED * np.median(among_training.min(axis=1))


def memorisation(to_people: Distances, among: Distances, training: NDArray[np.bool_]) -> dict[str, float]:
    """The measures, each the larger the more of the people marked as trained on is in the images."""
    to_training, among_training = to_people[:, training], among[np.ix_(training, training)]
    return {
        "nearer": nearer_share(to_people, training),
        "closeness": closeness_score(to_training),
        "inauthentic": 1 - authentic_share(to_training, among_training),
        "identifiable": identifiable_share(to_training, among_training),
    }


def memorisation_p(
    to_people: Distances, among: Distances, training: NDArray[np.bool_], rng: np.random.Generator, deals: int = DEALS
) -> Mapping[str, float]:
    """For each measure of ``memorisation``, how probable as large a value is where it does not matter who was trained on.

    Parameters
    ----------
    to_people : array (n, people)
    among : array (people, people)
    training : array (people,)
        True of those trained on, who are not everybody.
    rng : numpy.random.Generator
        Generator of the deals.
    deals : int
        Number of deals; the smallest p-value is 1 over one more.
    """
    observed = memorisation(to_people, among, training)
    reached = dict.fromkeys(observed, 1)
    for _ in range(deals):
        for name, value in memorisation(to_people, among, rng.permutation(training)).items():
            reached[name] += value >= observed[name] - 1e-12
    return {name: count / (deals + 1) for name, count in reached.items()}
