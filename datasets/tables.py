"""Tables of participants: who there is, with which label and covariates, and how their ids are told apart."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from .cohort import REQUIRED_COLUMNS, Problem
from .errors import DataError

LABEL_COLUMNS = ("diagnosis", "label", "group", "dx")
ID_COLUMNS = ("participant_id", "participant", "subject_id", "subject", "id")
IMAGE_COLUMNS = ("image", "path", "filename")
SESSION_COLUMNS = ("session_id", "session")

_SAME_COVARIATE = {"age": "age", "sex": "sex", "gender": "sex", "m/f": "sex", "mf": "sex"}
_MISSING = ["", "n/a", "N/A", "NA", "nan", "NaN"]
# OAS1_0001_MR1 in the download, sub-OAS10001MR1 in BIDS, where an id may hold letters and digits only.
_OASIS_ID = re.compile(r"OAS1[_-]?(?P<person>\d{4})(?!\d)(?:[_-]?MR(?P<visit>\d+))?", re.IGNORECASE)
# A number with a leading zero is a code ('007' is not '7'), so its column stays text.
_CODE = re.compile(r"0\d")


def participant_of(spelled: str) -> str:
    """Return the participant that an id as a file or a table spells it belongs to.

    An OASIS-1 id gives ``OAS1_NNNN`` whatever its spelling and visit; any other id loses its ``sub-``.
    """
    bare = spelled.strip().removeprefix("sub-")
    oasis = _OASIS_ID.match(bare)
    return f"OAS1_{oasis['person']}" if oasis else bare


def scan_of(spelled: str) -> str:
    """Return the id in one spelling, with the OASIS-1 visit kept: what a file and a table row are joined on."""
    bare = spelled.strip().removeprefix("sub-")
    oasis = _OASIS_ID.fullmatch(bare)
    return f"OAS1_{oasis['person']}_MR{oasis['visit']}" if oasis and oasis["visit"] else participant_of(bare)


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV or TSV as text: '007' stays '007', and 'n/a' or an empty field is ``None``.

    Raises
    ------
    DataError
        If the file is not there, is no text table, or has no rows.
    """
    if not path.is_file():
        raise DataError(f"There is no table {path}; give one with --table.")
    if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        raise DataError(f"The table {path} is neither .csv nor .tsv; save it as one of them.")
    try:
        header = path.read_text(encoding="utf-8-sig").partition("\n")[0]
        separator = max("\t,;", key=header.count)
        table = pd.read_csv(path, sep=separator, dtype=str, na_filter=False, index_col=False, encoding="utf-8-sig")
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(
            f"The table {path} cannot be read ({str(error).strip()}); save it as UTF-8 text, one row per participant."
        ) from error
    if table.empty:
        raise DataError(f"The table {path} has no rows; it needs one per participant.")
    table.columns = table.columns.str.strip()
    table = table.astype(object).map(lambda value: value.strip() if isinstance(value, str) else "")
    return table.where(~table.isin(_MISSING), None)


def column_of(table: pd.DataFrame, names: Iterable[str]) -> str | None:
    """Return the table's column that is the first of ``names``, whatever its case."""
    lower = {str(column).lower(): str(column) for column in reversed(table.columns)}
    return next((lower[name.lower()] for name in names if name.lower() in lower), None)


@dataclass(frozen=True)
class Subjects:
    """A participants table with its columns understood.

    Parameters
    ----------
    path : Path
        Where it was read.
    records : list of dict
        One per row: ``spelled`` (the id as written), ``participant_id``, ``label``, ``session``, ``file`` (the image column) and
        the covariates under ``covariates``.
    columns : tuple of str
        The names of the columns.
    problems : tuple of Problem
        Rows without an id.
    """

    path: Path
    records: list[dict[str, Any]]
    columns: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def has_files(self) -> bool:
        """Whether the table itself names the images."""
        return any(record["file"] for record in self.records)

    @property
    def synthetic(self) -> bool:
        """Whether any row says that its image was generated."""
        return any(record["covariates"].get("synthetic") is True for record in self.records)

    def index(self) -> tuple[dict[tuple[str, str | None], dict[str, Any]], list[Problem]]:
        """Return the rows by (scan, session), and a problem for every row that repeats one."""
        rows: dict[tuple[str, str | None], dict[str, Any]] = {}
        problems = []
        for record in self.records:
            key = (scan_of(record["spelled"]), record["session"])
            first = rows.setdefault(key, record)
            if first is not record:
                labels = f", labelled {first['label']} and {record['label']}" if first["label"] != record["label"] else ""
                problems.append(
                    Problem(record["participant_id"], str(self.path), f"'{record['spelled']}' has two rows{labels}", "keep one of the rows")
                )
        return rows, problems


def read_subjects(path: Path, label: str | None) -> Subjects:
    """Read a participants table.

    Raises
    ------
    DataError
        If it has no column of ids or no column of labels.
    """
    return understand(read_table(path), path, label)


