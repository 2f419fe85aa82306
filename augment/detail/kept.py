"""Donors that a model's folder keeps, so that detail can be drawn where the training images are not: they are these people's images."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from ..fitting.model import FittedModel, write_tensors
from ..fitting.model_config import DAMAGES, damaged
from .donors import Donors

FILE = "detail.safetensors"


def keep_donors(donors: Donors, folder: Path) -> None:
    """Write donors into the folder of their model, before it is sealed."""
    write_tensors(folder / FILE, donors.tensors())


def kept_donors(model: FittedModel, folder: Path) -> Donors | None:
    """The donors in a model's folder, ``None`` if it keeps none.

    Raises
    ------
    DataError
        If they are damaged, or another model's.
    """
    if not (folder / FILE).is_file():
        return None
    try:
        return Donors.of_tensors(model, load_file(folder / FILE))
    except (*DAMAGES, SafetensorError) as error:
        raise damaged(folder, error) from error
