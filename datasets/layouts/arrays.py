"""Cohorts of arrays in one ``.npz``: ours and MedMNIST's. Nothing is unpickled.

Ours has the keys ``images`` (n, X, Y) or (n, X, Y, Z), ``labels`` (n,) and, unless every image is another participant's,
``participants`` (n,); ``axes`` and ``affine`` say how they stand (``spaces.in_ras``), or else ``(n, X, Y)`` are pictures, and
``(n, X, Y, Z)`` volumes in RAS, but for pictures with an axis of channels (``_pictures``). MedMNIST's has ``train_images``,
``train_labels`` and the same for ``val`` and ``test``.
"""

import hashlib
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ..cohort import SPELLED, Cohort, Problem, place_of
from ..common.errors import DataError
from ..common.machine import is_too_much
from ..formats.damage import TIGHTEST_DEFLATE
from ..identity import participant_of
from ..spaces import ImageSpace, in_ras
from .participants import Subjects, is_missing, read_subjects
from .table import Description, Found, cohort_table, join, read_description
from .table_files import TABLES

_OURS = "images.npz"
_KEYS = "images (n, X, Y) or (n, X, Y, Z), labels (n,) and, optionally, participants (n,)"
# The names of the sides as our splits call them, by those of MedMNIST.
_MEDMNIST_SIDES = {"train": "train", "val": "validation", "test": "test"}
_AT_ONCE = 2**20  # numbers of images in colours that are made grey
_ENCRYPTED = 1  # of the flags of a member of a zip archive


def recognises(path: Path) -> bool:
    """Whether ``path`` is an ``.npz``, or a folder with ``images.npz`` or with one ``.npz`` and no table."""
    return _file(path) is not None


def read(path: Path, *, table: Path | None, label: str | None) -> Cohort:
    """Read arrays; where there is a table of participants (``participants.tsv`` beside ``images.npz``), labels and covariates are its own.

    Parameters
    ----------
    path : Path
        The ``.npz``, or the folder that holds it.
    table : Path, optional
        A table of the participants.
    label : str, optional
        The column of labels in the table; without a table, the key of the labels in the file.

    Raises
    ------
    DataError
        If the file is no ``.npz``, lacks a key, holds Python objects, or its arrays do not fit each other.
    """
    file = _file(path) or path
    # A cohort of ours stays what its folder says, synthetic above all, when the file in it is given.
    beside = file.with_name("participants.tsv")
    if table is None and file.name == _OURS and beside.is_file():
        table = beside
    subjects = None if table is None else read_subjects(table, label)
    content, space, coloured = _load(file), None, False
    if "train_images" in content:
        if label is not None and subjects is None:
            raise DataError(
                f"{file} has its labels beside each side's images, and no column '{label}'; leave out --label-column, or give --table."
            )
        images, rows = _medmnist(content, file)
    else:
        images, rows = _ours(content, file, "labels" if label is None or subjects else label)
        coloured = "axes" not in content and _in_colours(images)
        images, space = _as_told(_in_unit_range(images, content), content, file)
    if subjects is None:
        rows = [_told_apart(row, images[row["image"]]) if row.pop("made_up") else row for row in rows]
    problems: list[Problem] = []
    if subjects is not None:
        rows, problems = _with_table(rows, subjects)
    told = read_description(file.parent) if file.name == _OURS else Description(file.stem)
    return Cohort(
        name=told.name,
        table=cohort_table(rows),
        source=str(path),
        arrays=images,
        space=space,
        licence=told.licence,
        label_column=subjects.label_column if subjects else label or "label",
        skull_stripped=told.skull_stripped,
        synthetic=told.synthetic or _is_marked(content) or (subjects is not None and subjects.synthetic),
        problems=(*(subjects.problems if subjects else ()), *problems),
        remarks=(Problem(told.name, str(path), "all images are stored in colours", "nothing: they are read as grey"),) if coloured else (),
    )


