"""Statistics of repeated runs, against closed forms, other libraries, and simulations in which the truth is known."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tinycohort.experiments.engine.statistics import corrected_t_test, detectable_difference, holm, paired_differences

RATIO = 0.25  # 20 % test, 80 % training
RUNS = 20


def tidy(scores: dict[str, list[float]], metric: str = "balanced_accuracy") -> pd.DataFrame:
    return pd.DataFrame(
        [{"method": method, "run": run, metric: value} for method, values in scores.items() for run, value in enumerate(values)]
    )


def test_by_hand():
    # Mean 2, variance 5/3; (1/4 + 1/4) of it is 5/6.
    test = corrected_t_test([0.5, 1.5, 2.5, 3.5], 0.25)
    assert (test.n, test.mean) == (4, 2.0)
    assert test.sd == pytest.approx(math.sqrt(5 / 3))
    assert test.mean / test.se == pytest.approx(2 / math.sqrt(5 / 6))
    quantile = 3.182446305284263  # 0.975 of Student's t with 3 degrees, from a table
    assert (test.low, test.high) == pytest.approx((2 - quantile * math.sqrt(5 / 6), 2 + quantile * math.sqrt(5 / 6)))
    # Student's distribution function with 3 degrees has a closed form.
    x = test.mean / test.se / math.sqrt(3)
    assert test.p == pytest.approx(1 - 2 / math.pi * (x / (1 + x * x) + math.atan(x)))


def test_without_overlap_it_is_students_paired_test():
    generator = np.random.default_rng(0)
    ours, theirs = generator.normal(0.75, 0.05, 20), generator.normal(0.73, 0.05, 20)
    expected = stats.ttest_rel(ours, theirs)
    interval = expected.confidence_interval(0.9)
    for ratio in (0.0, 1e-12):
        test = corrected_t_test(ours - theirs, ratio, level=0.1)
        assert (test.mean / test.se, test.p) == pytest.approx((expected.statistic, expected.pvalue))
        assert (test.low, test.high) == pytest.approx((interval.low, interval.high))


def test_overlap_widens_the_interval_whatever_the_number_of_runs():
    values = np.tile([-1.0, 1.0], 5000)
    test = corrected_t_test(values, RATIO)
    assert test.high == pytest.approx(1.96 * math.sqrt(RATIO), rel=1e-3)


def test_holm_by_hand():
    # Sorted: 0.01 x 4, 0.02 x 3, 0.03 x 2 (0.06 both), 0.04 x 1, which may not be below those before it.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.4, 0.6]) == pytest.approx([0.8, 0.8])
    assert holm([0.9, 0.7]) == pytest.approx([1, 1])
    assert holm([0.03]) == pytest.approx([0.03])
    assert holm([]).shape == (0,)


def test_holm_counts_tests_that_could_not_be_made():
    assert holm([math.nan, 0.01, 0.02]) == pytest.approx([math.nan, 0.03, 0.04], nan_ok=True)


def test_holm_rejects_what_its_definition_does():
    generator = np.random.default_rng(0)
    for _ in range(200):
        p = generator.random(6) ** 3
        rejected = set()
        for step, place in enumerate(np.argsort(p)):
            if p[place] > 0.05 / (6 - step):
                break
            rejected.add(place)
        assert set(np.flatnonzero(holm(p) <= 0.05)) == rejected


def test_differences_are_paired_by_run_and_not_by_row():
    table = tidy({"original": [0.7, 0.8, 0.6], "vae": [0.72, 0.85, 0.6]}).sample(frac=1, random_state=1)
    differences = paired_differences(table, "balanced_accuracy", "original")
    assert list(differences["vae"]) == pytest.approx([0.02, 0.05, 0])


def test_what_cannot_be_paired():
    table = tidy({"original": [0.7, 0.71], "vae": [0.9, 0.91]})
    with pytest.raises(ValueError, match="two rows for run 0"):
        paired_differences(pd.concat([table, table]), "balanced_accuracy", "original")
    with pytest.raises(ValueError, match="no row of resampled"):
        paired_differences(table, "balanced_accuracy", "resampled")


def simulated(generator: np.random.Generator, n_methods: int, effect: float, people: int) -> pd.DataFrame:
    """One study of one cohort: real classifiers, refitted on every split, that look at features of equal worth.

    Every method puts a threshold, half-way between the class means of its training side, on a feature of its own. The features are
    exchangeable, so no method is better than the reference, whatever this cohort's sample makes of them; ``effect`` moves the classes
    of all but the reference further apart.
    """
    labels = np.arange(people) % 2
    features = generator.normal(size=(people, n_methods + 1)) + labels[:, None] * (1 + effect * (np.arange(n_methods + 1) > 0))
    scores = []
    for _ in range(RUNS):
        shuffled = generator.permutation(people)
        test, train = shuffled[: people // 5], shuffled[people // 5 :]
        threshold = (features[train][labels[train] == 0].mean(axis=0) + features[train][labels[train] == 1].mean(axis=0)) / 2
        right = (features[test] > threshold) == labels[test][:, None]
        scores.append((right[labels[test] == 0].mean(axis=0) + right[labels[test] == 1].mean(axis=0)) / 2)
    return tidy({f"m{method}": list(column) for method, column in enumerate(np.transpose(scores))}, "score")


def claims(
    ratios: tuple[float, ...], *, n_methods: int, trials: int, effect: float = 0.0, people: int = 100, signs: tuple[int, ...] = (1, -1)
) -> list[int]:
    """For each ratio, in how many of the same studies the test claims an effect, of one of these signs."""
    generator = np.random.default_rng(5)
    claimed = [0] * len(ratios)
    for _ in range(trials):
        differences = paired_differences(simulated(generator, n_methods, effect, people), "score", "m0")
        for place, ratio in enumerate(ratios):
            tests = [corrected_t_test(differences[method], ratio) for method in differences]
            corrected = holm([test.p for test in tests])
            claimed[place] += any(p <= 0.05 and np.sign(test.mean) in signs for test, p in zip(tests, corrected, strict=True))
    return claimed


@pytest.mark.parametrize("n_methods", [1, 4])
def test_no_effect_is_claimed_more_often_than_the_level_allows(n_methods):
    trials = 300
    corrected, student = claims((RATIO, 0.0), n_methods=n_methods, trials=trials)
    # The bound that a procedure of level 0.05 exceeds once in a thousand times.
    bound = stats.binom.isf(0.001, trials, 0.05)
    assert corrected <= bound
    # The same studies, taken for so many independent cohorts.
    assert student > 3 * bound


def test_the_level_is_kept_exactly_where_scores_are_means_over_the_test_side():
    """Runs that share n_test of n participants correlate by n_test / n: there the correction is exact (Nadeau and Bengio 2003, sec. 3)."""
    generator = np.random.default_rng(3)
    trials, people = 4000, 50
    claimed = 0
    for _ in range(trials):
        advantage = generator.normal(size=people)
        tests = np.argsort(generator.random((RUNS, people)), axis=1)[:, : people // 5]
        claimed += corrected_t_test(advantage[tests].mean(axis=1), RATIO).p <= 0.05
    assert stats.binom.isf(0.999, trials, 0.05) <= claimed <= stats.binom.isf(0.001, trials, 0.05)


def test_a_real_effect_is_found():
    # With classes 2.5 standard deviations apart instead of 1, balanced accuracy is 89 % instead of 69 %. The standard error over the 200
    # participants is 4 points, so nearly every study shows it.
    assert claims((RATIO,), n_methods=1, trials=50, effect=1.5, people=200, signs=(1,))[0] >= 45


def test_the_detectable_difference_is_detected_with_that_power():
    generator = np.random.default_rng(0)
    df, se, level, trials = 7, 0.02, 0.01, 20_000
    effect = detectable_difference(se, df, level=level, power=0.8)
    estimates = effect + se * generator.normal(size=trials)
    errors = se * np.sqrt(generator.chisquare(df, trials) / df)
    claimed = np.mean(estimates / errors > stats.t.isf(level / 2, df))
    assert claimed == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / trials))
    # With many degrees of freedom it is the textbook's (1.96 + 0.84) standard errors.
    assert detectable_difference(1, 1e5) == pytest.approx(2.802, abs=1e-3)
