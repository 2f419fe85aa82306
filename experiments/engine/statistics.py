"""Does a method help? Paired differences over repeated runs, and a test that knows that the runs' splits overlap.

Runs that draw their splits from one cohort share participants, so their scores are not independent: Student's test takes the 20
runs for 20 cohorts and finds effects that are none. Nadeau and Bengio 2003 ("Inference for the generalization error", Machine Learning
52) put the variance of a mean over J runs at (1/J + n_test/n_train) times that of a run. Holm 1979 then corrects for asking of
several methods. Where every run has the same split (the paper's protocol), the spread shows the seeds alone, and nothing is concluded.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from .wording import points, sentence, title

# Below this, differences of scores in [0, 1] are equal: rounding alone tells them apart.
SAME = 1e-9
LEAST_RUNS = 5  # that a verdict takes


@dataclass(frozen=True)
class MeanTest:
    """A mean over runs, and the test that it is 0.

    Parameters
    ----------
    n : int
        Number of runs.
    mean, sd : float
        ``sd`` with n - 1 degrees of freedom. NaN where there are too few runs.
    low, high : float
        Interval of confidence of the mean; NaN where there is none.
    t, p : float
        Statistic and its two-sided p-value; NaN where there is none.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float
    t: float
    p: float


def corrected_t_test(values: ArrayLike, ratio: float | None, *, level: float = 0.05) -> MeanTest:
    """Corrected resampled t-test (Nadeau and Bengio 2003) that a mean over runs is 0.

    Parameters
    ----------
    values : array (n,)
        One a run; a NaN is left out.
    ratio : float or None
        n_test / n_train, in participants; 0 gives Student's test. ``None`` where the runs do not draw new splits.
    level : float
        The interval holds the mean with probability 1 - ``level``.

    Returns
    -------
    MeanTest
        Without interval and test if ``ratio`` is ``None``, if there are fewer than 2 runs, or if all values are the same, which tells
        nothing of the spread.
    """
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    n, nan = len(values), math.nan
    mean = float(values.mean()) if n else nan
    sd = float(values.std(ddof=1)) if n > 1 else nan
    if ratio is None or n < 2:
        return MeanTest(n, mean, sd, nan, nan, nan, nan)
    if np.ptp(values) < SAME:
        return MeanTest(n, mean, 0.0, nan, nan, nan, nan)
    error = corrected_error(sd, n, ratio)
    t = mean / error
    reach = float(stats.t.isf(level / 2, n - 1)) * error
    return MeanTest(n, mean, sd, mean - reach, mean + reach, t, float(2 * stats.t.sf(abs(t), n - 1)))


def corrected_error(sd: float, n: int, ratio: float) -> float:
    """Standard error of a mean over n runs whose splits overlap, from the standard deviation over runs."""
    return sd * math.sqrt(1 / n + ratio)


