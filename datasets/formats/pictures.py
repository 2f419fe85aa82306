"""Pictures that Pillow reads: PNG, JPEG, TIFF and BMP, once what can be seen of them without decoding is sound."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageFile

from ..common.machine import is_too_much
from ..common.words import times
from ..spaces import PLANES, ImageSpace, as_seen, is_placement, picture_axes
from .damage import TIGHTEST_DEFLATE, ImageError, told_as_image_errors, too_large

EXTENSIONS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
PNG_AXES, PNG_AFFINE = "tinycohort:axes", "tinycohort:affine"  # texts of a PNG that shows a slice: where these lead, and 16 numbers
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
# From how a camera says that it was held (EXIF) to what turns its picture upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
_GREY_MODES = ("L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def read(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a picture as viewers show it, (rows, columns), colours as grey; one that says which slice it shows is a volume of one plane."""
    with _intact_picture(path) as picture:
        grey = picture if picture.mode in _GREY_MODES else picture.convert("L")
        axes = picture.info.get(PNG_AXES)
        if axes is None:
            turn = _turn(picture)
            return np.asarray(grey if turn is None else grey.transpose(turn), dtype=np.float32), None
        array = np.asarray(grey, dtype=np.float32)
        return _slice_shown(array, axes, str(picture.info.get(PNG_AFFINE, "")))


def memory(path: Path) -> int:
    """Bytes that reading and looking at a picture takes at most, by its header."""
    with opened(path) as picture:
        return _memory_of_picture(picture)


def opened(path: Path) -> ImageFile.ImageFile:
    """The picture, of which nothing but the header is read."""
    return Image.open(path, formats=_FORMATS)


def white(path: Path) -> float:
    """What is white, by a picture's header: all bits of 8 or of 16, and 1 of floats and of whole numbers of 32 bits."""
    with opened(path) as picture:
        if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG"):
            return 65535.0
        return 1.0 if picture.mode in ("I", "F") else 255.0


def in_colours(path: Path) -> bool:
    """Whether a picture is stored in colours, which are read as grey."""
    with opened(path) as picture:
        return picture.mode not in (*_GREY_MODES, "1", "LA", "La")


def _memory_of_picture(picture: Image.Image) -> int:
    """A picture as it is stored, and as grey, in float32."""
    wide = {"I": 4, "F": 4}.get(picture.mode, 2 if picture.mode.startswith("I;16") else 1)
    return picture.width * picture.height * (6 + 2 * wide * len(picture.getbands()))


def read_colours(path: Path, *, size: tuple[int, int], crop: int, side: int) -> np.ndarray:
    """Read the middle square of a picture in colours.

    Parameters
    ----------
    path : Path
    size : tuple of int
        The (rows, columns) that it must have, looked at before it is decoded.
    crop : int
        Side of the square, in the picture's pixels.
    side : int
        What it is brought to, bilinearly.

    Returns
    -------
    numpy.ndarray of uint8, shape (3, side, side)

    Raises
    ------
    ImageError
        If the picture is of another size, unreadable, truncated or corrupted.
    """
    with told_as_image_errors(path), _intact_picture(path) as picture:
        if (picture.height, picture.width) != size:
            raise ImageError(path, f"{picture.height} x {picture.width} pixels, not {times(size)}")
        top, left = ((whole - crop) // 2 for whole in size)
        square = picture.convert("RGB").crop((left, top, left + crop, top + crop))
        return np.asarray(square.resize((side, side), Image.Resampling.BILINEAR)).transpose(2, 0, 1)


def _turn(picture: Image.Image) -> Image.Transpose | None:
    """What brings a picture to stand as viewers show it, once it is decoded: of TIFF, decoding has done so."""
    picture.load()
    try:
        return _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # of a stranger's bytes in a library, anything: what tells nothing of a camera is a picture nevertheless
        return None


def _slice_shown(array: np.ndarray, axes: str, affine: str) -> tuple[np.ndarray, np.ndarray]:
    """The volume of one plane, in RAS, that a picture shows, and its affine, from the texts that the picture has of them."""
    plane = next((plane for plane in PLANES if picture_axes(plane) == axes), None)
    placed = np.array(affine.split(), dtype=float)
    if plane is None or placed.size != 16 or not is_placement(placed.reshape(4, 4)):
        raise ValueError(f"its texts {PNG_AXES} and {PNG_AFFINE} place no slice")
    height, width = array.shape
    space = ImageSpace((width, height), flat_axis=PLANES[plane])
    return np.ascontiguousarray(as_seen(array)).reshape(space.volume_shape), placed.reshape(4, 4) @ np.linalg.inv(space.seen)


@contextmanager
def _intact_picture(path: Path) -> Iterator[Image.Image]:
    """Open a picture, not yet decoded, once what can be seen of it without is sound."""
    with opened(path) as picture:
        kind, (width, height) = picture.format, picture.size
        if is_too_much(_memory_of_picture(picture)):
            raise too_large(path, (width, height), "pixels")
        # Of one bit each, packed as tightly as can be: what is packed tighter, as JPEG can be, is of one colour, and no image.
        if kind != "JPEG" and width * height > 8 * TIGHTEST_DEFLATE * path.stat().st_size:
            raise ImageError(path, f"truncated: {width} x {height} pixels do not fit the file")
        if kind == "TIFF" and (pages := getattr(picture, "n_frames", 1)) > 1:
            mend = f"write each page by itself, as `magick {path.name} {path.stem}-%03d.png`; of a volume's slices make a NIfTI"
            raise ImageError(path, f"{pages} pages, where a picture has one", mend)
        if kind == "PNG":
            # Checks the CRC of every chunk, and leaves the picture closed.
            picture.verify()
    if kind == "JPEG":
        content = path.read_bytes()
        if content.rfind(_JPEG_END) < content.rfind(_JPEG_SCAN):
            raise ImageError(path, "truncated: the JPEG has no end")
    with opened(path) as picture:
        if kind == "TIFF":
            picture.filename = ""  # of a name Pillow maps the file, and rows of a picture that is turned to columns are cut wrongly there
        yield picture
