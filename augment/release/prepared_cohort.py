"""A prepared cohort on disk: real images in the form of a synthetic cohort, so that one pipeline loads both, and marked as real."""

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from ...datasets.check import array_of
from ...datasets.cohort import Cohort
from ...datasets.common.custody import is_sealed, seal
from ...datasets.common.errors import DataError, UsageError
from ...datasets.common.files import MANIFEST, whole_folder, write_json
from ...datasets.common.untrusted import read_json
from ...datasets.readers import read_cohort
from ...datasets.transforms import Images
from .description import DESCRIPTION, FORM, US
from .form import Form
from .image_files import NamedImages, write_images
from .prepared_table import image_names, write_prepared_table

README = """Every image here is of a real person: {name}, brought to the grid and the intensities of synthetic images.
It is personal data, as {name} is. participants.tsv has the source's own names beside those of the files.
"""


def write_prepared(
    out: Path,
    cohort: Cohort,
    images: Images,
    form: Form,
    *,
    seen: Mapping[str, str] | None = None,
    skull_stripped: bool | None = None,
    command: str = "",
    force: bool = False,
) -> None:
    """Write real images in a form.

    Parameters
    ----------
    out : Path
        The folder, whole or not at all.
    cohort : Cohort
    images : Images
        The cohort's, row for row, in ``form.space``.
    form : Form
    seen : mapping, optional
        As for ``prepared_table.write_prepared_table``.
    skull_stripped : bool, optional
        Whether the images are; by default what the cohort knows of it.
    command : str
        Recorded in the description.
    force : bool
        Replace what is there.

    Raises
    ------
    UsageError
        If the images do not go into the format, or something is there already.
    DataError
        If what would be written is read back otherwise.
    """
    names, labels = image_names(cohort), cohort.table["label"]
    stripped = cohort.skull_stripped if skull_stripped is None else skull_stripped
    parts = []
    for label in cohort.labels:
        rows = labels.eq(label).to_numpy().nonzero()[0]
        own = Images(images.pixels[rows], form.space)
        parts.append(NamedImages(label, [names[row] for row in rows], own, stripped))
    with whole_folder(out, force=force) as folder:
        write_images(folder, parts, form.file_format, form.values, synthetic=False)
        write_prepared_table(folder, cohort, names, in_folders=form.file_format == "nifti", seen=seen)
        made = {
            "Name": US,
            "Version": version(US),
            "Description": "Real images, prepared as those of a synthetic cohort",
            "Command": command,
        }
        content = {
            "Name": f"{cohort.name}, prepared",
            "BIDSVersion": "1.9.0",
            "DatasetType": "derivative",
            "Synthetic": False,
            "Manifest": MANIFEST,
            "License": cohort.licence or "that of the source data, which states none",
            "GeneratedBy": [made],
            "SourceDatasets": [{"Name": cohort.name}],
            FORM: form.as_json(),
        }
        write_json(folder / DESCRIPTION, content)
        (folder / "README").write_text(README.format(name=cohort.name), encoding="utf-8")
        # BIDS knows no such file, and its validator is told to pass it over.
        (folder / ".bidsignore").write_text(f"{MANIFEST}\n", encoding="utf-8")
        seal(folder)
        _require_readable(folder, cohort)


def _require_readable(folder: Path, cohort: Cohort) -> None:
    """Raise a ``DataError`` if a pipeline would read other images or classes than were written: a column may be taken otherwise."""
    try:
        back = read_cohort(folder)
        told = back.problems[0].what if back.problems else f"images a class: {back.counts()}, of {cohort.counts()}"
    except DataError as error:
        back, told = None, str(error)
    if back is None or back.problems or back.counts() != cohort.counts():
        raise DataError(
            f"{cohort.name} cannot be written so that it is read alike ({told.replace(str(folder), 'the new folder')}); rename the column "
            "of its table that this comes from, or leave it out."
        )


def as_prepared(cohort: Cohort, folder: Path) -> Cohort:
    """Images of the prepared cohort in a folder, in [0, 1] as they were before they were written: scaled anew they would be others.

    Raises
    ------
    DataError
        If the description does not tell the form of the images, or they have another.
    """
    try:
        form = Form.from_json(read_json(folder / DESCRIPTION, within=folder)[FORM])
        if form.file_format == "png":  # whose 8 bit say what is white
            return cohort
        arrays = [array_of(cohort, image)[0].reshape(form.space.shape) for image in cohort.table["image"]]
    except (LookupError, TypeError, AttributeError, ValueError, UsageError) as error:
        raise DataError(f"{folder / DESCRIPTION} does not tell the form of its images ({error}); prepare the cohort anew.") from error
    arrays = np.stack(arrays).astype(np.float32) / np.float32(form.values.white)
    return replace(cohort, arrays=arrays, space=form.space, table=cohort.table.assign(image=range(len(cohort))))


def is_prepared(folder: Path) -> bool:
    """Whether a folder is a prepared cohort of ours: what ``--force`` may replace."""
    if not (folder.is_dir() and is_sealed(folder)):
        return False
    try:
        content = read_json(folder / DESCRIPTION, within=folder)
        return content["Synthetic"] is False and content["GeneratedBy"][0]["Name"] == US and FORM in content
    except (OSError, ValueError, LookupError, TypeError):
        return False
