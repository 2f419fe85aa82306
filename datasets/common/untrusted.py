"""Text that may be a stranger's: what is no regular file, or larger than any such text, is refused before memory is taken."""

import errno
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

LARGEST = 128 * 2**20  # bytes: a table of a million participants has fewer


def read_text(path: Path, *, encoding: str = "utf-8") -> str:
    """Read a text file.

    Raises
    ------
    OSError
        If it is no regular file (to open a pipe would wait for ever), or cannot be read.
    ValueError
        If it is larger than ``LARGEST``, or in another encoding.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "no regular file", str(path))
    size = path.stat().st_size
    if size > LARGEST:
        raise ValueError(f"its {size} bytes are more than the {LARGEST} that a text may have")
    return path.read_text(encoding=encoding)


def read_json(path: Path, **options: Any) -> Any:
    """Read a JSON file; ``options`` are those of ``json.loads``.

    Raises
    ------
    OSError, ValueError
        As ``read_text``, or if it is no JSON, or nested deeper than any of ours.
    """
    return _parsed(json.loads, path, **options)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; the errors are those of ``read_json``."""
    return _parsed(tomllib.loads, path)


def _parsed(parse: Callable[..., Any], path: Path, **options: Any) -> Any:
    try:
        return parse(read_text(path), **options)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
