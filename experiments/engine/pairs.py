"""Are two methods equally good? A paired test over people and runs, from what each run predicted of each person whom it tested.

Runs and people are crossed, as readers and cases are in studies of diagnosis (Obuchowski and Rockette 1995, Communications in Statistics
24; Gallas 2006, Academic Radiology 13), and unbalanced: a person is tested in the runs that do not train on him. The estimate is the mean
over runs of the difference in the run. Its variance is clustered both ways (Cameron, Gelbach and Miller 2011, Journal of Business &
Economic Statistics 29), on the values that make up each score (``influence``): what people vary, plus what runs vary, minus what both do.
That is the variance given the cohort's training sides; people teach as well as they are tested, for which ``components.taught`` stands.
People of another cohort teach nobody. What their runs share is who is learnt from: of training sets that hold a share s of a cohort, two
have about s in common, so that a run's variance, of which runs show 1 - s, is in their mean s / (1 - s) times what they show.
Corrected resampled t-tests (``statistics``) know the runs' scores alone, and see little where more people are tested than trained on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .components import Components, summed, taught
from .influence import Score, person_values
from .statistics import LEAST_RUNS, SAME, detectable_difference, half_width, two_sided_p

LEAST_PEOPLE = 10  # of a class, over all runs


@dataclass(frozen=True)
class Effect:
    """How much better one method is than another.

    Parameters
    ----------
    estimate : float
        Mean over runs of the difference of the scores.
    se, df : float
        Standard error, and its degrees of freedom; NaN where ``why_untested`` says why.
    components : Components or None
        What it varies with; ``None`` without a run.
    n_runs, unpaired : int
        Runs with a score of both methods, and of one alone.
    n_people : dict
        From class to people tested in some run.
    why_untested : str
        A sentence's end; empty where there is a test.
    """

    estimate: float
    se: float
    df: float
    components: Components | None
    n_runs: int
    unpaired: int
    n_people: dict[str, int]
    why_untested: str = ""

    @property
    def p(self) -> float:
        """Two-sided p-value of no difference; NaN where there is no test."""
        return math.nan if self.why_untested else float(two_sided_p(self.estimate, self.se, self.df))

    def interval(self, level: float = 0.05) -> tuple[float, float]:
        """Holds the difference with probability 1 - ``level``; no difference of scores in [0, 1] lies beyond [-1, 1]."""
        if self.why_untested:
            return math.nan, math.nan
        reach = float(half_width(self.se, self.df, level))
        return max(-1.0, self.estimate - reach), min(1.0, self.estimate + reach)

    def detectable(self, level: float = 0.05, power: float = 0.8) -> float:
        """The difference that a study like this finds with probability ``power``; NaN where there is no test."""
        return math.nan if self.why_untested else detectable_difference(self.se, self.df, level=level, power=power)


def paired(
    method: pd.DataFrame, reference: pd.DataFrame, classes: Sequence[str], score: Score = "roc_auc", drawn: float | None = None
) -> Effect:
    """Compare two methods.

    Parameters
    ----------
    method, reference : DataFrame
        One row a run and person: ``run``, ``participant_id``, ``label``, ``p_<class>`` of each class, and for balanced accuracy the class
        ``predicted``; without it that of the largest probability.
    classes : sequence of str
        Of two, the order does not matter.
    score : {"roc_auc", "balanced_accuracy"}
    drawn : float, optional
        The share of a cohort's class that each run learns from, in (0, 1], of the class of which it is largest, where people of another
        cohort are tested; NaN if it is not known.

    Returns
    -------
    Effect

    Raises
    ------
    ValueError
        If a run tested other people with one method than with the other, one of them twice, or a person has two labels.
    """
    ours, theirs = (table.sort_values(["run", "participant_id"], kind="stable") for table in (method, reference))
    common = set(ours["run"]) & set(theirs["run"])
    n_all = len(set(ours["run"]) | set(theirs["run"]))
    ours, theirs = (table[table["run"].isin(common)] for table in (ours, theirs))
    _check(ours, theirs)
    (run_of, runs), (person_of, people) = (pd.factorize(ours[column]) for column in ("run", "participant_id"))
    label_of = pd.Index(classes).get_indexer(pd.Index(ours["label"]))
    class_of = np.zeros(len(people), dtype=int)
    class_of[person_of] = label_of
    if (label_of < 0).any() or (class_of[person_of] != label_of).any():
        raise ValueError(f"each person must have one label of {', '.join(classes)}, the same in all runs")
    forecasts = [_forecasts(table, classes) for table in (ours, theirs)]
    differences, values = np.full(len(runs), np.nan), np.full((len(runs), len(people)), np.nan)
    for run in range(len(runs)):
        rows = run_of == run
        if len(np.unique(label_of[rows])) < len(classes):
            continue  # no score without one of the classes
        (one, of_one), (other, of_other) = (
            person_values(score, probabilities[rows], predicted[rows], label_of[rows]) for probabilities, predicted in forecasts
        )
        differences[run], values[run, person_of[rows]] = one - other, of_one - of_other
    scored = ~np.isnan(differences)
    unpaired = n_all - int(scored.sum())
    tested = ~np.isnan(values[scored]).all(axis=0)
    n_people = {label: int((tested & (class_of == place)).sum()) for place, label in enumerate(classes)}
    if not scored.any():
        return Effect(math.nan, math.nan, math.nan, None, 0, unpaired, n_people, "no run has a score of both")
    return _effect(differences[scored], values[scored][:, tested], class_of[tested], n_people, unpaired, drawn)


def _check(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    keys = ("run", "participant_id", "label")
    if len(ours) != len(theirs) or any((ours[key].to_numpy() != theirs[key].to_numpy()).any() for key in keys):
        raise ValueError("a run must test the same people with both methods")
    if ours.duplicated(["run", "participant_id"]).any():
        raise ValueError("a run must have one row a person: average over images, and choose one method, mode and test set before")


def _forecasts(table: pd.DataFrame, classes: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    probabilities = table[[f"p_{label}" for label in classes]].to_numpy(dtype=float)
    predicted = pd.Index(classes).get_indexer(pd.Index(table["predicted"])) if "predicted" in table else probabilities.argmax(axis=1)
    return probabilities, predicted


def _effect(
    differences: NDArray[np.float64],
    values: NDArray[np.float64],
    class_of: NDArray[np.intp],
    n_people: dict[str, int],
    unpaired: int,
    drawn: float | None,
) -> Effect:
    """From each run's difference and each person's values (runs, people), NaN where not tested."""
    n_runs, estimate = len(differences), float(differences.mean())
    sums = {label: _sums(values[:, class_of == place]) for place, label in enumerate(n_people)}
    of_people, of_both = (sum(part[place] for part in sums.values()) for place in (0, 1))
    of_runs = float(differences.var(ddof=1)) / n_runs if n_runs > 1 else of_both
    components = _components(sums, n_people, of_runs - of_both, n_runs)
    why = _why_untested(n_runs, n_people, drawn) or _why_no_spread(of_people, estimate)
    if why:
        return Effect(estimate, math.nan, math.nan, components, n_runs, unpaired, n_people, why)
    if drawn is None:
        share = sum(part[2] for part in sums.values()) / sum(n_people.values())
        # Of what all runs have in common of a person, single values have one part in n_runs.
        common = max(0.0, of_people - of_both) / (1 - 1 / n_runs)
        of_people += taught(share) * common
    else:
        of_runs *= 1 + n_runs * drawn / (1 - drawn)
    variance, df = summed(of_people, of_runs, of_both, n_smallest=min(n_people.values()), n_runs=n_runs)
    return Effect(estimate, math.sqrt(variance), df, components, n_runs, unpaired, n_people)


def _sums(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Of one class: the variance clustered by person, that of single values, and how many are tested in a run."""
    n_runs, n = values.shape
    tested = (~np.isnan(values)).sum(axis=1)
    # About the mean over all runs: about a run's own, a few people vary too little.
    weighed = np.nan_to_num(values - np.nanmean(values, axis=1).mean()) / (n_runs * tested[:, None])
    return float((weighed.sum(axis=0) ** 2).sum()) * n / max(n - 1, 1), float((weighed**2).sum()), float(tested.mean())


