"""The manifest of a folder that tinycohort has written, by which accidents are found: a flipped byte, a lost row, a swapped image.

``tinycohort.sha256`` lists the SHA-256 of every file in the form of GNU coreutils, so that ``sha256sum -c tinycohort.sha256`` reads it
too. It is no signature: who changes a file on purpose can write the manifest anew.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from .errors import DataError
from .files import MANIFEST, digest_of, whole_file
from .words import listed

_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_LARGEST = 128 * 2**20  # bytes of a manifest: a million files
_NAMED = 3  # differences that an error names before it counts the rest


class Difference(NamedTuple):
    """A file of a folder that is not what the manifest says, and what it is instead."""

    file: str
    what: str


def seal(folder: Path) -> None:
    """Write the manifest of all that ``folder`` holds now: the last thing that is written into it."""
    lines = [f"{digest_of(folder / name)}  {name}\n" for name in _files(folder)]
    with whole_file(folder / MANIFEST) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def is_sealed(folder: Path) -> bool:
    """Whether ``folder`` has a manifest."""
    return os.path.lexists(folder / MANIFEST)


def differences(folder: Path) -> list[Difference]:
    """Compare every file of a sealed folder with its manifest.

    What is hidden (a name with a leading dot, as operating systems leave them) is no part of a folder, and no reader here reads it.

    Raises
    ------
    DataError
        If the manifest itself cannot be read, or lists what is not inside of the folder.
    """
    told = _read(folder / MANIFEST)
    found = []
    for name, digest in told.items():
        path = folder / name
        if not path.is_file():
            found.append(Difference(name, "is missing"))
        elif not is_inside(path, folder):
            found.append(Difference(name, "is a link out of the folder"))
        elif digest_of(path) != digest:
            found.append(Difference(name, "has another content"))
    return found + [Difference(name, "is not listed") for name in _files(folder) if name not in told]


def require_intact(folder: Path) -> None:
    """Raise a ``DataError`` if a sealed folder is not as it was written; a folder without manifest tells nothing."""
    if not is_sealed(folder):
        return
    found = differences(folder)
    if found:
        told = listed((f"{name} {what}" for name, what in found), most=_NAMED)
        raise DataError(
            f"{folder} was altered since it was written: by its {MANIFEST}, {told}; restore it, or make it anew "
            "(`augment verify` lists all)."
        )


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path, its links followed, lies in a folder."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # links in a circle, or a name that no file can have
        return False


def outside_of(folder: Path, files: Iterable[Path]) -> list[Path]:
    """Those of many files that do not lie in a folder, their links followed; of what lies beside each other, only links are looked at."""
    files = list(files)
    inside = {parent: is_inside(parent, folder) for parent in {file.parent for file in files}}
    return [file for file in files if not inside[file.parent] or ((file.is_symlink() or file.name == "..") and not is_inside(file, folder))]


def _files(folder: Path) -> Iterator[str]:
    """The files below ``folder`` by their relative paths, in order; a link to a folder counts as one, because it is not gone into."""
    for parent, folders, names in os.walk(folder):
        inside = Path(parent).relative_to(folder)
        if Path(parent) == folder:
            folders[:] = [name for name in folders if not name.startswith(".")]
        folders.sort()
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in sorted([*names, *links]):
            relative = (inside / name).as_posix()
            if not name.startswith(".") and relative != MANIFEST:
                yield relative


def _read(path: Path) -> dict[str, str]:
    """From each file that a manifest lists to its digest."""
    if not path.is_file() or not is_inside(path, path.parent):
        raise DataError(f"{path} is no manifest; restore it, or make the folder anew.")
    size = path.stat().st_size
    if size > _LARGEST:
        raise DataError(f"{path} has {size} bytes, more than the {_LARGEST} of a manifest; restore it, or make the folder anew.")
    listed: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            # Line by line, so that what is no manifest takes no memory.
            for number, line in enumerate(lines, start=1):
                match = _LINE.fullmatch(line.removesuffix("\n"))
                name = match[2] if match else ""
                place = PurePosixPath(name)
                if not match or place.is_absolute() or ".." in place.parts or "\\" in name or "\0" in name or name in listed:
                    raise DataError(f"Line {number} of {path} is no digest of a file in its folder; restore it, or make the folder anew.")
                listed[name] = match[1]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); restore it, or make the folder anew.") from error
    return listed
