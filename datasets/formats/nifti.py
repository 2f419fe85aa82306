"""Volumes that nibabel reads: NIfTI, Analyze and FreeSurfer's MGH, once their sizes fit their files."""

import gzip
import math
import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ..common.machine import FLOAT, is_too_much
from ..common.words import times
from ..spaces import as_seen
from .compressed import inflate
from .damage import LARGEST_HEADER, TIGHTEST_DEFLATE, ImageError, too_large, truncated

EXTENSIONS = (".nii", ".nii.gz", ".hdr", ".img", ".mgz", ".mgh")
MARK = "synthetic image, tinycohort"  # of every synthetic image; in NIfTI headers, whose description holds 79 bytes
REAL = "real image, tinycohort"  # of a real one that was brought to the form of synthetic ones
AS_PICTURE = "tinycohort, as a picture"  # the end of either, of a NIfTI that was a picture: it is read as these are
_NIFTI_2 = 540  # bytes of the header of NIfTI-2; that of NIfTI-1 has 348
_PACKED, _FREESURFER = (".gz", ".mgz"), (".mgz", ".mgh")


def read(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a volume once its size is known to fit its file and the memory."""
    image: Any
    data_file = files_of(path)[-1]
    kind, header = _header_of(path)
    dtype, shape, offset = header.get_data_dtype(), header.get_data_shape(), header.get_data_offset()
    _require_slope(path, header)
    if dtype.kind not in "biuf":
        raise ImageError(path, f"voxels of type {dtype}", "convert it to real numbers")
    if not shape or min(shape) < 1:
        raise ImageError(path, f"a header with the dimensions {times(shape)}")
    # math.prod, because numpy's product overflows silently on a hostile header.
    n_voxels, size = math.prod(int(n) for n in shape), data_file.stat().st_size
    needed = int(offset) + n_voxels * dtype.itemsize
    packed = data_file.suffix.lower() in _PACKED
    if packed and needed > size * TIGHTEST_DEFLATE:
        raise ImageError(path, f"truncated: the header needs {needed} bytes, which {size} compressed ones cannot hold")
    if not packed and needed > size:
        raise truncated(path, needed, size)
    if int(offset) > LARGEST_HEADER or (not packed and size > needed + LARGEST_HEADER):
        raise ImageError(path, f"a header of {offset:g} bytes and {size} bytes in all, where the voxels take {needed - int(offset)}")
    if is_too_much(_memory_of_volume(header, n_voxels)):
        raise too_large(path, shape)
    if packed:
        content = inflate(data_file, needed + LARGEST_HEADER)
        if needed > len(content):
            raise truncated(path, needed, len(content))
        image = kind.from_bytes(content)
    else:
        image = nib.load(path)
    with np.errstate(all="ignore"):
        # Values beyond float32 become infinite, which the check reports.
        array = image.get_fdata(dtype=np.float32, caching="unchanged")
    if is_marked(image.header):
        array = _in_unit_range(array, image.header)
    if is_marked(image.header, AS_PICTURE):
        return _picture_in(array, image.affine), None
    return array, image.affine


def memory(path: Path) -> int:
    """Bytes that reading and looking at a volume takes at most, by its header."""
    header = _header_of(path)[1]
    return _memory_of_volume(header, math.prod(int(n) for n in header.get_data_shape()))


def _in_unit_range(array: np.ndarray, header: Any) -> np.ndarray:
    """What a synthetic image was written from, which its header says what is white of; those of earlier versions do not say it."""
    white = float(header["cal_max"])
    return array if white in (0, 1) or not math.isfinite(white) else array / np.float32(white)


def is_marked(header: Any, mark: str = MARK) -> bool:
    """Whether a header describes the image by a mark."""
    return "descrip" in header and mark.encode() in bytes(header["descrip"])


def files_of(path: Path) -> list[Path]:
    """The files of a volume: two of a pair, its header first, and else the one."""
    if path.suffix.lower() not in (".hdr", ".img"):
        return [path]
    # The names of both are in small letters, or in capitals.
    return [path.with_suffix(kind.upper() if path.suffix.isupper() else kind) for kind in (".hdr", ".img")]


def _memory_of_volume(header: Any, n_voxels: int) -> int:
    """The voxels as they are stored, twice, and as float32 with masks of them; in double precision while they are scaled."""
    scaled = header.get("scl_slope", 1) not in (0, 1) or header.get("scl_inter", 0) != 0
    return n_voxels * (2 * header.get_data_dtype().itemsize + (4 * FLOAT if scaled else FLOAT + 4))


def _picture_in(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The rows and columns of a picture that was written as a slice of a volume, whichever way that is stored by now."""
    volume = nib.orientations.apply_orientation(array, nib.orientations.io_orientation(affine))
    return np.ascontiguousarray(as_seen(volume.squeeze(volume.shape.index(1))))


def _header_of(path: Path) -> tuple[Any, Any]:
    """The kind of a volume and its header, without the extensions of NIfTI, which can claim any length."""
    files = files_of(path)
    if len(files) > 1:
        if files[0].stat().st_size > LARGEST_HEADER:
            raise ImageError(path, f"a header of {files[0].stat().st_size} bytes")
        pair: Any = type(nib.load(path))
        # The header of a loaded image no longer has the slope.
        with files[0].open("rb") as stream:
            return pair, pair.header_class(stream.read(pair.header_class.template_dtype.itemsize))
    with gzip.open(path) if path.suffix.lower() in _PACKED else path.open("rb") as stream:
        block = stream.read(_NIFTI_2)
    if path.suffix.lower() in _FREESURFER:
        mgh: Any = nib.MGHImage
        return mgh, mgh.header_class(block[: mgh.header_class.template_dtype.itemsize])
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
