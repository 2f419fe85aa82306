"""Files and folders that are written whole or not at all.

Everything is written beside its final place under a temporary name and renamed at the end, so a reader
(or a restart after ``kill -9``) never meets half a file.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import UsageError
from .exchange import exchange

MANIFEST = "tinycohort.sha256"  # of a folder that is sealed (custody.py)
_WRITING, _REPLACED = ".writing-", ".replaced-"
_RANDOM = "[a-z0-9_]{8}"  # what tempfile makes names unique by


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; rename it to ``path`` when the block succeeds.

    The temporary name keeps the suffixes of ``path``, because writers such as nibabel choose a format by them.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=_WRITING, suffix=f"-{final.name}", dir=final.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files for their owner alone; a result has the rights that any new file would have.
        _give_rights(temporary, 0o666)
        os.replace(temporary, final)
    finally:
        _remove(temporary)


@contextmanager
def whole_folder(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; it takes the name ``path`` when the block succeeds.

    Raises
    ------
    UsageError
        If ``path`` exists and ``force`` is not set. With ``force`` the old folder stays until the new one is whole.
    """
    final = Path(path)
    refuse_existing(final, force=force)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f"{_WRITING}{final.name}-", dir=final.parent))
    try:
        yield temporary
        # Some writers make files for their owner alone, as mkdtemp does folders; a result has the rights that any new file would have.
        for path in (temporary, *temporary.rglob("*")):
            if path.is_symlink():  # rights would go to what it leads to
                continue
            _give_rights(path, 0o777 if path.is_dir() else 0o666)
        # Another process may have written it since.
        refuse_existing(final, force=force)
        if not final.exists():
            _take_name(temporary, final)
        elif not exchange(temporary, final):
            _replace(final, temporary)
    finally:
        _remove(temporary)  # if it is there: half of the new one, or the old one


def _replace(final: Path, new: Path) -> None:
    """Replace by two renames, where a system cannot exchange names; killed between them, ``recover`` puts the old one back."""
    retired = Path(tempfile.mkdtemp(prefix=f"{_REPLACED}{final.name}-", dir=final.parent))
    os.replace(final, retired / final.name)
    try:
        os.replace(new, final)
    except OSError:
        os.replace(retired / final.name, final)
        retired.rmdir()
        raise
    _remove(retired)


def recover(paths: Iterable[Path]) -> list[str]:
    """Put back what a killed process was replacing, and remove what it had not finished, of files and folders that nobody is writing.

    Returns
    -------
    list of str
        What was done, for people: part of a sentence each.
    """
    done = []
    for path in paths:
        hidden = hidden_by_a_kill(path)
        if hidden is not None:
            os.replace(hidden, path)
            done.append(f"{path} is back in its place")
        left = _left_beside(path)
        for entry in left:
            _remove(entry)
        if left:
            done.append(f"what was left unfinished beside {path} is removed")
    return done


def recover_within(folder: Path) -> list[str]:
    """Remove what killed processes had not finished, of all that lies in a folder that nobody is writing into."""
    left = []
    for parent, folders, names in os.walk(folder):
        left += [Path(parent, name) for name in (*folders, *names) if name.startswith(_WRITING)]
        folders[:] = [name for name in folders if not name.startswith(_WRITING)]
    for entry in left:
        _remove(entry)
    return [f"what was left unfinished in {folder} is removed"] if left else []


def hidden_by_a_kill(path: Path) -> Path | None:
    """Where a file or folder lies that has lost its name, because a process was killed between two renames."""
    if os.path.lexists(path):
        return None
    places = [entry / path.name for entry in _left_beside(path) if entry.name.startswith(_REPLACED)]
    return next((place for place in places if os.path.lexists(place)), None)


def hidden_within(folder: Path) -> Path | None:
    """What lies in a folder without its name, because a process was killed between two renames."""
    places = (entry for entry in sorted(folder.glob(f"{_REPLACED}*/*")) if not os.path.lexists(folder / entry.name))
    return next(places, None)


def _left_beside(path: Path) -> list[Path]:
    """What killed writers of this very file or folder have left; of ``a`` nothing that is of ``a-b``."""
    name = re.escape(path.name)
    pattern = re.compile(rf"{re.escape(_WRITING)}({name}-{_RANDOM}|{_RANDOM}-{name})|{re.escape(_REPLACED)}{name}-{_RANDOM}")
    try:
        return sorted(entry for entry in path.parent.iterdir() if pattern.fullmatch(entry.name))
    except OSError:
        return []


def _remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there and may be removed."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _take_name(temporary: Path, final: Path) -> None:
    """Rename a folder; another process may have made one of that name since it was looked for."""
    try:
        os.replace(temporary, final)
    except OSError:
        refuse_existing(final, force=False)
        raise


def named(path: Path) -> Path:
    """``path`` with a name that others can be put beside; ``.`` has none."""
    return path if path.name not in ("", "..") else path.absolute().resolve()


def expanded(path: str | os.PathLike[str]) -> Path:
    """``path`` with the variables of the environment and the ``~`` in it filled in, wherever it was written: options, configurations."""
    return Path(os.path.expandvars(path)).expanduser()


def absolute(path: Path) -> Path:
    """``path`` from the root on, without ``..``, before which alone links are followed, as the system does: a name says what is beside."""
    parts = path.absolute().parts
    if ".." not in parts:
        return Path(*parts)
    last = len(parts) - parts[::-1].index("..")
    return Path(*parts[:last]).resolve().joinpath(*parts[last:])


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def refuse_existing(path: Path, *, force: bool, ours: Callable[[Path], bool] = lambda path: True) -> None:
    """Raise a ``UsageError`` if ``path`` exists, unless ``force`` is set and it is ``ours`` to replace; an empty folder does not count.

    Also as ``refuse_sealed``.
    """
    refuse_sealed(path)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if force and not ours(path):
        raise UsageError(f"{path} is nothing that this command makes, so --force does not replace it; choose another --out.")
    if not force:
        raise UsageError(f"{path} exists already; choose another --out, or give --force to replace it.")


def refuse_sealed(path: Path) -> None:
    """Raise a ``UsageError`` if ``path`` lies in a sealed folder.

    It would alter that, and would be handed on with it: a report of an audit shows patients.
    """
    sealed = next((folder for folder in path.resolve().parents if (folder / MANIFEST).exists()), None)
    if sealed is not None:
        raise UsageError(
            f"{path} would lie in {sealed}, a model, a cohort or a published study that nothing may be added to; choose another --out."
        )


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write ``content`` as indented JSON, whole."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _give_rights(path: Path, rights: int) -> None:
    """Those that the user's umask leaves. A file system that has no rights to give, as shares of Windows, loses no result for it."""
    with suppress(OSError):
        path.chmod(rights & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
