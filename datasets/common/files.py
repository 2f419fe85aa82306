"""Files and folders that are written whole or not at all.

Everything is written beside its final place under a temporary name and renamed at the end, so a reader
(or a restart after ``kill -9``) never meets half a file.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import UsageError

MANIFEST = "tinycohort.sha256"  # of a folder that is sealed (custody.py)


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; rename it to ``path`` when the block succeeds.

    The temporary name keeps the suffixes of ``path``, because writers such as nibabel choose a format by them.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".writing-", suffix=f"-{final.name}", dir=final.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files for their owner alone; a result has the rights that any new file would have.
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


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
    temporary = Path(tempfile.mkdtemp(prefix=f".writing-{final.name}-", dir=final.parent))
    try:
        yield temporary
        # Some writers make files for their owner alone, as mkdtemp does folders; a result has the rights that any new file would have.
        for path in (temporary, *temporary.rglob("*")):
            path.chmod((0o777 if path.is_dir() else 0o666) & ~_umask())
        # Another process may have written it since.
        refuse_existing(final, force=force)
        if final.exists():
            retired = Path(tempfile.mkdtemp(prefix=f".replaced-{final.name}-", dir=final.parent))
            os.replace(final, retired / final.name)
            os.replace(temporary, final)
            shutil.rmtree(retired, ignore_errors=True)
        else:
            _take_name(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def refuse_existing(path: Path, *, force: bool, ours: Callable[[Path], bool] = lambda path: True) -> None:
    """Raise a ``UsageError`` if ``path`` exists, unless ``force`` is set and it is ``ours`` to replace; an empty folder does not count.

    Also if it lies in a sealed folder, which it would alter, and with which it would be handed on: a report of an audit shows patients.
    """
    sealed = next((folder for folder in path.resolve().parents if (folder / MANIFEST).exists()), None)
    if sealed is not None:
        raise UsageError(f"{path} would lie in {sealed}, a model or a cohort that nothing may be added to; choose another --out.")
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if force and not ours(path):
        raise UsageError(f"{path} is nothing that this command makes, so --force does not replace it; choose another --out.")
    if not force:
        raise UsageError(f"{path} exists already; choose another --out, or give --force to replace it.")


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write ``content`` as indented JSON, whole."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
