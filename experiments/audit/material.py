"""What an audit compares, and that it belongs together: a synthetic cohort, the models that it was drawn from, the people behind them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...augment.commands.check import require_sound_cohort
from ...augment.fitting.model import FittedModel
from ...augment.fitting.model_config import poor_fit_warnings
from ...augment.fitting.training_images import people_in
from ...augment.release.copying import FEWEST_PEOPLE
from ...augment.release.synthetic_cohort import SyntheticCohort, is_synthetic
from ...datasets.cohort import Cohort, CohortError
from ...datasets.common.errors import DataError, UsageError
from ...datasets.readers import Source, read_cohort
from ...datasets.together import joined
from ...datasets.transforms import Images, Preparation, prepare


@dataclass(frozen=True, eq=False)
class People:
    """Images ``(m, 1, ...)``, and whose each is."""

    images: Images
    participants: tuple[str, ...]  # as the source spells them, one spelling a person, and one of those who may be one person

    @classmethod
    def of(cls, cohort: Cohort, preparation: Preparation) -> "People":
        """The images of a cohort, prepared, and whose they are: ``people_in``."""
        return cls(prepare(cohort, preparation), people_in(cohort.table, cohort.alike))


@dataclass(frozen=True, eq=False)
class AuditedClass:
    """One class of a synthetic cohort, and the people behind it.

    Parameters
    ----------
    label : str
    model : FittedModel, optional
        The one that it was drawn from, if it is known.
    synthetic : People
        Its images, of people who do not exist.
    training, held_out : People
        Those whom the model was trained on, and everybody else of the class: its validation and, as far as there are any, test
        participants; of a cohort that something else has made, there may be nobody else.
    """

    label: str
    model: FittedModel | None
    synthetic: People
    training: People
    held_out: People

    @property
    def everybody(self) -> tuple[NDArray[np.str_], NDArray[np.bool_]]:
        """Whose each image is ``(m,)``, those trained on first, and who was trained on ``(people,)`` in the order of their names."""
        whose = np.array([*self.training.participants, *self.held_out.participants])
        return whose, np.isin(np.unique(whose), self.training.participants)

    @property
    def poor_fit(self) -> list[str]:
        """What whoever reads the findings must know of the model's fit."""
        return [] if self.model is None else poor_fit_warnings(self.model.config.diagnostics)


def read_real(source: Source, models: Mapping[str, FittedModel]) -> tuple[Cohort, dict[str, tuple[People, People]]]:
    """The cohort that models were fitted on, and by class those trained on and those held out.

    Raises
    ------
    DataError
        If the models were fitted on other data, or a class has nobody held out, or fewer than 3 people to be copied.
    UsageError
        If the cohort is synthetic.
    """
    cohort = read_cohort(source)
    if cohort.synthetic:
        raise UsageError(f"{source.data} is synthetic; --data is the real cohort that the models were fitted on.")
    cohort, found = require_sound_cohort(cohort, sized=True, minimum=1)
    digest, sides = found.digest, {}
    for label, model in models.items():
        data = model.config.data
        members = cohort.of_class(label) if label in cohort.labels else cohort.where(np.zeros(len(cohort), dtype=bool))
        trained_on = np.array([model.config.participants.trained_on(who) for who in members.table["participant_id"]], dtype=bool)
        if trained_on.sum() != data["n_train"] or data.get("digest", digest) not in (digest, ""):
            raise DataError(
                f"{source.data} is not, to the last voxel, header and label, the cohort that the model of {label} was fitted on "
                f"({trained_on.sum()} of its {data['n_train']} training images are there); give --data that cohort, read as it was then."
            )
        # Who may be one person with somebody trained on is nobody to compare with.
        known = joined(members.table["participant_id"][trained_on], cohort.alike)
        parts = [members.where(trained_on), members.where(~members.table["participant_id"].isin(known).to_numpy())]
        n_training, n_held_out = (len(set(people_in(part.table, part.alike))) for part in parts)
        if n_held_out == 0 or n_training < FEWEST_PEOPLE:
            raise DataError(
                f"{source.data} has {n_training} training and {n_held_out} held-out participants of {label}; an audit takes "
                f"{FEWEST_PEOPLE} and 1 or more."
            )
        training, held_out = (People.of(part, model.config.preparation) for part in parts)
        sides[label] = (training, held_out)
    return cohort, sides


def is_drawn_from_models(folder: Path) -> bool:
    """Whether a folder is a synthetic cohort of ours of whose every class there was a model."""
    return is_synthetic(folder) and all(record.model for record in SyntheticCohort.read(folder).description.classes.values())


def read_synthetic(made: SyntheticCohort, models: Mapping[str, FittedModel]) -> dict[str, People]:
    """The images of a synthetic cohort by class.

    Raises
    ------
    DataError
        If an image is missing or unreadable, or says that it was drawn from another model.
    """
    cohort = read_cohort(made.folder)
    if cohort.problems:
        raise CohortError(cohort.name, cohort.problems)
    found = {}
    for label in cohort.labels:
        if label not in models:
            raise DataError(f"{made.folder} has images of {label}, of which there is no model; give --model the folder of all its models.")
        if not made.description.classes[label].model:
            raise UsageError(
                f"The images of {label} in {made.folder} were made of people, and not drawn from a model: leave out --model, and say "
                "with --data and --trained-on which people."
            )
        if not made.is_drawn_from(models[label]):
            raise DataError(
                f"{made.folder} was not drawn from this model of {label}; give --model the models that `augment generate` was given."
            )
        members = cohort.of_class(label)
        # A synthetic image has its range already; scaling it anew would show another image.
        images = prepare(members, replace(models[label].config.preparation, scaling="none"))
        found[label] = People(images, tuple(members.people))
    return found