def _components(sums: dict[str, tuple[float, float, float]], n_people: dict[str, int], beyond: float, n_runs: int) -> Components:
    """What ``Components.variance`` turns back into the variances, where all people are tested equally often."""
    people, both = {}, {}
    for label, (of_people, of_both, tested) in sums.items():
        # Values about their own mean vary by the mean's variance less; what few runs tell of people is of that size.
        of_both += of_people / (n_runs * tested)
        people[label] = max(0.0, of_people - of_both) * n_people[label] / max(1 - 1 / n_runs, 1 / n_runs)
        both[label] = max(0.0, n_runs * tested * of_both - people[label])
    runs = max(0.0, n_runs * beyond + sum(people[label] / n_people[label] for label in people))
    return Components(people, both, runs, n_people, {label: part[2] for label, part in sums.items()}, n_runs)


def _why_untested(n_runs: int, n_people: dict[str, int], drawn: float | None) -> str:
    few = [f"{n} {label}" for label, n in n_people.items() if n < LEAST_PEOPLE]
    if n_runs < LEAST_RUNS:
        return f"it takes {LEAST_RUNS} runs with a score of both, and there {'is 1' if n_runs == 1 else f'are {n_runs}'}"
    if few:
        return f"it takes {LEAST_PEOPLE} tested people of each class, and there are {' and '.join(few)}"
    if drawn is None or drawn < 1:
        return ""
    return "its runs did not count whom they learn from" if math.isnan(drawn) else "the runs do not draw who is learnt from"


def _why_no_spread(of_people: float, estimate: float) -> str:
    if of_people > SAME**2:
        return ""
    return "nobody is told differently by the two" if abs(estimate) < SAME else "all people of a class differ alike, which tells no spread"
