"""Fitted models in folders: which folders hold one, and all of a folder by class."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ...datasets.common.errors import DataError
from ...datasets.common.files import hidden_by_a_kill, hidden_within
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
    (preparation, space), *others = ((model.preparation, model.space) for model in models)
    if not all(prepared_alike(preparation, space, *other) for other in others):
        raise DataError(
            f"The models in {folder} are of images of different sizes, places or scaling, which gives their class away; fit them alike."
        )


def prepared_alike(preparation: Preparation, space: ImageSpace, other: Preparation, its_space: ImageSpace) -> bool:
    """Whether images were prepared alike; their size is that of their space, if they were asked for one or not."""
    return space.is_like(its_space) and replace(preparation, size=None) == replace(other, size=None)
