"""Splits of a cohort by participant: nobody is on two sides."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .cohort import SIDE_OF, Cohort
from .common.errors import DataError, LeakageError, UsageError
from .common.files import write_json
from .common.untrusted import read_json
from .common.words import listed
from .identity import form_of, participant_of
from .together import kept_together

FRACTIONS: Mapping[str, float] = {"train": 0.7, "validation": 0.1, "test": 0.2}
SIDES = tuple(FRACTIONS)


@dataclass(frozen=True)
class Split:
    """Which side each participant is on.

    Parameters
    ----------
    sides : dict
        From participant to the name of its side.
    fractions : dict
        From side to the fraction that was asked for (of a split by hand: that there is).
    seed : int, optional
        What it was drawn with; ``None`` for a split that was not drawn.
    source : str
        Where it was read from, for errors.
    """

    sides: Mapping[str, str]
    fractions: Mapping[str, float]
    seed: int | None = None
    source: str = field(default="the split", compare=False)

    @property
    def digest(self) -> str:
        """SHA-256 of who is on which side, whatever drew it."""
        return _digest_of(self.sides)

    @property
    def tested(self) -> str:
        """SHA-256 of who is on the test side and who is on another, wherever validation was drawn."""
        return _digest_of({participant: side if side == "test" else "" for participant, side in self.sides.items()})

    def side(self, cohort: Cohort, name: str) -> Cohort:
        """Return the images of the participants on one side.

        Raises
        ------
        UsageError
            If there is no such side.
        DataError
            If a participant of the cohort is on no side.
        """
        if name not in self.fractions:
            raise UsageError(f"{self.source} has no side '{name}'; it has: {', '.join(self.fractions)}.")
        self.require_all(cohort)
        return cohort.of_participants([participant for participant, side in self.sides.items() if side == name])

    def require_all(self, cohort: Cohort) -> None:
        """Raise a ``DataError`` if a participant of the cohort is on no side."""
        unknown = sorted(set(cohort.table["participant_id"]) - set(self.sides))
        if unknown:
            raise DataError(f"{self.source} does not say on which side of {cohort.name} these are: {listed(unknown)}; draw a new split.")

    def save(self, path: str | Path) -> None:
        """Write the split as JSON: its sides with their participants, its seed and its fractions."""
        sides: dict[str, list[str]] = {name: [] for name in self.fractions}
        for participant in sorted(self.sides):
            sides[self.sides[participant]].append(participant)
        write_json(path, {"seed": self.seed, "fractions": dict(self.fractions), "sides": sides})

    @classmethod
    def load(cls, path: str | Path, cohort: Cohort | None = None) -> "Split":
        """Read a split that was saved, or written by hand as ``{"sides": {"train": [...], "test": [...]}}``.

        Parameters
        ----------
        path : str or Path
        cohort : Cohort, optional
            Whose participants must all be on a side.

        Raises
        ------
        DataError
            If the file is no split, or leaves out a participant of the cohort.
        LeakageError
            If a participant is on two sides, be it under two spellings.
        """
        path = Path(path)
        try:
            content = read_json(path, object_pairs_hook=_without_repeats)
            named = {str(name): _texts(people) for name, people in content["sides"].items()}
            everyone = sum(len(people) for people in named.values())
            fractions = content.get("fractions") or {name: len(people) / everyone for name, people in named.items()}
            fractions = {name: float(fractions[name]) for name in named}
            seed = content.get("seed")
        except OSError as error:
            raise DataError(f"The split {path} cannot be read ({error.strerror}); give the file that a split was saved to.") from error
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
            raise DataError(f'{path} is no split; it must be JSON with {{"sides": {{"train": [participants], "test": [...]}}}}.') from error
        check_disjoint(named, where=str(path))
        sides = {participant_of(participant): name for name, people in named.items() for participant in people}
        split = cls(sides=sides, fractions=fractions, seed=seed, source=str(path))
        if cohort is not None:
            split.require_all(cohort)
        return split


def _digest_of(sides: Mapping[str, str]) -> str:
    lines = sorted(f"{participant}\t{side}" for participant, side in sides.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def split_cohort(cohort: Cohort, *, fractions: Mapping[str, float] = FRACTIONS, seed: int) -> Split:
    """Draw a split by participant, stratified by label; of a cohort with official sides (``official_sides``), take those.

    Participants who may be one person (``Cohort.alike``) are on one side, but where official sides part them.

    Where the official sides have no validation, it is drawn from training, in the proportion that ``fractions`` give the two.

    Parameters
    ----------
    cohort : Cohort
        Sound (``check.require_sound``): every participant has one label.
    fractions : mapping
        From side to its share; they add up to 1.
    seed : int
        The same seed and participants give the same split, whatever the order of the rows.

    Returns
    -------
    Split
        Each side has, of every class, at least one participant, and where that leaves the others theirs, its share to within one.

    Raises
    ------
    DataError
        If a class has fewer participants than there are sides, or a participant has no label, or two; if there are official sides, but not
        of every row, or none to train on, or to test on.
    LeakageError
        If a participant is on two official sides.
    UsageError
        If the fractions are not positive or do not add up to 1.
    """
    if min(fractions.values(), default=0) <= 0 or not math.isclose(sum(fractions.values()), 1, abs_tol=1e-6):
        raise UsageError(f"The fractions of a split must be positive and add up to 1, not {dict(fractions)}.")
    generator = np.random.default_rng(seed)
    official = official_sides(cohort)
    if official is not None:
        return _along(official, cohort, fractions, seed, generator)
    sides: dict[str, str] = {}
    by_label = people_by_label(cohort)
    for label, people in sorted(by_label.items()):
        if len(people) < len(fractions):
            raise DataError(
                f"The class {label} of {cohort.name} has {len(people)} participants ({listed(people)}), fewer than the sides "
                f"{', '.join(fractions)}; add participants, or leave the class out."
            )
        # scikit-learn's stratified split may leave a small class out of a side, so each class is dealt out by itself.
        drawn = [people[place] for place in generator.permutation(len(people))]
        for name, share in _shares(len(people), fractions).items():
            sides |= dict.fromkeys(drawn[:share], name)
            drawn = drawn[share:]
    sides = kept_together(sides, _label_of(by_label), cohort.alike)
    return Split(sides=sides, fractions=dict(fractions), seed=seed)


def sides_of_rows(cohort: Cohort) -> list[str] | None:
    """The official side of each row, from a column ``split`` that holds train, validation and test, by any word of ``cohort.SIDE_OF``.

    ``None`` if there is no such column, or it holds something else altogether.

    Raises
    ------
    DataError
        If it names these sides for some rows and not for others.
    """
    if "split" not in cohort.table:
        return None
    spelled = [None if pd.isna(value) else str(value).strip().casefold() for value in cohort.table["split"]]
    sides = [SIDE_OF[value] for value in spelled if value in SIDE_OF]
    if not sides:
        return None
    if len(sides) < len(spelled):
        other = sorted({str(value) for value in spelled if value not in SIDE_OF})
        raise DataError(
            f"The column split of {cohort.name} has {listed(other)} beside {', '.join(SIDES)}; fill it in, or rename the column."
        )
    return sides


def sides_drawn_apart(sides: Iterable[str]) -> set[str]:
    """Which of the official sides (of the rows) are drawn apart: training, where there is no validation."""
    return set() if "validation" in sides else {"train"}


def official_sides(cohort: Cohort) -> dict[str, str] | None:
    """From participant to its official side; ``None`` if the cohort has none.

    Raises
    ------
    DataError
        If some rows have none, or none is for training or for testing.
    LeakageError
        If a participant is on two.
    """
    rows = sides_of_rows(cohort)
    if rows is None:
        return None
    people: defaultdict[str, list[str]] = defaultdict(list)
    for participant, side in zip(cohort.table["participant_id"], rows, strict=True):
        people[side].append(participant)
    for needed in ("train", "test"):
        if needed not in people:
            raise DataError(
                f"The column split of {cohort.name} has no row '{needed}'; add some, or rename the column to have a split drawn."
            )
    check_disjoint(people, where=f"The column split of {cohort.name}")
    return {participant: side for side in SIDES for participant in people[side]}


def check_disjoint(sides: Mapping[str, Cohort | Iterable[str]], where: str = "the split") -> None:
    """Raise if a participant is on two sides, be it under ids that differ by case or Unicode form only.

    Parameters
    ----------
    sides : mapping
        From side to its cohort, or its participants in any spelling.
    where : str
        What the sides are of, for the error.

    Raises
    ------
    LeakageError
        With the names of those who are.
    """
    seen: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name, people in sides.items():
        for spelled in people.table["participant_id"] if isinstance(people, Cohort) else people:
            seen[form_of(participant_of(spelled))].setdefault(name, spelled)
    shared = [_on_two_sides(places) for _, places in sorted(seen.items()) if len(places) > 1]
    if shared:
        raise LeakageError(f"{where} has participants on two sides: {listed(shared)}; keep each on one side.")


def _on_two_sides(places: Mapping[str, str]) -> str:
    """A participant with the sides, and the spelling of each that has another; "A (train as sub-A, test)"."""
    participant = participant_of(next(iter(places.values())))
    told = [name if spelled == participant else f"{name} as {spelled}" for name, spelled in places.items()]
    distinct = sorted({participant_of(spelled) for spelled in places.values()})
    if len(distinct) > 1:
        return f"{participant} ({', '.join(told)}: they differ by case or form only; if they are two people, rename one)"
    return f"{participant} ({', '.join(told)})"


def _along(official: dict[str, str], cohort: Cohort, fractions: Mapping[str, float], seed: int, generator: np.random.Generator) -> Split:
    """The official split; without a validation side, with one that is drawn from training."""
    sides, drawn = dict(official), "validation" in fractions and "validation" not in official.values()
    if drawn:
        shares = {name: fractions[name] / (fractions["train"] + fractions["validation"]) for name in ("train", "validation")}
        by_label = people_by_label(cohort)
        for _, people in sorted(by_label.items()):
            own = [participant for participant in people if official[participant] == "train"]
            if len(own) > 1:
                count = _shares(len(own), shares)["validation"]
                sides |= {own[place]: "validation" for place in generator.permutation(len(own))[:count]}
        movable = {participant: sides[participant] for participant, side in official.items() if side == "train"}
        sides |= kept_together(movable, _label_of(by_label), cohort.alike)
    counts = Counter(sides.values())
    return Split(sides=sides, fractions={name: counts[name] / len(sides) for name in SIDES if counts[name]}, seed=seed if drawn else None)


def people_by_label(cohort: Cohort) -> dict[str, list[str]]:
    """The participants of each label, sorted."""
    people: defaultdict[str, list[str]] = defaultdict(list)
    labels: defaultdict[str, set[str | None]] = defaultdict(set)
    for participant, label in zip(cohort.table["participant_id"], cohort.table["label"], strict=True):
        labels[participant].add(None if pd.isna(label) else label)
    for participant, found in sorted(labels.items()):
        (label, *others) = found
        if others or label is None:
            told = "an image without a label" if None in found else f"the labels {', '.join(sorted(map(str, found)))}"
            raise DataError(f"{participant} of {cohort.name} has {told}; give each participant one label before splitting.")
        people[label].append(participant)
    return people


def _label_of(people: Mapping[str, Iterable[str]]) -> dict[str, str]:
    return {participant: label for label, own in people.items() for participant in own}


def _shares(n: int, fractions: Mapping[str, float]) -> dict[str, int]:
    """How many of ``n`` go to each side: one each, then one by one to the side that lacks most."""
    shares = dict.fromkeys(fractions, 1)
    for _ in range(n - len(shares)):
        shares[max(fractions, key=lambda name: fractions[name] * n - shares[name])] += 1
    return shares


def _texts(people: list[str]) -> list[str]:
    if not isinstance(people, list):
        raise TypeError("a side is a list of participants")
    return [str(participant) for participant in people]


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that is given twice, of which JSON would keep the last and lose the other's participants."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name is given twice")
    return dict(pairs)
