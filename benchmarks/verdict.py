"""How often a verdict claims an effect, where there is none and where there is one, as a table in Markdown:

    python benchmarks/verdict.py --studies 500

Each study is simulated whole: a cohort is drawn, each run trains both methods on some of its people and tests the others, and the two are
compared. A method is a ridge discriminant on Gaussian features. What is equally good:

- ``blocks``: the methods see features of their own, of equal worth, and 8 more that both see;
- ``noise``: the same, and the labels say nothing;
- ``seeds``: both see the same, and each is trained on a resample of the training side of its own, so that only chance tells them apart.

Runs split 70 / 10 / 20 (``split``), or train on few and test everybody else (``few``), or test 500 people a class of another cohort
(``external``: they train on 70 %; ``few, external``). A planted effect moves the classes of one method
further apart, by as much as makes 5 points of ROC AUC over many cohorts.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import optimize, stats

from tinycohort.experiments.engine.components import Components
from tinycohort.experiments.engine.influence import placements
from tinycohort.experiments.engine.pairs import paired
from tinycohort.experiments.engine.statistics import corrected_t_test

CLASSES = ("AD", "CN")
FEW = {(70, 239): (20, 60), (68, 68): (20, 20), (20, 20): (8, 8)}
OTHERS = (500, 500)  # people of another cohort
RIDGE, LEVEL, DIFFERENCE = 0.3, 0.05, 0.05


@dataclass(frozen=True)
class Design:
    """What is simulated: people by class, how runs split them, what is equally good, runs, and how far apart the classes are."""

    people: tuple[int, int]
    regime: str  # "split" or "few", or one of these, "external"
    null: str  # "blocks", "noise" or "seeds"
    n_runs: int = 20
    n_features: int = 8
    apart: float = 1.0
    effect: float = 0.0

    @property
    def n_train(self) -> tuple[int, ...]:
        return FEW[self.people] if self.regime.startswith("few") else tuple(round(0.7 * n) for n in self.people)

    @property
    def drawn(self) -> float | None:
        """The share of a class that a run learns from, of that of which it is largest, where others are tested."""
        shares = [learnt / n for learnt, n in zip(self.n_train, self.people, strict=True)]
        return max(shares) if self.regime.endswith("external") else None

    @property
    def n_test(self) -> tuple[int, ...]:
        if self.drawn is not None:
            return OTHERS
        if self.regime == "few":
            return tuple(n - trained for n, trained in zip(self.people, self.n_train, strict=True))
        return tuple(round(0.2 * n) for n in self.people)


def discriminant(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights and threshold of a linear discriminant with a ridge."""
    means = [features[labels == label].mean(axis=0) for label in (0, 1)]
    around = features - np.stack(means)[labels]
    covariance = around.T @ around / len(labels)
    covariance += RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    weights = np.linalg.solve(covariance, means[1] - means[0])
    return weights, float(weights @ (means[0] + means[1]) / 2)


