"""Files that gzip has packed, strict about damage that nibabel lets pass: only the CRC shows a bit that was flipped."""

import gzip
import zlib
from pathlib import Path

from .damage import ImageError


def inflate(path: Path, most: int, *, skip: int = 0) -> bytes:
    """Decompress to the end of the stream, where gzip checks its CRC and length.

    Parameters
    ----------
    path : Path
    most : int
        Bytes at which nothing more is read.
    skip : int
        Bytes of the file before the stream.

    Raises
    ------
    ImageError
        If the stream is damaged, or there are ``most`` bytes.
    """
    with path.open("rb") as file:
        file.seek(skip)
        with gzip.open(file) as stream:
            try:
                content = stream.read(most)
            except EOFError as error:
                raise ImageError(path, "truncated: the gzip stream ends early") from error
            except (gzip.BadGzipFile, zlib.error) as error:
                raise ImageError(path, f"corrupted: {error}") from error
    if len(content) == most:
        raise ImageError(path, f"{most} bytes or more when it is decompressed, where its header tells of fewer")
    return content
