"""What all drawing of a synthetic cohort has in common, with models or without: what is asked for, and how it is written and told."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...datasets.common.errors import UsageError
from ...datasets.spaces import ImageSpace
from .. import console
from ..fitting.training_images import TrainingImages
from ..release.copying import FEWEST_PEOPLE
from ..release.form import Format, default_format
from ..release.gate import IMAGES, LATENTS, NOTHING, Gate, ScreeningRecord
from ..release.generation import Generated, top_up
from ..release.origin import Origin
from ..release.screening import Screen
from ..release.synthetic_cohort import write_cohort
from ..release.values import Values

COMPARED_WITH = {IMAGES: "the training images", LATENTS: "the latents of training images", NOTHING: "nothing"}


@dataclass(frozen=True, kw_only=True)
class CohortRequest:
    """What is wanted of a synthetic cohort, whatever it is made of.

    Parameters
    ----------
    n : int, optional
        Images a class; with ``balance``, real and synthetic ones together. By default 100, or as many as the largest class has.
    balance : bool
        Only as many as each class lacks beside its real training images.
    seed : int
    file_format : {"nifti", "png", "npz"}, optional
        By default as the source.
    dtype, white
        The numbers in the files, as ``Values``; by default those of the format.
    device : {"auto", "cpu", "gpu"}
        Where images are computed.
    skull_stripped : bool, optional
        Whether the images are; by default what is known of their origin.
    gate : Gate
        Limits for copies of patients.
    command : str
        Recorded in the description.
    """

    n: int | None = None
    balance: bool = False
    seed: int = 0
    file_format: Format | None = None
    dtype: str | None = None
    white: float | None = None
    device: str = "cpu"
    skull_stripped: bool | None = None
    gate: Gate = field(default_factory=Gate)
    command: str = ""

    def __post_init__(self) -> None:
        if self.n is not None and self.n < 1:
            raise UsageError(f"-n must be 1 or more, not {self.n}.")

    def values(self, spaces: Iterable[ImageSpace]) -> Values:
        """The numbers in the files; raise a ``UsageError`` if images of one of these spaces do not go into the format."""
        spaces = list(spaces)
        if self.file_format == "png" and any(len(space.shape) == 3 for space in spaces):
            raise UsageError("Volumes cannot be written as PNG; choose --format nifti or npz.")
        return Values.asked(self.file_format or default_format(spaces[0]), self.dtype, self.white)

    def wanted(self, labels: Iterable[str], counts: Mapping[str, int]) -> dict[str, int]:
        """How many images of each class, by the number of training images of all; raise a ``UsageError`` if there are none to draw."""
        if self.balance:
            # The largest class sets the number, whether or not it is drawn from.
            wanted = top_up({label: counts[label] for label in labels}, max(counts.values()) if self.n is None else self.n)
        else:
            wanted = dict.fromkeys(labels, 100 if self.n is None else self.n)
        wanted = {label: count for label, count in wanted.items() if count > 0}
        if not wanted:
            raise UsageError("The classes are balanced already, so there is nothing to generate; give -n to enlarge them all.")
        return wanted


def measured(part: Generated, training: TrainingImages | None) -> Generated:
    """The same images with their distances to those that they come from, where these are known."""
    return part if training is None else replace(part, nearest=training.nearest(part.images))


def write_screened(
    request: CohortRequest,
    out: Path,
    parts: Sequence[Generated],
    origins: Mapping[str, Origin],
    screens: Mapping[str, Screen],
    *,
    force: bool,
) -> None:
    """Write what was drawn, with what the screens found."""
    screening = ScreeningRecord(
        compared={label: screen.compared for label, screen in screens.items()},
        in_pieces=tuple(label for label, screen in screens.items() if screen.in_pieces),
        drawn={part.label: part.drawn for part in parts},
        refused={part.label: part.refused for part in parts},
        gate=request.gate,
    )
    write_cohort(
        out,
        parts,
        origins,
        file_format=request.file_format,
        values=request.values(part.images.space for part in parts),
        skull_stripped=request.skull_stripped,
        screening=screening,
        command=request.command,
        force=force,
    )


def tell_written(out: Path, parts: Sequence[Generated], screens: Mapping[str, Screen], told: Callable[[Generated], str]) -> None:
    """Say how many images were refused, what else there is to be told of a class, and where all are."""
    for part in parts:
        refused = [f"{count} as {reason}" for reason, count in part.refused.items()]
        found = f"refused and drawn again: {', '.join(refused)}" if refused else "none refused"
        console.say(f"{part.label}: drawn images were compared with {COMPARED_WITH[screens[part.label].compared]}; {found}.")
        console.say(f"{part.label}: {told(part)}")
    unseen = [part for part in parts if screens[part.label].compared != IMAGES]
    if few := [part.label for part in unseen if part.nearest is not None]:
        console.warn(
            f"{', '.join(few)}: of fewer than {FEWEST_PEOPLE} people nobody can tell whether an image copies one, so none was refused: the "
            "cohort has passed nothing. Have more people of the class."
        )
    if unread := [part.label for part in unseen if part.nearest is None]:
        console.warn(
            f"{', '.join(unread)}: no pixels were compared with anybody's, because the training images could not be read: the cohort has "
            "passed nothing. Give --data, or audit it where they are (augment audit)."
        )
    console.say(f"Wrote {sum(len(part.images) for part in parts)} synthetic images to {out}.")
