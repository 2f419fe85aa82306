"""A synthetic cohort on disk: a folder of NIfTI, PNG or one ``.npz`` that says everywhere that it is synthetic, and what lies beside it.

Beside ``<cohort>`` lie ``<cohort>.audit.csv``, which names the patient nearest to each image, and ``<cohort>.quarantine``, the images that
an audit has set aside. Nobody else writes these files, and who asks what they say asks here; that images and labels are read as those of
any cohort (``datasets.readers.read_cohort``) is their purpose.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from ...datasets.common.custody import is_sealed, seal
from ...datasets.common.errors import DataError, UsageError
from ...datasets.common.files import MANIFEST, expanded, named, refuse_existing, whole_file, whole_folder
from ...datasets.layouts.benchmarks import PUBLICATIONS
from ...datasets.output import held, output
from ...datasets.readers import NAMES, Source, read_cohort
from ...datasets.transforms import Preparation
from ..fitting.model import FittedModel
from .description import DESCRIPTION, FORM, ClassRecord, Description, is_ours
from .form import Form, Format, default_format
from .gate import AuditRecord, ScreeningRecord
from .generation import Generated
from .image_files import NamedImages, require_plain_ids, unmarked_images, write_images
from .origin import Origin
from .participants_table import DIGITS_OF_MODEL, NO_MODEL, PARTICIPANTS, load_table, nearest_table, participant_ids, write_table
from .quarantine import quarantine_of, set_aside
from .values import Values


@dataclass(frozen=True, eq=False)
class SyntheticCohort:
    """A synthetic cohort, as ``write_cohort`` and earlier audits left it.

    Parameters
    ----------
    folder : Path
    table : pandas.DataFrame
        A row an image, as text.
    description : Description
    """

    folder: Path
    table: pd.DataFrame
    description: Description

    @classmethod
    def open(cls, folder: Path) -> "SyntheticCohort":
        """Open a folder that says that it is one of ours.

        Raises
        ------
        UsageError
            If it does not.
        DataError
            As ``read``.
        """
        if not is_synthetic(folder) or not (folder / PARTICIPANTS).is_file():
            raise UsageError(f"{folder} is no synthetic cohort; give a folder that `augment generate` has written.")
        return cls.read(folder)

    @classmethod
    def read(cls, folder: Path) -> "SyntheticCohort":
        """Read a folder that may have lost its marks.

        Raises
        ------
        DataError
            If its description or its table is not as we write it, or an id is no name of a file.
        """
        description = Description.read(folder)
        try:
            table = load_table(folder)
            table[["participant_id", "label"]]
        except (OSError, ValueError, KeyError) as error:
            told = " ".join(str(error).split())
            raise DataError(
                f"{folder / PARTICIPANTS} is not what `augment generate` writes ({told}); restore it, or generate the cohort anew."
            ) from error
        require_plain_ids(table["participant_id"])
        return cls(cohort_place(folder), table, description)

    def is_drawn_from(self, model: FittedModel) -> bool:
        """Whether all images of the model's class are said to be drawn from it."""
        label = model.config.label
        return "model" in self.table and set(self.table.loc[self.table["label"] == label, "model"]) == {model.digest[:DIGITS_OF_MODEL]}

    def table_agrees(self) -> bool:
        """Whether the table has as many rows of each class, with the seed and the model, as the description says."""
        columns = ["label", "seed", "model"]
        if not set(columns) <= set(self.table):
            return False
        told = self.description.classes.items()
        drawn = {(label, str(record.seed), record.model[:DIGITS_OF_MODEL] or NO_MODEL) for label, record in told}
        counts = {label: record.n for label, record in told if record.n}
        return self.counts() == counts and set(self.table[columns].itertuples(index=False, name=None)) <= drawn

    def counts(self) -> dict[str, int]:
        """Number of rows of each class in the table."""
        return {str(label): len(rows) for label, rows in self.table.groupby("label")}

    def unmarked(self, images: Iterable[Path]) -> list[str]:
        """The names of the files, among ``images`` and our own, that do not say that they are synthetic."""
        lacking = [] if self.description.is_marked else [DESCRIPTION]
        if "synthetic" not in self.table or set(self.table["synthetic"]) != {"true"}:
            lacking.append(PARTICIPANTS)
        return lacking + unmarked_images(self.folder, images)

    def record(self, audit: AuditRecord, reasons: Mapping[str, str]) -> None:
        """Record what an audit found, and move the images of ``reasons`` (from participant to why) into quarantine.

        Both folders are whole at every moment, and no image is ever in neither.

        Raises
        ------
        DataError
            If an image is not there.
        """
        quarantine = quarantine_of(self.folder)
        with ExitStack() as stack:
            kept = stack.enter_context(whole_folder(self.folder, force=True))
            # Links as links: what they lead to is not to be handed on.
            shutil.copytree(self.folder, kept, symlinks=True, dirs_exist_ok=True)
            if reasons:
                aside = stack.enter_context(whole_folder(quarantine, force=True))
                if quarantine.is_dir():
                    shutil.copytree(quarantine, aside, symlinks=True, dirs_exist_ok=True)
                set_aside(kept, aside, reasons)
            self.description.after(audit).write(kept)
            seal(kept)


