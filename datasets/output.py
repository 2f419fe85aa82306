"""Where a command writes to: the one way to have an output for oneself, whatever the command.

An output is refused where it would lie in real people's data or in what is sealed; locked, so that a second command is told of the first;
and what a killed command has left of it is put back or removed, with a sentence.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .common.custody import is_sealed
from .common.errors import DataError, UsageError
from .common.files import expanded, named, recover, recover_within, refuse_sealed
from .common.locks import locked
from .layouts.table import read_description
from .readers import NAMES

# By which a cohort's folder is known; any other table may lie in a folder of any kind.
_MARKS = (
    *("participants.tsv", "participants.csv", "sub-*/*/*.nii*", "sub-*/ses-*/*/*.nii*"),
    *("OAS1_*_MR*/PROCESSED", "disc*/OAS1_*_MR*/PROCESSED"),
)
_DERIVATIVES = "derivatives"  # the one folder of a BIDS dataset that is meant for what is made of it


@contextmanager
def output(path: Path, tell: Callable[[str], object], *beside: Path, data: Sequence[str] = (), patience: float = 0) -> Iterator[None]:
    """As ``held``, of what a command is asked to write; a ``UsageError`` also as ``refuse_misplaced``."""
    path = named(path)
    refuse_misplaced(path, data)
    with held(path, tell, *beside, patience=patience):
        yield


@contextmanager
def held(path: Path, tell: Callable[[str], object], *beside: Path, patience: float = 0) -> Iterator[None]:
    """Have a file or folder that is written whole for this process alone, while the block runs.

    Parameters
    ----------
    path : Path
    tell : callable
        Is given a sentence if a killed command had left something, or the file system has no locks.
    beside : paths
        What is written together with it, and by nobody else.
    patience : float
        Seconds to wait for another process.

    Raises
    ------
    UsageError
        If another process is at work on it.
    """
    with locked(path, clear=lambda: _tell(recover((path, *beside)), tell), tell=tell, patience=patience):
        yield


@contextmanager
def shared_output(folder: Path, tell: Callable[[str], object], *, data: Sequence[str] = ()) -> Iterator[None]:
    """Have a folder into which several processes write whole files, as those of a study do; the errors are those of ``output``."""
    folder = folder.resolve()  # by whatever name another process has it
    refuse_misplaced(folder, data)
    with locked(folder, clear=lambda: _tell(recover_within(folder), tell), tell=tell, shared=True) as others:
        if others:
            tell(f"Another process is at work in {folder} too; what it computes is not computed here.")
        yield


def refuse_misplaced(path: Path, data: Sequence[str] = ()) -> None:
    """Raise a ``UsageError`` if a path is a real cohort or lies in one, but for its ``derivatives``, or lies in what is sealed.

    A cohort is known by its marks, or because it is among ``data``, which the command reads (``Source.data``).
    """
    refuse_sealed(path)
    place, read = path.resolve(), {expanded(name).resolve() for name in data if name not in NAMES}
    if not place.name:
        raise UsageError(f"{path} is the whole of a disk; choose another --out.")
    for folder in (place, *place.parents):
        inside = place.relative_to(folder).parts[:1]
        if inside != (_DERIVATIVES,) and (folder in read or _is_real_cohort(folder)):
            where = "is" if folder == place else f"would lie in {folder},"
            raise UsageError(f"{path} {where} a cohort of real people's images, nothing that this command makes; choose another --out.")


def _is_real_cohort(folder: Path) -> bool:
    """Whether a folder has the marks of a cohort, and says nowhere that it is synthetic."""
    try:
        if is_sealed(folder) or not any(True for mark in _MARKS for _ in folder.glob(mark)):
            return False
        return not read_description(folder).synthetic
    except DataError:
        return True
    except OSError:  # a folder above may be closed to us
        return False


def _tell(done: list[str], tell: Callable[[str], object]) -> None:
    if done:
        tell(f"An earlier command was killed: {', and '.join(done)}.")
