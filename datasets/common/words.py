"""Sizes, lists and settings as sentences tell them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def times(sides: Iterable[int]) -> str:
    """A size: ``80 x 96``."""
    return " x ".join(map(str, sides))


def listed(names: Iterable[object], *, most: int = 10, separator: str = ", ") -> str:
    """The first so many, and how many more there are."""
    told = list(map(str, names))
    rest = len(told) - most
    more = f"{separator.rstrip(', ')} and {rest} more"  # "a, b and 3 more", "a; b; and 3 more"
    return separator.join(told[:most]) + (more if rest > 0 else "")


def dotted(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings, each with its whole name: ``training.steps``."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
