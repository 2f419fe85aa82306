"""What a comparison of two methods says, in a sentence that a person can quote."""

import math

TITLES = {"roc_auc": "ROC AUC"}


def title(score: str) -> str:
    """A score's name in a sentence."""
    return TITLES.get(score, score.replace("_", " "))


def points(score: float) -> str:
    """A difference of scores in points, with its sign."""
    rounded = round(100 * score, 1) + 0.0  # no minus before a zero
    return f"{rounded:+.1f}".replace("-", "−")


def sentence(
    estimate: float,
    interval: tuple[float, float],
    *,
    p: float,
    corrected: bool,
    detectable: float,
    score: str,
    against: str,
    n: str,
    level: float,
    power: float,
) -> str:
    """A verdict: whether the method helps, how sure that is, and what this study would have seen.

    Parameters
    ----------
    estimate, interval, detectable : float
        Differences of scores in [0, 1]; ``detectable`` is what is found with probability ``power``.
    p : float
        ``corrected``, or of a comparison by itself.
    score, against : str
        What is compared, and with which method.
    n : str
        How many runs and people.
    level : float
    """
    claim = ("helps" if estimate > 0 else "hurts") if p <= level else "no difference seen"
    p_value = f"{'corrected ' if corrected else ''}p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
    numbers = f"{points(estimate)} points [{points(interval[0])}, {points(interval[1])}] {title(score)} over `{against}`"
    return f"{claim}: {numbers}, {p_value} ({n}); {_seen(detectable, p > level, power)}"


def _seen(detectable: float, missed: bool, power: float) -> str:
    # No score in [0, 1] differs by more than 1.
    if detectable > 1 or math.isnan(detectable):
        return f"no difference would be seen with {100 * power:.0f} % power: the study is too small"
    would = "would have been" if missed else "is"
    return f"a difference of {100 * detectable:.1f} points {would} seen with {100 * power:.0f} % power"
