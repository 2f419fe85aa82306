"""Probabilities out of fold: nobody is judged by a network that knows them."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tinycohort.classifiers.folds import out_of_fold_probabilities
from tinycohort.datasets.common.errors import DataError

PEOPLE = np.repeat([f"person {number:02d}" for number in range(15)], 2)  # two images each
LABELS = torch.tensor(np.repeat(np.arange(15) < 5, 2).astype(int))
IMAGES = torch.arange(30.0).reshape(30, 1, 1, 1).expand(30, 1, 4, 4)  # an image is its own number


class Remembering(nn.Module):
    """Sure of class 1 for the images that it was trained on, and of class 0 for all others."""

    def __init__(self, rows: np.ndarray):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.rows = torch.from_numpy(rows)

    def forward(self, x: Tensor) -> Tensor:
        known = torch.isin(x[:, 0, 0, 0].long(), self.rows).float()
        return torch.stack([-20 * known + 10, 20 * known - 10], dim=1)


@pytest.mark.parametrize("n_folds", [2, 3, 5])
def test_nobody_is_judged_by_a_network_that_knows_them(n_folds):
    trained_on: list[np.ndarray] = []

    def train(rows: np.ndarray) -> nn.Module:
        trained_on.append(rows)
        return Remembering(rows)

    found = out_of_fold_probabilities(train, IMAGES, LABELS, PEOPLE, n_folds=n_folds, seed=1)
    assert found.shape == (30, 2)
    assert (found[:, 1] < 0.01).all()
    assert len(trained_on) == n_folds
    for rows in trained_on:
        others = np.setdiff1d(np.arange(30), rows)
        assert not set(PEOPLE[rows]) & set(PEOPLE[others])
        assert abs(float(LABELS[others].float().mean()) - 1 / 3) < 0.2  # classes are shared alike
    again: list[np.ndarray] = []
    out_of_fold_probabilities(lambda rows: again.append(rows) or Remembering(rows), IMAGES, LABELS, PEOPLE, n_folds=n_folds, seed=1)
    assert all(np.array_equal(*pair) for pair in zip(trained_on, again, strict=True))


def test_rows_stay_in_their_order():
    class Telling(Remembering):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([torch.zeros(len(x)), x[:, 0, 0, 0]], dim=1)

    found = out_of_fold_probabilities(Telling, IMAGES, LABELS, PEOPLE, n_folds=3, seed=0)
    assert np.log(found[:12, 1] / found[:12, 0]) == pytest.approx(np.arange(12), rel=0.02, abs=1e-4)


def test_too_few_people_for_the_folds_are_told():
    with pytest.raises(DataError, match="one class has 5"):
        out_of_fold_probabilities(Remembering, IMAGES, LABELS, PEOPLE, n_folds=6, seed=0)
