"""What a method of an augmentation study is: from the real training set of a run to what a classifier is trained on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pandas as pd
from torch import Tensor

from ...classifiers.training import Augmentation
from ...datasets.cohort import Cohort
from ...datasets.splits import Split
from ..engine.study_config import RunContext
from ..engine.study_images import Part, Prepared
from ..engine.systems import System
from .config import AugmentationConfig


@dataclass(frozen=True, eq=False)
class Run:
    """A run of a study in one mode.

    Parameters
    ----------
    context : RunContext
        Of the study.
    data : Prepared
        Its images.
    split : Split
        Who is on which side.
    number : int
        From 0. Where runs share their generators, those of run 0.
    mode : str
        What goes with generated images, of ``MODES``; of a method that generates nothing ``REAL``.
    seed : int
        Of this method, mode and run.
    """

    context: RunContext[AugmentationConfig]
    data: Prepared
    split: Split
    number: int
    mode: str
    seed: int

    @cached_property
    def train(self) -> Part:
        """The real training set."""
        return self.data.side(self.split, "train")


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """What a CNN is trained on.

    Parameters
    ----------
    images : torch.Tensor
        ``(n, 1, ...)``.
    labels : torch.Tensor
        ``(n,)``, as indices of the classes.
    class_weights : torch.Tensor, optional
        ``(n_classes,)``.
    augmentation : callable, optional
        Random changes of every batch.
    notes : mapping
        Kept in the result of the run.
    """

    images: Tensor
    labels: Tensor
    class_weights: Tensor | None = None
    augmentation: Augmentation | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


class TableClassifier(Protocol):
    """A trained classifier that sees no image."""

    def predict(self, table: pd.DataFrame) -> np.ndarray:
        """Probabilities ``(n, n_classes)`` of a cohort's rows."""
        ...


def require_nothing(cohort: Cohort, tests: Sequence[Cohort]) -> None:
    """What images alone are enough for."""


@dataclass(frozen=True)
class Method:
    """A method of an augmentation study.

    Parameters
    ----------
    title : str
        What it does, for people.
    training : callable
        From a run to what the CNN is trained on, or to a classifier without images, trained.
    generates : bool
        Whether it makes images, which are mixed with real ones in several modes.
    require : callable
        Called with the cohort and all cohorts that are tested; raises a ``DataError`` if they lack what it needs beside images.
    system : System, optional
        Whose images these are.
    """

    title: str
    training: Callable[[Run], TrainingSet | TableClassifier]
    generates: bool = False
    require: Callable[[Cohort, Sequence[Cohort]], None] = require_nothing
    system: System | None = None
