"""The plan of a fit: all that decides it, resolved once."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any

from ...datasets.cohort import Cohort
from ...datasets.common.errors import DataError, UsageError
from ...datasets.common.machine import bytes_of, is_too_much, require_memory
from ...datasets.spaces import ImageSpace
from ...datasets.splits import Split
from ...datasets.transforms import space_of
from ..autoencoders import count_parameters
from ..networks import Architecture
from .settings import FitSettings
from .training import Schedule

COPIES_OF_WEIGHTS = 4  # while they are learnt: themselves, their gradient, and Adam's two moments
FEWEST_IMAGES = 10  # of a class, before the split: 7 to train on, 1 to select by


@dataclass(frozen=True, eq=False)
class FitPlan:
    """What is fitted, on whom and how: the one thing that a dry run, the check before a resume, and training read.

    Parameters
    ----------
    cohort : Cohort
        Sound (what ``check.require_sound`` returns), with all its classes.
    split : Split
        Sides of its participants.
    label : str
        The class.
    settings : FitSettings
        How.
    data_digest : str
        Digest of the cohort's content, by default that of the cohort; a fit that is to go on where it was stopped needs it.
    read_as : dict, optional
        Arguments with which the cohort can be read again, recorded in the model.

    Raises
    ------
    DataError
        If the class has too few images, or the split leaves one of the two sides that a fit needs without an image.
    UsageError
        If there is no such class.
    """

    cohort: Cohort
    split: Split
    label: str
    settings: FitSettings = field(default_factory=FitSettings)
    data_digest: str = ""
    read_as: Mapping[str, Any] | None = None
    sides: Mapping[str, Cohort] = field(init=False)

    def __post_init__(self) -> None:
        members = self.cohort.of_class(self.label)
        if len(members) < FEWEST_IMAGES:
            raise DataError(
                f"The class {self.label} of {self.cohort.name} has {len(members)} images; a model needs {FEWEST_IMAGES} or more."
            )
        # In an order of their own: the digest of the data, by which a fit is the same fit, does not know that of the table.
        sides = {name: self.split.side(members, name).in_order() for name in ("train", "validation")}
        empty = [name for name, side in sides.items() if len(side) == 0]
        if empty:
            raise DataError(
                f"The split leaves no {' and no '.join(empty)} image of class {self.label}; draw another split, or add participants."
            )
        object.__setattr__(self, "sides", sides)
        object.__setattr__(self, "data_digest", self.data_digest or self.cohort.digest)

    @property
    def n_images(self) -> int:
        """How many are held in memory: those to train on, and those to select by."""
        return sum(map(len, self.sides.values()))

    @cached_property
    def space(self) -> ImageSpace:
        """The grid of the prepared images: one for all classes, whichever of them are fitted."""
        return space_of(self.cohort.in_order(), self.settings.preparation)

    @property
    def architecture(self) -> Architecture:
        """Architecture of the networks."""
        return self.settings.architecture(self.space.shape)

    @property
    def schedule(self) -> Schedule:
        """How long training lasts at most."""
        return self.settings.training.schedule(len(self.sides["train"]), self.space.shape)

    @property
    def settings_used(self) -> FitSettings:
        """The settings with the strength of jitter that they leave to the number and size of the images, as a model records them."""
        return replace(self.settings, training=replace(self.settings.training, jitter=self.schedule.jitter))

    @property
    def content(self) -> dict[str, Any]:
        """What makes two fits the same fit, on whatever device: settings, class, images, split, and version, as plain values."""
        settings = self.settings.as_dict()
        settings["training"].pop("device")
        return {
            "settings": settings,
            "label": self.label,
            "data": self.data_digest,
            "split": self.split.digest,
            "version": version("tinycohort"),
        }

    @property
    def digest(self) -> str:
        """Of ``content``: only the same plan takes up a resume point."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()

    def count_parameters(self) -> int:
        """How many weights the model has; nothing is computed or allocated. Raise a ``UsageError`` if there is no such model."""
        return count_parameters(self.settings.model, self.architecture, **self.settings.model_settings)

    def require_memory(self) -> None:
        """Raise a ``UsageError`` if this machine cannot keep the images, or the model while it is trained."""
        require_memory(self.n_images, self.space.shape)
        n_weights = self.count_parameters()
        if is_too_much(bytes_of(COPIES_OF_WEIGHTS, (n_weights,))):
            mend = "choose a smaller --channels, --latent-dim or --size"
            raise UsageError(f"To train a model of {n_weights:,} weights this machine has no memory; {mend}.")
