"""The raw reading of one image, whatever its format, strict about damage that libraries let pass.

nibabel reads a bit-flipped ``.nii.gz`` without an error and allocates what a header claims; Pillow decodes a JPEG that lacks its end.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from .formats import dicom, metaimage, nifti, nrrd, pictures
from .formats.damage import ImageError, told_as_image_errors
from .formats.unread import command_for

VOLUMES, PICTURES = nifti.EXTENSIONS + nrrd.EXTENSIONS + metaimage.EXTENSIONS, pictures.EXTENSIONS
IMAGES = VOLUMES + PICTURES  # that are a file each; a DICOM series is a folder
COLOURS, NAMES = "colours", "names"  # notes
_READERS: dict[str, Any] = {kind: reader for reader in (nifti, nrrd, metaimage, pictures, dicom) for kind in reader.EXTENSIONS}


def extension(name: str) -> str:
    """Return the extension in lower case, ``.nii.gz`` as a whole."""
    lower = name.lower()
    return ".nii.gz" if lower.endswith(".nii.gz") else Path(lower).suffix


def stem(name: str) -> str:
    """Return a file's name without its extension."""
    return name[: len(name) - len(extension(name))]


def files_of(path: str | Path) -> list[Path]:
    """The files of an image: the slices of a series, two of a pair, its header first, and else the one."""
    path = Path(path)
    reader = _reader_of(path)
    if reader is dicom and path.is_dir():
        return dicom.slices_in(path)
    if reader is nifti:
        return nifti.files_of(path)
    if reader in (nrrd, metaimage) and path.is_file():
        with suppress(ImageError), told_as_image_errors(path):
            return reader.files_of(path)
    return [path]


def sidecar_of(path: str | Path) -> Path:
    """The JSON beside an image, as BIDS has it, which need not be there."""
    path = Path(path)
    return path.with_name(f"{stem(path.name)}.json")


def read_image(path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read one image file whole.

    Parameters
    ----------
    path : str or Path
        NIfTI (``.nii``, ``.nii.gz``, or a pair), Analyze (either file of the pair), MGH, NRRD, MetaImage, PNG, JPEG, TIFF, BMP, or the
        folder of a DICOM series or one of its files.

    Returns
    -------
    array : numpy.ndarray of float32
        A volume as it is stored, intensities scaled as its header says; a picture as (rows, columns), colours read as grey. What this
        program has written is what it was written from: its PNG of a slice is a volume of one plane, its NIfTI of a picture a picture.
    affine : numpy.ndarray of shape (4, 4), or None
        From voxels to mm; ``None`` for a picture.

    Raises
    ------
    ImageError
        If the file is missing, unreadable, truncated or corrupted.
    """
    path = Path(path)
    reader = _reader_of(path)
    if reader is None:
        raise _unknown(path)
    files = files_of(path)
    with told_as_image_errors(path):
        for file in files:
            if not file.is_file():
                missing = (
                    "the file is missing"
                    if file == path
                    else f"{file.name}, the other file of the {'pair' if reader is nifti else 'image'}, is missing"
                )
                raise ImageError(path, missing, "restore the file, or remove its row from the table")
            if file.stat().st_size == 0:
                raise ImageError(path, f"{file.name} is empty")
        return reader.read(path)


def white_of(path: str | Path) -> float:
    """What is white in an image, where its format says so, as pictures' do; else 1."""
    path = Path(path)
    if _reader_of(path) is not pictures:
        return 1.0
    with told_as_image_errors(path):
        return pictures.white(path)


def notes_of(path: Path) -> frozenset[str]:
    """What is to be known of an image file beside its voxels: ``COLOURS`` that are read as grey, ``NAMES`` in its header."""
    reader = _reader_of(path)
    with suppress(ImageError), told_as_image_errors(path):
        if reader is pictures and pictures.in_colours(path):
            return frozenset({COLOURS})
        if reader is dicom and dicom.names_somebody(path):
            return frozenset({NAMES})
    return frozenset()


def memory_to_read(path: str | Path) -> int:
    """Bytes that reading and looking at an image takes at most, by its header; 0 of what ``read_image`` refuses.

    Measured, with what numpy, nibabel and Pillow take in passing; ``tests/datasets/test_memory.py`` measures it again.
    """
    path = Path(path)
    reader = _reader_of(path)
    if reader is None or not all(file.is_file() for file in files_of(path)):  # to open a pipe would wait for ever
        return 0
    try:
        with told_as_image_errors(path):
            return reader.memory(path)
    except ImageError:
        return 0


def _reader_of(path: Path) -> Any:
    """The module that reads images of its format; ``None`` where none does."""
    return _READERS.get(extension(path.name)) or (dicom if path.is_dir() or dicom.is_dicom(path) else None)


def _unknown(path: Path) -> ImageError:
    kind = extension(path.name)
    command = command_for(path.name, kind)
    mend = f"give one of {', '.join(IMAGES)}, or a DICOM series" if command is None else f"convert it, as `{command}` does"
    return ImageError(path, f"no image format is known by the extension '{kind}'" if command is None else f"{kind} is not read", mend)
