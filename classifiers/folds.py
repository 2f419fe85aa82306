"""What a classifier says of its own training images, each time by one that was trained without them.

Where validation is too small to choose a threshold by, the threshold comes from these. It costs as many trainings as there are folds.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor, nn

from ..datasets.common.errors import DataError
from .training import predict_probabilities


def out_of_fold_probabilities(
    train: Callable[[np.ndarray], nn.Module], images: Tensor, labels: Tensor, groups: ArrayLike, *, n_folds: int = 3, seed: int
) -> np.ndarray:
    """The probabilities of every image by a network that saw nobody of its fold; nobody is in two folds, and classes are shared alike.

    Parameters
    ----------
    train : callable
        From rows of ``images`` ``(m,)`` to a network trained on them, and on nothing that was made of others.
    images, labels : torch.Tensor
        ``(n, 1, ...)`` and ``(n,)``: real ones, each once.
    groups : array_like
        ``(n,)``: the participants.
    n_folds : int
        Two or more, each of which is a training.
    seed : int
        Draws the folds.

    Returns
    -------
    numpy.ndarray
        ``(n, n_classes)`` float32.

    Raises
    ------
    DataError
        If a class has fewer people than there are folds, so that some network would not know it.
    """
    truth, people = labels.cpu().numpy(), np.asarray(groups)
    fewest = min(len(np.unique(people[truth == label])) for label in np.unique(truth))
    if fewest < n_folds:
        raise DataError(f"{n_folds} folds need as many people of each class, and one class has {fewest}; take fewer folds, or more people.")
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed % 2**32)
    found: dict[int, np.ndarray] = {}
    for rows, left_out in folds.split(truth, truth, people):
        said = predict_probabilities(train(rows), images[torch.from_numpy(left_out)])
        found |= dict(zip(left_out.tolist(), said.numpy(), strict=True))
    return np.stack([found[row] for row in range(len(truth))])
