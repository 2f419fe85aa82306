"""Scores against scikit-learn on made predictions, and against what a hand computes."""

import math

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, classification_report, f1_score, roc_auc_score

from tinycohort.classifiers.performance import choose_threshold, scores

# Two classes, by hand: of 3 AD two are found, of 5 CN four.
LABELS = np.array([0, 0, 0, 1, 1, 1, 1, 1])
P_AD = np.array([0.9, 0.8, 0.3, 0.7, 0.4, 0.2, 0.1, 0.05])
PROBABILITIES = np.stack([P_AD, 1 - P_AD], axis=1)
CLASSES = ("AD", "CN")


def made(n_classes: int, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that know something of the labels."""
    generator = np.random.default_rng(n_classes)
    labels = np.arange(n) % n_classes
    logits = generator.normal(size=(n, n_classes)) + np.eye(n_classes)[labels]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), labels


def test_two_classes_are_what_a_hand_computes():
    found = scores(PROBABILITIES, LABELS, CLASSES)
    # Of the 15 pairs of an AD and a CN, two are in the wrong order: 0.3 lies below 0.7 and 0.4.
    assert found == pytest.approx(
        {
            "balanced_accuracy": (2 / 3 + 4 / 5) / 2,
            "accuracy": 6 / 8,
            "roc_auc": 13 / 15,
            "brier": (0.1**2 + 0.2**2 + 0.7**2 + 0.7**2 + 0.4**2 + 0.2**2 + 0.1**2 + 0.05**2) / 8,
            "precision_AD": 2 / 3,
            "recall_AD": 2 / 3,
            "f1_AD": 2 / 3,
            "precision_CN": 4 / 5,
            "recall_CN": 4 / 5,
            "f1_CN": 4 / 5,
            "confusion_AD_as_AD": 2,
            "confusion_AD_as_CN": 1,
            "confusion_CN_as_AD": 1,
            "confusion_CN_as_CN": 4,
        }
    )


def test_rows_of_the_confusion_matrix_are_the_truth():
    # Two mistakes of one kind and none of the other: a transposed matrix, or precision for recall, would show.
    probabilities = np.array([[0.1, 0.9], [0.2, 0.8], [0.9, 0.1], [0.3, 0.7]])
    found = scores(probabilities, [0, 0, 0, 1], CLASSES)
    assert (found["confusion_AD_as_CN"], found["confusion_CN_as_AD"]) == (2, 0)
    assert found["recall_AD"] == pytest.approx(1 / 3)
    assert found["precision_AD"] == 1
    assert found["recall_CN"] == 1
    assert found["precision_CN"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_scores_are_those_of_scikit_learn(n_classes):
    probabilities, labels = made(n_classes)
    classes = [f"class {place}" for place in range(n_classes)]
    found = scores(probabilities, labels, classes)
    predicted = probabilities.argmax(axis=1)
    report = classification_report(labels, predicted, target_names=classes, output_dict=True, zero_division=0)
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert found["accuracy"] == pytest.approx(report["accuracy"])
    given = probabilities[:, 1] if n_classes == 2 else probabilities
    assert found["roc_auc"] == pytest.approx(roc_auc_score(labels, given, multi_class="ovr", average="macro"))
    for name in classes:
        assert [found[f"{score}_{name}"] for score in ("precision", "recall", "f1")] == pytest.approx(
            [report[name][score] for score in ("precision", "recall", "f1-score")]
        )
    assert sum(count for name, count in found.items() if name.startswith("confusion")) == len(labels)


def test_the_area_of_two_classes_does_not_ask_which_is_positive():
    swapped = scores(PROBABILITIES[:, ::-1], 1 - LABELS, CLASSES[::-1])
    assert swapped["roc_auc"] == pytest.approx(scores(PROBABILITIES, LABELS, CLASSES)["roc_auc"])


def test_an_absent_class_has_no_scores_and_the_others_keep_theirs():
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]])
    found = scores(probabilities, [0, 1, 1], ("AD", "CN", "MCI"))
    absent = {name for name, value in found.items() if math.isnan(value)}
    # MCI was predicted once: that is an error of the classifier's, but no precision of a class that is not there.
    assert absent == {"balanced_accuracy", "roc_auc", "precision_MCI", "recall_MCI", "f1_MCI"}
    assert (found["recall_AD"], found["recall_CN"], found["confusion_CN_as_MCI"]) == (1, 0.5, 1)
    assert found["accuracy"] == pytest.approx(2 / 3)


def test_a_class_that_is_there_and_never_predicted_scores_nothing():
    found = scores(np.tile([0.1, 0.9], (4, 1)), [0, 1, 1, 1], CLASSES)
    assert (found["precision_AD"], found["recall_AD"], found["f1_AD"]) == (0, 0, 0)
    assert (found["balanced_accuracy"], found["accuracy"], found["roc_auc"]) == (0.5, 0.75, 0.5)


def test_the_columns_depend_on_the_classes_alone():
    assert list(scores(PROBABILITIES, LABELS, CLASSES)) == list(scores(PROBABILITIES[:1], LABELS[:1], CLASSES))


@pytest.mark.parametrize("n_classes", [2, 5])
def test_the_brier_score_goes_from_sure_and_right_to_sure_and_wrong(n_classes):
    labels = np.arange(10) % n_classes
    classes = [str(place) for place in range(n_classes)]
    right = np.eye(n_classes)[labels]
    assert scores(right, labels, classes)["brier"] == 0
    assert scores(np.roll(right, 1, axis=1), labels, classes)["brier"] == 1
    assert scores(np.full((10, n_classes), 1 / n_classes), labels, classes)["brier"] == pytest.approx((1 - 1 / n_classes) / 2)


def test_the_brier_score_of_two_classes_is_scikit_learns():
    probabilities, labels = made(2)
    assert scores(probabilities, labels, CLASSES)["brier"] == pytest.approx(brier_score_loss(labels, probabilities[:, 1]))


# Thresholds


@pytest.mark.parametrize("seed", range(20))
def test_no_threshold_is_better_balanced_than_the_one_that_is_chosen(seed):
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(30) < 8).astype(int)
    second = np.round(generator.beta(1 + labels, 4), 2)  # far from balanced at 0.5, with ties
    probabilities = np.stack([1 - second, second], axis=1)
    threshold = choose_threshold(probabilities, labels)
    assert threshold is not None
    reached = {place: balanced_accuracy_score(labels, second >= place) for place in [threshold, *np.linspace(0, 1.01, 500)]}
    assert reached[threshold] == pytest.approx(max(reached.values()))
    found = scores(probabilities, labels, CLASSES, threshold=threshold)
    assert found["balanced_accuracy_tuned"] == pytest.approx(reached[threshold])
    f1 = f1_score(labels, second >= threshold, average=None)
    assert [found["f1_AD_tuned"], found["f1_CN_tuned"]] == pytest.approx(list(f1))
    assert {name: value for name, value in found.items() if "tuned" not in name} == scores(probabilities, labels, CLASSES)


@pytest.mark.parametrize(
    ("second", "labels", "expected"),
    [
        ([0.1, 0.2, 0.6, 0.9], [0, 0, 1, 1], 0.4),  # midway between those that it tells apart
        ([0.1, 0.2, 0.3, 0.4, 0.5], [0, 1, 0, 1, 1], 0.35),  # alone the best: two of three and all of two
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0, 1, 0, 1, 0, 1], 0.35),  # after 0.1, 0.3 or 0.5 alike: the middle one
    ],
)
def test_the_threshold_is_in_the_middle(second, labels, expected):
    probabilities = np.stack([1 - np.array(second), second], axis=1)
    assert choose_threshold(probabilities, labels) == pytest.approx(expected)


def test_a_threshold_of_a_half_changes_nothing():
    found = scores(PROBABILITIES, LABELS, CLASSES, threshold=0.5)
    assert found["balanced_accuracy_tuned"] == found["balanced_accuracy"]
    assert (found["f1_AD_tuned"], found["f1_CN_tuned"]) == (found["f1_AD"], found["f1_CN"])


def test_where_there_is_no_choice_there_is_no_threshold():
    assert choose_threshold(*made(3)) is None
    assert choose_threshold(PROBABILITIES[:3], LABELS[:3]) is None
    probabilities, labels = made(3)
    with pytest.raises(ValueError, match="two classes"):
        scores(probabilities, labels, ("a", "b", "c"), threshold=0.5)
    alone = scores(PROBABILITIES[:3], LABELS[:3], CLASSES, threshold=0.4)
    assert math.isnan(alone["balanced_accuracy_tuned"])
    assert math.isnan(alone["f1_CN_tuned"])
    assert alone["f1_AD_tuned"] == pytest.approx(4 / 5)


@pytest.mark.parametrize(
    ("probabilities", "labels", "classes"),
    [
        (PROBABILITIES, LABELS[:-1], CLASSES),
        (PROBABILITIES, LABELS, ("AD", "CN", "MCI")),
        (PROBABILITIES, LABELS + 1, CLASSES),
        (PROBABILITIES, LABELS, ("AD", "AD")),
        (PROBABILITIES[:0], LABELS[:0], CLASSES),
        (PROBABILITIES * math.nan, LABELS, CLASSES),
    ],
)
def test_what_does_not_fit_together_is_refused(probabilities, labels, classes):
    with pytest.raises(ValueError, match=r"fit|must"):
        scores(probabilities, labels, classes)


def test_two_classes_have_one_area_even_where_a_softmax_is_rounded_to_1():
    odds = np.array([12.0, 25, 18, 30, 20, 40])
    labels = np.array([0, 0, 1, 1, 0, 1])
    first = 1 / (1 + np.exp(odds))
    probabilities = np.stack([first, 1 - first], axis=1).astype(np.float32)
    assert (probabilities[:, 1] == 1).sum() > 3
    assert scores(probabilities, labels, ["a", "b"])["roc_auc"] == roc_auc_score(labels, odds)
