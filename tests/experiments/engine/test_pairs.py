"""The paired test over people and runs: laws, a known variance, and simulated studies in which nothing is to be found."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from tinycohort.experiments.engine.pairs import paired

CLASSES = ("AD", "CN")


def predictions(
    seed: int, *, runs: int = 8, people: int = 60, classes: tuple[str, ...] = CLASSES, share: float = 1.0, apart: float = 1.0
) -> pd.DataFrame:
    """Whom a run tests depends on the run alone, so that tables of two seeds are a pair."""
    rng, tables = np.random.default_rng(seed), []
    labels = np.arange(people) % len(classes)
    for run in range(runs):
        tested = np.random.default_rng(run).random(people) < share
        logits = rng.normal(size=(people, len(classes))) + apart * np.eye(len(classes))[labels]
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        table = pd.DataFrame(probabilities, columns=[f"p_{label}" for label in classes])
        who = {"run": run, "participant_id": [f"s{i:03d}" for i in range(people)], "label": np.array(classes)[labels]}
        tables.append(table.assign(**who)[tested])
    return pd.concat(tables, ignore_index=True)


def areas(table: pd.DataFrame) -> np.ndarray:
    return np.array([roc_auc_score(run["label"] == "CN", run["p_CN"]) for _, run in table.groupby("run")])


def test_the_estimate_is_the_mean_over_runs_of_the_difference_in_the_run():
    ours, theirs = predictions(1, share=0.6), predictions(2, share=0.6, apart=0.2)
    effect = paired(ours, theirs, CLASSES)
    assert effect.estimate == pytest.approx((areas(ours) - areas(theirs)).mean())
    assert effect.p < 0.05


def test_where_runs_repeat_each_other_the_peoples_part_is_delongs_variance():
    """Each run is the same predictions: then nothing varies but people, and their part is that of one run."""
    (ours, theirs) = (predictions(seed, runs=1) for seed in (1, 2))
    one, other = (pd.concat([table.assign(run=run) for run in range(6)]) for table in (ours, theirs))
    effect = paired(one, other, CLASSES)
    # DeLong's variance of paired areas by its definition: covariances of the shares of the other class that lie on the right side.
    placed = {}
    for label, other_label, sign in (("CN", "AD", 1), ("AD", "CN", -1)):
        of_methods = []
        for table in (ours, theirs):
            mine, others = (table.loc[table["label"] == name, "p_CN"].to_numpy() for name in (label, other_label))
            of_methods.append(np.mean(sign * (mine[:, None] - others[None, :]) > 0, axis=1))
        placed[label] = of_methods
    by_class = {label: np.cov(*pair) / len(pair[0]) for label, pair in placed.items()}
    delong = sum(found[0, 0] + found[1, 1] - 2 * found[0, 1] for found in by_class.values())
    assert effect.components is not None
    of_people = sum(effect.components.people[label] / effect.n_people[label] for label in CLASSES)
    assert of_people == pytest.approx(delong, rel=0.01)
    # All are tested in all runs: 2 more.
    assert effect.se**2 == pytest.approx(3 * delong, rel=0.01)


@pytest.mark.parametrize("score", ["roc_auc", "balanced_accuracy"])
def test_the_other_way_round_it_is_the_other_sign(score):
    ours, theirs = predictions(1, share=0.5), predictions(2, share=0.5)
    there, back = paired(ours, theirs, CLASSES, score), paired(theirs, ours, CLASSES, score)
    assert back.estimate == pytest.approx(-there.estimate)
    assert (back.se, back.p) == pytest.approx((there.se, there.p))
    swapped = paired(ours, theirs, CLASSES[::-1], score)
    assert (swapped.estimate, swapped.se) == pytest.approx((there.estimate, there.se))


def test_areas_know_ranks_alone_and_rows_have_no_order():
    ours, theirs = predictions(1, share=0.5), predictions(2, share=0.5)
    moved = ours.assign(p_CN=ours["p_CN"] ** 3 / 2, p_AD=1 - ours["p_CN"] ** 3 / 2).sample(frac=1, random_state=3)
    expected, found = paired(ours, theirs, CLASSES), paired(moved, theirs, CLASSES)
    assert (found.estimate, found.se, found.df) == pytest.approx((expected.estimate, expected.se, expected.df))


def test_a_threshold_of_its_own_decides_who_was_told_rightly():
    ours, theirs = predictions(1), predictions(2)
    perfect = ours.assign(predicted=ours["label"])
    effect = paired(perfect, theirs, CLASSES, "balanced_accuracy")
    right = theirs[["p_AD", "p_CN"]].to_numpy().argmax(axis=1) == (theirs["label"] == "CN")
    recalls = right.groupby([theirs["run"], theirs["label"]]).mean()
    assert effect.estimate == pytest.approx(1 - recalls.groupby("run").mean().mean())


def test_three_classes():
    classes = ("AD", "CN", "MCI")
    ours, theirs = predictions(1, people=90, classes=classes), predictions(2, people=90, classes=classes, apart=0.2)
    effect = paired(ours, theirs, classes)
    assert set(effect.n_people.items()) == {("AD", 30), ("CN", 30), ("MCI", 30)}
    means = [
        np.mean(
            [np.mean([roc_auc_score(run["label"] == label, run[f"p_{label}"]) for label in classes]) for _, run in table.groupby("run")]
        )
        for table in (ours, theirs)
    ]
    assert effect.estimate == pytest.approx(means[0] - means[1])
    assert effect.interval()[0] > 0


def test_runs_without_a_pair_are_left_out_and_counted():
    ours, theirs = predictions(1), predictions(2)
    without = ours[~((ours["run"] == 3) & (ours["label"] == "AD"))], theirs[~((theirs["run"] == 3) & (theirs["label"] == "AD"))]
    found = paired(without[0][without[0]["run"] != 0], without[1], CLASSES)
    kept = paired(*(table[~table["run"].isin([0, 3])] for table in (ours, theirs)), CLASSES)
    assert (found.n_runs, found.unpaired) == (6, 2)  # one has no scores of ours, in the other a class is missing
    assert (found.estimate, found.se) == pytest.approx((kept.estimate, kept.se))


def test_too_little_is_no_test():
    ours, theirs = predictions(1), predictions(2)
    four = paired(ours[ours["run"] < 4], theirs[theirs["run"] < 4], CLASSES)
    assert four.why_untested == "it takes 5 runs with a score of both, and there are 4"
    assert math.isfinite(four.estimate)
    assert all(math.isnan(value) for value in (four.p, *four.interval(), four.detectable()))
    few = paired(predictions(1, people=19), predictions(2, people=19), CLASSES)
    assert few.why_untested == "it takes 10 tested people of each class, and there are 9 CN"
    same = paired(ours, ours, CLASSES)
    assert same.why_untested == "nobody is told differently by the two"
    assert (same.estimate, math.isnan(same.p), math.isnan(same.interval()[0])) == (0, True, True)
    none = paired(ours[ours["run"] < 4], theirs[theirs["run"] >= 4], CLASSES)
    assert (none.n_runs, none.unpaired, none.why_untested) == (0, 8, "no run has a score of both")


def test_intervals_stay_where_differences_can_be():
    ours, theirs = (predictions(seed, people=20, runs=5, apart=apart) for seed, apart in ((1, 9), (2, -1)))
    low, high = paired(ours, theirs, CLASSES).interval(0.0001)
    assert low < high == 1


def test_what_is_no_pair():
    ours, theirs = predictions(1), predictions(2)
    with pytest.raises(ValueError, match="same people"):
        paired(ours[1:], theirs, CLASSES)
    with pytest.raises(ValueError, match="one row a person"):
        paired(pd.concat([ours, ours]), pd.concat([theirs, theirs]), CLASSES)
    with pytest.raises(ValueError, match="one label of AD, CN"):
        paired(ours.replace({"label": {"AD": "MCI"}}), theirs.replace({"label": {"AD": "MCI"}}), CLASSES)


def simulated(rng: np.random.Generator, regime: str, null: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One study of two classifiers of equal worth, refitted in every run: the difference of the training means as weights, on features
    of its own or, if ``null`` is ``seeds``, on the same features with another resample of the training side."""
    people, features, runs = 60, 6, 10
    labels = np.arange(people) % 2
    blocks = rng.normal(size=(2, people, features)) + 0.4 * labels[:, None]
    if null == "seeds":
        blocks[1] = blocks[0]
    tables: tuple[list[pd.DataFrame], list[pd.DataFrame]] = ([], [])
    for run in range(runs):
        shuffled = np.concatenate([rng.permutation(np.flatnonzero(labels == label)).reshape(10, -1) for label in (0, 1)], axis=1)
        train = shuffled[: 3 if regime == "few" else 7].ravel()
        test = shuffled[3:].ravel() if regime == "few" else shuffled[8:].ravel()
        for block, found in zip(blocks, tables, strict=True):
            taught = rng.choice(train, len(train)) if null == "seeds" else train
            weights = block[taught][labels[taught] == 1].mean(axis=0) - block[taught][labels[taught] == 0].mean(axis=0)
            second = 1 / (1 + np.exp(-block[test] @ weights))
            who = {"run": run, "participant_id": test, "label": np.array(CLASSES)[labels[test]]}
            found.append(pd.DataFrame({**who, "p_AD": 1 - second, "p_CN": second}))
    return pd.concat(tables[0]), pd.concat(tables[1])


