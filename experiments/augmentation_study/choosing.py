"""Which of more generated images than are wanted a classifier is trained on: by rules that know the training side alone."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics.pairwise import euclidean_distances
from torch import Tensor, nn

from ...augment.fitting.nearest import nearest_images
from ...augment.fitting.training_images import people_in
from ...augment.release.copying import Patients, screen_images
from ...augment.release.gate import Gate
from ...classifiers.training import FIXED_LENGTH, predict_probabilities, train_classifier
from ...datasets.common.compute import choose_device
from ...datasets.common.errors import DataError
from ..engine.study_folder import seed_of
from .baselines import resampled
from .method import Run
from .mode import Choice

TIMES = 2  # as many as are wanted are drawn
SUPPORT = 0.95  # of the training people: as far as they are from the nearest other one, images are supported


def chosen(images: Tensor, n: int, choice: Choice, run: Run, index: int) -> NDArray[np.intp]:
    """Rows of the ``n`` images ``(m, channels, ...)`` of a class that are kept, in their order.

    Copies of a patient are left out; where fewer than ``n`` are none, these are repeated in turn, so that every class has as many as the
    mode wants of it. ``supported``: first come those that are no farther from the training people than these are from each
    other. ``confident``: of these, first those of whose class a CNN is surest that was trained on the real training side.

    Raises
    ------
    DataError
        If every image copies a patient.
    """
    own = run.train.labels == index
    training, people = run.train.images[own], people_in(run.train.table[own.numpy()], run.train.alike)
    patients = Patients.of(training, people, choose_device(run.context.device))
    copies = screen_images(images, patients, Gate(), looks=len(images))
    among = _to_nearest_other(training, people)
    beyond = np.maximum(nearest_images(images, training)[0] - np.quantile(among, SUPPORT), 0)
    copying_nobody = np.setdiff1d(np.arange(len(images)), list(copies))
    if len(copying_nobody) == 0:
        raise DataError(f"All {len(images)} images that were drawn of {run.data.classes[index]} copy a training image: none can be chosen.")
    # numpy's lexsort takes its last key first.
    keys = [beyond]
    if choice == "confident":
        keys = [-predict_probabilities(_classifier_of(run), images)[:, index].numpy(), beyond > 0]
    best = np.lexsort([key[copying_nobody] for key in keys])
    # numpy's resize takes the first rows, or all of them again and again.
    return np.sort(np.resize(copying_nobody[best], n))


def _to_nearest_other(images: Tensor, people: Sequence[str]) -> NDArray[np.float64]:
    """Root-mean-square difference over voxels ``(n,)`` from each image to the nearest of another participant."""
    flat, whose = images.flatten(1).numpy(), np.asarray(people)
    distances = euclidean_distances(flat).astype(float) / np.sqrt(flat.shape[1])
    return np.where(whose[:, None] == whose, np.inf, distances).min(1)


def _classifier_of(run: Run) -> nn.Module:
    """One for all methods, modes and networks of a run."""
    if run.drawn.classifier is None:
        run.drawn.classifier = _trained(replace(run, seed=seed_of(run.context.config.seed, {"run": run.number, "of": "choice"})))
    return run.drawn.classifier


def _trained(run: Run) -> nn.Module:
    balanced, settings = resampled(run), replace(FIXED_LENGTH, device=run.context.device)
    return train_classifier(balanced.images, balanced.labels, None, settings, n_classes=len(run.data.classes), seed=run.seed).network
