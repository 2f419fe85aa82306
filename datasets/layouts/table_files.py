"""The files that tables are in, as lines of text fields: CSV and TSV, whatever separates them, and spreadsheets."""

import csv
import io
import re
import zipfile
from datetime import datetime, time
from pathlib import Path
from typing import Any

from ..common.errors import DataError
from ..common.untrusted import LARGEST, read_text

TABLES = (".tsv", ".csv", ".xlsx")
_TEXTS = (".tsv", ".csv", ".txt")
_MOST_FIELDS = 10_000_000  # of a table: a million participants of ten columns
_MOST_ROWS = 2**20  # of a spreadsheet

# Numbers of lines with their fields.
Lines = list[tuple[int, list[str]]]


def lines_of(path: Path) -> tuple[Lines, str]:
    """Read the lines of a table that hold something, the header first, and what separates their fields: of a spreadsheet nothing.

    Raises
    ------
    DataError
        If the file is not there, is no table, or is larger than any table of participants.
    """
    if not path.is_file():
        raise DataError(f"There is no table {path}; give one with --table.")
    kind = path.suffix.lower()
    if kind in _TEXTS:
        return _lines_of_text(path)
    if kind in TABLES:
        return _lines_of_spreadsheet(path), ""
    raise DataError(f"The table {path} is neither .csv, .tsv, .txt nor .xlsx; save it as one of them.")


def _lines_of_text(path: Path) -> tuple[Lines, str]:
    try:
        text = read_text(path, encoding="utf-8-sig")
        # Spreadsheets write semicolons where the comma is the decimal sign.
        separator = max("\t,;", key=text.partition("\n")[0].count)
        _require_few(path, text.count(separator) + text.count("\n"))
        # Strict: a quotation mark that is no field's would take the lines up to the next one into its own.
        text = re.sub(rf'" +(?={separator}|\r?\n|$)', '"', text)
        reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
        return [(reader.line_num, row) for row in reader if any(row)], separator
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"The table {path} cannot be read ({error}); save it as UTF-8 text, one row per participant, with quotation marks around whole "
            "fields or nowhere."
        ) from error


def _require_few(path: Path, n_fields: int) -> None:
    if n_fields > _MOST_FIELDS:
        told = f"{n_fields:,} fields or empty lines, more than {_MOST_FIELDS:,}"
        raise DataError(f"The table {path} has {told}; leave out columns or rows.")


def _lines_of_spreadsheet(path: Path) -> Lines:
    try:
        import openpyxl  # a tenth of a second, which no other table takes
    except ImportError as error:
        mend = "install the extra `xlsx` (pip install 'tinycohort[xlsx]'), or save it as .csv"
        raise DataError(f"The table {path} is a spreadsheet, which takes openpyxl; {mend}.") from error
    try:
        _require_small(path)
        with path.open("rb") as file:
            sheets = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False).worksheets
            filled = {sheet.title: lines for sheet in sheets if len(lines := _lines_of_sheet(path, sheet)) > 1}
    except DataError:
        raise
    except Exception as error:  # of a stranger's bytes in a library and an XML parser, anything
        told = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"The table {path} cannot be read as .xlsx ({told}); save it anew, or as .csv.") from error
    if len(filled) > 1:
        raise DataError(f"The table {path} has several sheets ({', '.join(filled)}); keep the one of the participants, or save it as .csv.")
    return next(iter(filled.values()), [])


def _require_small(path: Path) -> None:
    """Raise a ``DataError`` if the archive, which a spreadsheet is, holds more than a text may have: it is read as text."""
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > LARGEST:
        raise DataError(f"The table {path} holds {size} bytes, more than the {LARGEST} that a table may have; leave out columns or rows.")


def _lines_of_sheet(path: Path, sheet: Any) -> Lines:
    # What the sheet says of its size is a claim; without it, a row ends with its last cell.
    sheet.reset_dimensions()
    lines, n_fields = [], 0
    for number, row in enumerate(sheet.iter_rows(values_only=True), start=1):
        n_fields += len(row)
        _require_few(path, n_fields)
        if number > _MOST_ROWS:
            raise DataError(f"The table {path} has a row beyond {_MOST_ROWS:,}, which no spreadsheet has; save it anew, or as .csv.")
        fields = [_text_of(value) for value in row]
        if any(fields):
            lines.append((number, fields))
    return _of_one_length(lines)


def _of_one_length(lines: Lines) -> Lines:
    """Rows that are as long as the header, where what is missing is empty."""
    longest = len(lines[0][1]) if lines else 0
    return [(number, fields + [""] * (longest - len(fields))) for number, fields in lines]


def _text_of(value: Any) -> str:
    """What a person reads in a cell: 7 and not 7.0, a day without its midnight."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat()
    return str(value)
