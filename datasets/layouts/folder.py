"""A folder of volumes or pictures with a table: the images are named in it, or found by participant id anywhere below."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..cohort import Cohort, Problem
from ..common.errors import DataError
from ..identity import scan_of
from ..images import IMAGES, stem
from .participants import Subject, Subjects, read_subjects
from .table import cohort_table, no_image, read_description, row_of
from .table_files import TABLES
from .walk import conversion_below, images_below

_WORD = re.compile(r"[^\W_]+")
USUAL_PLANES = ("axial", "coronal", "sagittal")


def recognises(path: Path) -> bool:
    """Whether ``path`` is a folder, or a table."""
    return path.is_dir() or (path.is_file() and path.suffix.lower() in TABLES)


def read(path: Path, *, table: Path | None, label: str | None, plane: str | None) -> Cohort:
    """Read a folder with its table, or a table with the images beside it.

    Parameters
    ----------
    path : Path
        A folder, or a table whose column ``image``, ``path`` or ``filename`` holds paths relative to it.
    table : Path, optional
        The table of a folder that holds none, or several.
    label : str, optional
        The column of labels.
    plane : str, optional
        A word in the file's name or folder that chooses among several images of one id, as in ``ID_axial.jpg``; if it is in no name,
        it chooses nothing here.

    Raises
    ------
    DataError
        If there is no table, no image, or most ids have several images and no ``plane`` chooses.
    """
    if path.is_file():
        folder, table = path.parent, path
    else:
        folder, table = path, table or _own_table(path)
    subjects = read_subjects(table, label)
    rows, problems = _named(subjects, folder) if subjects.name_images else _searched(subjects, folder, plane)
    told = read_description(folder)
    return Cohort(
        name=told.name,
        table=cohort_table(rows),
        source=str(path),
        licence=told.licence,
        label_column=subjects.label_column,
        skull_stripped=told.skull_stripped,
        synthetic=subjects.synthetic or told.synthetic,
        problems=(*subjects.problems, *problems),
    )


def holds(path: Path, plane: str) -> bool:
    """Whether a word of a path, of its folders or its name, is the plane."""
    return plane.lower() in _words(path)


def without(name: str, words: Iterable[str]) -> str:
    """Return a name without each of some words, where it first stands in it, and without what parts it from the one before."""
    for word in words:
        kept = re.sub(_word(word), "", name, count=1, flags=re.IGNORECASE)
        name = re.sub(r"^[\W_]+", "", kept) if kept != name else name
    return name


def tables_in(folder: Path) -> list[Path]:
    """The tables at the top of a folder; spreadsheets have a file ``~$`` beside one that is open."""
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in TABLES and not file.name.startswith((".", "~$")))


def _own_table(folder: Path) -> Path:
    usual = [folder / f"participants{kind}" for kind in TABLES]
    tables = [file for file in usual if file.is_file()][:1] or tables_in(folder)
    if not tables:
        raise DataError(
            f"{folder} is no known layout: it has no participants.tsv, no other table ({', '.join(TABLES)}), no images.npz, no OASIS-1 "
            "discs, no sub-* folders of NIfTI, and no two folders of images that are classes; give the table of participants with --table"
            f"{conversion_below(folder)}."
        )
    if len(tables) > 1:
        raise DataError(f"{folder} has several tables ({', '.join(file.name for file in tables)}); choose one with --table.")
    return tables[0]


def _named(subjects: Subjects, folder: Path) -> tuple[list[dict[str, Any]], list[Problem]]:
    """The images that the table names; a path is relative to the table, or else to the folder."""
    rows, problems = [], []
    for subject in subjects.rows:
        if subject.file is None:
            problems.append(no_image(subject, subjects.path, "no image named"))
            rows.append(row_of(subject, None, subject.spelled))
            continue
        beside_table, inside = subjects.path.parent / subject.file, folder / subject.file
        image = inside if inside.exists() and not beside_table.exists() else beside_table
        rows.append(row_of(subject, str(image.absolute()), subject.file))
    return rows, problems


def _searched(subjects: Subjects, folder: Path, plane: str | None) -> tuple[list[dict[str, Any]], list[Problem]]:
    """The images whose name, or folder, holds the id of a row."""
    index, problems = subjects.index()
    files = images_below(folder)
    if not files:
        raise DataError(
            f"{folder} holds no image ({', '.join(IMAGES)}, or a DICOM series), and {subjects.path.name} has no column image; add one"
            f"{conversion_below(folder)}."
        )
    if plane is not None and not any(holds(file.relative_to(folder), plane) for file in files):
        # No name holds it: it is a plane to cut out of volumes, not one to choose files by.
        plane = None
    choices = _by_id(files, folder, {scan for scan, _ in index})
    several: dict[str, Sequence[Path]] = {}
    rows = []
    sessions: defaultdict[str, list[str]] = defaultdict(list)
    for scan, session in index:
        sessions[scan] += [] if session is None else [session]
    for (scan, session), subject in index.items():
        own = _of_session(choices[scan], subject, session, sessions[scan], folder)
        chosen = _choose(own, scan, folder, plane)
        if len(chosen) == 1:
            # Not resolved: a folder of links to a store keeps the names that its owner gave.
            rows.append(row_of(subject, str(chosen[0].absolute()), subject.spelled))
            continue
        if chosen:
            several[subject.spelled] = chosen
            names = ", ".join(file.name for file in chosen)
            what = f"several images for '{subject.spelled}' ({names})"
            mend = "keep one, or name the right one in a column image"
            problems.append(Problem(subject.participant_id, str(chosen[0].parent), what, mend))
        else:
            problems.append(no_image(subject, subjects.path, f"no image of the plane {plane} found" if plane else "no image found"))
        rows.append(row_of(subject, None, subject.spelled))
    if plane is None and len(several) > len(index) / 2:
        spelled, chosen = next(iter(several.items()))
        raise DataError(
            f"{len(several)} of {len(index)} ids in {subjects.path.name} have several images under {folder} (such as '{spelled}': "
            f"{', '.join(file.name for file in chosen)}); choose with --plane ({', '.join(_planes(several.values(), folder))})."
        )
    return rows, problems


def _by_id(files: Iterable[Path], folder: Path, scans: set[str]) -> defaultdict[str, list[Path]]:
    """Give each file to the one id that its name holds as whole words ('AD2' is in neither 'AD20' nor 'nAD2'), or else its folders."""
    choices: defaultdict[str, list[Path]] = defaultdict(list)
    for file in files:
        found = [(scan, len(text)) for text in _runs_of_words(stem(file.name)) if (scan := scan_of(text)) in scans]
        if found:
            # The longest, so that 'P1_2.png' belongs to 'P1_2' and not to 'P1'; of equals the first.
            choices[max(found, key=lambda match: match[1])[0]].append(file)
            continue
        parents = [scan_of(part) for part in reversed(file.relative_to(folder).parts[:-1])]
        scan = next((parent for parent in parents if parent in scans), None)
        if scan is not None:
            choices[scan].append(file)
    return choices


def _runs_of_words(text: str) -> Iterable[str]:
    words = list(_WORD.finditer(text))
    for first, start in enumerate(words):
        for end in words[first:]:
            yield text[start.start() : end.end()]
    yield text


def _word(text: str) -> str:
    """A regular expression of a text as whole words, and of what parts it from the word before."""
    return rf"(?:^|[\W_]){re.escape(text)}(?![^\W_])"


def _of_session(files: Sequence[Path], subject: Subject, session: str | None, sessions: Iterable[str], folder: Path) -> Sequence[Path]:
    """Of the files of somebody, whose rows are of these sessions, those of one of them; all where no name tells a session."""
    held: dict[Path, set[str]] = {}
    for file in files:
        bare = [stem(file.name), *reversed(file.relative_to(folder).parts[:-1])]
        for place, part in enumerate(bare):
            # A session may be spelled as the person is, who is taken off where ``_by_id`` finds them.
            bare[place] = without(part, {subject.spelled, scan_of(subject.spelled), subject.participant_id})
            if bare[place] != part:
                break
        held[file] = {name for name in sessions if any(re.search(_word(name), part, re.IGNORECASE) for part in bare)}
    if not any(held.values()):
        return files
    return [file for file in files if (session in held[file] if session else not held[file])]


def _choose(files: Sequence[Path], scan: str, folder: Path, plane: str | None) -> Sequence[Path]:
    """The files of the plane; of several, the one that is named by the id alone."""
    if plane is not None:
        return [file for file in files if holds(file.relative_to(folder), plane)]
    # Word by word, because scan_of leaves out what follows an OASIS id.
    exact = [file for file in files if _bare_words(stem(file.name)) == _bare_words(scan)]
    return exact if len(exact) == 1 else files


def _bare_words(name: str) -> str:
    return "".join(_WORD.findall(name.removeprefix("sub-")))


def _words(path: Path) -> set[str]:
    return {word.lower() for part in (*path.parts[:-1], stem(path.name)) for word in _WORD.findall(part)}


def _planes(several: Iterable[Sequence[Path]], folder: Path) -> list[str]:
    """The words that tell the images of one id apart, the usual planes alone if they do."""
    telling: set[str] = set()
    for files in several:
        words = [_words(file.relative_to(folder)) for file in files]
        telling |= set.union(*words) - set.intersection(*words)
    usual = [plane for plane in USUAL_PLANES if plane in telling]
    return usual or sorted(telling)[:6]
