"""BIDS datasets: ``participants.tsv`` and ``sub-*/[ses-*/]<modality>/*_<suffix>.nii[.gz]``."""

import glob
from pathlib import Path

from ..cohort import Cohort
from ..common.errors import DataError
from ..common.untrusted import read_json
from ..images import extension, sidecar_of, stem
from .participants import read_subjects
from .table import Found, cohort_table, join, read_description


def recognises(path: Path) -> bool:
    """Whether ``path`` holds folders ``sub-*`` with NIfTI files where BIDS has them."""
    return path.is_dir() and bool(_images(path, "*"))


def read(path: Path, *, table: Path | None, label: str | None, suffix: str) -> Cohort:
    """Read a BIDS dataset: every session and run of a participant is a row.

    Raises
    ------
    DataError
        If there is no participants table, or no image with ``suffix``.
    """
    table = table or path / "participants.tsv"
    if not table.is_file():
        raise DataError(f"The BIDS dataset {path} has no participants.tsv; add one with participant_id and diagnosis, or give --table.")
    files = _images(path, suffix)
    if not files:
        others = sorted({stem(file.name).rpartition("_")[2] for file in _images(path, "*")})
        raise DataError(
            f"{path} has no sub-*/*/*_{suffix}.nii or .nii.gz; it has: {', '.join(others) or 'none'}. Choose one with --suffix."
        )
    subjects = read_subjects(table, label)
    found = []
    for file in files:
        subject, *inner = file.relative_to(path).parts
        session = next((part.removeprefix("ses-") for part in inner[:-1] if part.startswith("ses-")), None)
        found.append(Found(str(file.absolute()), stem(file.name), subject, session))
    rows, problems = join(found, subjects)
    told = read_description(path)
    return Cohort(
        name=told.name,
        table=cohort_table(rows),
        source=str(path),
        licence=told.licence,
        label_column=subjects.label_column,
        skull_stripped=told.skull_stripped if told.skull_stripped is not None else _skull_stripped(path, files, suffix),
        synthetic=subjects.synthetic or told.synthetic,
        problems=(*subjects.problems, *problems),
    )


def _skull_stripped(path: Path, files: list[Path], suffix: str) -> bool | None:
    """What the sidecars say of ``SkullStripped``, one at the top or one an image; ``None`` if they say nothing, or not all the same."""
    common = _said_of_skulls(path / f"{suffix}.json", path)
    said: set[bool | None] = set()
    for file in files:
        own = _said_of_skulls(sidecar_of(file), path)
        said.add(common if own is None else own)
        if len(said) > 1 or None in said:
            return None
    return said.pop()


def _said_of_skulls(sidecar: Path, dataset: Path) -> bool | None:
    try:
        content = read_json(sidecar, within=dataset)
    except (OSError, ValueError):
        return None
    said = content.get("SkullStripped") if isinstance(content, dict) else None
    return said if isinstance(said, bool) else None


def _images(path: Path, suffix: str) -> list[Path]:
    """The images with a suffix; BIDS folders lie two or, with sessions, three deep."""
    pattern = "*_*.nii*" if suffix == "*" else f"*_{glob.escape(suffix)}.nii*"
    files = {file for depth in ("sub-*/*", "sub-*/ses-*/*") for file in path.glob(f"{depth}/{pattern}")}
    # A name with a leading dot is macOS's, not an image.
    return sorted(file for file in files if extension(file.name) in (".nii", ".nii.gz") and not file.name.startswith("."))