def as_grey(colours: np.ndarray) -> np.ndarray:
    """Images ``(n, ..., 3)`` in red, green and blue as grey ``(n, ...)`` of the same type, by the weights of Pillow's (ITU-R 601-2)."""
    grey = np.empty(colours.shape[:-1], colours.dtype)
    # In double precision all at once would take many times what was read.
    step = max(1, _AT_ONCE // math.prod(colours.shape[1:]))
    for start in range(0, len(colours), step):
        grey[start : start + step] = np.round(colours[start : start + step] @ np.array([0.299, 0.587, 0.114]))
    return grey


def _file(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix.lower() == ".npz" else None
    if (path / _OURS).is_file():
        return path / _OURS
    files = list(path.glob("*.npz"))
    return files[0] if len(files) == 1 and not any(file.suffix.lower() in TABLES for file in path.iterdir()) else None


def _is_marked(content: dict[str, np.ndarray]) -> bool:
    """Whether the arrays say that they are synthetic: in whatever type, all but nought and false."""
    mark = content.get("synthetic")
    return mark is not None and (mark.dtype.kind not in "biuf" or bool(mark.any()))


def _ours(content: dict[str, np.ndarray], file: Path, labels_key: str) -> tuple[np.ndarray, list[dict[str, Any]]]:
    for key in ("images", labels_key):
        if key not in content:
            raise DataError(f"{file} has no array '{key}'; it has: {', '.join(content) or 'none'}. It needs {_KEYS}.")
    images = _checked(content["images"], file, "images")
    labels = _texts(content[labels_key], len(images), file, labels_key)
    if "participants" in content:
        spelled = _texts(content["participants"], len(images), file, "participants")
    else:
        spelled = [None] * len(images)
    rows = []
    for row, (text, label) in enumerate(zip(spelled, labels, strict=True)):
        name = text or f"image{row}"
        rows.append(
            {"image_id": name, "participant_id": participant_of(name), "image": row, "label": label, SPELLED: name, "made_up": text is None}
        )
    return images, rows


def _in_unit_range(images: np.ndarray, content: dict[str, np.ndarray]) -> np.ndarray:
    """What synthetic images were written from, where the file says what is white of them; 8 bit say it by their type."""
    white = content.get("white")
    if white is None or white.size != 1 or white.dtype.kind not in "iuf" or not _is_marked(content):
        return images
    told = float(white.item())
    if not math.isfinite(told) or told <= 0 or told == (255 if images.dtype == np.uint8 else 1):
        return images
    return images.astype(np.float32) / np.float32(told)


def _as_told(images: np.ndarray, content: dict[str, np.ndarray], file: Path) -> tuple[np.ndarray, ImageSpace | None]:
    """The images in RAS, and their space, where the file says where their axes lead."""
    if "axes" not in content:
        return _pictures(images, file), None
    try:
        return in_ras(images, [str(letter) for letter in np.atleast_1d(content["axes"])], content.get("affine"))
    except ValueError as error:
        raise DataError(
            f"{file} does not tell how its images stand: {error}; take out 'axes' and 'affine', or write them as "
            'axes ["R", "A", "S"] and a 4 x 4 matrix from indices to mm.'
        ) from error


def _pictures(images: np.ndarray, file: Path) -> np.ndarray:
    """Images without the axis of channels that pictures may have, before their own two or behind them; volumes as they are."""
    if _in_colours(images):
        return as_grey(images)
    if images.ndim != 4:
        return images
    before, behind = images.shape[1], images.shape[-1]
    if 3 in (before, behind):
        raise DataError(
            f"'images' in {file} has the shape {images.shape}, in which 3 may be colours or slices; write colours as uint8 (n, rows, "
            "columns, 3), or say with axes, as in ['R', 'A', 'S'], that these are volumes."
        )
    return images.squeeze(-1) if behind == 1 else images.squeeze(1) if before == 1 else images


def _in_colours(images: np.ndarray) -> bool:
    return images.ndim == 4 and images.shape[-1] == 3 and images.dtype == np.uint8


def _medmnist(content: dict[str, np.ndarray], file: Path) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The three sides in one, with the side in the column ``split``."""
    parts, rows = [], []
    for key, side in _MEDMNIST_SIDES.items():
        if f"{key}_images" not in content:
            continue
        if f"{key}_labels" not in content:
            raise DataError(f"{file} has {key}_images but no {key}_labels; obtain the file anew.")
        images = _checked(content[f"{key}_images"], file, f"{key}_images")
        if images.ndim == 4 and images.shape[-1] == 3:
            # Its volumes are cubes, so a last axis of 3 is colours.
            images = as_grey(images)
        labels = _texts(content[f"{key}_labels"], len(images), file, f"{key}_labels")
        start = len(rows)
        rows += [
            {
                "image_id": f"{key}{row}",
                "participant_id": f"{key}{row}",
                "image": start + row,
                "label": label,
                "split": side,
                "made_up": True,
            }
            for row, label in enumerate(labels)
        ]
        parts.append(images)
    if len({part.shape[1:] for part in parts}) > 1:
        raise DataError(
            f"{file} holds sides of different image sizes ({', '.join(str(part.shape) for part in parts)}); obtain the file anew."
        )
    return np.concatenate(parts), rows


def _told_apart(row: dict[str, Any], image: np.ndarray) -> dict[str, Any]:
    """A row with an id that no file gives its image, made of its place and its content: row 0 of another file is somebody else."""
    name = f"{row['image_id']}-{hashlib.sha256(image.tobytes()).hexdigest()[:8]}"
    return row | {"image_id": name, "participant_id": name, SPELLED: name}


def _with_table(rows: list[dict[str, Any]], subjects: Subjects) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Give the arrays the labels and covariates of a table; a label that the file itself contradicts is a problem."""
    joined, problems = join([Found(row["image"], row["image_id"], row["image_id"]) for row in rows], subjects)
    own = {row["image"]: row for row in rows}
    for row in joined:
        told = own.get(row["image"], {})
        if "split" in told:
            row.setdefault("split", told["split"])
        label = told.get("label")
        if row["label"] is not None and label is not None and row["label"] != label:
            what = f"labelled {row['label']} in {subjects.path.name} and {label} in the arrays"
            problems.append(Problem(row["participant_id"], place_of(row["image"]), what, "correct one of them"))
    return joined, problems


def _load(file: Path) -> dict[str, np.ndarray]:
    """Load every array, each once its header is known to claim no more than the archive holds."""
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                if member.flag_bits & _ENCRYPTED:
                    raise DataError(f"'{member.filename}' in {file} is encrypted; write it anew with numpy.savez.")
                if member.file_size > TIGHTEST_DEFLATE * member.compress_size:
                    raise DataError(f"'{member.filename}' in {file} claims to be compressed more than can be; obtain the file anew.")
                with archive.open(member) as stream:
                    _refuse_hostile(stream, member, file)
            claimed = sum(member.file_size for member in archive.infolist())
        if is_too_much(claimed):
            raise DataError(f"{file} holds {claimed} bytes, for which this machine has no memory; store fewer images, or as volumes.")
        with np.load(file, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise DataError(f"{file} cannot be read as .npz ({error}); obtain the file anew, or write it with numpy.savez.") from error


def _refuse_hostile(stream: Any, member: zipfile.ZipInfo, file: Path) -> None:
    name = f"The array '{member.filename}' in {file}"
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    if any(type(side) is not int for side in shape):
        raise DataError(f"{name} claims the shape {shape}, whose sides are no whole numbers; obtain the file anew.")
    if dtype.hasobject:
        raise DataError(f"{name} holds Python objects, which are never unpickled; save it as numbers or text.")
    if math.prod(shape) * dtype.itemsize > member.file_size:
        raise DataError(f"{name} claims the shape {shape}, which the file cannot hold; obtain the file anew.")


def _checked(images: np.ndarray, file: Path, key: str) -> np.ndarray:
    if images.ndim not in (3, 4) or images.dtype.kind not in "biuf":
        raise DataError(f"'{key}' in {file} is {images.dtype} of shape {images.shape}; it must be numbers, (n, X, Y) or (n, X, Y, Z).")
    if images.size == 0:
        raise DataError(f"'{key}' in {file} holds no image; obtain the file anew.")
    return images


def _texts(values: np.ndarray, n: int, file: Path, key: str) -> list[str | None]:
    """One text per image: 1 and 1.0 are '1'."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.shape != (n,):
        raise DataError(f"'{key}' in {file} has the shape {values.shape}; it must be ({n},), one value per image.")
    if values.dtype.kind not in "biufSU":
        raise DataError(f"'{key}' in {file} is of type {values.dtype}; it must be numbers or text.")
    if values.dtype.kind == "S":
        try:
            values = np.char.decode(values, "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"'{key}' in {file} is no text in UTF-8 ({error}); save it as text.") from error
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise DataError(f"'{key}' in {file} has infinite values; a class is a number or a text.")
    if values.dtype.kind == "f" and np.all(np.isnan(values) | (values == np.round(values))):
        texts = ["nan" if np.isnan(value) else str(int(value)) for value in values]
    else:
        texts = [str(value).strip() for value in values]
    # numpy writes Python's None as "None" among texts.
    return [None if text == "None" or is_missing(text) else text for text in texts]
