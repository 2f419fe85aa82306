"""What is wrong with an image file, in words that let its owner mend it."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from PIL import Image

from ..common.errors import DataError
from ..common.words import times

# Deflate cannot pack tighter than this (zlib's technical notes), so a header that claims more is wrong.
TIGHTEST_DEFLATE = 1032
LARGEST_HEADER = 64 * 2**20  # bytes, with extensions
_REPLACE = "replace it with an intact copy"


class ImageError(DataError):
    """An image file that cannot be read, with ``what`` is wrong and its ``mend``."""

    def __init__(self, path: Path, what: str, mend: str = _REPLACE):
        self.what, self.mend = what, mend
        super().__init__(f"{path}: {what}; {mend}.")


def truncated(path: Path, needed: int, size: int) -> ImageError:
    """The error of a file whose voxels end early."""
    return ImageError(path, f"truncated: the header needs {needed} bytes, the file holds {size}")


def too_large(path: Path, shape: Sequence[int], what: str = "voxels") -> ImageError:
    """The error of an image for which there is no memory."""
    return ImageError(path, f"{times(shape)} {what}, for which this machine has no memory", f"resample it to fewer {what}")


@contextmanager
def told_as_image_errors(path: Path) -> Iterator[None]:
    """What the libraries raise on a damaged file, as an ``ImageError``."""
    try:
        yield
    except ImageError:
        raise
    except (
        OSError,
        EOFError,
        zlib.error,
        ValueError,
        TypeError,
        LookupError,  # Pillow's word for a broken TIFF
        SyntaxError,  # and for a broken PNG
        ArithmeticError,
        struct.error,
        ImageFileError,
        HeaderDataError,
        WrapStructError,
        Image.DecompressionBombError,
    ) as error:
        raise ImageError(path, f"unreadable ({str(error).splitlines()[0] if str(error) else type(error).__name__})") from error
