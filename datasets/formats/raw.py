"""Voxels as they lie in a file after a header of text, as in NRRD and MetaImage: plain, or packed by zlib or gzip."""

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..common.machine import FLOAT, is_too_much
from .compressed import inflate
from .damage import LARGEST_HEADER, TIGHTEST_DEFLATE, ImageError, too_large, truncated

_LONGEST_HEADER = 2**20  # bytes of a header of text
LONGEST_NAME = 255  # bytes of a file's, of which no file system has more


@dataclass(frozen=True)
class Raw:
    """What a header tells of its voxels.

    Parameters
    ----------
    file : Path
        Where they lie.
    dtype : numpy.dtype
        Of a voxel, its byte order included.
    shape : tuple of int
        The fastest side first.
    affine : numpy.ndarray, optional
        ``4 x 4``, from indices in this order to mm in RAS; ``None`` of a picture.
    offset : int
        Bytes of the file before them.
    packing : {"", "gzip", "zlib"}
    """

    file: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    affine: np.ndarray | None
    offset: int = 0
    packing: str = ""

    @property
    def memory(self) -> int:
        """Bytes that reading and looking at them takes at most."""
        return math.prod(self.shape) * (2 * self.dtype.itemsize + FLOAT + 4)

    def read(self, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
        """The image, float32 and its affine; two sides are a picture, whose columns are the fastest.

        Raises
        ------
        ImageError
            If the file, whose header is ``path``, does not hold them, or the machine has no memory for them.
        """
        needed, size = math.prod(self.shape) * self.dtype.itemsize, self.file.stat().st_size - self.offset
        if self.packing and needed > size * TIGHTEST_DEFLATE:
            raise ImageError(path, f"truncated: the header needs {needed} bytes, which {size} compressed ones cannot hold")
        if not self.packing and not needed <= size <= needed + LARGEST_HEADER:
            raise truncated(path, needed, size)
        if is_too_much(self.memory):
            raise too_large(path, self.shape)
        content = self._content(needed)
        if len(content) < needed:
            raise truncated(path, needed, len(content))
        with np.errstate(all="ignore"):
            array = np.frombuffer(content, self.dtype, math.prod(self.shape)).reshape(self.shape, order="F").astype(np.float32)
        return (np.ascontiguousarray(array.T), None) if len(self.shape) == 2 else (array, self.affine)

    def _content(self, needed: int) -> bytes:
        if self.packing == "gzip":
            return inflate(self.file, needed + LARGEST_HEADER, skip=self.offset)
        with self.file.open("rb") as file:
            file.seek(self.offset)
            if not self.packing:
                return file.read(needed)
            stream = zlib.decompressobj()
            try:
                content = stream.decompress(file.read(), needed)
                # What ends the stream is its checksum, which is reached by asking for more.
                content += stream.decompress(stream.unconsumed_tail, 1)
            except zlib.error as error:
                raise ImageError(self.file, f"corrupted: {error}") from error
        if not stream.eof or len(content) > needed:
            raise ImageError(self.file, f"{len(content)} bytes or more when it is decompressed, where its header tells of {needed}")
        return content


def text_before(path: Path, ends: Iterable[bytes]) -> tuple[str, int]:
    """The header of text at the start of a file, up to and with the first line that an ``ends`` ends, and its length.

    Raises
    ------
    ImageError
        If there is no such line in a megabyte.
    """
    with path.open("rb") as file:
        block = file.read(_LONGEST_HEADER)
    found = [(place + len(end), end) for end in ends if (place := block.find(end)) >= 0]
    if not found:
        raise ImageError(path, "a header without an end")
    length = min(found)[0]
    return block[:length].decode("latin-1"), length


def beside(path: Path, name: str) -> Path:
    """The file that a detached header names; raise an ``ImageError`` if it lies in another folder, or can be no file's name."""
    if len(name.encode(errors="surrogatepass")) > LONGEST_NAME:
        raise ImageError(
            path, f"its voxels lie in a file with a name of {len(name)} characters (its header is damaged)", "convert it again"
        )
    if Path(name).name != name or name in ("", ".", "..") or "\\" in name or "\0" in name:
        raise ImageError(path, f"its voxels lie in '{name}'", "put that file beside the header, and its bare name into it")
    return path.with_name(name)
