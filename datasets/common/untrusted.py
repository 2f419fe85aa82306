"""Text that may be a stranger's: what is no regular file, or larger than any such text, is refused before memory is taken."""

import errno
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .custody import is_inside
from .errors import UsageError

LARGEST = 64 * 2**20  # bytes: a table of half a million participants has fewer
_HALF_A_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")  # as JSON may write it: a surrogate, which is text in a pair alone


def require_text(text: str) -> None:
    """Raise a ``UsageError`` for a path or a name with bytes that are no UTF-8: it could not be recorded in what is made with it."""
    if not _is_text(text):
        raise UsageError(f"'{text}' is no text in UTF-8; rename it, or reach it by a link of another name.")


def read_text(path: Path, *, encoding: str = "utf-8", within: Path | None = None) -> str:
    """Read a text file.

    Parameters
    ----------
    path : Path
    encoding : str
    within : Path, optional
        The folder that it belongs to: a link out of it is not followed.

    Raises
    ------
    OSError
        If it is no regular file (to open a pipe would wait for ever), a link out of the folder, or cannot be read.
    ValueError
        If it is larger than ``LARGEST``, or in another encoding.
    """
    if within is not None and not is_inside(path, within):
        raise OSError(errno.EINVAL, "a link out of the folder", str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "no regular file", str(path))
    size = path.stat().st_size
    if size > LARGEST:
        raise ValueError(f"its {size} bytes are more than the {LARGEST} that a text may have")
    return path.read_text(encoding=encoding)


def read_json(path: Path, *, within: Path | None = None, **options: Any) -> Any:
    """Read a JSON file; ``within`` is as for ``read_text``, ``options`` are those of ``json.loads``.

    Raises
    ------
    OSError, ValueError
        As ``read_text``, or if it is no JSON, nested deeper than any of ours, or holds half a character.
    """
    return _parsed(_json_of, path, within, **options)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; the errors are those of ``read_json``."""
    return _parsed(tomllib.loads, path, None)


def _json_of(text: str, **options: Any) -> Any:
    content = json.loads(text, **options)
    if _HALF_A_CHARACTER.search(text) and not _is_text(json.dumps(content, ensure_ascii=False)):
        raise ValueError("it holds half a character (a lone surrogate)")
    return content


def _is_text(text: str) -> bool:
    """Whether it can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parsed(parse: Callable[..., Any], path: Path, within: Path | None, **options: Any) -> Any:
    try:
        return parse(read_text(path, within=within), **options)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
