"""How the images of a cohort are prepared and written: what a synthetic one tells, so that real images can be brought to the same."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from ...datasets.common.errors import UsageError
from ...datasets.spaces import ImageSpace, to_tuples
from ...datasets.transforms import Preparation
from .values import Values

FileFormat = Literal["nifti", "png"]  # of an image by itself
Format = Literal[FileFormat, "npz"]
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True)
class Form:
    """The form of a cohort's images.

    Parameters
    ----------
    preparation : Preparation
        What was done to the real images that they are learnt from, or are.
    space : ImageSpace
        The grid of all.
    file_format : {"nifti", "png", "npz"}
    values : Values
        The numbers in the files.
    """

    preparation: Preparation
    space: ImageSpace
    file_format: Format
    values: Values

    def __post_init__(self) -> None:
        if self.file_format not in FORMATS:
            raise UsageError(f"--format is nifti, png or npz, not '{self.file_format}'.")

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON, which name nobody and no place on a disk."""
        return {
            "Format": self.file_format,
            "DType": self.values.dtype,
            "White": self.values.white,
            "Preparation": self.preparation.content(),
            "Space": asdict(self.space),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Form":
        """Rebuild what was read; ``LookupError``, ``TypeError``, ``AttributeError``, ``ValueError`` or ``UsageError`` if it is none."""
        space = dict(content["Space"])
        space["shape"] = tuple(space["shape"])
        if space.get("affine") is not None:
            space["affine"] = to_tuples(np.asarray(space["affine"], dtype=float))
        values = Values(str(content["DType"]), float(content["White"]))
        return cls(Preparation.of(content["Preparation"]), ImageSpace(**space), content["Format"], values)


def default_format(space: ImageSpace) -> FileFormat:
    """``nifti`` where the images have a place in the world or are volumes, else ``png``."""
    return "nifti" if space.affine is not None or len(space.shape) == 3 else "png"