def study(design: Design, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What each of two methods predicts, a row a run and person."""
    others = (0, 0) if design.drawn is None else OTHERS
    labels = np.repeat([0, 1, 0, 1], [*design.people, *others])
    first_other = sum(design.people)
    apart = 0.0 if design.null == "noise" else design.apart

    def block(distance: float) -> np.ndarray:
        return rng.normal(size=(len(labels), design.n_features)) + labels[:, None] * distance / math.sqrt(design.n_features)

    shared = block(apart)
    own = [block(apart + design.effect), block(apart)]
    features = [shared, shared] if design.null == "seeds" else [np.hstack([shared, block]) for block in own]
    rows: tuple[list, list] = ([], [])
    for run in range(design.n_runs):
        places = [rng.permutation(np.flatnonzero(labels[:first_other] == label)) for label in (0, 1)]
        train = [place[:n] for place, n in zip(places, design.n_train, strict=True)]
        test = np.concatenate([place[-n:] for place, n in zip(places, design.n_test, strict=True)])
        test = test if design.drawn is None else np.arange(first_other, len(labels))
        for seen, found in zip(features, rows, strict=True):
            taught = np.concatenate([rng.choice(place, len(place)) for place in train] if design.null == "seeds" else train)
            weights, threshold = discriminant(seen[taught], labels[taught])
            found.append((np.full(len(test), run), test, labels[test], seen[test] @ weights - threshold))
    return table_of(rows[0]), table_of(rows[1])


def table_of(rows: Sequence[tuple[np.ndarray, ...]]) -> pd.DataFrame:
    """As a study's predictions are."""
    run, person, label, log_odds = (np.concatenate(column) for column in zip(*rows, strict=True))
    second = 1 / (1 + np.exp(-log_odds))
    named = {"run": run, "participant_id": person, "label": np.array(CLASSES)[label]}
    return pd.DataFrame({**named, "p_AD": 1 - second, "p_CN": second})


def effect_of(difference: float, design: Design) -> float:
    """How much further apart one method's classes must be, for a difference of ROC AUC in the mean over cohorts."""

    def mean(effect: float) -> float:
        rng, shifted = np.random.default_rng(7), replace(design, effect=effect, n_runs=2)
        return float(np.mean([paired(*study(shifted, rng), CLASSES).estimate for _ in range(50)]))

    # The same cohorts with and without the effect: what they have by chance cancels.
    without = mean(0.0)
    return float(optimize.root_scalar(lambda effect: mean(effect) - without - difference, bracket=(0.0, 2.0), xtol=0.03).root)


def corrected(ours: pd.DataFrame, theirs: pd.DataFrame, design: Design, shift: float = 0.0) -> float:
    """p of the corrected resampled t-test on the runs' ROC AUC."""
    areas = []
    for table in (ours, theirs):
        # All runs test equally many.
        positive, second = ((table["label"] == "CN").to_numpy(), table["p_CN"].to_numpy())
        by_run = zip(np.split(second, design.n_runs), np.split(positive, design.n_runs), strict=True)
        areas.append(np.array([placements(values, of_class)[of_class].mean() for values, of_class in by_run]))
    test = corrected_t_test(areas[0] - areas[1] + shift, sum(design.n_test) / sum(design.n_train))
    return test.p


def power_of(components: Components, difference: float, n_runs: int) -> float:
    """That a plan promises, of a study of so many runs."""
    variance, df = replace(components, n_runs=n_runs).variance()
    return float(stats.nct.sf(stats.t.isf(LEVEL / 2, df), df, difference / math.sqrt(variance)))


def levels(studies: int) -> Iterator[str]:
    """A row each: how often the tests claim what is not there."""
    for people in FEW:
        for regime in ("split", "few", "external", "few, external"):
            for null in ("blocks", "noise", "seeds"):
                design, rng = Design(people, regime, null), np.random.default_rng(1)
                by_runs, claims, detectable = [], [], []
                for _ in range(studies):
                    tables = study(design, rng)
                    effects = [paired(*tables, CLASSES, score, design.drawn) for score in ("roc_auc", "balanced_accuracy")]
                    claims.append([effect.p <= LEVEL for effect in effects])
                    if design.drawn is None:
                        by_runs.append(corrected(*tables, design) <= LEVEL)
                    detectable.append(effects[0].detectable())
                shares = " | ".join(f"{100 * share:.1f}" for share in np.mean(claims, axis=0))
                first = f"{100 * np.mean(by_runs):.1f}" if by_runs else "–"
                yield f"| {people[0]} / {people[1]} | {regime} | {null} | {first} | {shares} | {100 * np.median(detectable):.1f} |"


def powers(studies: int) -> Iterator[str]:
    """A row each: how often the tests find an effect, and how often pilots of 10 runs promise that 20 will."""
    for people in FEW:
        for regime in ("split", "few"):
            for null in ("blocks", "seeds"):
                yield _power(Design(people, regime, null), studies)


def _power(design: Design, studies: int) -> str:
    rng, shift = np.random.default_rng(2), DIFFERENCE
    if design.null == "blocks":
        design, shift = replace(design, effect=effect_of(DIFFERENCE, design)), 0.0
    found, promised, estimates = [], [], []
    for _ in range(studies):
        ours, theirs = study(design, rng)
        effect = paired(ours, theirs, CLASSES)
        # Where methods differ by seeds alone, the effect is a shift of every run.
        effect = replace(effect, estimate=effect.estimate + shift)
        found.append([p <= LEVEL and effect.estimate > 0 for p in (corrected(ours, theirs, design, shift), effect.p)])
        estimates.append(effect.estimate)
        pilot = paired(*(table[table["run"] < 10] for table in (ours, theirs)), CLASSES).components
        everybody = dict(zip(CLASSES, design.people, strict=True))
        promised.append(power_of(pilot.of_cohort(everybody), DIFFERENCE, design.n_runs))
    shares = " | ".join(f"{100 * share:.0f}" for share in (np.mean(promised), *np.mean(found, axis=0)[::-1]))
    numbers = f"{100 * np.mean(estimates):.1f} | {shares}"
    return f"| {design.people[0]} / {design.people[1]} | {design.regime} | {design.null} | {numbers} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=500, help="a row of the tables")
    studies = parser.parse_args().studies
    print("| people | runs | equally good | corrected t-test | paired, AUC | paired, balanced accuracy | detectable |")
    print("|---|---|---|---|---|---|---|")
    for row in levels(studies):
        print(row, flush=True)
    print("\n| people | runs | kind | planted | promised | found | found by the corrected t-test |\n|---|---|---|---|---|---|---|")
    for row in powers(studies):
        print(row, flush=True)


if __name__ == "__main__":
    main()
