"""MetaImage: a header of text, and voxels behind it (``.mha``) or in a file beside it (``.mhd``), as ITK writes them.

The format's definition: https://itk.org/Wiki/MetaIO/Documentation. Voxels lie in ITK's world, LPS; ``AnatomicalOrientation`` says no more
than the matrix, and ITK itself does not read it.
"""

from pathlib import Path

import numpy as np

from ..spaces import is_placement
from .damage import ImageError
from .raw import Raw, beside, text_before
from .world import from_lps

EXTENSIONS = (".mha", ".mhd")
_TYPES = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4"},
    **{"MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
_CONVERT = "write it anew, as SimpleITK.WriteImage does"
_LAST = "ElementDataFile"  # the field that ends a header


def read(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a volume, or a picture of two axes."""
    return _header(path).read(path)


def memory(path: Path) -> int:
    """Bytes that reading and looking at an image takes at most, by its header."""
    return _header(path).memory


def files_of(path: Path) -> list[Path]:
    """The header, and the file beside it that holds the voxels."""
    return list(dict.fromkeys([path, _header(path).file]))


def _header(path: Path) -> Raw:
    fields, length = _fields(path)
    sizes = tuple(int(size) for size in fields.get("DimSize", "").split())
    kind, channels = fields.get("ElementType", ""), fields.get("ElementNumberOfChannels", "1")
    if kind not in _TYPES or not _is_true(fields.get("BinaryData", "True")):
        raise ImageError(path, f"voxels of type '{kind}', or written as text", _CONVERT)
    if len(sizes) not in (2, 3) or min(sizes) < 1 or str(len(sizes)) != fields.get("NDims") or channels != "1":
        what = f"{fields.get('NDims', 'no')} axes of the sizes '{fields.get('DimSize', '')}' with {channels} channels"
        raise ImageError(path, what, "give one plane or one volume per file, in grey")
    if fields.get("HeaderSize", "0") != "0":
        raise ImageError(path, "voxels after a header of their own", _CONVERT)
    order = ">" if _is_true(fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))) else "<"
    packing = "zlib" if _is_true(fields.get("CompressedData", "False")) else ""
    file, offset = (path, length) if fields[_LAST] in ("LOCAL", "local") else (beside(path, fields[_LAST]), 0)
    return Raw(file, np.dtype(f"{order}{_TYPES[kind]}"), sizes, None if len(sizes) == 2 else _affine(path, fields), offset, packing)


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """The fields by name, and how many bytes the header has: up to the end of the line that says where the voxels are."""
    start, n_before = text_before(path, (f"{_LAST} =".encode(), f"{_LAST}=".encode()))
    with path.open("rb") as file:
        file.seek(n_before)
        last = file.readline(1024)
    text = start + last.decode("latin-1")
    lines = [line.partition("=") for line in text.splitlines()]
    return {name.strip(): value.strip() for name, equals, value in lines if equals}, n_before + len(last)


def _affine(path: Path, fields: dict[str, str]) -> np.ndarray:
    """From indices to mm in RAS; the matrix has the direction of an axis in each line."""
    steps = _numbers(fields.get("ElementSpacing", fields.get("ElementSize", "1 1 1")))
    origin = _numbers(next((fields[name] for name in ("Offset", "Position", "Origin") if name in fields), "0 0 0"))
    matrix = next((fields[name] for name in ("TransformMatrix", "Rotation", "Orientation") if name in fields), "1 0 0 0 1 0 0 0 1")
    affine = np.eye(4)
    with np.errstate(all="ignore"):  # that they are no numbers is told below
        affine[:3, :3] = _numbers(matrix).reshape(3, 3).T * steps
    affine[:3, 3] = origin
    if not is_placement(affine):
        raise ImageError(path, "directions that place no voxels (its header is damaged)", "convert the image again")
    return from_lps(affine)


def _numbers(text: str) -> np.ndarray:
    return np.array([float(number) for number in text.split()])


def _is_true(text: str) -> bool:
    return text.lower() in ("true", "1", "t")
