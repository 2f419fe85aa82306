"""A folder for each class, ``AD/`` and ``CN/``, without a table: images in it are a participant each, and so are folders in it.

Folders ``train``, ``validation`` and ``test`` with the classes in them are the official sides.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..cohort import SIDE_OF, SPELLED, Cohort, Problem
from ..common.errors import DataError
from ..identity import participant_of
from ..images import stem
from . import folder
from .table import cohort_table, read_description
from .walk import images_below

# A folder of a class, the side that it lies on, and the images in it.
_Class = tuple[Path, str | None, list[Path]]


def recognises(path: Path) -> bool:
    """Whether it is a folder with two folders of images or more, and without a table that would say more."""
    if not path.is_dir() or folder.tables_in(path):
        return False
    return len(_filled(path)) > 1


def read(path: Path, *, table: Path | None, label: str | None, plane: str | None) -> Cohort:
    """Read the classes: the name of a folder is the class, that of a file or a folder in it the participant.

    With a table that somebody names, the folders are places of images, and their names say nothing. Where names hold the ``plane``, images
    of others are left out, and its word is no part of an id.

    Raises
    ------
    DataError
        If a column of labels is asked for, folders of sides and of classes lie side by side, or images that differ by their plane alone do.
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
    if plane is None or not any(folder.holds(image.relative_to(place), plane) for place, _, images in classes for image in images):
        # What no name holds is a plane to cut out of volumes.
        _refuse_planes(path, classes)
        rows, lacking = [row for one in classes for row in _rows(one, ())], ()
    else:
        shown = [
            (place, side, [image for image in images if folder.holds(image.relative_to(place), plane)]) for place, side, images in classes
        ]
        rows = [row for one in shown for row in _rows(one, (plane,))]
        lacking = _without_plane(path, plane, rows, [row for one in classes for row in _rows(one, (plane, *folder.USUAL_PLANES))])
    told = read_description(path)
    return Cohort(
        name=told.name,
        table=cohort_table(rows),
        source=str(path),
        licence=told.licence,
        skull_stripped=told.skull_stripped,
        synthetic=told.synthetic,
        remarks=(*lacking, *_several(rows, str(path))),
    )


def _filled(path: Path) -> dict[Path, list[Path]]:
    """The folders that hold images, and these."""
    folders = sorted(place for place in path.iterdir() if place.is_dir() and not place.name.startswith("."))
    return {place: images for place in folders if (images := images_below(place, path))}


def _classes(path: Path) -> list[_Class]:
    """The folders of the classes, each with its official side and its images."""
    filled = _filled(path)
    sides = [place for place in filled if place.name.lower() in SIDE_OF]
    if not sides:
        return [(place, None, images) for place, images in filled.items()]
    if len(sides) < len(filled):
        beside = next(place for place in filled if place not in sides)
        raise DataError(
            f"{path} has the side {sides[0].name} beside {beside.name}; move one of them, so that all are sides, or all classes."
        )
    return [(place, SIDE_OF[side.name.lower()], images) for side in sides for place, images in _filled(side).items()]


def _rows(images_of_class: _Class, words: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a class; ``words`` are taken off the ids."""
    place, side, images = images_of_class
    rows = []
    for image in images:
        names = _names(image, place)
        spelled = next((bare for name in names if (bare := folder.without(name, words))), names[0])
        row = {"image_id": stem(image.name), "participant_id": participant_of(spelled), "image": str(image.absolute()), "label": place.name}
        rows.append(row | {SPELLED: spelled} | ({} if side is None else {"split": side}))
    return rows


def _names(image: Path, place: Path) -> list[str]:
    """The names of the folders below ``place`` that lead to an image, and its own."""
    return [*image.relative_to(place).parts[:-1], image.name if image.is_dir() else stem(image.name)]


def _refuse_planes(path: Path, classes: Sequence[_Class]) -> None:
    """Raise a ``DataError`` if images differ by their plane alone: they would be taken for one kind, and their people for several."""
    alike: defaultdict[tuple[Path, ...], dict[str, Path]] = defaultdict(dict)
    for place, _, images in classes:
        for image in images:
            shown = next((plane for plane in folder.USUAL_PLANES if folder.holds(image.relative_to(place), plane)), None)
            if shown is not None:
                bare = (folder.without(name, folder.USUAL_PLANES) for name in _names(image, place))
                alike[place, *map(Path, bare)].setdefault(shown, image.relative_to(path))
    several = [shown for shown in alike.values() if len(shown) > 1]
    if several:
        first = ", ".join(image.as_posix() for image in several[0].values())
        planes = ", ".join(plane for plane in folder.USUAL_PLANES if any(plane in shown for shown in several))
        raise DataError(
            f"{path} has {sum(map(len, several))} images that differ by their plane alone, as {first}; choose with --plane ({planes})."
        )


def _without_plane(path: Path, plane: str, rows: list[dict[str, Any]], everybody: list[dict[str, Any]]) -> tuple[Problem, ...]:
    """A remark if people have images, and none of the plane."""
    lacking = sorted({row["participant_id"] for row in everybody} - {row["participant_id"] for row in rows})
    if not lacking:
        return ()
    what = f"{len(lacking)} participants have no image of the plane {plane}, as {lacking[0]}"
    return (Problem(lacking[0], str(path), what, "add their images, or nothing: they are left out"),)


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
