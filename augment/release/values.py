"""The numbers in the files of a cohort: of which type they are, and which of them is white. What is 0 in an image is 0 in its file."""

import math
from dataclasses import dataclass

import numpy as np

from ...datasets.common.errors import UsageError

# By type what is white unless another number is asked for: 4095 is that of most scanners, 12 bit.
WHITE = {"float32": 1.0, "uint8": 255.0, "int16": 4095.0}
PNG, OTHERS = "uint8", "float32"  # the type of a format unless another is asked for


@dataclass(frozen=True)
class Values:
    """How images in [0, 1] become numbers in a file.

    Parameters
    ----------
    dtype : {"float32", "uint8", "int16"}
    white : float
        What 1 becomes; 0 stays exactly 0.
    """

    dtype: str = OTHERS
    white: float = WHITE[OTHERS]

    def __post_init__(self) -> None:
        if self.dtype not in WHITE:
            raise UsageError(f"--dtype is {', '.join(WHITE)}, not '{self.dtype}'.")
        most = math.inf if self.dtype == "float32" else np.iinfo(self.dtype).max
        if not (0 < self.white <= most and math.isfinite(self.white)) or (self.dtype != "float32" and self.white != round(self.white)):
            limit = "a number above 0" if self.dtype == "float32" else f"a whole number from 1 to {most}"
            raise UsageError(f"--white of {self.dtype} is {limit}, not {self.white:g}.")

    @classmethod
    def asked(cls, file_format: str, dtype: str | None = None, white: float | None = None) -> "Values":
        """Those of a format, where nothing else is asked for; raise a ``UsageError`` for what it cannot hold."""
        kind = dtype or (PNG if file_format == "png" else OTHERS)
        values = cls(kind, WHITE.get(kind, 1.0) if white is None else white)
        if file_format == "png" and values != cls(PNG, WHITE[PNG]):
            raise UsageError(f"A PNG holds {PNG} from 0 to {WHITE[PNG]:g}; leave out --dtype and --white, or choose --format nifti or npz.")
        return values

    def stored(self, array: np.ndarray) -> np.ndarray:
        """An image in [0, 1] as these numbers, rounded to the nearest."""
        scaled = array.astype(np.float32) * np.float32(self.white)
        return scaled if self.dtype == "float32" else np.rint(scaled).astype(self.dtype)