def write_cohort(
    out: Path,
    parts: Sequence[Generated],
    origins: Mapping[str, Origin],
    *,
    file_format: Format | None = None,
    values: Values | None = None,
    skull_stripped: bool | None = None,
    screening: ScreeningRecord | None = None,
    command: str = "",
    force: bool = False,
) -> None:
    """Write a synthetic cohort, and beside it ``<out>.audit.csv`` where the nearest training images are known.

    Parameters
    ----------
    out : Path
        The folder, whole or not at all.
    parts : sequence of Generated
        One a class.
    origins : mapping
        From label to what it was made of: ``Origin.of(model)``.
    file_format : {"nifti", "png", "npz"}, optional
        By default ``nifti`` where the images have a place in the world, else ``png`` for slices and ``nifti`` for volumes.
    values : Values, optional
        The numbers in the files; by default those of the format.
    skull_stripped : bool, optional
        Whether the images are; by default what their origins know of it.
    screening : ScreeningRecord, optional
        Findings of the screening while the images were drawn.
    command : str
        Recorded in the description.
    force : bool
        Replace another cohort, and what lies beside it: that names participants by the same synthetic ids.

    Raises
    ------
    UsageError
        If the images do not go into the format, or something is there already.
    """
    out = cohort_place(out)
    used = {part.label: origins[part.label] for part in parts}
    space = parts[0].images.space
    file_format = file_format or default_format(space)
    values = values or Values.asked(file_format)
    ids = participant_ids(parts)
    written = [
        NamedImages(part.label, ids[part.label], part.images, used[part.label].skull_stripped if skull_stripped is None else skull_stripped)
        for part in parts
    ]
    prepared = used[parts[0].label].preparation
    form = None if prepared is None else Form(replace(prepared, size=space.shape), space, file_format, values)
    with whole_folder(out, force=force) as folder:
        write_images(folder, written, file_format, values)
        write_table(folder, parts, list(used.values()), ids)
        Description.of(parts, origins, command, [] if screening is None else [screening], form).write(folder)
        (folder / "README").write_text(_readme(parts, origins[parts[0].label].name), encoding="utf-8")
        # BIDS knows no such file, and its validator is told to pass it over.
        (folder / ".bidsignore").write_text(f"{MANIFEST}\n", encoding="utf-8")
        seal(folder)
    if force:
        nearest_file_of(out).unlink(missing_ok=True)
        shutil.rmtree(quarantine_of(out), ignore_errors=True)
    nearest = nearest_table(parts, ids)
    if len(nearest):
        with whole_file(nearest_file_of(out)) as temporary:
            nearest.to_csv(temporary, index=False)


