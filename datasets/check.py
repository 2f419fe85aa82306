"""Checking a cohort as a whole, before anything is trained: every problem in one report."""

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .cohort import Cohort, CohortError, Problem, place_of
from .common.machine import SharedMemory, available_processors
from .common.words import times
from .differences import differences
from .formats.damage import ImageError
from .image_checks import Look, look_at
from .images import memory_to_read, notes_of, read_image
from .labels import class_of, spellings
from .small_images import Small, small_of
from .splits import sides_drawn_apart, sides_of_rows
from .synthetic_mark import UNDECLARED, is_marked
from .two_names import compared, find_two_names

_MOST_THREADS = 8  # each holds an image, as far as there is memory for several: what is needed does not grow with the cohort
Tracker = Callable[[Sequence[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Examination:
    """What a cohort's examination found.

    Parameters
    ----------
    problems : tuple of Problem
        All that is wrong: the reader's, then image by image, then of the whole.
    remarks : tuple of Problem
        What is to be known and need not be mended: the reader's, and copies within one official side and class.
    shape : tuple of int, or None
        The commonest grid: ``(X, Y, Z)`` or ``(X, Y)`` in RAS, (rows, columns) of pictures; ``None`` if no image could be read.
    shapes : dict
        Number of images per grid.
    pictures : bool
        Whether grids are (rows, columns): the first image that could be read is one.
    images, participants : dict
        Number of images, and of participants, per label.
    digests : tuple of str or None
        SHA-256 of each row's decoded image, its shape and its place (``image_checks.scan_digest``); ``None`` where it could not be read.
    contents : tuple of str or None
        The same of the image alone (``image_checks.content_digest``), which copies share whatever their header says.
    digest : str
        Digest of the whole cohort: who, which label, which scan, in any order of rows.
    alike : tuple of (str, str)
        Participants who may be one person: whose ids differ by case or form only, or whose images are too alike for two people.
    smalls : tuple of Small or None
        Small versions of the images, which another cohort's can be compared with.
    """

    problems: tuple[Problem, ...]
    remarks: tuple[Problem, ...]
    shape: tuple[int, ...] | None
    shapes: dict[tuple[int, ...], int]
    pictures: bool
    images: dict[str, int]
    participants: dict[str, int]
    digests: tuple[str | None, ...]
    contents: tuple[str | None, ...]
    digest: str
    alike: tuple[tuple[str, str], ...]
    smalls: tuple[Small | None, ...] = field(repr=False, compare=False)

    def bound(self, cohort: Cohort) -> Cohort:
        """The cohort that was examined, whose files must be as they were then when they are read again, and who in it may be one person."""
        images = zip(cohort.table["image"], self.digests, strict=True)
        digests = {image: digest for image, digest in images if isinstance(image, str) and digest is not None}
        return replace(cohort, digests=digests, digest=self.digest, alike=self.alike)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def required(self, cohort: Cohort) -> "Examination":
        """This examination, if the cohort is sound; raise a ``CohortError`` with every problem if it is not."""
        if not self.sound:
            raise CohortError(cohort.name, self.problems)
        return self


def examine(
    cohort: Cohort,
    *,
    sized: bool = False,
    classes: Sequence[str] | None = None,
    minimum: int = 2,
    progress: Tracker = iter,
) -> Examination:
    """Read every image of a cohort and list all that is wrong.

    Parameters
    ----------
    cohort : Cohort
        What ``read_cohort`` returned, with its problems.
    sized : bool
        Whether all images will be brought to one size, so that sizes may differ.
    classes : sequence of str, optional
        The labels that may occur, and must; by default those that do.
    minimum : int
        How many images each class needs.
    progress : callable
        Takes the sequence of rows and yields them (``rich.progress.track`` is one); silent by default.

    Returns
    -------
    Examination
    """
    images = list(cohort.table["image"])
    looks: list[Look | None] = []
    unreadable: dict[int, tuple[str, str]] = {}
    # Threads, because decompressing, decoding and hashing leave the interpreter to others. Of an image only its look is kept.
    pool = ThreadPoolExecutor(min(_MOST_THREADS, available_processors()))
    looked_at = pool.map(partial(look_in, cohort, SharedMemory()), images)
    try:
        for row, look in zip(progress(range(len(images))), looked_at, strict=True):
            looks.append(look if isinstance(look, Look) else None)
            if isinstance(look, ImageError):
                unreadable[row] = (look.what, look.mend)
    finally:
        pool.shutdown(cancel_futures=True)
    report = _Report(cohort)
    _faults_of_rows(report, looks, unreadable, classes)
    _odd_ones_out(report, looks, sized=sized)
    report.remarks += differences(cohort, looks, sized=sized)
    report.remarks += _ages_that_are_no_numbers(cohort)
    report.remarks += _sides_that_are_none(cohort)
    two_names = find_two_names(cohort, looks, array_of)
    report.remarks += two_names.remarks
    _repeats(report, looks, two_names.contents)
    _two_labels(report)
    _two_spellings(report)
    _small_classes(report, classes, minimum)
    shapes = Counter(look.shape for look in looks if look)
    people = cohort.table.groupby("label")["participant_id"].nunique()
    return Examination(
        problems=tuple(report.problems),
        remarks=tuple(report.remarks),
        shape=shapes.most_common(1)[0][0] if shapes else None,
        shapes=dict(shapes),
        pictures=next((look.spacing is None and len(look.shape) == 2 for look in looks if look), False),
        images=cohort.counts(),
        participants={str(label): int(n) for label, n in zip(people.index, people.to_numpy(), strict=True)},
        digests=tuple(look.scan if look else None for look in looks),
        contents=tuple(look.digest if look else None for look in looks),
        digest=_digest_of_all(cohort, looks),
        alike=two_names.pairs,
        smalls=tuple(look.small if look else None for look in looks),
    )


def require_sound(
    cohort: Cohort,
    *,
    sized: bool = False,
    classes: Sequence[str] | None = None,
    minimum: int = 2,
    progress: Tracker = iter,
) -> Cohort:
    """Examine a cohort, and raise if anything is wrong; the parameters are those of ``examine``.

    Returns
    -------
    Cohort
        The same, which also knows who in it may be one person, whom a split then keeps on one side, and what its files were when they were
        examined. Go on with this one.

    Raises
    ------
    CohortError
        With every problem.
    """
    return examine(cohort, sized=sized, classes=classes, minimum=minimum, progress=progress).required(cohort).bound(cohort)


class _Report:
    """Problems as they are gathered, with the rows they are about."""

    def __init__(self, cohort: Cohort):
        table = cohort.table
        self.problems = list(cohort.problems)
        self.remarks = list(cohort.remarks)
        self.sides = sides_of_rows(cohort)
        self.source = cohort.source
        self.participants = [str(participant) for participant in table["participant_id"]]
        self.images = list(table["image"])
        self.labels = [None if pd.isna(label) else str(label) for label in table["label"]]

    def place(self, row: int) -> str:
        image = self.images[row]
        return self.source if image is None else place_of(image)

    def add(self, row: int, what: str, mend: str) -> None:
        self.problems.append(Problem(self.participants[row], self.place(row), what, mend))

    def groups(self, keys: Iterable[Hashable]) -> list[list[int]]:
        """The rows that share a key (of ``keys``, one per row; ``None`` for no key), where at least two do."""
        rows: defaultdict[Hashable, list[int]] = defaultdict(list)
        for row, key in enumerate(keys):
            if key is not None:
                rows[key].append(row)
        return [group for group in rows.values() if len(group) > 1]


def _faults_of_rows(
    report: _Report, looks: Sequence[Look | None], unreadable: dict[int, tuple[str, str]], classes: Sequence[str] | None
) -> None:
    # What the reader said of a row is not said again in other words.
    told = {(problem.participant, problem.path) for problem in report.problems}
    people_told = {participant for participant, _ in told}
    for row, look in enumerate(looks):
        if report.images[row] is None and report.participants[row] not in people_told:
            report.add(row, "no image", "add the image, or remove the row")
        for fault in [unreadable[row]] if row in unreadable else look.faults if look else ():
            report.add(row, *fault)
        label = report.labels[row]
        if label is None and (report.participants[row], report.place(row)) not in told:
            report.add(row, "no label", "fill in the label, or remove the row")
        elif label is not None and classes is not None and label not in classes:
            report.add(row, f"unknown label '{label}'", f"use one of: {', '.join(classes)}")


def _odd_ones_out(report: _Report, looks: Sequence[Look | None], *, sized: bool) -> None:
    """Images unlike most: planes among volumes, planes cut another way, and, unless all are brought to one size, other sizes."""
    sound = {row: look for row, look in enumerate(looks) if look and look.one_image}
    if not sound:
        return
    kind = Counter(look.kind for look in sound.values()).most_common(1)[0][0]
    shape = Counter(look.shape for look in sound.values() if look.kind == kind).most_common(1)[0][0]
    for row, look in sound.items():
        if look.kind != kind:
            report.add(row, f"{look.kind}, where most images are {kind}", "keep one kind of image")
        elif look.shape != shape and not sized:
            report.add(
                row,
                f"the size {times(look.shape)}, where most images are {times(shape)}",
                "resample it, or bring all to one size with --size",
            )


def _repeats(report: _Report, looks: Sequence[Look | None], contents: Sequence[str | None]) -> None:
    """One file in two rows, and one content, up to a scale and an offset, in two files."""
    for rows in report.groups(report.images):
        report.add(rows[0], f"listed {len(rows)} times in the table", "keep one of the rows")
    first_rows = {image: row for row, image in reversed(list(enumerate(report.images)))}
    once = [content if first_rows[report.images[row]] == row else None for row, content in enumerate(contents)]
    for rows in report.groups(once):
        equal = len({look.digest for row in rows if (look := looks[row])}) == 1
        as_others = "as" if equal else "but for scale and offset of intensity, as"
        others = ", ".join(f"{report.place(row)} ({report.participants[row]})" for row in rows[1:])
        people = len({report.participants[row] for row in rows})
        whose = "one participant" if people == 1 else f"{people} participants"
        if report.sides is None:
            report.add(
                rows[0], f"the same scan {as_others} {others}: {len(rows)} copies, of {whose}", "keep one, or put the right scan in place"
            )
            continue
        sides, labels = ({str(values[row]) for row in rows} for values in (report.sides, report.labels))
        found = Problem(
            report.participants[rows[0]],
            report.place(rows[0]),
            f"the same image {as_others} {others}, in {' and '.join(sorted(sides))}, labelled {' and '.join(sorted(labels))}",
            "give --drop-copies, which leaves out what is in two sides, may come to be, or bears two labels",
        )
        if len(labels) == len(sides) == 1 and (people == 1 or not sides & sides_drawn_apart(report.sides)):
            report.remarks.append(replace(found, mend="nothing: what splits a side keeps both together"))
        else:
            report.problems.append(found)


def _two_labels(report: _Report) -> None:
    for rows in report.groups(report.participants):
        by_class = {class_of(label): row for row in reversed(rows) if (label := report.labels[row]) is not None}
        if len(by_class) > 1:
            what = " and ".join(f"{report.labels[row]} ({report.place(row)})" for row in sorted(by_class.values()))
            mend = "give all images of a participant one label, remove those of the other, or, if they are two people, rename one"
            report.add(rows[0], f"two labels: {what}", mend)


def _two_spellings(report: _Report) -> None:
    for (usual, n_usual), *others in spellings(label for label in report.labels if label is not None):
        for label, n in others:
            # Which look alike, so that is said.
            alike = unicodedata.normalize("NFC", label) == unicodedata.normalize("NFC", usual)
            what = f"'{label}' ({n}) beside '{usual}' ({n_usual}): one class in two {'Unicode forms' if alike else 'spellings'}"
            report.problems.append(Problem(f"class {usual}", report.source, what, f"write '{usual}' throughout, or rename one class"))


def _ages_that_are_no_numbers(cohort: Cohort) -> list[Problem]:
    """A remark if strata and covariates, which take ages as numbers, would miss some that are written otherwise."""
    written = cohort.table["age"].dropna() if "age" in cohort.table else pd.Series(dtype=float)
    others = written[pd.to_numeric(written, errors="coerce").isna()]
    if others.empty:
        return []
    what = f"the age of {len(others)} of {len(cohort)} images is no number, as '{others.iloc[0]}'"
    return [Problem(cohort.name, cohort.source, what, "write it as a number of years: strata and covariates take it as missing")]


def _sides_that_are_none(cohort: Cohort) -> list[Problem]:
    """A remark if a column ``split`` names no sides, so that a split is drawn."""
    written = cohort.table["split"].dropna() if "split" in cohort.table else pd.Series(dtype=object)
    if written.empty or sides_of_rows(cohort) is not None:
        return []
    what = f"the column split names no sides, but {', '.join(map(str, written.unique()[:3]))}: a split is drawn"
    return [Problem(cohort.name, cohort.source, what, "if it has the official sides, write train, validation and test")]


def _small_classes(report: _Report, classes: Sequence[str] | None, minimum: int) -> None:
    labels = [label for label in report.labels if label is not None]
    counts = Counter(
        class_of(label) for label, image in zip(report.labels, report.images, strict=True) if label is not None and image is not None
    )
    # The commonest spelling stands for a class.
    names = {class_of(label): label for label, _ in reversed(Counter(sorted(labels)).most_common())}
    for label in sorted(classes if classes is not None else names.values()):
        n = counts[class_of(label)]
        if n < minimum:
            what = f"{n} image" + ("" if n == 1 else "s") + f", fewer than {minimum}"
            report.problems.append(Problem(f"class {label}", report.source, what, "add images, or leave the class out with --classes"))


def look_in(cohort: Cohort, memory: SharedMemory, image: str | int | None) -> Look | ImageError | None:
    """What an image shows, and whether it is a synthetic one among real ones: then it has left its cohort."""
    if image is None:
        return None
    try:
        # What is held of the image is freed before the next may take its place.
        with memory.take(memory_to_read(image) if isinstance(image, str) else 0):
            return _look(cohort, image)
    except ImageError as error:
        return error


def _look(cohort: Cohort, image: str | int) -> Look:
    array, affine = array_of(cohort, image)
    look = look_at(array, affine)
    if isinstance(image, str):
        look = replace(look, notes=notes_of(Path(image)))
    if cohort.synthetic or isinstance(image, int) or not is_marked(Path(image)):
        return replace(look, small=small_of(array, affine)) if compared(cohort) and not look.faults else look
    return replace(look, faults=(*look.faults, UNDECLARED))


def array_of(cohort: Cohort, image: str | int) -> tuple[np.ndarray, np.ndarray | None]:
    """The image of a row as ``image_checks.look_at`` takes it: the array, and the affine of what has a place."""
    if isinstance(image, str):
        return read_image(image)
    assert cohort.arrays is not None
    array, space = cohort.arrays[image], cohort.space
    if space is not None and not space.is_picture:
        return array.reshape(space.volume_shape), np.asarray(space.in_world.affine)
    # Arrays of three axes are volumes in RAS, those of two are pictures.
    return array, np.eye(4) if array.ndim == 3 else None


def _digest_of_all(cohort: Cohort, looks: Sequence[Look | None]) -> str:
    table = cohort.table
    lines = sorted(
        f"{participant}\t{label}\t{look.scan if look else None}"
        for participant, label, look in zip(table["participant_id"], table["label"], looks, strict=True)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
