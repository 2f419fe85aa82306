"""Sizes as people give and read them: width and height of what is seen, whether it is stored as a picture or as a slice.

Slices are arrays of (R, S), say, and so their sides are width and height; pictures are arrays of (rows, columns), height and width.
"""

from collections.abc import Sequence

from .common.words import times


class AsSeen(tuple[int, ...]):
    """The sides of a slice as it is seen, width first; a volume has none that is seen, and keeps the order of its axes."""

    __slots__ = ()

    def stored(self, *, picture: bool) -> tuple[int, ...]:
        """The sides of the array of such an image."""
        return tuple(reversed(self)) if picture else tuple(self)


def seen(shape: Sequence[int], *, picture: bool) -> str:
    """The sides of an array for people, width first: ``176 x 208``."""
    return times(reversed(shape) if picture else shape)


def sides_told(shape: Sequence[int], *, picture: bool) -> str:
    """The sides of an array for people, with what they mean: of a picture both as it is seen and as it is stored."""
    if len(shape) != 2:
        return seen(shape, picture=False)
    stored = f"; {seen(shape, picture=False)} as an array" if picture else ""
    return f"{seen(shape, picture=picture)} (width x height{stored})"