@contextmanager
def cohort_output(out: Path, tell: Callable[[str], object], *, force: bool, data: Sequence[str] = ()) -> Iterator[None]:
    """Have ``out``, and what lies beside it, for a new cohort (``output``); raise a ``UsageError`` for what is there."""
    out = cohort_place(out)
    with output(out, tell, *_beside(out), data=data):
        refuse_existing(out, force=force, ours=is_synthetic)
        refuse_existing(nearest_file_of(out), force=force)
        refuse_existing(quarantine_of(out), force=force, ours=is_synthetic)
        yield


def held_cohort(cohort: Path, tell: Callable[[str], object]) -> AbstractContextManager[None]:
    """Have a cohort that is there, and what lies beside it, for oneself: see ``held``."""
    cohort = cohort_place(cohort)
    return held(cohort, tell, *_beside(cohort))


def cohort_place(path: Path) -> Path:
    """Where a cohort lies that is named by a path, or by a link to it.

    What is beside it, and what replaces it, is beside the cohort: beside a link the cohort would stay as it was, copies and all.
    """
    path = named(path)
    return path.resolve() if path.is_symlink() else path


def _beside(cohort: Path) -> tuple[Path, Path]:
    return nearest_file_of(cohort), quarantine_of(cohort)


def nearest_file_of(cohort: Path) -> Path:
    """The table, beside a cohort, of the patient who is nearest to each image."""
    return cohort.with_name(f"{cohort.name}.audit.csv")


def is_synthetic(folder: Path) -> bool:
    """Whether a folder is a synthetic cohort of ours: what ``--force`` may replace."""
    return folder.is_dir() and is_ours(folder)


def may_be_synthetic(folder: Path) -> bool:
    """Whether a folder with a description is sealed, or says by any of its marks that it is synthetic."""
    return (folder / DESCRIPTION).is_file() and (is_sealed(folder) or read_cohort(folder).synthetic)


def source_of(path: str, like: Source) -> Source:
    """How a cohort beside another is read: alike, but for one of ours, which has our columns and names whatever the other has."""
    if path not in NAMES and is_ours(folder_of(path)):
        return Source(path)
    # A root is of the benchmark among them.
    return replace(like, data=path, root=like.root if path in PUBLICATIONS else None)


def drawn_from(path: str) -> list[ClassRecord]:
    """The records of a synthetic cohort's classes whose participants, split and data it knows; none of any other cohort.

    Raise a ``DataError`` if it is one of ours whose description is damaged.
    """
    folder = folder_of(path)
    records = Description.read(folder).classes.values() if is_ours(folder) else ()
    return [record for record in records if record.participants and record.split and record.data]


def prepared_as(path: str) -> Preparation | None:
    """How the images were prepared that a synthetic cohort of ours was made of; ``None`` where it does not tell, as any other cohort.

    Raise a ``DataError`` if it is one of ours whose description is damaged.
    """
    folder = folder_of(path)
    description = Description.read(folder) if is_ours(folder) else None
    return description.form(folder).preparation if description is not None and FORM in description.content else None


def folder_of(path: str) -> Path:
    """The folder of a cohort that is named by itself or by a file in it."""
    place = expanded(path)
    return place if place.is_dir() else place.parent


def _readme(parts: Sequence[Generated], source: str) -> str:
    lines = [f"- {part.label}: sampler {part.diagnostics.sampler}, detail {part.detail.made if part.detail else 'none'}" for part in parts]
    pieces = (
        "\nNobody is in these images as a whole; but they are put together from detail of real people, moved and cut to pieces: a piece\n"
        "of one image shows the texture of one of them.\n"
        if any(part.detail for part in parts)
        else ""
    )
    made = "drawn by tinycohort from models trained on" if parts[0].model_digest else "made by tinycohort of two people each of"
    return (
        f"Every image here is synthetic: {made} {source}. There are no such people.\n\n"
        + "\n".join(lines)
        + "\n\nA synthetic image can be close to a training image: see nearest_training_distance in participants.tsv.\n"
        f"It is not anonymous data by itself.\n{pieces}"
    )
