"""NRRD: a header of text, and voxels behind it (``.nrrd``) or in a file beside it (``.nhdr``).

The format's definition: https://teem.sourceforge.net/nrrd/format.html. Where a header names no space, voxels lie as ITK takes them: LPS.
"""

import re
from pathlib import Path

import numpy as np

from ..spaces import is_placement
from .damage import ImageError
from .raw import Raw, beside, text_before
from .world import from_lps

EXTENSIONS = (".nrrd", ".nhdr")
CONVERT = "write it anew with the encoding gzip, as `unu save -f nrrd -e gzip -i IN -o OUT.nrrd` does"
_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
_PACKINGS = {"raw": "", "gz": "gzip", "gzip": "gzip"}
# From each space to RAS.
_SPACES = {
    **dict.fromkeys(("right-anterior-superior", "ras"), np.eye(4)),
    **dict.fromkeys(("left-anterior-superior", "las"), np.diag([-1.0, 1, 1, 1])),
    **dict.fromkeys(("left-posterior-superior", "lps", ""), from_lps(np.eye(4))),
}
_VECTOR = re.compile(r"\([^()]*\)|none")


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
    sizes = tuple(int(size) for size in fields.get("sizes", "").split())
    kind, packing = _TYPES.get(fields.get("type", "")), _PACKINGS.get(fields.get("encoding", "").lower())
    if kind is None:
        raise ImageError(path, f"voxels of type '{fields.get('type', '')}'", "convert it to real numbers")
    if packing is None:
        raise ImageError(path, f"the encoding '{fields.get('encoding', '')}'", CONVERT)
    if any(name in fields for name in ("line skip", "lineskip")) or int(fields.get("byte skip", fields.get("byteskip", 0))) < 0:
        raise ImageError(path, "voxels after lines that are to be skipped", CONVERT)
    if len(sizes) not in (2, 3) or min(sizes) < 1 or str(len(sizes)) != fields.get("dimension"):
        what = f"{fields.get('dimension', 'no')} axes of the sizes '{fields.get('sizes', '')}'"
        raise ImageError(path, what, "give one plane or one volume per file, in grey")
    order = ">" if fields.get("endian", "little").lower() == "big" else "<"
    data = fields.get("data file", fields.get("datafile"))
    file, offset = (path, length) if data is None else (beside(path, data), 0)
    offset += int(fields.get("byte skip", fields.get("byteskip", 0)))
    return Raw(file, np.dtype(f"{order}{kind}"), sizes, None if len(sizes) == 2 else _affine(path, fields), offset, packing)


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """The fields by name, and how many bytes the header has; a detached one ends with its file."""
    with path.open("rb") as file:
        magic = file.read(7)
    if magic != b"NRRD000":
        raise ImageError(path, "no NRRD file: its first bytes are others")
    if path.suffix.lower() == ".nhdr" and path.stat().st_size < 2**20:
        text, length = path.read_bytes().decode("latin-1"), path.stat().st_size
    else:
        text, length = text_before(path, (b"\n\n", b"\r\n\r\n"))
    lines = [line.partition(": ") for line in text.splitlines()[1:] if line and not line.startswith("#") and ":=" not in line]
    return {name.strip().lower(): value.strip() for name, colon, value in lines if colon}, length


def _affine(path: Path, fields: dict[str, str]) -> np.ndarray:
    """From indices to mm in RAS."""
    space = fields.get("space", "").lower()
    if space not in _SPACES:
        raise ImageError(path, f"the space '{space}'", "write it in right-anterior-superior or left-posterior-superior")
    affine = np.eye(4)
    if "space directions" in fields:
        vectors = _VECTOR.findall(fields["space directions"].lower())
        if len(vectors) != 3 or "none" in vectors:
            raise ImageError(path, "an axis without a direction, as of colours", "give one volume per file, in grey")
        affine[:3, :3] = np.column_stack([_vector(vector) for vector in vectors])
    elif "spacings" in fields:
        affine[:3, :3] = np.diag([float(step) for step in fields["spacings"].split()])
    if "space origin" in fields:
        affine[:3, 3] = _vector(fields["space origin"])
    with np.errstate(all="ignore"):  # that they are no numbers is told below
        placed = _SPACES[space] @ affine
    if not is_placement(placed):
        raise ImageError(path, "directions that place no voxels (its header is damaged)", "convert the image again")
    return placed


def _vector(text: str) -> list[float]:
    return [float(number) for number in text.strip("() ").split(",")]
