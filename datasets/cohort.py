"""The cohort: one row per image, with its participant and its label.

Readers build it (``readers.py``), ``check.py`` examines it as a whole, ``transforms.py`` turns it into arrays.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from .common.errors import DataError, UsageError
from .identity import place_of_id
from .spaces import ImageSpace

REQUIRED_COLUMNS = ("image_id", "participant_id", "image", "label")
# What tables and folders call official sides, in small letters, and what our splits do.
SIDE_OF = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
}
SPELLED = "spelled_id"  # the column of participants' ids as the source spells them, where a reader has kept it
_NAMED = 3  # problems of one kind that an error lists


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a cohort, in words that let its owner mend it."""

    participant: str
    path: str
    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.participant} | {self.path} | {self.what} | {self.mend}"


class CohortError(DataError):
    """Every problem of a cohort in one error."""

    def __init__(self, name: str, problems: Sequence[Problem]):
        self.problems = tuple(problems)
        count = f"{len(self.problems)} problem" + ("s" if len(self.problems) != 1 else "")
        lines = "\n".join(f"  {line}" for line in _first_of_each_kind(self.problems))
        super().__init__(f"The cohort {name} has {count} (participant | file | what | mend):\n{lines}")


def _first_of_each_kind(problems: Sequence[Problem]) -> Iterator[str]:
    """Problems in words; of one that many images share a few, so that the others are seen among them."""
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kinds.setdefault(problem.what, []).append(problem)
    for what, alike in kinds.items():
        yield from map(str, alike[:_NAMED])
        if len(alike) > _NAMED:
            yield f"and {len(alike) - _NAMED} more: {what}; `augment check` lists all"


@dataclass(frozen=True, eq=False)
class Cohort:
    """A table of images.

    Parameters
    ----------
    name : str
        Short name, for titles and model cards.
    table : pandas.DataFrame
        One row per image, index 0..n-1, with the columns ``image_id`` (unique), ``participant_id`` (who it is:
        several images may share one), ``image`` (absolute path as str, or row of ``arrays`` as int; ``None`` where no image was
        found, with an entry in ``problems``), ``label`` (str, or ``None`` where it is missing), and whatever the participants file holds.
    source : str
        Where it was read from (a path or a name).
    arrays : numpy.ndarray, optional
        ``(n, X, Y)`` or ``(n, X, Y, Z)``: the images of a cohort that lives in memory.
    space : ImageSpace, optional
        Space of ``arrays``, where they tell how they stand; else ``(n, X, Y)`` are pictures, and ``(n, X, Y, Z)`` volumes in RAS.
    licence : str
        Licence of the data as its dataset description gives it; empty if it gives none.
    label_column : str
        The source's own name of the column of labels.
    skull_stripped : bool, optional
        Whether what is no brain was set to 0 in the images, as far as it is known (BIDS's ``SkullStripped``).
    synthetic : bool
        True if the images were generated.
    problems : tuple of Problem
        What the reader found wrong; ``check.examine`` adds what only the images show.
    remarks : tuple of Problem
        What its user should know and need not mend.
    digests : mapping
        Digest (``image_checks.scan_digest``) that each image had when it was examined, and must have when it is read again;
        empty if nobody has looked.
    digest : str
        Digest of the whole cohort when it was examined (``check.Examination.digest``); empty of a part of it, and if nobody has looked.
    alike : tuple of (str, str)
        Participants who may be one person, as far as somebody has looked (``check.examine``): a split keeps each two on one side.
    """

    name: str
    table: pd.DataFrame
    source: str
    arrays: np.ndarray | None = None
    space: ImageSpace | None = None
    licence: str = ""
    label_column: str = "label"
    skull_stripped: bool | None = None
    synthetic: bool = False
    problems: tuple[Problem, ...] = field(default=())
    remarks: tuple[Problem, ...] = field(default=())
    digests: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""
    alike: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        missing = [column for column in REQUIRED_COLUMNS if column not in self.table.columns]
        if missing:
            raise ValueError(f"a cohort's table needs the columns {REQUIRED_COLUMNS}; missing: {missing}")

    def __len__(self) -> int:
        return len(self.table)

    @property
    def labels(self) -> list[str]:
        """The labels that occur, sorted."""
        return sorted(self.table["label"].dropna().unique())

    @property
    def people(self) -> list[str]:
        """``people_of`` its table."""
        return people_of(self.table)

    def counts(self) -> dict[str, int]:
        """Number of images per label."""
        return {label: int((self.table["label"] == label).sum()) for label in self.labels}

    def where(self, keep: pd.Series | np.ndarray) -> "Cohort":
        """The rows where ``keep`` is true, renumbered from 0."""
        return replace(self, table=self.table[np.asarray(keep, dtype=bool)].reset_index(drop=True), digest="")

    def of_class(self, label: str) -> "Cohort":
        """The images with ``label``.

        Raises
        ------
        UsageError
            If no image has it.
        """
        if label not in self.labels:
            raise UsageError(f"No image of {self.name} has the label '{label}'; its labels are: {', '.join(self.labels)}.")
        return self.where(self.table["label"] == label)

    def in_order(self) -> "Cohort":
        """The same images by participant and ``image_id``: in one order, however the source has sorted them."""
        places = [
            (place_of_id(str(person)), place_of_id(str(image)))
            for person, image in zip(self.table["participant_id"], self.table["image_id"], strict=True)
        ]
        rows = sorted(range(len(places)), key=places.__getitem__)
        return replace(self, table=self.table.iloc[rows].reset_index(drop=True))

    def of_participants(self, participants: Sequence[str]) -> "Cohort":
        """The images of ``participants``."""
        return self.where(self.table["participant_id"].isin(list(participants)))


def people_of(table: pd.DataFrame) -> list[str]:
    """Whose each image of a cohort's table is, for people to read: spelled as in the source, and always alike, as at first."""
    names: dict[str, str] = {}
    for participant, spelled in zip(table["participant_id"], table.get(SPELLED, table["participant_id"]), strict=True):
        names.setdefault(participant, participant if pd.isna(spelled) else spelled)
    return [names[participant] for participant in table["participant_id"]]


def place_of(image: str | int) -> str:
    """Return where an image is, for a problem: its path, or its row in the arrays."""
    return image if isinstance(image, str) else f"row {image}"
