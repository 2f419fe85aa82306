"""Methods that generate nothing: what a synthetic cohort has to beat."""

from collections.abc import Sequence

import numpy as np

from ...classifiers.covariates import CATEGORICAL, CovariateClassifier, available, categories
from ...classifiers.training import balancing_weights
from ...datasets.cohort import Cohort
from ...datasets.common.errors import DataError
from .method import Run, TrainingSet


def original(run: Run) -> TrainingSet:
    """The real images as they are."""
    return TrainingSet(run.train.images, run.train.labels)


def weighted(run: Run) -> TrainingSet:
    """The real images as they are; every class counts alike."""
    return TrainingSet(run.train.images, run.train.labels, class_weights=balancing_weights(run.train.labels, len(run.data.classes)))


def resampled(run: Run) -> TrainingSet:
    """The real images, repeated until every class has as many."""
    rows = balanced_rows(run.train.labels.numpy(), np.random.default_rng(run.seed))
    return TrainingSet(run.train.images[rows], run.train.labels[rows])


def covariates(run: Run) -> CovariateClassifier:
    """A classifier of age and sex."""
    return CovariateClassifier.fit(run.train.table, run.data.classes)


def require_covariates(cohort: Cohort, tests: Sequence[Cohort]) -> None:
    """Raise a ``DataError`` if there is neither age nor sex, or a test cohort lacks what there is or spells it otherwise."""
    there = available(cohort.table)
    if not there:
        raise DataError(f"{cohort.source} has neither age, in numbers, nor sex; leave out the method covariates.")
    for tested in tests:
        if lacking := [name for name in there if name not in available(tested.table)]:
            raise DataError(f"{tested.source} lacks {' and '.join(lacking)}; leave out the method covariates.")
        for name in (name for name in there if name in CATEGORICAL):
            ours, theirs = (categories(of.table, name) for of in (cohort, tested))
            # A value that nobody was trained on says nothing: were all so, the classifier would toss a coin.
            if not set(theirs) <= set(ours):
                raise DataError(
                    f"{tested.source} has {', '.join(theirs)} as {name}, and {cohort.source} has {', '.join(ours)}: write them alike, or "
                    "leave out the method covariates."
                )


def balanced_rows(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows in which each class occurs as often as the largest: all of its own, whole rounds of repeats, then a random part of one."""
    counts = np.bincount(labels)
    rows = []
    for label in np.flatnonzero(counts):
        own = np.flatnonzero(labels == label)
        rounds, rest = divmod(int(counts.max()), len(own))
        rows += [np.tile(own, rounds), rng.permutation(own)[:rest]]
    return np.concatenate(rows)