def of_another_cohort(rng: np.random.Generator, learnt: int, cohort: tuple[int, int], tested: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """As ``simulated``, on features of their own: every run learns from so many of a class of a cohort, and tests people of another."""
    features, tables = 6, ([], [])
    labels = np.repeat([0, 1, 0, 1], [*cohort, tested, tested])
    blocks = rng.normal(size=(2, len(labels), features)) + 0.4 * labels[:, None]
    test = np.arange(sum(cohort), len(labels))
    for run in range(10):
        train = np.concatenate([rng.permutation(cohort[0])[:learnt], cohort[0] + rng.permutation(cohort[1])[:learnt]])
        for block, found in zip(blocks, tables, strict=True):
            weights = block[train][labels[train] == 1].mean(axis=0) - block[train][labels[train] == 0].mean(axis=0)
            second = 1 / (1 + np.exp(-block[test] @ weights))
            who = {"run": run, "participant_id": test, "label": np.array(CLASSES)[labels[test]]}
            found.append(pd.DataFrame({**who, "p_AD": 1 - second, "p_CN": second}))
    return pd.concat(tables[0]), pd.concat(tables[1])


@pytest.mark.parametrize(("learnt", "cohort"), [(16, (20, 20)), (12, (40, 40)), (14, (20, 600))])
def test_many_people_of_another_cohort_do_not_hide_that_all_runs_learn_from_a_small_one(learnt, cohort):
    rng, trials = np.random.default_rng(4), 100
    claims = []
    for _ in range(trials):
        tables = of_another_cohort(rng, learnt, cohort, tested=500)
        claims.append([paired(*tables, CLASSES, drawn=drawn).p <= 0.05 for drawn in (learnt / min(cohort), None)])
    known, unknown = np.sum(claims, axis=0)
    assert known <= stats.binom.isf(0.001, trials, 0.05)
    if cohort == (20, 20):
        assert unknown > 0.1 * trials  # what taking them for people who teach claims


def test_runs_that_all_learn_from_the_same_people_give_no_verdict_on_others():
    tables = of_another_cohort(np.random.default_rng(0), 20, (20, 20), tested=30)
    effect = paired(*tables, CLASSES, drawn=1.0)
    assert effect.why_untested == "the runs do not draw who is learnt from"
    assert np.isnan(effect.p)


@pytest.mark.parametrize("regime", ["split", "few"])
@pytest.mark.parametrize("null", ["blocks", "seeds"])
def test_methods_of_equal_worth_are_told_apart_no_more_often_than_the_level_allows(regime, null):
    rng, trials = np.random.default_rng(4), 120
    claimed = sum(paired(*simulated(rng, regime, null), CLASSES).p <= 0.05 for _ in range(trials))
    # The bound that a procedure of level 0.05 exceeds once in a thousand times.
    assert claimed <= stats.binom.isf(0.001, trials, 0.05)
