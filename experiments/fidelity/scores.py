"""Scores of synthetic samples beside their floor, with intervals, and a ranking that knows a tie.

Small samples bias the Fréchet distance upwards, and most other measures somewhere: a score says something only beside the same score of a
second real sample of the same size, from other people. So the real images are cut into two halves by participant; each synthetic sample,
and the second half, are scored against the first.

Intervals come from disjoint subsamples (Politis, Romano and Wolf 1999): the spread of a score over B of them, by Student's law. A bootstrap
would draw images twice, which these measures take for a narrower law. Of the Fréchet distance, KID and MS-SSIM the spread shrinks with the
root of B (where two laws are the same, faster: the interval is then too wide), which gives an interval of the whole sample's score. What
counts clusters or balls has another law at another size, and such intervals missed the mean in up to 4 of 10 simulations: of these measures
the interval is of the mean score of samples of a block's size, and is said to be. Ranks rest on paired differences of blocks, which are of
one law whatever the measure.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats
from torch import Tensor

from ...datasets.common.errors import DataError, UsageError
from ...datasets.common.seeds import derived_seed
from ..engine.statistics import holm
from .diversity import ms_ssim_of_pairs
from .features import Passport, require_same_passport
from .frechet import frechet_distance_of_features
from .kernel import kernel_distance
from .neighbours import density_coverage, precision_recall
from .prd import prd_curve

FEWEST = 10  # images of a sample: PRD has 20 clusters of two samples
FEWEST_OF_BLOCK = 20  # with fewer, the measures say little, and no interval is given
BLOCKS, FEWEST_BLOCKS = 5, 3
FEWEST_OF_INTERVAL = FEWEST_BLOCKS * FEWEST_OF_BLOCK


@dataclass(frozen=True, eq=False)
class Sample:
    """Features of some images, row for row with who and what they are of.

    Parameters
    ----------
    features : array (n, d)
        float32.
    passport : Passport
        Passport of what made them.
    labels, participants : array (n,), optional
        Classes, and people; left out, all images are of one class, or of different people.
    images : torch.Tensor, optional
        ``(n, 1, ...)``: for the measures that look at voxels.
    """

    features: np.ndarray
    passport: Passport
    labels: np.ndarray | None = None
    participants: np.ndarray | None = None
    images: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: np.ndarray) -> "Sample":
        """Some rows."""
        labels, participants = (None if part is None else part[rows] for part in (self.labels, self.participants))
        return Sample(self.features[rows], self.passport, labels, participants, None if self.images is None else self.images[rows])


@dataclass(frozen=True)
class Measure:
    """A measure of a sample against a real one.

    Parameters
    ----------
    names : tuple of str
        Names of the numbers that it gives.
    compute : callable
        Those numbers of a real sample, another sample, and a seed.
    better : {"low", "high", ""}
        Empty where neither is.
    scales : bool
        Whether the spread over blocks, over the root of their number, is that of the whole sample.
    least, most : float
        What the numbers cannot leave, nor their intervals.
    """

    names: tuple[str, ...]
    compute: Callable[[Sample, Sample, int], tuple[float, ...]]
    better: Literal["low", "high", ""]
    scales: bool
    least: float = 0.0
    most: float = 1.0


def _prd(real: Sample, other: Sample, seed: int) -> tuple[float, ...]:
    curve = prd_curve(real.features, other.features, seed=seed)
    return curve.best_f(8), curve.best_f(1 / 8)


def _ms_ssim(real: Sample, other: Sample, seed: int) -> tuple[float, ...]:
    if other.images is None:
        raise UsageError("ms-ssim looks at voxels: give the sample its images.")
    # The classes lie one after the other: pairs are drawn over all of them.
    order = np.random.default_rng(derived_seed(seed, "pairs")).permutation(len(other))
    return (ms_ssim_of_pairs(other.images[order]),)


MEASURES: Mapping[str, Measure] = {
    "frechet": Measure(
        ("frechet",), lambda real, other, _: (frechet_distance_of_features(real.features, other.features),), "low", True, most=math.inf
    ),
    "kid": Measure(("kid",), lambda real, other, _: (kernel_distance(real.features, other.features),), "low", True, -math.inf, math.inf),
    "prd": Measure(("F_8 (recall)", "F_1/8 (precision)"), _prd, "high", False),
    "precision-recall": Measure(
        ("precision", "recall"), lambda real, other, _: precision_recall(real.features, other.features), "high", False
    ),
    "density-coverage": Measure(
        ("density", "coverage"), lambda real, other, _: density_coverage(real.features, other.features), "high", False, most=math.inf
    ),
    "ms-ssim": Measure(("ms-ssim",), _ms_ssim, "", True, -1.0),
}


@dataclass(frozen=True)
class Estimate:
    """A number, and what disjoint blocks of the sample say of it.

    Parameters
    ----------
    value : float
        Value of the whole sample.
    low, high : float
        95 % interval, by default; NaN where there are too few images, or all blocks give the same, which tells nothing of the spread.
    of_blocks : bool
        The interval is of the mean score of samples of a block's size, not of the whole sample's.
    blocks : tuple of float
        The number of each block.
    """

    value: float
    low: float
    high: float
    of_blocks: bool
    blocks: tuple[float, ...]


@dataclass(frozen=True)
class Score:
    """One measure of one synthetic sample.

    Parameters
    ----------
    synthetic : str
        The sample's name.
    measure : str
        As the passport and ``MEASURES`` call it.
    estimate : Estimate
        Against the first half of the real images.
    floor : Estimate
        The same of the second half: what real images get.
    n : int
        Images in each of the samples.
    better : {"low", "high", ""}
        Empty where neither is.
    passport : Passport
        Passport of the features.
    """

    synthetic: str
    measure: str
    estimate: Estimate
    floor: Estimate
    n: int
    better: Literal["low", "high", ""]
    passport: Passport


def score(
    real: Sample, synthetic: Mapping[str, Sample], *, measures: Sequence[str] = tuple(MEASURES), seed: int, level: float = 0.05
) -> list[Score]:
    """Score synthetic samples against real images, beside the floor.

    Parameters
    ----------
    real : Sample
        Cut into two halves by participant.
    synthetic : dict
        Samples by name. All are scored at one size and with one mix of classes: as many images of each class as the
        smallest of the synthetic samples and the real halves has.
    measures : sequence of str
        Names among ``MEASURES``.
    seed : int
        Seed of the halves, of which images are taken, and of the clusters.
    level : float
        Intervals hold the number with probability 1 - ``level``.

    Returns
    -------
    list of Score
        By sample, then by measure.

    Raises
    ------
    UsageError
        For an unknown measure, or features of different passports.
    DataError
        If fewer than 10 images are left to compare.
    """
    unknown = [name for name in measures if name not in MEASURES]
    if unknown:
        raise UsageError(f"There is no measure '{unknown[0]}'; choose among: {', '.join(MEASURES)}.")
    for sample in synthetic.values():
        require_same_passport(real.passport, sample.passport)
    (first, second), drawn = _draw(real, synthetic, np.random.default_rng(derived_seed(seed, "fidelity")))
    n = sum(map(len, first))
    if n < FEWEST:
        raise DataError(
            f"Only {n} images a side can be compared, and it takes {FEWEST}: of half the real participants, for the other half shows what "
            "real people score, and of every synthetic cohort; give more of what lacks."
        )
    n_blocks = min(BLOCKS, n // FEWEST_OF_BLOCK)
    reference = _whole_and_blocks(real, first, n_blocks)
    others = {name: _whole_and_blocks(sample, drawn[name], n_blocks) for name, sample in synthetic.items()}
    floors, scores = _whole_and_blocks(real, second, n_blocks), []
    computed = {
        measure: _estimates(MEASURES[measure], reference, floors, derived_seed(seed, "measure", measure), level) for measure in measures
    }
    for name, measure in itertools.product(others, measures):
        law = MEASURES[measure]
        estimates = _estimates(law, reference, others[name], derived_seed(seed, "measure", measure), level)
        for title, estimate, floor in zip(law.names, estimates, computed[measure], strict=True):
            scores.append(Score(name, title_of(title, real.passport), estimate, floor, n, law.better, real.passport))
    return scores


def score_against(
    reference: Sample, sample: Sample, sizes: Mapping[str, int], *, measures: Sequence[str], seed: int, level: float = 0.05
) -> dict[str, Estimate]:
    """Score one sample against a reference that is not cut: where other real images set the floor, a sample like any other.

    Parameters
    ----------
    reference, sample : Sample
        Both with labels.
    sizes : dict
        From class to how many images of it each of the two is compared by; they hold as many, or more. Other classes are left out.
    measures : sequence of str
        Names among ``MEASURES``.
    seed : int
        Seed of the choice of images and the clusters: with the same ``sizes`` and seed every sample is scored against the same reference,
        block by block, so that ``ranking`` can pair them.
    level : float
        As for ``score``.

    Returns
    -------
    dict
        From the name of each number, as ``Score.measure`` has it, to the number.
    """
    require_same_passport(reference.passport, sample.passport)

    def drawn(part: Sample, name: str) -> list[np.ndarray]:
        generator, labels = np.random.default_rng(derived_seed(seed, "fidelity", name)), _labels(part)
        return [generator.permutation(np.flatnonzero(labels == label))[:n] for label, n in sorted(sizes.items())]

    n_blocks = min(BLOCKS, sum(sizes.values()) // FEWEST_OF_BLOCK)
    references, samples = (
        _whole_and_blocks(part, drawn(part, name), n_blocks) for part, name in ((reference, "reference"), (sample, "sample"))
    )
    found = {}
    for measure in measures:
        law = MEASURES[measure]
        estimates = _estimates(law, references, samples, derived_seed(seed, "measure", measure), level)
        for title, estimate in zip(law.names, estimates, strict=True):
            found[title_of(title, reference.passport)] = estimate
    return found


def title_of(name: str, passport: Passport) -> str:
    """What a measure's number is called with such features."""
    return passport.frechet if name == "frechet" else name


