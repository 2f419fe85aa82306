"""What the images of a class were made of, as their cohort tells it: a model's training people, or people by themselves."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...datasets.cohort import Cohort
from ...datasets.splits import Split
from ...datasets.transforms import Preparation
from ..fitting.model import FittedModel
from ..fitting.model_config import poor_fit_warnings


@dataclass(frozen=True)
class Origin:
    """Whom and what the images of a class come from.

    Parameters
    ----------
    name, licence : str
        Of the source cohort; the licence is empty if it states none.
    n_train : int
        Number of images that they were made of: the training images of the class.
    label_column : str
        The source's own name of the column of classes.
    skull_stripped : bool, optional
        Whether the images are; ``None`` where nobody knows.
    participants, split, tested, data : str
        Digests of the people, of their split, of who is on its test side and who is not, and of the data; empty where they are not known.
    seed : int
        Seed of the fit.
    versions : mapping
        Those of the fit; empty where nothing was fitted.
    warnings : tuple of str
        What whoever uses the images must know of the fit.
    preparation : Preparation, optional
        How the images of these people were prepared.
    """

    name: str
    licence: str = ""
    n_train: int = 0
    label_column: str = "label"
    skull_stripped: bool | None = None
    participants: str = ""
    split: str = ""
    tested: str = ""
    data: str = ""
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    preparation: Preparation | None = None

    @classmethod
    def of(cls, model: FittedModel) -> "Origin":
        """The origin of what is drawn from a model."""
        config = model.config
        return cls(
            name=config.data["name"],
            licence=config.data.get("licence", ""),
            n_train=config.data["n_train"],
            label_column=config.data.get("label_column", "label"),
            skull_stripped=config.data.get("skull_stripped"),
            participants=config.participants.digest,
            split=config.split.get("digest", ""),
            tested=config.split.get("tested", ""),
            data=config.data.get("digest", ""),
            seed=config.seed,
            versions=config.versions,
            warnings=tuple(poor_fit_warnings(config.diagnostics)),
            preparation=config.preparation,
        )

    @classmethod
    def of_people(cls, training: Cohort, split: Split, data: str, preparation: Preparation | None = None) -> "Origin":
        """The origin of what is made of the images of one class on the training side of a split, without a model; ``data`` as above."""
        people = sorted(set(training.table["participant_id"]))
        return cls(
            name=training.name,
            licence=training.licence,
            n_train=len(training),
            label_column=training.label_column,
            skull_stripped=training.skull_stripped,
            participants=hashlib.sha256("\n".join(people).encode()).hexdigest(),
            split=split.digest,
            tested=split.tested,
            data=data,
            preparation=preparation,
        )
