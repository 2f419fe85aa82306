"""The values behind scores, against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from tinycohort.experiments.engine.influence import person_values, placements


def forecasts(n_classes: int, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n_classes)
    labels = rng.permutation(np.arange(n) % n_classes)
    return np.round(rng.dirichlet(np.ones(n_classes), n), 1), labels  # rounded: ties


def test_placements_by_hand():
    placed = placements(np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True]))
    # The positives at 0.4 (a tie with one of two) and 0.9; the negatives at 0.1 and 0.4.
    assert placed == pytest.approx([1, 0.75, 0.75, 1])


@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_are_scikit_learns(n_classes):
    probabilities, labels = forecasts(n_classes)
    probabilities = probabilities + 0.2 * np.eye(n_classes)[labels]
    probabilities = np.round(probabilities / probabilities.sum(axis=1, keepdims=True), 6)  # what is equal, to the last digit
    predicted = probabilities.argmax(axis=1)
    areas = [roc_auc_score(labels == place, probabilities[:, place]) for place in ([1] if n_classes == 2 else range(n_classes))]
    assert person_values("roc_auc", probabilities, predicted, labels)[0] == pytest.approx(np.mean(areas))
    right, values = person_values("balanced_accuracy", probabilities, predicted, labels)
    assert right == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert sum(values[labels == place].mean() for place in range(n_classes)) == pytest.approx(right)


@pytest.mark.parametrize("score", ["roc_auc", "balanced_accuracy"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_values_are_the_derivative_of_the_score_by_a_persons_weight(score, n_classes):
    """Weighting a person of n by 1 + e, within his class, moves the score by e times his value less the class's mean, over n."""
    probabilities, labels = forecasts(n_classes)
    predicted = probabilities.argmax(axis=1)
    _, values = person_values(score, probabilities, predicted, labels)
    for person in (0, 7, 31):
        moved = [_weighted(score, probabilities, predicted, labels, person, 1 + e) for e in (-1e-4, 1e-4)]
        same = labels == labels[person]
        expected = (values[person] - values[same].mean()) / same.sum()
        assert (moved[1] - moved[0]) / 2e-4 == pytest.approx(expected, abs=1e-7)


def _weighted(score, probabilities, predicted, labels, person, weight):
    weights = np.ones(len(labels))
    weights[person] = weight
    same = labels == labels[person]
    weights[same] *= same.sum() / weights[same].sum()
    if score == "balanced_accuracy":
        return balanced_accuracy_score(labels, predicted, sample_weight=weights)
    places = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    return np.mean([roc_auc_score(labels == place, probabilities[:, place], sample_weight=weights) for place in places])
