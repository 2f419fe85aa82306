"""How well a classifier does: of all, and of each label (from scikit-learn).

A score that the test set cannot give is NaN, never 0: see ``scores``.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support, roc_auc_score

UNDEFINED: Any = 0  # scikit-learn's types know no number here


def scores(probabilities: ArrayLike, labels: ArrayLike, classes: Sequence[str]) -> dict[str, float]:
    """The scores of one test set, by flat names that can be a table's columns.

    The predicted class is the most probable one, the first of them in a tie.

    Parameters
    ----------
    probabilities : array_like
        ``(n, n_classes)``, rows add up to 1.
    labels : array_like
        ``(n,)`` of integers: the true classes, as places in ``classes``.
    classes : sequence of str
        The labels, in the order of the probabilities' columns.

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
    }
    for place, name in enumerate(classes):
        for score, values in (("precision", precision), ("recall", recall), ("f1", f1)):
            result[f"{score}_{name}"] = float(np.asarray(values)[place]) if present[place] else math.nan
    matrix = confusion_matrix(labels, predicted, labels=places)
    for true, name in enumerate(classes):
        for guess, other in enumerate(classes):
            result[f"confusion_{name}_as_{other}"] = int(matrix[true, guess])
    return result


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
