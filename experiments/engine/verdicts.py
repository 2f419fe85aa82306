"""The verdicts of a study: one primary comparison, named before it begins, and secondary ones, corrected for their number."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from .influence import Score
from .pairs import Effect
from .statistics import holm
from .wording import points, sentence, title

COLUMNS = ("method", "against", "primary", "n", "unpaired", "difference", "se", "low", "high", "p", "p_holm", "detectable", "verdict")


@dataclass(frozen=True)
class Comparison:
    """A method, what it is compared with, and what was found.

    Parameters
    ----------
    method, against : str
    effect : Effect
        From ``pairs.paired``.
    primary : bool
        Tested at the level by itself; all others are corrected together.
    """

    method: str
    against: str
    effect: Effect
    primary: bool = False


def verdicts(comparisons: Sequence[Comparison], score: Score, *, level: float = 0.05, power: float = 0.8) -> pd.DataFrame:
    """Say in a sentence each what follows from comparisons.

    Parameters
    ----------
    comparisons : sequence of Comparison
        One primary at most; the rest is corrected by Holm's method (1979), also for those that could not be tested.
    score : {"roc_auc", "balanced_accuracy"}
        Of all.
    level, power : float
        The probability to claim an effect where there is none, of the primary comparison, and of any secondary one; and that with which
        ``detectable`` is found.

    Returns
    -------
    DataFrame
        One row a comparison: ``method``, ``against``, ``primary``, ``n`` (runs), ``unpaired``, ``difference``, ``se``, ``low`` and ``high``
        (of this comparison by itself), ``p``, ``p_holm`` (of the primary one ``p``), ``detectable`` (of a secondary one at ``level`` by
        their number, Holm's first step), ``verdict``.

    Raises
    ------
    ValueError
        If there are two primary comparisons.
    """
    if sum(comparison.primary for comparison in comparisons) > 1:
        raise ValueError("a study has one primary comparison")
    secondary = [comparison.effect.p for comparison in comparisons if not comparison.primary]
    corrected = iter(holm(secondary))
    rows = []
    for comparison in comparisons:
        effect, primary = comparison.effect, comparison.primary
        p_holm = effect.p if primary else float(next(corrected))
        detectable = effect.detectable(level if primary else level / len(secondary), power)
        low, high = effect.interval(level)
        if effect.why_untested:
            verdict = _untested(comparison, score)
        else:
            verdict = sentence(
                effect.estimate,
                (low, high),
                p=p_holm,
                corrected=not primary and len(secondary) > 1,
                detectable=detectable,
                score=score,
                against=comparison.against,
                n=_counts(effect),
                level=level,
                power=power,
            )
        found = (effect.n_runs, effect.unpaired, effect.estimate, effect.se, low, high, effect.p, p_holm, detectable, verdict)
        rows.append((comparison.method, comparison.against, primary, *found))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _untested(comparison: Comparison, score: Score) -> str:
    effect = comparison.effect
    if math.isnan(effect.estimate):
        return f"no verdict: {effect.why_untested}"
    difference = f"{points(effect.estimate)} points {title(score)} over `{comparison.against}` ({_counts(effect)})"
    return f"no verdict: {difference}; {effect.why_untested}"


def _counts(effect: Effect) -> str:
    runs = f"{effect.n_runs} run{'s' if effect.n_runs != 1 else ''}" + (
        f", {effect.unpaired} more without a pair" if effect.unpaired else ""
    )
    return f"{runs}; tested: {', '.join(f'{n:,} {label}' for label, n in effect.n_people.items())}"