def understand(table: pd.DataFrame, path: Path, label: str | None) -> Subjects:
    """Find the ids, the labels and the covariates of a table that was read as text."""
    table = _one_name_each(table)
    columns = tuple(table.columns)
    ids = column_of(table, ID_COLUMNS)
    if ids is None:
        raise DataError(
            f"{path} has no column of participants (it has: {', '.join(columns)}); add participant_id, equal for all images of one person."
        )
    labels = _label_column(table, path, label)
    files = column_of(table, IMAGE_COLUMNS)
    sessions = column_of(table, SESSION_COLUMNS)
    covariates = table.drop(columns=[name for name in columns if name in (ids, files, *REQUIRED_COLUMNS)]).apply(_numbers)
    records, problems = [], []
    for row, (values, known) in enumerate(zip(table.to_dict("records"), covariates.to_dict("records"), strict=True)):
        if values[ids] is None:
            # The header is line 1 of the file.
            problems.append(Problem(f"(line {row + 2})", str(path), "a row without a participant id", f"fill in {ids}, or remove the row"))
            continue
        records.append(
            {
                "spelled": values[ids],
                "participant_id": participant_of(values[ids]),
                "label": values[labels],
                "session": (values[sessions] or "").removeprefix("ses-") or None if sessions else None,
                "file": values[files] if files else None,
                "covariates": known,
            }
        )
    return Subjects(path, records, columns, tuple(problems))


class Found(NamedTuple):
    """An image that was found before its row in the table."""

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
    used: set[int] = set()
    rows = []
    for image in found:
        people = (scan_of(image.spelled), participant_of(image.spelled))
        keys = [(person, session) for person in people for session in (image.session, None)]
        record = next((index[key] for key in keys if key in index), None)
        if record is None:
            participant = participant_of(image.spelled)
            problems.append(
                Problem(
                    participant, str(image.image), f"no row in {subjects.path.name}", f"add '{image.spelled}' to it, or remove the image"
                )
            )
            rows.append({"image_id": image.image_id, "participant_id": participant, "image": image.image, "label": None})
        else:
            used.add(id(record))
            rows.append(row_of(record, image.image, image.image_id))
    for record in index.values():
        if id(record) not in used:
            problems.append(no_image(record, subjects.path))
            rows.append(row_of(record, None, record["spelled"]))
    return rows, problems


def row_of(record: dict[str, Any], image: str | int | None, image_id: str) -> dict[str, Any]:
    """Return the row of the cohort's table for a row of the participants table."""
    own = {"image_id": image_id, "participant_id": record["participant_id"], "image": image, "label": record["label"]}
    return own | record["covariates"]


def place_of(image: str | int) -> str:
    """Return where an image is, for a problem: its path, or its row in the arrays."""
    return image if isinstance(image, str) else f"row {image}"


def no_image(record: dict[str, Any], table: Path, what: str = "no image found") -> Problem:
    """Return the problem of a row whose image is not there."""
    return Problem(record["participant_id"], str(table), f"{what} for '{record['spelled']}'", "add the image, or remove the row")


def cohort_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return the rows as a cohort's table, every ``image_id`` made unique by '#2', '#3' where it was not."""
    table = pd.DataFrame(rows)
    repeats = table.groupby("image_id").cumcount()
    table["image_id"] = [name if repeat == 0 else f"{name}#{repeat + 1}" for name, repeat in zip(table["image_id"], repeats, strict=True)]
    for column in ("image", "label"):
        # As objects, because pandas would turn a missing text into NaN and a missing row number into a float.
        table[column] = pd.Series([row[column] for row in rows], dtype=object)
    return table


def read_description(folder: Path) -> tuple[str, str]:
    """Return the name and the licence in ``dataset_description.json``; the folder's name and '' where it gives none."""
    path = folder / "dataset_description.json"
    if not path.is_file():
        return folder.resolve().name, ""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error}); mend or remove it.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no JSON object; mend or remove it.")
    return str(content.get("Name") or folder.resolve().name), str(content.get("License") or "")


def _one_name_each(table: pd.DataFrame) -> pd.DataFrame:
    """Rename Age, M/F and gender; a second column for the same thing keeps its name."""
    names: list[str] = []
    for column in table.columns:
        name = _SAME_COVARIATE.get(str(column).lower(), str(column))
        names.append(str(column) if name in names or (name != column and name in table.columns) else name)
    return table.set_axis(names, axis="columns")


def _label_column(table: pd.DataFrame, path: Path, label: str | None) -> str:
    wanted = LABEL_COLUMNS if label is None else (label, _SAME_COVARIATE.get(label.lower(), label))
    found = column_of(table, wanted)
    if found is None:
        looked = "diagnosis, label, group or dx" if label is None else f"'{label}'"
        raise DataError(f"{path} has no column {looked}; it has: {', '.join(table.columns)}. Name the column of labels with --label.")
    return found


def _numbers(column: pd.Series) -> pd.Series:
    """Return a covariate as numbers if it holds nothing else, and ids as the text they are."""
    name, known = str(column.name).lower(), column.dropna()
    if name == "synthetic":
        return column.map(lambda value: value is not None and value.lower() in ("true", "1")).astype(bool)
    if known.empty or name.endswith("id") or known.map(_CODE.match).notna().any():
        return column
    numbers = pd.Series(pd.to_numeric(column, errors="coerce"), index=column.index)
    return numbers if numbers[known.index].notna().all() else column
