"""The mark that every synthetic image bears by itself, so that it is known when it has left its cohort."""

from pathlib import Path
from typing import Any

import nibabel as nib

from .common.untrusted import read_json
from .formats import nifti, pictures
from .formats.nifti import MARK
from .images import extension, sidecar_of

# What is wrong with a marked image in a cohort that does not say that it is synthetic, and the mend.
UNDECLARED = (
    "a synthetic image, by its own mark, in a cohort that does not say so",
    "remove it; of a cohort that is all synthetic, give the table a column synthetic that is true",
)


def is_marked(path: Path) -> bool:
    """Whether an image file says that it is synthetic, in its header, its text or the JSON beside it; damage says nothing."""
    sidecar = sidecar_of(path)
    if sidecar.is_file() and _says_so(sidecar):
        return True
    kind = extension(path.name)
    try:
        if kind in nifti.EXTENSIONS:
            header: Any = nib.load(path).header
            return nifti.is_marked(header)
        if kind in pictures.EXTENSIONS:
            with pictures.opened(path) as picture:
                return MARK in str(picture.info.get("Description", ""))
    except Exception:  # what a reader of this file reports, in its own words
        return False
    return False


def _says_so(sidecar: Path) -> bool:
    try:
        content = read_json(sidecar)
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("Synthetic") is True
