"""One person under two names in a cohort: by the form of ids, and by images that are too alike for two people."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .cohort import SPELLED, Cohort, Problem, place_of
from .formats.damage import ImageError
from .identity import differing_in_form, place_of_id
from .image_checks import Look
from .lookalikes import CANDIDATE, LEVEL, MOST, Likeness, look_alikes
from .small_images import Small, same_but_scaled
from .splits import sides_of_rows

Read = Callable[[Cohort, str | int], tuple[np.ndarray, np.ndarray | None]]
FORM = "if they are two people, rename one; a split keeps both on one side"
PARTED = "if they are one person, leave one out: official sides are kept as they are"
PERSON = "if they are one person, give both one participant id; a split keeps both on one side"


@dataclass(frozen=True)
class TwoNames:
    """Whom a cohort may have under two names.

    Parameters
    ----------
    contents : tuple of str or None
        Digest of each row's voxels; those that are equal up to a scale and an offset share the first one's.
    remarks : tuple of Problem
        What is to be told.
    pairs : tuple of (str, str)
        The participants, in pairs.
    """

    contents: tuple[str | None, ...]
    remarks: tuple[Problem, ...]
    pairs: tuple[tuple[str, str], ...]


def compared(cohort: Cohort) -> bool:
    """Whether the images of a cohort are compared with each other: those of real people, and not too many."""
    return not cohort.synthetic and len(cohort) <= MOST


def find_two_names(cohort: Cohort, looks: Sequence[Look | None], read: Read) -> TwoNames:
    """Look for people under two names.

    Parameters
    ----------
    cohort : Cohort
    looks : sequence of Look or None
        What each row's image shows, with its small version where ``compared`` says so.
    read : callable
        The image of a row and its affine, read again of those that may be copies of each other.
    """
    remarks, pairs = _forms(cohort)
    sides = sides_of_rows(cohort)
    if not compared(cohort) and not cohort.synthetic:
        what = f"{len(cohort)} images, and no more than {MOST} are compared with each other: nobody was looked for under two names"
        remarks.append(Problem(cohort.name, cohort.source, what, "check parts of the cohort"))
    people, first = cohort.table["participant_id"].astype(str).tolist(), _first_rows(looks)
    same: dict[str, str] = {}
    smalls = [look.small if look and first[look.digest] == row else None for row, look in enumerate(looks)]
    for likeness in look_alikes(smalls, people):
        if likeness.distance <= CANDIDATE and _are_copies([(cohort, row) for row in likeness.rows], read):
            one, other = (_root(same, looks[row]) for row in likeness.rows)
            if one != other:
                same[other] = one
        elif likeness.p <= LEVEL:
            remarks.append(_alike(cohort, likeness, sides))
        else:
            continue
        pairs.append(_pair(people[row] for row in likeness.rows))
    contents = tuple(_root(same, look) if look and not look.faults else None for look in looks)
    owner: dict[str, str] = {}
    for who, content in zip(people, contents, strict=True):
        if content is not None and owner.setdefault(content, who) != who:
            pairs.append(_pair((owner[content], who)))
    # In one order, however the table is sorted: splits move people group by group.
    in_order = sorted(set(pairs), key=lambda pair: [place_of_id(who) for who in pair])
    return TwoNames(contents, tuple(remarks), tuple(in_order))


@dataclass(frozen=True)
class Shared:
    """Two images of two cohorts that may be one person's: their ids, whether one is a copy of the other, and how alike they are."""

    image_ids: tuple[str, str]
    copies: bool
    likeness: Likeness


def people_of_both(
    one: Cohort, of_one: Sequence[Small | None], other: Cohort, of_other: Sequence[Small | None], read: Read
) -> list[Shared]:
    """Whom two cohorts, each with small versions of its images (``check.Examination.smalls``), may share under two names."""
    cohorts = [one] * len(one) + [other] * len(other)
    places = [*range(len(one)), *range(len(other))]
    names = [f"{kind} {who}" for kind, cohort in enumerate((one, other)) for who in cohort.table["participant_id"]]
    parts = ["one" if cohort is one else "other" for cohort in cohorts]
    found = []
    for likeness in look_alikes([*of_one, *of_other], names, parts):
        images = [(cohorts[row], places[row]) for row in likeness.rows]
        copies = likeness.distance <= CANDIDATE and _are_copies(images, read)
        if copies or likeness.p <= LEVEL:
            ids = [str(cohort.table["image_id"][row]) for cohort, row in images]
            found.append(Shared((ids[0], ids[1]), copies, likeness))
    return found


def _first_rows(looks: Sequence[Look | None]) -> dict[str, int]:
    """From a content to the first row that has it: its copies are told as such, and compared with nobody."""
    first: dict[str, int] = {}
    for row, look in enumerate(looks):
        if look:
            first.setdefault(look.digest, row)
    return first


def _root(same: Mapping[str, str], look: Look | None) -> str:
    assert look is not None
    digest = look.digest
    while digest in same:
        digest = same[digest]
    return digest


def _pair(people: Iterable[str]) -> tuple[str, str]:
    one, other = sorted(people)
    return one, other


def _are_copies(rows: Iterable[tuple[Cohort, int]], read: Read) -> bool:
    try:
        one, other = (read(cohort, cohort.table["image"][row]) for cohort, row in rows)
    except ImageError:  # it was read a moment ago; whoever reads it next will say what has become of it
        return False
    return same_but_scaled(one, other)


def _alike(cohort: Cohort, likeness: Likeness, sides: Sequence[str] | None) -> Problem:
    row, other = likeness.rows
    table, image = cohort.table, cohort.table["image"]
    mend, parted = PERSON, ""
    if sides is not None and sides[row] != sides[other]:
        mend, parted = PARTED, f", on the sides {sides[row]} and {sides[other]}"
    what = (
        f"looks like {place_of(image[other])} ({table['participant_id'][other]}): small versions, standardised in place, correlate by "
        f"{likeness.correlation:.3f}, and in a cohort of different people any two do so with probability {likeness.p:.1g}{parted}"
    )
    return Problem(str(table["participant_id"][row]), place_of(image[row]), what, mend)


def _forms(cohort: Cohort) -> tuple[list[Problem], list[tuple[str, str]]]:
    """Ids that differ by case or Unicode form only: of several participants, who may be one, and of one."""
    table = cohort.table
    groups = differing_in_form(table["participant_id"].astype(str))
    remarks = [
        Problem(group[0], cohort.source, f"differs by case or Unicode form only from {', '.join(map(repr, group[1:]))}", FORM)
        for group in groups
    ]
    if SPELLED in table:
        spellings = table[["participant_id", SPELLED]].dropna().drop_duplicates()
        several = spellings[spellings.duplicated("participant_id", keep=False)]
        for participant, spelled in several.groupby("participant_id")[SPELLED]:
            for group in differing_in_form(spelled.astype(str)):
                what = f"spelled in ways that differ by case or Unicode form only: {', '.join(map(ascii, group))}"
                remarks.append(Problem(str(participant), cohort.source, what, "spell it in one way; it is taken for one participant"))
    return remarks, [(group[0], other) for group in groups for other in group[1:]]
