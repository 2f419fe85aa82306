"""Participants who may be one person are kept on one side of a split, and told where they are not."""

from collections import Counter
from collections.abc import Iterable, Mapping

from .common.errors import DataError

Pairs = Iterable[tuple[str, str]]
_NAMED = 10  # pairs that a sentence names before it counts the rest


def groups_of(pairs: Pairs) -> list[set[str]]:
    """The participants that pairs join, directly or through others."""
    groups: list[set[str]] = []
    for pair in pairs:
        joined = [group for group in groups if group & set(pair)]
        groups = [group for group in groups if group not in joined] + [set(pair).union(*joined)]
    return groups


def kept_together(sides: Mapping[str, str], labels: Mapping[str, str], pairs: Pairs) -> dict[str, str]:
    """The sides with each group on one: its members change places with others of their class, so that all sides stay as large as drawn.

    Parameters
    ----------
    sides : mapping
        From participant to side, as drawn. A group goes to the largest of its sides; who makes room for it is the first that can.
    labels : mapping
        From participant to label.
    pairs : iterable of (str, str)
        Participants who may be one person; who is on none of the sides is passed over.

    Raises
    ------
    DataError
        If a class has nobody to change places with.
    """
    settled, sizes = dict(sides), Counter(sides.values())
    groups = [[who for who in sides if who in group] for group in groups_of(pairs)]
    bound = {who for group in groups for who in group}
    for group in groups:
        there = max((settled[who] for who in group), key=sizes.__getitem__, default="")
        for who in group:
            if settled[who] == there:
                continue
            free = (one for one in sides if settled[one] == there and labels[one] == labels[who] and one not in bound)
            other = next(free, None)
            if other is None:
                raise DataError(
                    f"{' and '.join(sorted(group))} may be one person, and the class {labels[who]} is too small to have them on one side; "
                    "give them one participant id, or leave one out."
                )
            settled[who], settled[other] = there, settled[who]
    return settled


def apart(sides: Mapping[str, str], pairs: Pairs) -> list[tuple[str, str]]:
    """Who may be one person and is on two of the sides, each with the side."""
    found = [pair for pair in pairs if set(pair) <= sides.keys() and sides[pair[0]] != sides[pair[1]]]
    return [(f"{one} ({sides[one]})", f"{other} ({sides[other]})") for one, other in found]


def told(pairs: Pairs) -> str:
    """Pairs for people to read; empty if there are none."""
    texts = [f"{one} and {other}" for one, other in pairs]
    rest = len(texts) - _NAMED
    return "; ".join(texts[:_NAMED]) + (f"; and {rest} more" if rest > 0 else "")
