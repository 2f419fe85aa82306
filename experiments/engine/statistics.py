"""Does a method help? Paired differences over repeated runs, and a test that knows that the runs' splits overlap.

Runs that draw their splits from one cohort share participants, so their scores are not independent: Student's test takes the 20
runs for 20 cohorts and finds effects that are none. Nadeau and Bengio 2003 ("Inference for the generalization error", Machine Learning
52) put the variance of a mean over J runs at (1/J + n_test/n_train) times that of a run. Holm 1979 then corrects for asking of
several methods. Where every run has the same split (the paper's protocol), the spread shows the seeds alone, and nothing is concluded.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

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
    se : float
        Standard error, which knows that the runs' splits overlap; NaN where there is none.
    low, high : float
        Interval of confidence of the mean; NaN where there is none.
    p : float
        Two-sided; NaN where there is none.
    """

    n: int
    mean: float
    sd: float
    se: float
    low: float
    high: float
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
    error = sd * math.sqrt(1 / n + ratio)
    reach = float(half_width(error, n - 1, level))
    return MeanTest(n, mean, sd, error, mean - reach, mean + reach, float(two_sided_p(mean, error, n - 1)))


def half_width(se: ArrayLike, df: ArrayLike, level: float = 0.05) -> NDArray[np.float64]:
    """How far to either side the interval of an estimate reaches that holds the truth with probability 1 - ``level``, by Student's t."""
    return np.asarray(se) * stats.t.isf(level / 2, df)


def two_sided_p(estimate: ArrayLike, se: ArrayLike, df: ArrayLike) -> NDArray[np.float64]:
    """Of estimates, with their standard errors and degrees of freedom, under no difference, by Student's t."""
    return 2 * stats.t.sf(np.abs(np.asarray(estimate) / se), df)


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


def holm(p: ArrayLike, among: int = 0) -> NDArray[np.float64]:
    """Holm's (1979) step-down correction of p-values.

    Parameters
    ----------
    p : array (m,)
        A NaN, a test that could not be made, stays one; it counts among the m, which were fixed before the data were seen.
    among : int
        How many tests were fixed before, if it is more than m: those that are not here claim nothing.

    Returns
    -------
    array (m,)
        Rejecting what is at most ``level`` here keeps the probability of any false rejection at ``level``, whatever the dependence.
    """
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)  # NaN comes last
    n = max(len(p), among)
    stepped = np.maximum.accumulate(p[order] * np.arange(n, n - len(p), -1))
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
