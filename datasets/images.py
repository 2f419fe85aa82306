"""The raw reading of one image file, strict about damage that libraries let pass.

nibabel reads a bit-flipped ``.nii.gz`` without an error and allocates what a header claims; Pillow decodes a JPEG that lacks its end.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from PIL import Image

from .common.errors import DataError
from .common.machine import FLOAT, is_too_much
from .spaces import PLANES, ImageSpace, as_seen, is_placement, picture_axes

VOLUMES = (".nii", ".nii.gz", ".hdr", ".img")
PICTURES = (".png", ".jpg", ".jpeg")

# Deflate cannot pack tighter than this (zlib's technical notes), so a header that claims more is wrong.
TIGHTEST_DEFLATE = 1032
_NIFTI_2 = 540  # bytes of the header of NIfTI-2; that of NIfTI-1 has 348
_LARGEST_HEADER = 64 * 2**20  # bytes, with extensions
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
MARK = "synthetic image, tinycohort"  # of every synthetic image; in NIfTI headers, whose description holds 79 bytes
REAL = "real image, tinycohort"  # of a real one that was brought to the form of synthetic ones
AS_PICTURE = "tinycohort, as a picture"  # the end of either, of a NIfTI that was a picture: it is read as these are
PNG_AXES, PNG_AFFINE = "tinycohort:axes", "tinycohort:affine"  # texts of a PNG that shows a slice: where these lead, and 16 numbers
_GREY_MODES = ("L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_REPLACE = "replace it with an intact copy"


class ImageError(DataError):
    """An image file that cannot be read, with ``what`` is wrong and its ``mend``."""

    def __init__(self, path: Path, what: str, mend: str = _REPLACE):
        self.what, self.mend = what, mend
        super().__init__(f"{path}: {what}; {mend}.")


def extension(name: str) -> str:
    """Return the extension in lower case, ``.nii.gz`` as a whole."""
    lower = name.lower()
    return ".nii.gz" if lower.endswith(".nii.gz") else Path(lower).suffix


def stem(name: str) -> str:
    """Return a file's name without its extension."""
    return name[: len(name) - len(extension(name))]


def files_of(path: str | Path) -> list[Path]:
    """The files of an image: two of a pair, its header first, and else the one."""
    path = Path(path)
    return [path.with_suffix(".hdr"), path.with_suffix(".img")] if extension(path.name) in (".hdr", ".img") else [path]


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
    if kind not in VOLUMES + PICTURES:
        raise ImageError(path, f"no image format is known by the extension '{kind}'", f"give one of {', '.join(VOLUMES + PICTURES)}")
    files = files_of(path)
    with _told_as_image_errors(path):
        for file in files:
            if not file.is_file():
                missing = "the file is missing" if file == path else f"{file.name}, the other file of the pair, is missing"
                raise ImageError(path, missing, "restore the file, or remove its row from the table")
            if file.stat().st_size == 0:
                raise ImageError(path, f"{file.name} is empty")
        if kind in VOLUMES:
            return _read_volume(path, files[-1])
        with _intact_picture(path) as picture:
            grey = picture if picture.mode in _GREY_MODES else picture.convert("L")
            array = np.asarray(grey, dtype=np.float32)
            axes = picture.info.get(PNG_AXES)
            return (array, None) if axes is None else _slice_shown(array, axes, str(picture.info.get(PNG_AFFINE, "")))


def memory_to_read(path: str | Path) -> int:
    """Bytes that reading and looking at an image takes at most, by its header; 0 of what ``read_image`` refuses.

    Measured, with what numpy, nibabel and Pillow take in passing; ``tests/datasets/test_memory.py`` measures it again.
    """
    path = Path(path)
    if not all(file.is_file() for file in files_of(path)):  # to open a pipe would wait for ever
        return 0
    try:
        with _told_as_image_errors(path):
            if extension(path.name) in VOLUMES:
                header = _header_of(path)[1]
                return _memory_of_volume(header, math.prod(int(n) for n in header.get_data_shape()))
            with Image.open(path, formats=("PNG", "JPEG")) as picture:
                return _memory_of_picture(picture)
    except ImageError:
        return 0


