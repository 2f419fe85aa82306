"""Reading a cohort, whatever its layout: the one entry is ``read_cohort``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from .cohort import Cohort, Problem
from .common.custody import is_inside, outside_of, require_intact
from .common.errors import DataError, UsageError
from .common.files import absolute, expanded
from .common.untrusted import require_text
from .images import files_of, sidecar_of
from .labels import of_classes
from .layouts import arrays, bids, classes, folder, oasis
from .layouts.benchmarks import BENCHMARKS, PUBLICATIONS, read_cohort_of
from .layouts.table_files import TABLES
from .places import require_place


@dataclass(frozen=True)
class Layout:
    """One way in which cohorts lie on disk: how it is recognised, how it is read, and which options it follows."""

    name: str
    recognises: Callable[[Path], bool]
    read: Callable[..., Cohort]
    options: tuple[str, ...]


# In the order in which they are tried: the last takes any folder, and says what was looked for if it cannot read it.
LAYOUTS = (
    Layout("OASIS-1 download", oasis.recognises, oasis.read, ("table", "label")),
    Layout("BIDS dataset", bids.recognises, bids.read, ("table", "label", "suffix")),
    Layout(".npz of arrays", arrays.recognises, arrays.read, ("table", "label")),
    Layout("folder for each class", classes.recognises, classes.read, ("table", "label", "plane")),
    Layout("folder with a table", folder.recognises, folder.read, ("table", "label", "plane")),
)


def _demo(label: str | None, root: str | None) -> Cohort:
    from .demo import demo_cohort_folder

    path = demo_cohort_folder()
    return replace(bids.read(path, table=None, label=label, suffix="T1w"), source="demo")


# Cohorts that are had by name, from a column of labels and a folder. nilearn is imported when one is asked for that needs it.
NAMES: dict[str, Callable[[str | None, str | None], Cohort]] = {
    "demo": _demo,
    "oasis-vbm": lambda label, root: oasis.fetch_vbm(label=label),
    **{name: partial(read_cohort_of, name) for name in BENCHMARKS},
}


@dataclass(frozen=True)
class Source:
    """Where a cohort is read from, and how.

    Parameters
    ----------
    data : str
        A BIDS dataset, an OASIS-1 download, a folder of volumes or pictures with a table, a table with a column ``image``, ``path`` or
        ``filename``, an ``.npz``, or a name: 'demo', 'oasis-vbm' or one of ``benchmarks.BENCHMARKS`` (a folder of such a name is given as
        './demo'). Environment variables in a path, such as ``$OASIS``, stand for their values.
    table : str, optional
        The table of participants, where it is not the layout's own.
    label : str, optional
        The column of labels; else the first present of diagnosis, label, group and dx.
    plane : str, optional
        A word in the file name that chooses among several images of one id: 'axial' for ``ID_axial.jpg``. Where no name holds it, it is
        left to ``transforms.py``, which cuts it out of volumes.
    suffix : str
        Which images of a BIDS dataset: the end of their names.
    root : str, optional
        The folder with the files of a benchmark that is had by name.
    drop_copies : bool, optional
        Leave out images that are on two official sides (``duplicates.without_copies``).
    kept : tuple of str, optional
        The labels that are kept, in whatever case: others are left out before anything is looked at. By default all are.
    """

    data: str = "demo"
    table: str | None = None
    label: str | None = None
    plane: str | None = None
    suffix: str = "T1w"
    root: str | None = None
    drop_copies: bool | None = None
    kept: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.kept is not None:
            object.__setattr__(self, "kept", tuple(self.kept))  # JSON and TOML have lists

    def moved(self, changes: Mapping[str, Any]) -> "Source":
        """The same cohort where it lies by now.

        Parameters
        ----------
        changes : mapping
            Parameters that are others than they were. Where ``data`` is among them, a table that is no longer there, and the root of a
            benchmark that it is not, are left out.
        """
        source = replace(self, **changes)
        if "data" in changes and "root" not in changes and source.data not in PUBLICATIONS:
            source = replace(source, root=None)
        if "data" in changes and "table" not in changes and source.table is not None and not expanded(source.table).is_file():
            source = replace(source, table=None)
        return source

    def resolved(self) -> "Source":
        """The same source from whatever folder it is read: its paths are absolute; raise a ``UsageError`` if one cannot be recorded.

        Links are not followed: a table that is one into a store, as DataLad makes them, names images beside the link.
        """
        places = {"data": None if self.data in NAMES else self.data, "table": self.table, "root": self.root}
        found = {name: str(absolute(expanded(place))) for name, place in places.items() if place is not None}
        for place in found.values():
            require_text(place)
        return replace(self, **found)


def read_cohort(source: Source | str | Path) -> Cohort:
    """Read a cohort, its layout recognised.

    Parameters
    ----------
    source : Source, str or Path
        Where it lies and how it is read, or its ``data`` alone; a ``Path`` is none of the names.

    Returns
    -------
    Cohort
        What is wrong with single images is in its ``problems``, for ``check.examine`` to report together with what the images show.

    Raises
    ------
    DataError
        If the path, the table or the column of labels is missing, or no layout fits.
    UsageError
        If a table is given for a cohort that is had by name, or ``root`` for another than a benchmark that is published, or ``kept`` has
        one that no image bears.
    """
    if isinstance(source, Path):
        place = expanded(source)
        source = str(place if place.is_absolute() else f"./{place}")
    if isinstance(source, str):
        source = Source(source)
    cohort = _read(source)
    if source.kept is not None:
        cohort = of_classes(cohort, source.kept)
    if source.drop_copies:
        from .duplicates import without_copies  # which takes torch

        cohort = without_copies(cohort)
    return cohort


def _read(source: Source) -> Cohort:
    data, table = source.data, source.table
    if source.root is not None and data not in PUBLICATIONS:
        raise UsageError(f"--root is the folder of {', '.join(PUBLICATIONS)}; give another cohort's folder as --data.")
    if data in NAMES:
        if table is not None:
            raise UsageError(f"The cohort '{data}' has its own table; leave out --table {table}.")
        return NAMES[data](source.label, source.root)
    require_place(data)
    path = expanded(data)
    layout = next((layout for layout in LAYOUTS if layout.recognises(path)), None)
    if layout is None:
        raise DataError(f"{path} is no cohort; give a folder, a table (.csv, .tsv, .xlsx) that names the images, or an .npz.")
    folder = path if path.is_dir() else path.parent
    for place in {folder, *([] if table is None else [expanded(table).parent])}:
        require_intact(place)
    own = table is None and path.is_dir()
    if own:
        _refuse_links_out(path)
    given = vars(source) | {"table": None if table is None else expanded(table)}
    cohort = _unmixed(layout.read(path, **{option: given[option] for option in layout.options}))
    return _kept_inside(cohort, folder) if own else cohort


def _unmixed(cohort: Cohort) -> Cohort:
    """Tell it as a problem if some images are synthetic and others are not: none of the two would be taken for what it is."""
    if not cohort.synthetic or "synthetic" not in cohort.table:
        return cohort
    synthetic = int(cohort.table["synthetic"].eq(True).sum())
    if synthetic in (0, len(cohort)):
        return cohort
    what = f"{synthetic} of {len(cohort)} rows are said to be synthetic"
    mixed = Problem(cohort.name, cohort.source, what, "keep real and synthetic images in cohorts of their own")
    return replace(cohort, problems=(*cohort.problems, mixed))


def _refuse_links_out(folder: Path) -> None:
    """Raise a ``DataError`` before a table, a description or arrays are read that lie elsewhere: a folder may be a stranger's."""
    for entry in folder.iterdir():
        if entry.suffix.lower() in (*TABLES, ".json", ".npz") and not is_inside(entry, folder):
            raise DataError(f"{entry} is a link out of the folder; copy the file there.")


def _kept_inside(cohort: Cohort, folder: Path) -> Cohort:
    """Take away images that lie elsewhere, by a path in the table or by a link, and tell it: a folder may be a stranger's.

    A table that a user names may name images anywhere: it is the user's word.
    """
    table, problems = cohort.table.copy(), []
    for row, (image, participant) in enumerate(zip(table["image"], table["participant_id"], strict=True)):
        if not isinstance(image, str):
            continue
        # Which files an image has, its header may say, which is not opened elsewhere.
        files = files_of(image) if is_inside(Path(image), folder) else [Path(image)]
        outside = outside_of(folder, (*files, sidecar_of(image)))
        if outside:
            table.at[row, "image"] = None
            beside = outside == [sidecar_of(image)]
            what = f"{outside[0].name} beside it is a link out of the folder" if beside else "an image outside of the folder"
            mend = "copy it into the folder, or give the table of participants with --table, which may name images anywhere"
            problems.append(Problem(str(participant), image, what, mend))
    return replace(cohort, table=table, problems=(*cohort.problems, *problems)) if problems else cohort
