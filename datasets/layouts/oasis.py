"""OASIS-1 (Marcus et al. 2007): the download as it unpacks, and the grey-matter maps that nilearn fetches."""

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from ..cohort import Cohort, Problem
from ..common.errors import DataError
from ..identity import participant_of
from .participants import Columns, Subjects, read_table, understand
from .table import Found, cohort_table, join

LICENCE = "OASIS data use agreement, https://sites.wustl.edu/oasisbrains/"
_SESSION = "OAS1_[0-9][0-9][0-9][0-9]_MR[0-9]"
_TABLE = "oasis_cross-sectional*.csv"
# The average of the session's scans, gain-field corrected, in Talairach space at 1 mm, without the skull.
_IMAGE = "PROCESSED/MPRAGE/T88_111/OAS1_*_t88_masked_gfc.hdr"


def recognises(path: Path) -> bool:
    """Whether ``path`` holds session folders of the download, themselves or in ``disc*``."""
    return path.is_dir() and any((session / "PROCESSED").is_dir() for session in _sessions(path))


def read(path: Path, *, table: Path | None, label: str | None) -> Cohort:
    """Read the discs as they unpack: AD is a CDR above 0, CN a CDR of 0 or none; a repeat visit belongs to its participant.

    Raises
    ------
    DataError
        If the table ``oasis_cross-sectional.csv`` is not there, or has no CDR.
    """
    if table is None:
        tables = sorted(path.glob(_TABLE))
        if not tables:
            raise DataError(f"The OASIS-1 download {path} has no oasis_cross-sectional.csv; put it there, or give it with --table.")
        table = tables[0]
    found, problems = [], []
    for session in _sessions(path):
        images = sorted(session.glob(_IMAGE)) or sorted(session.glob(_IMAGE.replace(".hdr", ".img")))
        if len(images) > 1:
            what = f"several images ({', '.join(image.name for image in images)})"
            problems.append(Problem(participant_of(session.name), str(session), what, "keep one"))
        found += [Found(str(image.absolute()), session.name, session.name) for image in images[:1]]
    return _cohort("OASIS-1", str(path), found, _subjects(read_table(table, label), table, label), problems)


def fetch_vbm(*, label: str | None = None, fetch: Callable[..., Any] | None = None) -> Cohort:
    """Read the grey-matter maps of 403 participants that nilearn fetches once (about 1 GB) and keeps.

    Parameters
    ----------
    label : str, optional
        The column of labels; AD and CN by the CDR without it.
    fetch : callable, optional
        What to call in place of ``nilearn.datasets.fetch_oasis_vbm``.

    Raises
    ------
    DataError
        If the download fails.
    """
    if fetch is None:
        # nilearn takes a second to import, which no other cohort needs.
        from nilearn.datasets import fetch_oasis_vbm as fetch
    try:
        bunch = fetch(verbose=0)
    except (OSError, ValueError, EOFError, tarfile.TarError) as error:
        raise DataError(
            f"nilearn could not download oasis-vbm ({str(error).strip() or type(error).__name__}); "
            "try again with a network, or give an OASIS-1 download as --data."
        ) from error
    # The maps and the rows are joined by id: DARTEL's outliers are missing from both.
    found = [Found(str(file), Path(file).parent.name, Path(file).parent.name) for file in bunch.gray_matter_maps]
    table = {name: [None if pd.isna(value) else str(value).strip() for value in bunch.ext_vars[name]] for name in bunch.ext_vars}
    return _cohort("OASIS-1 VBM", "oasis-vbm", found, _subjects(table, Path("oasis_cross-sectional.csv"), label), [])


def _sessions(path: Path) -> list[Path]:
    """The session folders, in the folder itself, in discs, or in the archives' folders with a disc each."""
    return sorted(session for depth in ("", "*/", "*/*/") for session in path.glob(depth + _SESSION) if session.is_dir())


def _subjects(table: Columns, path: Path, label: str | None) -> Subjects:
    table = {name.lower(): values for name, values in table.items()}
    if "cdr" not in table:
        raise DataError(f"{path} has no column CDR, which gives the diagnosis; it has: {', '.join(table)}.")
    return understand(table | {"diagnosis": [_diagnosis(value) for value in table["cdr"]]}, path, label)


def _diagnosis(rating: str | None) -> str | None:
    """The young were not rated: CN. What is no number is left for the check to report."""
    try:
        return "AD" if float(rating or 0) > 0 else "CN"
    except ValueError:
        return None


def _cohort(name: str, source: str, found: list[Found], subjects: Subjects, problems: list[Problem]) -> Cohort:
    rows, unmatched = join(found, subjects)
    return Cohort(
        name=name,
        table=cohort_table(rows),
        source=source,
        licence=LICENCE,
        label_column=subjects.label_column,
        skull_stripped=True,
        problems=(*subjects.problems, *problems, *unmatched),
    )