def _memory_of_volume(header: Any, n_voxels: int) -> int:
    """The voxels as they are stored, twice, and as float32 with masks of them; in double precision while they are scaled."""
    scaled = header.get("scl_slope", 1) not in (0, 1) or header.get("scl_inter", 0) != 0
    return n_voxels * (2 * header.get_data_dtype().itemsize + (4 * FLOAT if scaled else FLOAT + 4))


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
    with _told_as_image_errors(path), _intact_picture(path) as picture:
        if (picture.height, picture.width) != size:
            raise ImageError(path, f"{picture.height} x {picture.width} pixels, not {_times(size)}")
        top, left = ((whole - crop) // 2 for whole in size)
        square = picture.convert("RGB").crop((left, top, left + crop, top + crop))
        return np.asarray(square.resize((side, side), Image.Resampling.BILINEAR)).transpose(2, 0, 1)


@contextmanager
def _told_as_image_errors(path: Path) -> Iterator[None]:
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
        SyntaxError,  # Pillow's word for a broken PNG
        OverflowError,
        struct.error,
        ImageFileError,
        HeaderDataError,
        WrapStructError,
        Image.DecompressionBombError,
    ) as error:
        raise ImageError(path, f"unreadable ({str(error).splitlines()[0] if str(error) else type(error).__name__})") from error


