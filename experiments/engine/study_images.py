"""A study's images, prepared once and shared by all its runs."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ...augment.fitting.training_images import TrainingImages, ages_of, people_in
from ...datasets.check import Examination, array_of, examine
from ...datasets.cohort import Cohort
from ...datasets.common.errors import DataError, LeakageError, TinycohortError, UsageError
from ...datasets.common.files import whole_folder, write_json
from ...datasets.common.untrusted import read_json
from ...datasets.common.words import listed
from ...datasets.readers import Source, read_cohort
from ...datasets.spaces import ImageSpace
from ...datasets.splits import Split, check_disjoint, sides_of_rows
from ...datasets.together import digest_of, told
from ...datasets.transforms import Images, Preparation, in_array_order, prepare, space_of
from ...datasets.two_names import people_of_both
from .data_config import DataConfig, KnownCohort
from .study_folder import digest

TEST, EXTERNAL = "test", "external: "  # names of test sets: a side of the split, and what a cohort's name follows
CACHE = "cache"  # of a study's folder: its images as they are prepared
FEWEST_IMAGES = 10  # of a class: 7 to train on, 1 to select by, 2 to test on
_TRIES = 5  # to read a cache that is deleted meanwhile
_CLAUSE = re.compile(r"\s*(\w+)\s*(>=|<=|==|!=|>|<)\s*([^\s&]+)\s*")


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of a cohort: images ``(n, 1, ...)``, labels ``(n,)`` as indices of the classes, the table's rows, and who is alike."""

    images: Tensor
    labels: Tensor
    table: pd.DataFrame
    alike: tuple[tuple[str, str], ...] = ()

    def of_class(self, index: int, space: ImageSpace) -> TrainingImages:
        """The images of a class, on this grid, and whose they are; who may be one person has one name."""
        rows = self.labels == index
        table = self.table[rows.numpy()]
        return TrainingImages(Images(self.images[rows], space), people_in(table, self.alike), ages_of(table))


_COMPARE: dict[str, Callable[[Any, Any], np.ndarray]] = {
    ">=": lambda values, bound: values >= bound,
    "<=": lambda values, bound: values <= bound,
    "==": lambda values, bound: values == bound,
    "!=": lambda values, bound: values != bound,
    ">": lambda values, bound: values > bound,
    "<": lambda values, bound: values < bound,
}


def stratum(table: pd.DataFrame, condition: str) -> np.ndarray:
    """Which rows fulfil a condition on columns, such as ``age>=60`` or ``age>=60 & sex==F``: ``(n,)`` bool, false for a missing value.

    A condition is compared, never evaluated: it may come from a configuration file.

    Raises
    ------
    UsageError
        If it is no condition, or names no column.
    """
    rows = np.ones(len(table), dtype=bool)
    for clause in condition.split("&"):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise UsageError(f"A stratum is written as age>=60 or as 'age>=60 & sex==F', not as '{condition}'.")
        column, operator, text = match.groups()
        if column not in table:
            raise UsageError(f"The stratum '{condition}' names no column of the cohort; it has: {', '.join(table.columns)}.")
        numbers = pd.to_numeric(table[column], errors="coerce")
        if numbers.notna().any():
            rows &= numbers.notna().to_numpy() & _COMPARE[operator](numbers.to_numpy(dtype=float), _number(text))
        else:
            rows &= table[column].notna().to_numpy() & _COMPARE[operator](table[column].astype(str).to_numpy(), text)
    return rows