def detectable_difference(se: float, df: float, *, level: float = 0.05, power: float = 0.8) -> float:
    """The true difference that a two-sided t-test claims, in its direction, with a given probability.

    Parameters
    ----------
    se, df : float
        Standard error of the estimated difference, and its degrees of freedom.
    level, power : float

    Returns
    -------
    float
        By the noncentral t distribution.
    """
    critical = float(stats.t.isf(level / 2, df))

    def missing(noncentrality: float) -> float:
        return float(stats.nct.sf(critical, df, noncentrality)) - power

    return se * float(optimize.root_scalar(missing, bracket=(0, 3 * (critical + stats.t.ppf(power, df)) + 1)).root)


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Holm's (1979) step-down correction of p-values.

    Parameters
    ----------
    p : array (m,)
        A NaN, a test that could not be made, stays one; it counts among the m, which were fixed before the data were seen.

    Returns
    -------
    array (m,)
        Rejecting what is at most ``level`` here keeps the probability of any false rejection at ``level``, whatever the dependence.
    """
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)  # NaN comes last
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1)
    return corrected


def paired_differences(table: pd.DataFrame, metric: str, reference: str) -> pd.DataFrame:
    """How far each method is above the reference in the same run.

    Parameters
    ----------
    table : DataFrame
        Columns ``method``, ``run`` and ``metric``; a method has at most one row a run (choose one mode first).
    metric : str
    reference : str
        The method that is subtracted.

    Returns
    -------
    DataFrame
        One row a run, one column a method but the reference; NaN where either lacks a score (a run that failed).

    Raises
    ------
    ValueError
        If a method has two rows for a run, or the reference has none.
    """
    twice = table.duplicated(["method", "run"])
    if twice.any():
        method, run = table.loc[twice, ["method", "run"]].iloc[0]
        raise ValueError(f"{method} has two rows for run {run}: choose one mode and stratum before comparing")
    if reference not in set(table["method"]):
        raise ValueError(f"there is no row of {reference} to compare with")
    scores = table.pivot(index="run", columns="method", values=metric)[list(dict.fromkeys(table["method"]))].astype(float)
    return scores.drop(columns=reference).sub(scores[reference], axis=0)


def compare(table: pd.DataFrame, metric: str, *, reference: str, ratio: float | None, level: float = 0.05) -> pd.DataFrame:
    """Compare every method with one of them, and say in a sentence each what follows.

    Parameters
    ----------
    table : DataFrame
        As for ``paired_differences``.
    metric : str
        A score in [0, 1], the more the better.
    reference : str
        The method that the others are compared with.
    ratio : float or None
        n_test / n_train of the runs, in participants (of a stratum, those of the whole test side: that is how much the runs overlap).
        ``None`` where all runs have one split (the protocol ``paper``) or one external test set: no verdict then, but the mean difference
        and its standard deviation.
    level : float
        The probability that any of these verdicts, of one table against one reference, claims an effect where there is none.

    Returns
    -------
    DataFrame
        One row a method: ``method``, ``n`` (paired runs), ``unpaired`` (runs that lack a score of either), ``difference``, ``sd``, ``low``,
        ``high`` (of this method by itself, corrected for overlapping splits), ``p`` (so corrected), ``p_holm`` (and for the number of
        methods), ``detectable`` (what is seen with 80 % power after that correction), ``verdict``.
        No interval, p or verdict from fewer than 5 runs, or where all runs differ alike.
    """
    differences = paired_differences(table, metric, reference)
    tests = [_tested(differences[method], ratio, level) for method in differences]
    rows = []
    for method, test, p_holm in zip(differences, tests, holm([test.p for test in tests]), strict=True):
        unpaired = len(differences) - test.n
        # At Holm's first step.
        detectable = (
            math.nan
            if ratio is None or math.isnan(test.p)
            else detectable_difference(corrected_error(test.sd, test.n, ratio), test.n - 1, level=level / len(tests))
        )
        verdict = _verdict(test, float(p_holm), metric, reference, unpaired, ratio, detectable, level)
        numbers = {"difference": test.mean, "sd": test.sd, "low": test.low, "high": test.high, "p": test.p, "p_holm": p_holm}
        rows.append({"method": method, "n": test.n, "unpaired": unpaired, **numbers, "detectable": detectable, "verdict": verdict})
    columns = ["method", "n", "unpaired", "difference", "sd", "low", "high", "p", "p_holm", "detectable", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def _tested(differences: ArrayLike, ratio: float | None, level: float) -> MeanTest:
    """Without interval and test of too few runs; an interval within [-1, 1], as differences of scores in [0, 1] are."""
    test = corrected_t_test(differences, ratio, level=level)
    if test.n < LEAST_RUNS:
        return replace(test, low=math.nan, high=math.nan, t=math.nan, p=math.nan)
    return replace(test, low=float(np.maximum(test.low, -1)), high=float(np.minimum(test.high, 1)))


def _verdict(
    test: MeanTest, p_holm: float, score: str, reference: str, unpaired: int, ratio: float | None, detectable: float, level: float
) -> str:
    runs = f"{test.n} run{'s' if test.n != 1 else ''}" + (f", {unpaired} more without a pair" if unpaired else "")
    if not test.n:
        return f"no verdict: no run has a score of it and of `{reference}`"
    difference = f"{points(test.mean)}{f' ± {100 * test.sd:.1f}' if test.n > 1 else ''} points {title(score)} over `{reference}` ({runs})"
    if ratio is None:
        return f"no verdict: {difference}"
    if test.n < LEAST_RUNS:
        return f"no verdict: {difference}; it takes {LEAST_RUNS} runs with a score of both"
    if math.isnan(test.p):
        alike = "both score the same in every run" if abs(test.mean) < SAME else "all runs differ alike, which tells no spread"
        return f"no verdict: {difference}; {alike}"
    return sentence(
        test.mean,
        (test.low, test.high),
        p=p_holm,
        corrected=True,
        detectable=detectable,
        score=score,
        against=reference,
        n=runs,
        level=level,
        power=0.8,
    )