def ranking(*runs: Sequence[Score], level: float = 0.05) -> pd.DataFrame:
    """Rank samples by one measure; those that the noise cannot tell apart share a rank.

    Two samples differ if Student's test of their paired differences (on the same real images, block by block) says so, corrected for the
    number of pairs (Holm), and the whole samples' scores agree. Where generators were trained in several runs, two of them differ if their
    samples do in every run, in the same direction: the largest p-value counts. A sample's rank is 1 more than the number of samples that
    are so better.

    Parameters
    ----------
    *runs : sequence of Score
        Scores of different samples, by the same measure, with the same floor, and in one run of as many images. A sample that a run lacks
        is compared in the others.
    level : float
        The probability that any two samples of the same law are told apart.

    Returns
    -------
    DataFrame
        From the best: ``rank``, ``synthetic``, ``value`` (the mean over runs), ``floor``, ``verdict``.

    Raises
    ------
    UsageError
        If they are of different measures, passports or real images, those of a run of different sizes, or the measure has no best.
    """
    scores = [item for run in runs for item in run]
    for item in scores[1:]:
        require_same_passport(scores[0].passport, item.passport)
    # A p-value pairs samples of one run, so that runs may be of other sizes.
    if len({(item.measure, item.floor) for item in scores}) != 1 or any(len({item.n for item in run}) > 1 for run in runs):
        raise UsageError(
            "A ranking compares samples by one measure, in each run at one size, on the same real images: take the scores of one call."
        )
    if not scores[0].better:
        raise UsageError(f"{scores[0].measure} says how alike images are, of which neither more nor less is better: it ranks nothing.")
    sign, floor = 1 if scores[0].better == "low" else -1, scores[0].floor.value
    estimates = [{item.synthetic: item.estimate for item in run} for run in runs]
    values = {
        name: float(np.mean([run[name].value for run in estimates if name in run]))
        for name in dict.fromkeys(item.synthetic for item in scores)
    }
    ordered = sorted(values, key=lambda name: sign * values[name])
    pairs = list(itertools.combinations(range(len(ordered)), 2))
    p_values = [_p_of_all([(run.get(ordered[i]), run.get(ordered[j])) for run in estimates], sign) for i, j in pairs]
    # A pair without a p-value, for want of images, is a tie.
    apart = {pair for pair, p in zip(pairs, holm(p_values), strict=True) if p <= level}
    rows = []
    for j, name in enumerate(ordered):
        ties = [other for i, other in enumerate(ordered) if i != j and (min(i, j), max(i, j)) not in apart]
        verdict = f"tie with {', '.join(ties)}" if ties else "" if len(ordered) == 1 else "apart from all others"
        rank = 1 + sum((i, j) in apart for i in range(j))
        rows.append({"rank": rank, "synthetic": name, "value": values[name], "floor": floor, "verdict": verdict})
    return pd.DataFrame(rows).sort_values("rank", kind="stable", ignore_index=True)


