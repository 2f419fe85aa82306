"""Fitted models in folders: which folders hold one, and all of a folder by class."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from ...datasets.common.errors import DataError
from ...datasets.common.files import hidden_by_a_kill, hidden_within
from ...datasets.sizes import sides_told
from ...datasets.spaces import ImageSpace
from ...datasets.transforms import Preparation
from .model import FittedModel
from .model_config import ModelConfig


def is_model(folder: Path) -> bool:
    """Whether a folder is a model of ours: what ``--force`` may replace."""
    return (folder / "config.json").is_file() and (folder / "model.safetensors").is_file()


def model_folders(folder: Path) -> list[Path]:
    """The model folders in a folder, or the folder itself if it is one.

    Raises
    ------
    DataError
        If a model has lost its name, because a command was killed.
    """
    if hidden := hidden_by_a_kill(folder) or hidden_within(folder):
        raise DataError(f"A model lies in {hidden}, because a command was killed while it replaced it; move it back.")
    if (folder / "config.json").is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob("*/config.json") if not path.parent.name.startswith("."))


def load_models(folder: Path, labels: Sequence[str] = ()) -> dict[str, FittedModel]:
    """The models in a folder of model folders (or the one that is a model folder), by label.

    Raises
    ------
    DataError
        If there is none, or not of each label.
    """
    folders = model_folders(folder)
    if not folders:
        raise DataError(f"There is no fitted model in {folder}; fit one with `augment fit --out {folder}`.")
    models: dict[str, FittedModel] = {}
    for path in folders:
        model = FittedModel.load(path)
        if model.config.label in models:
            raise DataError(f"{folder} holds two models of class {model.config.label}, one in {path}; keep one, or give it as --models.")
        models[model.config.label] = model
    missing = [label for label in labels if label not in models]
    if missing:
        raise DataError(
            f"{folder} has no model of class {', '.join(missing)}, only of {', '.join(models)}; fit it with `augment fit --class`."
        )
    return {label: models[label] for label in (labels or models)}


def require_alike(models: Iterable[ModelConfig], folder: Path) -> None:
    """Raise a ``DataError`` if the images of the models in a folder were not all prepared alike: together they would tell their class."""
    for first, other in pairwise(models):
        if not prepared_alike(first.preparation, first.space, other.preparation, other.space):
            raise DataError(
                f"The models in {folder} are of images that were prepared differently, which gives their class away ({first.label} "
                f"{_difference(first, other)}, {other.label} {_difference(other, first)}); fit them alike."
            )


def _difference(model: ModelConfig, other: ModelConfig) -> str:
    """What of a model's images is otherwise than another's, as options of ``augment fit``."""
    own, its = vars(model.preparation), vars(other.preparation)
    differing = [(name, value) for name, value in own.items() if name != "size" and value != its[name]]
    told = [f"without --{name}" if value is None else f"with --{name} {value}" for name, value in differing]
    if model.space.shape != other.space.shape:
        told.append(f"of {sides_told(model.space.shape, picture=model.space.is_picture)}")
    return " ".join(told) or "in another place"


def prepared_alike(preparation: Preparation, space: ImageSpace, other: Preparation, its_space: ImageSpace) -> bool:
    """Whether images were prepared alike; their size is that of their space, if they were asked for one or not."""
    return space.is_like(its_space) and replace(preparation, size=None) == replace(other, size=None)
