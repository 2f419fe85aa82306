"""The raw reading of one image, whatever its format, strict about damage that libraries let pass.

nibabel reads a bit-flipped ``.nii.gz`` without an error and allocates what a header claims; Pillow decodes a JPEG that lacks its end.
"""

from pathlib import Path
from typing import Any

import numpy as np

from .formats import nifti, pictures
from .formats.damage import ImageError, told_as_image_errors

VOLUMES, PICTURES = nifti.EXTENSIONS, pictures.EXTENSIONS
IMAGES = VOLUMES + PICTURES


def extension(name: str) -> str:
    """Return the extension in lower case, ``.nii.gz`` as a whole."""
    lower = name.lower()
    return ".nii.gz" if lower.endswith(".nii.gz") else Path(lower).suffix


def stem(name: str) -> str:
    """Return a file's name without its extension."""
    return name[: len(name) - len(extension(name))]


def files_of(path: str | Path) -> list[Path]:
    """The files of an image: two of a pair, its header first, and else the one."""
    return nifti.files_of(Path(path))


def sidecar_of(path: str | Path) -> Path:
    """The JSON beside an image, as BIDS has it, which need not be there."""
    path = Path(path)
    return path.with_name(f"{stem(path.name)}.json")


def read_image(path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read one image file whole.

    Parameters
    ----------
    path : str or Path
        NIfTI (``.nii``, ``.nii.gz``, or a pair), Analyze (either file of the pair), PNG or JPEG.

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
    kind = extension(path.name)
    if kind not in IMAGES:
        raise ImageError(path, f"no image format is known by the extension '{kind}'", f"give one of {', '.join(IMAGES)}")
    files = files_of(path)
    with told_as_image_errors(path):
        for file in files:
            if not file.is_file():
                missing = "the file is missing" if file == path else f"{file.name}, the other file of the pair, is missing"
                raise ImageError(path, missing, "restore the file, or remove its row from the table")
            if file.stat().st_size == 0:
                raise ImageError(path, f"{file.name} is empty")
        return _reader_of(path).read(path)


def memory_to_read(path: str | Path) -> int:
    """Bytes that reading and looking at an image takes at most, by its header; 0 of what ``read_image`` refuses.

    Measured, with what numpy, nibabel and Pillow take in passing; ``tests/datasets/test_memory.py`` measures it again.
    """
    path = Path(path)
    if not all(file.is_file() for file in files_of(path)):  # to open a pipe would wait for ever
        return 0
    try:
        with told_as_image_errors(path):
            return _reader_of(path).memory(path)
    except ImageError:
        return 0


def _reader_of(path: Path) -> Any:
    """The module that reads files of its format."""
    return nifti if extension(path.name) in VOLUMES else pictures
