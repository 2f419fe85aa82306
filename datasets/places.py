"""Where a cohort is said to be: told in an instant if nothing is there, so that nothing heavy is imported here."""

from pathlib import Path

from .common.errors import DataError
from .common.files import expanded, hidden_by_a_kill
from .common.locks import lock_of

# Cohorts that are had by name; ``readers.NAMES`` says how.
NAMED = ("demo", "oasis-vbm", "mnist", "fashion-mnist", "cifar10", "svhn", "celeba", "rings-and-discs")


def require_place(data: str) -> None:
    """Raise a ``DataError`` if there is neither a cohort of this name nor a file or folder."""
    if data in NAMED:
        return
    path = expanded(data)
    if path.exists():
        return
    hidden = hidden_by_a_kill(path)
    if hidden is not None:
        raise DataError(f"{path} lies in {hidden}, because a command was killed as it replaced it; move it back.")
    raise DataError(f"There is no file or folder {path}, and no cohort of that name; the names are: {', '.join(NAMED)}.")


def require_output(path: Path) -> None:
    """As ``require_place``, of what a command of ours writes: one that is at work on it, or was killed, is told of, or mended, later."""
    if not lock_of(expanded(path)).exists():
        require_place(str(path))
