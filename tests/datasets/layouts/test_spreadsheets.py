"""Spreadsheets as tables: what a person reads in a cell, one sheet, and nothing that a file only claims."""

import sys
import zipfile
from datetime import datetime

import pytest

from tinycohort.datasets.check import examine
from tinycohort.datasets.common.errors import DataError
from tinycohort.datasets.layouts.participants import read_ids, read_table
from tinycohort.datasets.readers import Source, read_cohort

openpyxl = pytest.importorskip("openpyxl", reason="the extra xlsx is not installed")


def write(path, *sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets):
        sheet = book.create_sheet(f"Sheet{number + 1}")
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def people(fakes):
    return [["participant_id", "diagnosis", "age"], *([name, label, 70.0] for name, label in fakes.people.items())]


def test_a_spreadsheet_is_a_table(fakes, tmp_path):
    fakes.pictures(tmp_path)
    (tmp_path / "participants.tsv").unlink()
    write(tmp_path / "study.xlsx", people(fakes))
    (tmp_path / "~$study.xlsx").write_bytes(b"an open one")
    cohort = read_cohort(tmp_path)
    assert examine(cohort).sound
    assert cohort.table["age"].tolist() == [70] * 6
    write(tmp_path.parent / "elsewhere.xlsx", people(fakes))
    assert len(read_cohort(Source(str(tmp_path), table=str(tmp_path.parent / "elsewhere.xlsx")))) == 6


def test_a_spreadsheet_is_a_list_of_ids(tmp_path):
    for number, header in enumerate(([["age", "ID"]], [])):
        rows = [[70, 7.0], [71, "008"]] if header else [[7.0], ["008"]]
        assert read_ids(write(tmp_path / f"{number}.xlsx", [*header, *rows])) == ["7", "008"]


def test_images_are_named_relative_to_a_spreadsheet(fakes, tmp_path):
    fakes.pictures(tmp_path / "deep")
    rows = [["id", "image", "dx"], *([name, f"deep/images/{name}.png", label] for name, label in fakes.people.items())]
    assert examine(read_cohort(write(tmp_path / "images.xlsx", rows))).sound


def test_a_cell_is_what_a_person_reads_in_it(tmp_path):
    rows = [
        ["id", "number", "part", "day", "moment", "yes", "none", "error", "text"],
        [7.0, 3, 0.5, datetime(2020, 5, 1), datetime(2020, 5, 1, 12), True, None, "#N/A", " a "],
        ["007", None, None, None, None, False],
    ]
    table = read_table(write(tmp_path / "a.xlsx", rows))
    assert table == {
        "id": ["7", "007"],
        "number": ["3", None],
        "part": ["0.5", None],
        "day": ["2020-05-01", None],
        "moment": ["2020-05-01T12:00:00", None],
        "yes": ["true", "false"],
        "none": [None, None],
        "error": [None, None],
        "text": ["a", None],
    }


def test_one_sheet_is_the_table(fakes, tmp_path):
    assert read_table(write(tmp_path / "a.xlsx", people(fakes), [], [["a note"]]))["age"] == ["70"] * 6
    with pytest.raises(DataError, match=r"has several sheets \(Sheet1, Sheet2\); keep the one of the participants"):
        read_table(write(tmp_path / "b.xlsx", people(fakes), people(fakes)))
    with pytest.raises(DataError, match="has no rows"):
        read_table(write(tmp_path / "c.xlsx", []))


def test_a_file_that_is_none_is_told(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(b"no")
    with pytest.raises(DataError, match=r"cannot be read as .xlsx"):
        read_table(tmp_path / "a.xlsx")
    (tmp_path / "a.ods").write_bytes(b"no")
    with pytest.raises(DataError, match=r"neither .csv, .tsv, .txt nor .xlsx"):
        read_table(tmp_path / "a.ods")


def test_a_spreadsheet_that_would_grow_is_not_opened(fakes, tmp_path, frugal):
    write(tmp_path / "a.xlsx", people(fakes))
    with zipfile.ZipFile(tmp_path / "a.xlsx", "a", zipfile.ZIP_DEFLATED) as archive, archive.open("xl/grows.xml", "w") as member:
        for _ in range(100):
            member.write(bytes(2**20))
    with pytest.raises(DataError, match="more than the 67108864 that a table may have"):
        read_table(tmp_path / "a.xlsx")


@pytest.mark.parametrize("place", ['r="A1000000000"', 'r="XFD2"'])
def test_a_cell_far_away_is_no_hang(fakes, tmp_path, frugal, place):
    write(tmp_path / "a.xlsx", people(fakes))
    with zipfile.ZipFile(tmp_path / "a.xlsx") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    row = '<row r="1000000000">' if "A1" in place else '<row r="9">'
    members[sheet] = members[sheet].replace(b"</sheetData>", f"{row}<c {place}><v>1</v></c></row></sheetData>".encode())
    with zipfile.ZipFile(tmp_path / "b.xlsx", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(DataError):
        read_table(tmp_path / "b.xlsx")


def test_without_the_extra_its_command_is_told(fakes, tmp_path, monkeypatch):
    write(tmp_path / "a.xlsx", people(fakes))
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(DataError, match=r"pip install 'tinycohort\[xlsx\]'\), or save it as .csv"):
        read_table(tmp_path / "a.xlsx")
