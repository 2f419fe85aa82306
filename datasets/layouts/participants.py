"""Tables of participants, read as text so that '007' stays '007', and what their columns mean."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..cohort import REQUIRED_COLUMNS, Problem
from ..common.errors import DataError
from ..identity import participant_of, scan_of
from .table_files import lines_of

LABEL_COLUMNS = ("diagnosis", "label", "group", "dx")
ID_COLUMNS = ("participant_id", "participant", "subject_id", "subject", "id")
IMAGE_COLUMNS = ("image", "path", "filename")
SESSION_COLUMNS = ("session_id", "session")

_SAME_COVARIATE = {
    **{"age": "age", "sex": "sex", "gender": "sex", "m/f": "sex", "mf": "sex"},
    **{"split": "split", "synthetic": "synthetic"},  # what we read ourselves, however it is written
}
# In small letters, of tables and arrays alike. ``none`` is no such word in a table: as a diagnosis it may say that somebody is healthy.
_MISSING = {"", "n/a", "na", "nan", "null", "#n/a", "<na>", "."}
# A number with a leading zero, or with an underscore in it, is a code, so its column stays text.
_CODE = re.compile(r"0\d|.*_")
_WITH_COMMA = re.compile(r"[+-]?(\d+|\d*,\d+)(e[+-]?\d+)?", re.IGNORECASE)

# A table as text: from each column's name to its values.
Columns = dict[str, list[str | None]]


class Subject(NamedTuple):
    """One row of a participants table.

    ``spelled`` is the id as the table writes it, ``file`` the image that it names, ``covariates`` every other column.
    """

    spelled: str
    participant_id: str
    label: str | None
    session: str | None
    file: str | None
    covariates: dict[str, Any]


@dataclass(frozen=True)
class Subjects:
    """A participants table, understood; ``problems`` are its rows without an id, ``label_column`` its column of labels, as it writes it."""

    path: Path
    rows: tuple[Subject, ...]
    problems: tuple[Problem, ...]
    label_column: str = "label"

    @property
    def name_images(self) -> bool:
        """Whether the table itself names the images."""
        return any(subject.file for subject in self.rows)

    @property
    def synthetic(self) -> bool:
        """Whether any row says that its image was generated."""
        return any(subject.covariates.get("synthetic") is True for subject in self.rows)

    def index(self) -> tuple[dict[tuple[str, str | None], Subject], list[Problem]]:
        """Return the rows by (scan, session), and a problem for every row that repeats one."""
        rows: dict[tuple[str, str | None], Subject] = {}
        problems = []
        for subject in self.rows:
            first = rows.setdefault((scan_of(subject.spelled), subject.session), subject)
            if first is not subject:
                labels = f", labelled {first.label} and {subject.label}" if first.label != subject.label else ""
                what = f"'{subject.spelled}' has two rows{labels}"
                problems.append(Problem(subject.participant_id, str(self.path), what, "keep one of the rows"))
        return rows, problems


def read_subjects(path: Path, label: str | None) -> Subjects:
    """Read a participants table.

    Raises
    ------
    DataError
        If it is no table, or has no column of ids or of labels.
    """
    return understand(read_table(path, label), path, label)


def read_table(path: Path, label: str | None = None) -> Columns:
    """Read a CSV, TSV or spreadsheet as text, with ``None`` for what ``is_missing``, and points in place of decimal commas.

    Where semicolons separate fields the comma is the decimal sign. Of ids and labels, in ``label`` or a column of a usual name, it stays.

    Raises
    ------
    DataError
        If the file is not there, is no text table, has no rows, or a row with too few or too many fields.
    """
    rows, separator = lines_of(path)
    if len(rows) < 2:
        raise DataError(f"The table {path} has no rows; it needs a header, and one row per participant.")
    spread = next((line - "".join(row).count("\n") for line, row in rows if "\n" in "".join(row)), None)
    if spread is not None:
        raise DataError(
            f"A field of the row that begins in line {spread} of {path} goes over several lines, as a stray quotation mark makes it; write "
            "it on one line."
        )
    (_, header), *rows = [(line, [field.strip() for field in row]) for line, row in rows]
    firsts = {name: place for place, name in reversed(list(enumerate(header)))}
    repeated = [(place, firsts[name]) for place, name in enumerate(header) if name and firsts[name] != place]
    for line, row in rows:
        if len(row) < len(header) or any(row[len(header) :]):
            raise DataError(f"Line {line} of {path} has {len(row)} fields, where the header has {len(header)}; mend the line.")
        for place, first in repeated:
            if row[place] != row[first]:
                raise DataError(f"The table {path} has two columns {header[place]} that differ in line {line}; keep one of them.")
    table = {name: [None if is_missing(row[place]) else row[place] for _, row in rows] for place, name in enumerate(header) if name}
    if separator != ";":
        return table
    texts = {name.lower() for name in (*ID_COLUMNS, *(LABEL_COLUMNS if label is None else [label]))}
    return {name: values if name.lower() in texts or _is_id(name) else _with_points(values) for name, values in table.items()}


def read_ids(path: Path) -> list[str]:
    """Read the ids of a table, as it writes them, or of a list without a header, whose first column they are.

    Raises
    ------
    DataError
        If the file is not there, is no text and no spreadsheet, or is a table that ``read_table`` refuses.
    """
    rows, _ = lines_of(path)
    column = column_of({name.strip(): [] for name in rows[0][1]} if rows else {}, ID_COLUMNS)
    ids = [row[0].strip() for _, row in rows] if column is None else read_table(path)[column]
    return [name for name in ids if name is not None and not is_missing(name)]


def understand(table: Columns, path: Path, label: str | None) -> Subjects:
    """Find the ids, the labels and the covariates of a table; ``path`` is for errors."""
    columns_as_written = list(table)
    table = _one_name_each(table)
    ids = column_of(table, ID_COLUMNS)
    if ids is None:
        has = ", ".join(table)
        raise DataError(f"{path} has no column of participants (it has: {has}); add participant_id, equal for all images of one person.")
    label_column = _label_column(table, path, label)
    labels = table[label_column]
    nothing: list[str | None] = [None] * len(labels)
    files = column_of(table, IMAGE_COLUMNS)
    sessions = column_of(table, SESSION_COLUMNS)
    covariates = {name: _numbers(name, values) for name, values in table.items() if name not in (ids, files, *REQUIRED_COLUMNS)}
    columns = (table[ids], labels, table[sessions] if sessions else nothing, table[files] if files else nothing)
    rows, problems = [], []
    for row, (spelled, own_label, session, file) in enumerate(zip(*columns, strict=True)):
        if spelled is None:
            problems.append(Problem(f"(row {row + 1})", str(path), "a row without a participant id", f"fill in {ids}, or remove the row"))
            continue
        rows.append(
            Subject(
                spelled=spelled,
                participant_id=participant_of(spelled),
                label=own_label,
                session=session.removeprefix("ses-") if session else None,
                file=file,
                covariates={name: values[row] for name, values in covariates.items()},
            )
        )
    if not rows:
        raise DataError(f"No row of {path} has an id in {ids}; fill them in.")
    renamed = (name for name in columns_as_written if _SAME_COVARIATE.get(name.lower()) == label_column)
    written = label_column if label_column in columns_as_written else next(renamed)
    return Subjects(path, tuple(rows), tuple(problems), written)


def is_missing(text: str) -> bool:
    """Whether a text says that there is nothing: ``n/a`` of BIDS, ``NA``, ``NaN`` and ``null`` of programs, ``#N/A`` of spreadsheets."""
    return text.casefold() in _MISSING