def _p_of_all(pairs: Sequence[tuple[Estimate | None, Estimate | None]], sign: int) -> float:
    """p-value of no difference in at least one run that has both: the largest; NaN if there is no such run, or one has none."""
    p_values = [_paired_p(better, worse, sign) for better, worse in pairs if better is not None and worse is not None]
    return max(p_values) if p_values and not np.isnan(p_values).any() else math.nan


def _paired_p(better: Estimate, worse: Estimate, sign: int) -> float:
    """Two-sided p-value of the blocks' scores; 1 if they contradict the whole samples, NaN if their spread is not known."""
    differences = sign * np.subtract(worse.blocks, better.blocks)
    if len(differences) < FEWEST_BLOCKS or np.ptp(differences) == 0:
        return math.nan
    if differences.mean() <= 0:
        return 1.0
    error = differences.std(ddof=1) / math.sqrt(len(differences))
    return float(2 * stats.t.sf(differences.mean() / error, len(differences) - 1))


def _estimates(measure: Measure, reference: list[Sample], other: list[Sample], seed: int, level: float) -> list[Estimate]:
    """Interval of each number of a measure, from the whole samples (the first of each list) and their blocks (the rest)."""
    values = np.array([measure.compute(real, some, seed) for real, some in zip(reference, other, strict=True)])
    estimates = []
    for whole, *blocks in values.T.tolist():
        low, high = math.nan, math.nan
        if len(blocks) >= FEWEST_BLOCKS and np.ptp(blocks) > 0:
            reach = stats.t.isf(level / 2, len(blocks) - 1) * np.std(blocks, ddof=1) / math.sqrt(len(blocks))
            middle = whole if measure.scales else np.mean(blocks)
            low, high = (float(np.clip(middle + side * reach, measure.least, measure.most)) for side in (-1, 1))
        estimates.append(Estimate(whole, low, high, not measure.scales, tuple(blocks)))
    return estimates


