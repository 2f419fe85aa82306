"""From images and the rows of a participants table to the table of a cohort."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ..cohort import SPELLED, Problem, place_of
from ..common.custody import is_sealed
from ..common.errors import DataError
from ..common.files import MANIFEST
from ..common.untrusted import read_json
from ..identity import participant_of, scan_of
from .participants import Subject, Subjects


class Found(NamedTuple):
    """An image that was found before its row of the table: ``spelled`` is the id in the name of its folder or array."""

    image: str | int
    image_id: str
    spelled: str
    session: str | None = None


def join(found: Sequence[Found], subjects: Subjects) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Give every image its row of the table; what has no partner on the other side is a problem.

    Returns
    -------
    rows : list of dict
        For ``cohort_table``: the images in the order found, then the rows of the table that have none.
    problems : list of Problem
    """
    index, problems = subjects.index()
    rows_of: defaultdict[str, list[tuple[str, str | None]]] = defaultdict(list)
    for key, subject in index.items():
        rows_of[subject.participant_id].append(key)
    used = set()
    rows = []
    for image in found:
        # A table may have a row for each session, by a column or by what follows an id.
        visit = f"{image.spelled}_ses-{image.session}" if image.session else image.spelled
        people = dict.fromkeys((scan_of(visit), scan_of(image.spelled), participant_of(image.spelled)))
        keys = [(person, session) for person in people for session in (image.session, None)]
        participant = participant_of(image.spelled)
        key = next((key for key in keys if key in index), None)
        if key is None and image.session is None and scan_of(image.spelled) == participant and len(rows_of[participant]) == 1:
            # Where a person was once, an image need not say when.
            (key,) = rows_of[participant]
        if key is None:
            sessions = [session for _, session in rows_of[participant] if session is not None]
            problems.append(_without_row(image, participant, subjects.path.name, sessions))
            row = {"image_id": image.image_id, "participant_id": participant, "image": image.image, "label": None, SPELLED: image.spelled}
            rows.append(row)
        else:
            used.add(key)
            rows.append(row_of(index[key], image.image, image.image_id))
    for key, subject in index.items():
        if key not in used:
            problems.append(no_image(subject, subjects.path))
            rows.append(row_of(subject, None, subject.spelled))
    return rows, problems


def _without_row(image: Found, participant: str, table: str, sessions: Sequence[str]) -> Problem:
    """The problem of an image that no row is of, though there may be some of other ``sessions`` of the participant."""
    what, mend = f"no row in {table}", f"add '{image.spelled}' to it, or remove the image"
    if sessions:
        what += f" of {'its session ' + image.session if image.session else 'an image without a session'}: it has {', '.join(sessions)}"
        mend = "add a row of that session, or remove the image" if image.session else "put it into the folder ses-... of one of them"
    return Problem(participant, place_of(image.image), what, mend)


def row_of(subject: Subject, image: str | int | None, image_id: str) -> dict[str, Any]:
    """Return the row of the cohort's table for a row of the participants table."""
    row = {"image_id": image_id, "participant_id": subject.participant_id, "image": image, "label": subject.label}
    return row | subject.covariates | {SPELLED: subject.spelled}


def no_image(subject: Subject, table: Path, what: str = "no image found") -> Problem:
    """Return the problem of a row whose image is not there."""
    return Problem(subject.participant_id, str(table), f"{what} for '{subject.spelled}'", "add the image, or remove the row")


def cohort_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return the rows as a cohort's table, every ``image_id`` made unique by '#2', '#3' where it was not."""
    table = pd.DataFrame(rows)
    repeats = table.groupby("image_id").cumcount()
    table["image_id"] = [name if repeat == 0 else f"{name}#{repeat + 1}" for name, repeat in zip(table["image_id"], repeats, strict=True)]
    for column in ("image", "label"):
        # As objects, because pandas would turn a missing text into NaN and a missing row number into a float.
        table[column] = pd.Series([row[column] for row in rows], dtype=object)
    return table


class Description(NamedTuple):
    """What ``dataset_description.json`` says of a cohort."""

    name: str
    licence: str = ""
    synthetic: bool = False
    skull_stripped: bool | None = None


def read_description(folder: Path) -> Description:
    """Read ``dataset_description.json``; without one a cohort has its folder's name and says nothing.

    Raises
    ------
    DataError
        If the file is no JSON object, or says that there is a manifest and there is none.
    """
    path = folder / "dataset_description.json"
    if not path.is_file():
        return Description(folder.resolve().name)
    try:
        content = read_json(path, within=folder)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not valid JSON ({error}); mend or remove it.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no JSON object; mend or remove it.")
    if content.get("Manifest") == MANIFEST and not is_sealed(folder):
        raise DataError(f"{folder} has lost its {MANIFEST}, so nobody knows whether it was altered; restore it, or make it anew.")
    name = str(content.get("Name") or folder.resolve().name)
    stripped = content.get("SkullStripped")
    licence = str(content.get("License") or "")
    return Description(name, licence, content.get("Synthetic") is True, stripped if isinstance(stripped, bool) else None)
