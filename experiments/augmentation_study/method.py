"""What a method of an augmentation study is: from the real training set of a run to what a classifier is trained on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pandas as pd
from torch import Tensor, nn

from ...classifiers.augmentation import CHANGES, composed
from ...classifiers.training import Augmentation
from ...datasets.cohort import Cohort
from ...datasets.splits import Split
from ..engine.study_config import RunContext
from ..engine.study_images import Part, Prepared
from ..engine.systems import System
from .config import AugmentationConfig

Generated = tuple[Tensor, dict[str, Any]]  # images of a class, and notes on them
MOST_KEPT = 2**30  # bytes of generated images that a run keeps for its other methods


class Drawn:
    """What the methods, modes and networks of a run share: images, drawn once as long as there is room, and a classifier that chooses."""

    def __init__(self) -> None:
        self.classifier: nn.Module | None = None
        self._kept: dict[tuple[str, str, int], Generated] = {}

    def of(self, source: str, label: str, n: int, draw: Callable[[], Generated]) -> Generated:
        """What ``draw`` gives, or gave before, of a source and a class."""
        if (source, label, n) not in self._kept:
            found = draw()
            while self._kept and sum(pixels.nbytes for pixels, _ in [found, *self._kept.values()]) > MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[source, label, n] = found
        return self._kept[source, label, n]


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
        What goes with generated images, as ``Mode.parse`` reads it; of a method that generates nothing ``REAL``.
    seed : int
        Of this method, mode, size and run.
    size : str, optional
        How many people of the smallest class it learns from, where the study has several sizes.
    drawn : Drawn
        What its methods have generated.
    """

    context: RunContext[AugmentationConfig]
    data: Prepared
    split: Split
    number: int
    mode: str
    seed: int
    size: str | None = None
    drawn: Drawn = field(default_factory=Drawn)

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
class Source:
    """Where the images come from that a classifier is trained on.

    Parameters
    ----------
    title : str
        What they are, for people.
    training : callable
        From a run to what the CNN is trained on, or to a classifier without images, trained.
    generates : bool
        Whether it makes images, which are mixed with real ones in several modes.
    require : callable
        Called with the cohort and all cohorts that are tested; raises a ``DataError`` if they lack what it needs beside images.
    system : System, optional
        Whose images these are.
    has_images : bool
        Whether a CNN is trained; without images there is nothing to change.
    """

    title: str
    training: Callable[[Run], TrainingSet | TableClassifier]
    generates: bool = False
    require: Callable[[Cohort, Sequence[Cohort]], None] = require_nothing
    system: System | None = None
    has_images: bool = True


@dataclass(frozen=True)
class Method:
    """A method of an augmentation study: a source of images, and how every batch of them is changed in training.

    Parameters
    ----------
    source : Source
    changes : tuple of str
        Of ``CHANGES``, in this order.
    """

    source: Source
    changes: tuple[str, ...] = ()

    def training(self, run: Run) -> TrainingSet | TableClassifier:
        """What the CNN is trained on in a run, or a classifier without images, trained."""
        found = self.source.training(run)
        if isinstance(found, TrainingSet) and self.changes:
            return replace(found, augmentation=composed([CHANGES[name] for name in self.changes]))
        return found