def _whole_and_blocks(sample: Sample, rows_by_class: list[np.ndarray], n_blocks: int) -> list[Sample]:
    """All drawn rows, then disjoint blocks of them, each with the same mix of classes."""
    blocks = []
    if n_blocks >= FEWEST_BLOCKS:
        cut = [np.array_split(rows, n_blocks) for rows in rows_by_class]
        blocks = [np.concatenate(parts) for parts in zip(*cut, strict=True)]
    return [sample.take(rows) for rows in (np.concatenate(rows_by_class), *blocks)]


def _draw(
    real: Sample, synthetic: Mapping[str, Sample], rng: np.random.Generator
) -> tuple[tuple[list[np.ndarray], list[np.ndarray]], dict[str, list[np.ndarray]]]:
    """Rows of the two real halves and of each synthetic sample: by class, in random order, as many of each."""
    of_real, labels = _labels(real), {name: _labels(sample) for name, sample in synthetic.items()}
    in_second = _second_half(real, of_real, rng)
    halves: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in synthetic}
    for label in sorted(set(of_real).intersection(*labels.values())):
        rows = [np.flatnonzero((of_real == label) & (in_second == half)) for half in (False, True)]
        rows += [np.flatnonzero(labels[name] == label) for name in synthetic]
        n = min(map(len, rows))
        for kept, part in zip((*halves, *drawn.values()), rows, strict=True):
            kept.append(rng.permutation(part)[:n])
    return halves, drawn


def _labels(sample: Sample) -> np.ndarray:
    return np.full(len(sample), "") if sample.labels is None else np.asarray(sample.labels).astype(str)


def _second_half(real: Sample, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which images ``(n,)`` are in the second half: everybody in one, the classes balanced."""
    people = np.arange(len(real)) if real.participants is None else np.asarray(real.participants)
    names, first_image, owner, sizes = np.unique(people, return_index=True, return_inverse=True, return_counts=True)
    held = {label: [0, 0] for label in np.unique(labels)}
    second = np.zeros(len(names), dtype=bool)
    for person in rng.permutation(len(names)):
        counts = held[labels[first_image[person]]]
        second[person] = counts[1] < counts[0]
        counts[int(second[person])] += int(sizes[person])
    return second[owner]
