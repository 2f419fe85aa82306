"""How well a classifier does: of all, and of each label (from scikit-learn).

A score that the test set cannot give is NaN, never 0: see ``scores``.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support, roc_auc_score, roc_curve

UNDEFINED: Any = 0  # scikit-learn's types know no number here
ROUNDING = 1e-12  # two balanced accuracies that differ by less are alike


def scores(probabilities: ArrayLike, labels: ArrayLike, classes: Sequence[str], *, threshold: float | None = None) -> dict[str, float]:
    """The scores of one test set, by flat names that can be a table's columns.

    The predicted class is the most probable one, the first of them in a tie; of two classes that is a threshold of 0.5.

    Parameters
    ----------
    probabilities : array_like
        ``(n, n_classes)``, rows add up to 1.
    labels : array_like
        ``(n,)`` of integers: the true classes, as places in ``classes``.
    classes : sequence of str
        The labels, in the order of the probabilities' columns.
    threshold : float, optional
        Of two classes: the probability of the second from which on it is predicted, chosen on other images (``choose_threshold``).

    Returns
    -------
    dict
        ``balanced_accuracy``
            The mean of the classes' recalls; NaN where the test set lacks a class.
        ``accuracy``
            The share of images that are predicted right.
        ``roc_auc``
            The area under the curve of each class against the rest, averaged over the classes alike. Of two classes it is the one area
            there is, whichever is called positive. NaN where the test set lacks a class.
        ``brier``
            The Brier score: the mean over images of the squared error of their probabilities, summed over the classes and halved, so that
            it is 0 where all is sure and right and 1 where all is sure and wrong, for any number of classes; the lower the better.
        ``balanced_accuracy_tuned``, ``f1_LABEL_tuned``
            With ``threshold``: what they are at it.
        ``precision_LABEL``, ``recall_LABEL``, ``f1_LABEL``
            Scores of each label, NaN where the test set lacks it. One that is there and never predicted has precision and F1 0, which is
            scikit-learn's convention: the mean over runs must not leave out the runs that failed.
        ``confusion_TRUE_as_PREDICTED``
            How many images of one label were predicted as another, or as itself.

    Raises
    ------
    ValueError
        If the arguments do not fit together, there is no image, or a probability is no number.
    """
    probabilities, labels, predicted = _checked(probabilities, labels, classes)
    places = np.arange(len(classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=places, average=None, zero_division=UNDEFINED
    )
    present = np.asarray(support) > 0
    complete = bool(present.all())
    areas = [roc_auc_score(labels == place, ranked) for place, ranked in _rankings(probabilities)] if complete else [math.nan]
    result = {
        "balanced_accuracy": float(np.mean(recall)) if complete else math.nan,
        "accuracy": float(accuracy_score(labels, predicted)),
        "roc_auc": float(np.mean(areas)),
        "brier": float(((probabilities - np.eye(len(classes))[labels]) ** 2).sum(axis=1).mean() / 2),
    }
    for place, name in enumerate(classes):
        for score, values in (("precision", precision), ("recall", recall), ("f1", f1)):
            result[f"{score}_{name}"] = float(np.asarray(values)[place]) if present[place] else math.nan
    matrix = confusion_matrix(labels, predicted, labels=places)
    for true, name in enumerate(classes):
        for guess, other in enumerate(classes):
            result[f"confusion_{name}_as_{other}"] = int(matrix[true, guess])
    if threshold is not None:
        result |= _tuned(probabilities, labels, classes, threshold)
    return result


def choose_threshold(probabilities: ArrayLike, labels: ArrayLike) -> float | None:
    """The probability of the second of two classes from which on predicting it gives the best balanced accuracy on these images.

    Every threshold between two neighbouring probabilities does alike; it is the middle between them that is chosen and, where several such
    intervals are best, of the one in the middle.

    Parameters
    ----------
    probabilities : array_like
        ``(n, n_classes)``, of images that neither train nor test.
    labels : array_like
        ``(n,)`` of integers.

    Returns
    -------
    float or None
        In [0, 1]. None for more than two classes, or where one of the two is missing.
    """
    probabilities, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if probabilities.shape[1] != 2 or len(np.unique(labels)) < 2:
        return None
    second = probabilities[:, 1]
    false_alarms, recalls, starts = roc_curve(labels, second, drop_intermediate=False)
    balanced = recalls - false_alarms
    best = np.flatnonzero(balanced >= balanced.max() - ROUNDING)
    place = best[(len(best) - 1) // 2]
    # From ``starts[place]`` on, and above the next lower probability.
    above = min(starts[place], 1.0)
    below = starts[place + 1] if place + 1 < len(starts) else 0.0
    return float((above + below) / 2)


def _tuned(probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], threshold: float) -> dict[str, float]:
    """Scores of two classes at a threshold."""
    if len(classes) != 2:
        raise ValueError(f"a threshold tells two classes apart, not {len(classes)}")
    predicted = (probabilities[:, 1] >= threshold).astype(int)
    _, recall, f1, support = (
        np.asarray(values)
        for values in precision_recall_fscore_support(labels, predicted, labels=[0, 1], average=None, zero_division=UNDEFINED)
    )
    result = {"balanced_accuracy_tuned": float(recall.mean()) if support.all() else math.nan}
    return result | {f"f1_{name}_tuned": float(f1[place]) if support[place] else math.nan for place, name in enumerate(classes)}


def _rankings(probabilities: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """For each class what ranks the images; of two classes one does for both, their log-odds: a softmax is rounded to 1, not to 0."""
    if probabilities.shape[1] == 2:
        first, second = np.log(np.maximum(probabilities, np.finfo(float).tiny)).T
        return [(1, second - first)]
    return list(enumerate(probabilities.T))


def _checked(probabilities: ArrayLike, labels: ArrayLike, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities in float64, true classes, predicted classes."""
    probabilities, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if not len(labels) or probabilities.shape != (len(labels), len(classes)) or len(set(classes)) < len(classes):
        raise ValueError(
            f"{len(labels)} labels and {len(classes)} different classes do not fit probabilities of shape {probabilities.shape}"
        )
    if labels.min() < 0 or labels.max() >= len(classes) or not np.isfinite(probabilities).all():
        raise ValueError(f"labels must lie in [0, {len(classes)}), and probabilities must be finite")
    return probabilities, labels, probabilities.argmax(axis=1)
