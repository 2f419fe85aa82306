"""What each person who was tested adds to a score: the values behind ROC AUC and balanced accuracy.

A score of a test side is, to first order, the sum over classes of the mean of one value a person. For ROC AUC these are DeLong's placement
values (DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44): the share of the other class that a person is on the right side of.
For balanced accuracy they are whether the person was told rightly.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Score = Literal["roc_auc", "balanced_accuracy"]


def person_values(
    score: Score, probabilities: NDArray[np.float64], predicted: NDArray[np.intp], labels: NDArray[np.intp]
) -> tuple[float, NDArray[np.float64]]:
    """A score of one test side, and each person's value.

    Parameters
    ----------
    score : {"roc_auc", "balanced_accuracy"}
        Of more than two classes, ROC AUC is the mean of each class against the rest.
    probabilities : array (n, classes)
        One person a row.
    predicted, labels : array (n,)
        Places of classes; each has a person at least.

    Returns
    -------
    float, array (n,)
        The values of a class vary about their mean as the score does with who of the class was tested.
    """
    n_classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=n_classes)
    if score == "balanced_accuracy":
        right = (predicted == labels) / n_classes
        return float(np.sum(np.bincount(labels, right, n_classes) / counts)), right
    positives = [1] if n_classes == 2 else range(n_classes)
    areas, values = [], np.zeros(len(labels))
    for place in positives:
        positive = labels == place
        placed = placements(_ranked_by(probabilities, place), positive)
        areas.append(placed[positive].mean())
        # All who are not of the class are one group, of which each class is a part.
        values += placed * np.where(positive, 1, counts[labels] / (~positive).sum()) / len(positives)
    return float(np.mean(areas)), values


def _ranked_by(probabilities: NDArray[np.float64], place: int) -> NDArray[np.float64]:
    """What ranks people for a class: of two classes the log-odds, because a softmax is rounded to 1, not to 0."""
    if probabilities.shape[1] > 2:
        return probabilities[:, place]
    first, second = np.log(np.maximum(probabilities, np.finfo(float).tiny)).T
    return np.round(second - first, 9)  # what was equal stays so


def placements(ranked_by: NDArray[np.float64], positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of each person the share of the other group that is on the right side of him; a tie counts half."""
    values = np.empty(len(ranked_by))
    values[positive] = _share_below(ranked_by[positive], ranked_by[~positive])
    values[~positive] = 1 - _share_below(ranked_by[~positive], ranked_by[positive])
    return values


def _share_below(mine: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    ranked = np.sort(others)
    return (np.searchsorted(ranked, mine, "left") + np.searchsorted(ranked, mine, "right")) / (2 * len(others))
