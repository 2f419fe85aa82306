"""Participants who may be one person are kept on one side of a split, and told where they are not."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from heapq import heappop, heappush

from .common.errors import DataError
from .common.words import listed

Pairs = Iterable[tuple[str, str]]


def groups_of(pairs: Pairs) -> list[set[str]]:
    """The participants that pairs join, directly or through others, in the order of the last pair of each group."""
    pairs, above = list(pairs), {}

    def first_of(who: str) -> str:
        while above.setdefault(who, who) != who:
            above[who] = above[above[who]]  # half the way next time
            who = above[who]
        return who

    for one, other in pairs:
        above[first_of(one)] = first_of(other)
    groups: defaultdict[str, set[str]] = defaultdict(set)
    for pair in reversed(pairs):
        groups[first_of(pair[0])] |= set(pair)
    return list(groups.values())[::-1]


def joined(people: Iterable[str], pairs: Pairs) -> set[str]:
    """The participants, and whoever may be one person with one of them."""
    known = set(people)
    return known.union(*(group for group in groups_of(pairs) if group & known))


def one_name_each(participants: Iterable[str], pairs: Pairs) -> list[str]:
    """The participants, where those who may be one person have the first of their names."""
    first = {who: min(group) for group in groups_of(pairs) for who in group}
    return [first.get(who, who) for who in participants]


def kept_together(sides: Mapping[str, str], labels: Mapping[str, str], pairs: Pairs) -> dict[str, str]:
    """The sides with each group on one: its members change places with others of their class, so that all sides stay as large as drawn.

    Parameters
    ----------
    sides : mapping
        From participant to side, as drawn. A group goes to the largest of its sides; who makes room for it is the first that can, and
        where nobody can, that side grows.
    labels : mapping
        From participant to label.
    pairs : iterable of (str, str)
        Participants who may be one person; who is on none of the sides is passed over.

    Raises
    ------
    DataError
        If a side would have nobody left of a class.
    """
    settled, sizes = dict(sides), Counter(sides.values())
    places = {who: place for place, who in enumerate(sides)}
    everybody = list(sides)
    groups = [sorted(group & places.keys(), key=places.__getitem__) for group in groups_of(pairs)]
    # Who may make room on a side, of a class, the first of ``sides`` on top; who has left it since is passed over.
    free: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for who, place in places.items():
        free[sides[who], labels[who]].append(place)
    done: set[str] = set()
    for group in groups:
        there = max((settled[who] for who in group), key=sizes.__getitem__, default="")
        done |= set(group)
        for who in group:
            if settled[who] == there:
                continue
            waiting = free[there, labels[who]]
            while waiting and (settled[everybody[waiting[0]]] != there or everybody[waiting[0]] in done):
                heappop(waiting)
            if waiting:
                place = heappop(waiting)
                settled[everybody[place]] = settled[who]
                heappush(free[settled[who], labels[who]], place)
            settled[who] = there
    _require_people(sides, settled, labels, groups)
    return settled


def on_the_first(sides: Mapping[str, str], labels: Mapping[str, str], pairs: Pairs, order: Sequence[str], rest: str) -> dict[str, str]:
    """The sides with each group on the first side, in this order, that has one of it; its members on later ones go to the side ``rest``.

    Raises
    ------
    DataError
        If a side would have nobody left of a class.
    """
    settled, groups = dict(sides), groups_of(pairs)
    for group in groups:
        first = next((side for side in order if any(sides.get(who) == side for who in group)), None)
        settled |= {who: rest for who in group if sides.get(who) in order and sides[who] != first}
    _require_people({who: side for who, side in sides.items() if side in order}, settled, labels, groups)
    return settled


def _require_people(
    before: Mapping[str, str], after: Mapping[str, str], labels: Mapping[str, str], groups: Iterable[Iterable[str]]
) -> None:
    """Raise a ``DataError`` if a side had people of a class, and has none."""
    left = {(side, labels.get(who)) for who, side in after.items()}
    for who, side in before.items():
        if (side, labels.get(who)) not in left:
            raise DataError(
                f"{told(sorted(group) for group in groups)} may be one person each, and the side {side} would have nobody of the class "
                f"{labels.get(who)}; give them one participant id, or leave one of them out."
            )


def digest_of(pairs: Pairs) -> str:
    """SHA-256 of pairs, in any order: it names nobody."""
    return hashlib.sha256("\n".join(sorted("\t".join(sorted(pair)) for pair in pairs)).encode()).hexdigest()


def apart(sides: Mapping[str, str], pairs: Pairs) -> list[tuple[str, str]]:
    """Who may be one person and is on two of the sides, each with the side."""
    found = [pair for pair in pairs if set(pair) <= sides.keys() and sides[pair[0]] != sides[pair[1]]]
    return [(f"{one} ({sides[one]})", f"{other} ({sides[other]})") for one, other in found]


def told(pairs: Iterable[Sequence[str]]) -> str:
    """Pairs for people to read; empty if there are none."""
    return listed((" and ".join(pair) for pair in pairs), separator="; ")