def column_of(table: Columns, names: Iterable[str]) -> str | None:
    """Return the table's column that is the first of ``names``, whatever its case."""
    lower = {column.lower(): column for column in reversed(table)}
    return next((lower[name.lower()] for name in names if name.lower() in lower), None)


def _one_name_each(table: Columns) -> Columns:
    """Rename Age, M/F, gender and Split; a second column for the same thing keeps its name."""
    renamed: Columns = {}
    for column, values in table.items():
        name = _SAME_COVARIATE.get(column.lower(), column)
        taken = name in renamed or (name != column and name in table)
        renamed[column if taken else name] = values
    return renamed


def _label_column(table: Columns, path: Path, label: str | None) -> str:
    wanted = LABEL_COLUMNS if label is None else (label, _SAME_COVARIATE.get(label.lower(), label))
    found = column_of(table, wanted)
    if found is None:
        looked = "diagnosis, label, group or dx" if label is None else f"'{label}'"
        raise DataError(f"{path} has no column {looked}; it has: {', '.join(table)}. Name the column of labels with --label-column.")
    return found


def _numbers(name: str, texts: list[str | None]) -> list[Any]:
    """The values of a covariate, as numbers if it holds nothing else; ids and codes stay text."""
    if name.lower() == "synthetic":
        return [text is not None and text.lower() in ("true", "1") for text in texts]
    if not _is_id(name) and not _has_codes(texts):
        for number in (int, float):
            try:
                return [None if text is None else number(text) for text in texts]
            except ValueError:
                continue
    return texts


def _is_id(name: str) -> bool:
    return name.lower().endswith("id")


def _has_codes(texts: list[str | None]) -> bool:
    return any(text is not None and _CODE.match(text) for text in texts)


def _with_points(texts: list[str | None]) -> list[str | None]:
    """Numbers with a decimal comma as Python writes them; a column that holds anything else stays as it is."""
    if _has_codes(texts) or not all(text is None or _WITH_COMMA.fullmatch(text) for text in texts):
        return texts
    return [None if text is None else text.replace(",", ".") for text in texts]
