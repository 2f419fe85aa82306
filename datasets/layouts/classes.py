"""A folder for each class, ``AD/`` and ``CN/``, without a table: images in it are a participant each, and so are folders in it.

Folders ``train``, ``validation`` and ``test`` with the classes in them are the official sides.
"""

from pathlib import Path
from typing import Any

from ..cohort import SPELLED, Cohort, Problem
from ..common.errors import DataError
from ..identity import participant_of
from ..images import stem
from . import folder
from .table import cohort_table, read_description
from .walk import images_below

# What benchmarks call their sides, and what our splits do.
_SIDES = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}


def recognises(path: Path) -> bool:
    """Whether it is a folder with two folders of images or more, and without a table that would say more."""
    if not path.is_dir() or folder.tables_in(path):
        return False
    return len(_filled(path)) > 1


def read(path: Path, *, table: Path | None, label: str | None, plane: str | None) -> Cohort:
    """Read the classes: the name of a folder is the class, that of a file or a folder in it the participant.

    With a table that somebody names, the folders are places of images, and their names say nothing.

    Raises
    ------
    DataError
        If a column of labels is asked for, or folders of sides and of classes lie side by side.
    """
    if table is not None:
        return folder.read(path, table=table, label=label, plane=plane)
    if label is not None:
        raise DataError(
            f"In {path} the folders are the classes, and there is no column '{label}'; leave out --label-column, or give --table."
        )
    classes = _classes(path)
    if people := [place.name for place, _, images in classes if images == [place]]:
        raise DataError(
            f"The folders of {path}, as {people[0]}, are a DICOM series each, and so participants; give their classes in a table, as "
            "participants.csv in it with participant_id and diagnosis, or put them into a folder for each class."
        )
    rows = [row for place, side, images in classes for row in _rows(place, side, images)]
    told = read_description(path)
    return Cohort(
        name=told.name,
        table=cohort_table(rows),
        source=str(path),
        licence=told.licence,
        skull_stripped=told.skull_stripped,
        synthetic=told.synthetic,
        remarks=_several(rows, str(path)),
    )


def _filled(path: Path) -> dict[Path, list[Path]]:
    """The folders that hold images, and these."""
    folders = sorted(place for place in path.iterdir() if place.is_dir() and not place.name.startswith("."))
    return {place: images for place in folders if (images := images_below(place, path))}


def _classes(path: Path) -> list[tuple[Path, str | None, list[Path]]]:
    """The folders of the classes, each with its official side and its images."""
    filled = _filled(path)
    sides = [place for place in filled if place.name.lower() in _SIDES]
    if not sides:
        return [(place, None, images) for place, images in filled.items()]
    if len(sides) < len(filled):
        beside = next(place for place in filled if place not in sides)
        raise DataError(
            f"{path} has the side {sides[0].name} beside {beside.name}; move one of them, so that all are sides, or all classes."
        )
    return [(place, _SIDES[side.name.lower()], images) for side in sides for place, images in _filled(side).items()]


def _rows(place: Path, side: str | None, images: list[Path]) -> list[dict[str, Any]]:
    rows = []
    for image in images:
        own, *inner = image.relative_to(place).parts
        spelled = own if inner or image.is_dir() else stem(own)
        row = {"image_id": stem(image.name), "participant_id": participant_of(spelled), "image": str(image.absolute()), "label": place.name}
        rows.append(row | {SPELLED: spelled} | ({} if side is None else {"split": side}))
    return rows


def _several(rows: list[dict[str, Any]], source: str) -> tuple[Problem, ...]:
    """A remark if people have several images: nothing says which is of which kind."""
    images: dict[str, list[str]] = {}
    for row in rows:
        images.setdefault(row["participant_id"], []).append(row["image_id"])
    first = next((name for name in images if len(images[name]) > 1), None)
    if first is None:
        return ()
    several, names = sum(len(own) > 1 for own in images.values()), ", ".join(images[first][:4])
    what = f"{several} participants have several images, as {first}: {names}"
    return (Problem(first, source, what, "all are taken for images of one kind: if they are not, keep one kind in the folders"),)