def _read_volume(path: Path, data_file: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a volume once its size is known to fit its file and the memory."""
    image: Any
    kind, header = _header_of(path)
    dtype, shape, offset = header.get_data_dtype(), header.get_data_shape(), header.get_data_offset()
    _require_slope(path, header)
    if dtype.kind not in "biuf":
        raise ImageError(path, f"voxels of type {dtype}", "convert it to real numbers")
    if not shape or min(shape) < 1:
        raise ImageError(path, f"a header with the dimensions {_times(shape)}")
    # math.prod, because numpy's product overflows silently on a hostile header.
    n_voxels, size = math.prod(int(n) for n in shape), data_file.stat().st_size
    needed = int(offset) + n_voxels * dtype.itemsize
    packed = data_file.suffix.lower() == ".gz"
    if packed and needed > size * TIGHTEST_DEFLATE:
        raise ImageError(path, f"truncated: the header needs {needed} bytes, which {size} compressed ones cannot hold")
    if not packed and needed > size:
        raise _truncated(path, needed, size)
    if int(offset) > _LARGEST_HEADER or (not packed and size > needed + _LARGEST_HEADER):
        raise ImageError(path, f"a header of {offset:g} bytes and {size} bytes in all, where the voxels take {needed - int(offset)}")
    if is_too_much(_memory_of_volume(header, n_voxels)):
        raise ImageError(path, f"{_times(shape)} voxels, for which this machine has no memory", "resample it to fewer voxels")
    if packed:
        content = _inflate(data_file, needed + _LARGEST_HEADER)
        if needed > len(content):
            raise _truncated(path, needed, len(content))
        image = kind.from_bytes(content)
    else:
        image = nib.load(path)
    with np.errstate(all="ignore"):
        # Values beyond float32 become infinite, which the check reports.
        array = image.get_fdata(dtype=np.float32, caching="unchanged")
    told = bytes(image.header["descrip"])
    if MARK.encode() in told:
        array = _in_unit_range(array, image.header)
    if AS_PICTURE.encode() in told:
        return _picture_in(array, image.affine), None
    return array, image.affine


def _in_unit_range(array: np.ndarray, header: Any) -> np.ndarray:
    """What a synthetic image was written from, which its header says what is white of; those of earlier versions do not say it."""
    white = float(header["cal_max"])
    return array if white in (0, 1) or not math.isfinite(white) else array / np.float32(white)


def _picture_in(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The rows and columns of a picture that was written as a slice of a volume, whichever way that is stored by now."""
    volume = nib.orientations.apply_orientation(array, nib.orientations.io_orientation(affine))
    return np.ascontiguousarray(as_seen(volume.squeeze(volume.shape.index(1))))


def _slice_shown(array: np.ndarray, axes: str, affine: str) -> tuple[np.ndarray, np.ndarray]:
    """The volume of one plane, in RAS, that a picture shows, and its affine, from the texts that the picture has of them."""
    plane = next((plane for plane in PLANES if picture_axes(plane) == axes), None)
    placed = np.array(affine.split(), dtype=float)
    if plane is None or placed.size != 16 or not is_placement(placed.reshape(4, 4)):
        raise ValueError(f"its texts {PNG_AXES} and {PNG_AFFINE} place no slice")
    height, width = array.shape
    space = ImageSpace((width, height), flat_axis=PLANES[plane])
    return np.ascontiguousarray(as_seen(array)).reshape(space.volume_shape), placed.reshape(4, 4) @ np.linalg.inv(space.seen)


def _header_of(path: Path) -> tuple[Any, Any]:
    """The kind of a volume and its header, without the extensions of NIfTI, which can claim any length."""
    files = files_of(path)
    if len(files) > 1:
        if files[0].stat().st_size > _LARGEST_HEADER:
            raise ImageError(path, f"a header of {files[0].stat().st_size} bytes")
        pair: Any = type(nib.load(path))
        # The header of a loaded image no longer has the slope.
        with files[0].open("rb") as stream:
            return pair, pair.header_class(stream.read(pair.header_class.template_dtype.itemsize))
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as stream:
        block = stream.read(_NIFTI_2)
    kind = nib.Nifti2Image if _NIFTI_2 in struct.unpack("<i", block[:4]) + struct.unpack(">i", block[:4]) else nib.Nifti1Image
    header_class = kind.header_class
    return kind, header_class(block[: header_class.template_dtype.itemsize])


def _require_slope(path: Path, header: Any) -> None:
    """Raise an ``ImageError`` if a NIfTI's intensities are scaled by what is no number: nibabel then leaves them as they are stored."""
    if isinstance(header, nib.Nifti1Header) and header["scl_slope"] != 0:
        for name in ("scl_slope", "scl_inter"):
            if not np.isfinite(header[name]):
                what = f"a header whose {name} is {header[name]}, so nobody knows its intensities"
                raise ImageError(path, what, "convert the image again, or set it to what the scanner's file says")


def _inflate(path: Path, most: int) -> bytes:
    """Decompress to the end of the stream, where gzip checks its CRC and length; raise an ``ImageError`` if there are ``most`` bytes."""
    with gzip.open(path) as stream:
        try:
            content = stream.read(most)
        except EOFError as error:
            raise ImageError(path, "truncated: the gzip stream ends early") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise ImageError(path, f"corrupted: {error}") from error
    if len(content) == most:
        raise ImageError(path, f"{most} bytes or more when it is decompressed, where its header tells of fewer")
    return content


@contextmanager
def _intact_picture(path: Path) -> Iterator[Image.Image]:
    """Open a picture, not yet decoded, once what can be seen of it without is sound."""
    with Image.open(path, formats=("PNG", "JPEG")) as picture:
        kind, (width, height) = picture.format, picture.size
        if is_too_much(_memory_of_picture(picture)):
            raise ImageError(path, f"{width} x {height} pixels, for which this machine has no memory", "resample it to fewer pixels")
        if kind == "PNG":
            if width * height > 8 * TIGHTEST_DEFLATE * path.stat().st_size:
                raise ImageError(path, f"truncated: {width} x {height} pixels do not fit the file")
            # Checks the CRC of every chunk, and leaves the picture closed.
            picture.verify()
    if kind == "JPEG":
        content = path.read_bytes()
        if content.rfind(_JPEG_END) < content.rfind(_JPEG_SCAN):
            raise ImageError(path, "truncated: the JPEG has no end")
    with Image.open(path, formats=("PNG", "JPEG")) as picture:
        yield picture


def _truncated(path: Path, needed: int, size: int) -> ImageError:
    return ImageError(path, f"truncated: the header needs {needed} bytes, the file holds {size}")


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)