def columns_of(condition: str | None) -> list[str]:
    """The columns that a stratum names."""
    return [match[1] for clause in (condition or "").split("&") if (match := _CLAUSE.fullmatch(clause))]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A cohort whose images lie in memory, and external test cohorts.

    Parameters
    ----------
    cohort : Cohort
        Its ``arrays`` are the prepared images; ``image`` counts their rows.
    classes : tuple of str
        In the order of the classifier's outputs.
    space : ImageSpace
        Of the images, before they became arrays.
    external : dict
        From a test cohort's name to its images.
    """

    cohort: Cohort
    classes: tuple[str, ...]
    space: ImageSpace
    external: dict[str, Part] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path, data: DataConfig) -> "Prepared":
        """The cohorts of the study in ``folder``, from its cache, or from their source if that is gone."""
        cohort, space = _in_memory(folder, data.cohort, data.preparation)
        external = {}
        if data.tests is not None:
            tests, _ = _in_memory(folder, data.tests, data.preparation)
            external[EXTERNAL + tests.name] = _part(tests, data.classes)
        return cls(cohort, data.classes, space, external)

    @property
    def external_participants(self) -> list[str]:
        """Of all external test cohorts."""
        return [who for part in self.external.values() for who in part.table["participant_id"]]

    def side(self, split: Split, name: str) -> Part:
        """The images of one side of a split."""
        return _part(split.side(self.cohort, name), self.classes)

    def tests(self, split: Split) -> dict[str, Part]:
        """What a run is tested on: the test side, where the split has one, and the external cohorts."""
        internal = {TEST: self.side(split, TEST)} if TEST in split.fractions else {}
        return internal | self.external


def require_classes(cohort: Cohort, whose: str, mend: str) -> None:
    """Raise a ``UsageError`` if a cohort has no two classes, which something learns to tell apart."""
    if len(cohort.labels) < 2:
        raise UsageError(f"{cohort.name} has one class, and {whose} learn to tell classes apart; {mend}.")


def describe(
    source: Source,
    preparation: Preparation,
    test_source: Source | None,
    *,
    columns: Sequence[str] = ("split",),
    progress: Callable[[Sequence[Any]], Any] = iter,
    on_warning: Callable[[str], None] = lambda text: None,
) -> DataConfig:
    """Check the cohorts of a study, and return what its configuration says of them, the size of the images settled.

    Who may be one person under two names is told to ``on_warning``.

    Raises
    ------
    CohortError
        If a cohort is not sound.
    LeakageError
        If the external test cohort shares a participant, or an image up to a scale and an offset, with the cohort.
    """
    data, cohort, found = examined(source, preparation, columns=columns, progress=progress, on_warning=on_warning)
    if test_source is None:
        return data
    tests, its = _sound(test_source, data.preparation, 1, progress)
    check_disjoint({"the cohort": cohort, "the test cohort": tests}, where=f"{source.data} and {test_source.data}")
    shared = set(found.contents) & set(its.contents)
    if shared:
        names = tests.table["image_id"][[digest in shared for digest in its.contents]]
        raise LeakageError(f"{test_source.data} holds images of {source.data} under other names: {listed(names)}.")
    _require_nobody_in_both((cohort, found), (tests, its), on_warning)
    unknown = set(tests.labels) - set(cohort.labels)
    if unknown:
        raise DataError(f"{test_source.data} has classes that {source.data} has not: {', '.join(sorted(unknown))}; give --label-column.")
    if its.alike:
        on_warning(f"{tests.name} may have one person under two names: {told(its.alike)}. They are tested as one.")
    return replace(data, tests=_known(test_source, tests, its, columns))


def examined(
    source: Source,
    preparation: Preparation,
    *,
    columns: Sequence[str] = ("split",),
    progress: Callable[[Sequence[Any]], Any] = iter,
    on_warning: Callable[[str], None] = lambda text: None,
) -> tuple[DataConfig, Cohort, Examination]:
    """``describe`` a study without a test cohort of its own; with the cohort, bound to what was found, by which it is split."""
    cohort, found = _sound(source, preparation, FEWEST_IMAGES, progress)
    if found.alike:
        kept = "splits keep them on one side" if sides_of_rows(cohort) is None else "official sides are kept as they are"
        on_warning(f"{cohort.name} may have one person under two names: {told(found.alike)}. `augment check` says why; {kept}.")
    preparation = in_array_order(preparation, cohort)
    if preparation.size is None:
        preparation = replace(preparation, size=space_of(cohort, preparation).shape)
    return DataConfig(_known(source, cohort, found, columns), preparation, tuple(cohort.labels)), found.bound(cohort), found


def _require_nobody_in_both(one: tuple[Cohort, Examination], other: tuple[Cohort, Examination], on_warning: Callable[[str], None]) -> None:
    """Raise a ``LeakageError`` for a scaled copy, and warn of people who are too alike for two."""
    (cohort, found), (tests, its) = one, other
    shared = people_of_both(cohort, found.smalls, tests, its.smalls, array_of)
    copies, alike = (told(pair.image_ids for pair in shared if pair.copies is kind) for kind in (True, False))
    if copies:
        raise LeakageError(
            f"{tests.source} holds images of {cohort.source} under other names, with another scale or offset of intensity: {copies}; leave "
            "them out of one of the two."
        )
    if alike:
        on_warning(
            f"{tests.source} may have people of {cohort.source} under other names, by the likeness of their images: {alike}. If they "
            "are the same, leave them out of one of the two."
        )


def _known(source: Source, cohort: Cohort, found: Examination, columns: Sequence[str]) -> KnownCohort:
    return KnownCohort(source, found.digest, {name: _column_digest(cohort, name) for name in columns}, digest_of(found.alike))


def _column_digest(cohort: Cohort, name: str) -> str:
    """SHA-256 of a column by participant, in any order of rows; that there is none is as good a content."""
    values = cohort.table[name] if name in cohort.table else [None] * len(cohort)
    lines = sorted(f"{who}\t{None if pd.isna(value) else value}" for who, value in zip(cohort.table["participant_id"], values, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _require_columns(cohort: Cohort, digests: Mapping[str, str]) -> None:
    """Raise a ``DataError`` if a column that results depend on has changed: the digest of the cohort is of people, labels and scans."""
    other = [name for name, digest in digests.items() if _column_digest(cohort, name) != digest]
    if other:
        raise DataError(f"The column {', '.join(other)} of {cohort.source} has changed since the study began; restore it, or start anew.")


def make_once(place: Path, write: Callable[[Path], None]) -> None:
    """Have the folder ``place``, made by ``write``; another process that makes the same one first is as good."""
    if place.exists():
        return
    try:
        with whole_folder(place) as temporary:
            write(temporary)
    except (OSError, TinycohortError):
        if not place.exists():
            raise


def _sound(source: Source, preparation: Preparation, minimum: int, progress: Callable[[Sequence[Any]], Any]) -> tuple[Cohort, Examination]:
    cohort = read_cohort(source)
    if cohort.synthetic:
        raise DataError(f"{source.data} is synthetic; a study starts from real images, and is tested on real ones alone.")
    found = examine(cohort, sized=preparation.size is not None, minimum=minimum, progress=progress)
    return cohort, found.required(cohort)


def _in_memory(folder: Path, known: KnownCohort, preparation: Preparation) -> tuple[Cohort, ImageSpace]:
    """The cohort with its prepared images; they are kept in ``cache``, by the cohort and how they are prepared, and may be deleted at any
    time.

    Which image is whose is kept beside them: the table may have been sorted, or changed, since.
    """
    cohort = read_cohort(known.source)
    place = folder / CACHE / digest({"cohort": known.digest, "preparation": preparation.content()})[:16]

    def write(temporary: Path) -> None:
        found = examine(cohort, sized=preparation.size is not None, minimum=1).required(cohort)
        if found.digest != known.digest:
            raise _changed(cohort)
        images = prepare(found.bound(cohort), preparation)
        np.save(temporary / "images.npy", images.pixels[:, 0].numpy())
        write_json(temporary / "rows.json", {"rows": _rows(cohort), "space": vars(images.space), "alike": found.alike})

    for _ in range(_TRIES):
        make_once(place, write)
        try:
            kept = read_json(place / "rows.json")
            arrays = np.load(place / "images.npy", mmap_mode="r", allow_pickle=False)
            order = {tuple(row): number for number, row in enumerate(kept["rows"])}
            space = ImageSpace(**{name: _tuples(value) for name, value in kept["space"].items()})
            alike = () if known.alike is None else _tuples(kept["alike"])
            break
        except FileNotFoundError:
            continue  # deleted since it was made
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise DataError(f"{place} is damaged ({error}); delete it, and it is made anew.") from error
    else:
        raise DataError(f"{place} is deleted as soon as it is made; let it be while the study runs.")
    rows = [order.get(tuple(row), -1) for row in _rows(cohort)]
    if -1 in rows or len(rows) != len(order) or known.alike not in (None, digest_of(alike)):
        raise _changed(cohort)
    _require_columns(cohort, known.columns)
    return replace(cohort, arrays=arrays, space=None, table=cohort.table.assign(image=rows), alike=alike), space


def _rows(cohort: Cohort) -> list[list[str]]:
    return cohort.table[["image_id", "participant_id", "label"]].astype(str).to_numpy().tolist()


def _changed(cohort: Cohort) -> DataError:
    return DataError(f"{cohort.source} has changed since the study was started; restore it, or start another study.")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value


def _part(cohort: Cohort, classes: tuple[str, ...]) -> Part:
    assert cohort.arrays is not None
    images = torch.from_numpy(np.array(cohort.arrays[cohort.table["image"].to_numpy(dtype=int)]))[:, None]
    labels = torch.tensor([classes.index(label) for label in cohort.table["label"]])
    return Part(images, labels, cohort.table, cohort.alike)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"A stratum compares a column of numbers with a number, not with '{text}'.") from None
