"""What lies in folders that we have written: models, and synthetic cohorts."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...datasets.common.errors import DataError
from ...datasets.common.files import expanded
from ...datasets.common.untrusted import read_json
from ...datasets.layouts.benchmarks import PUBLICATIONS
from ...datasets.readers import NAMES, Source
from ..fitting.model import FittedModel


def is_model(folder: Path) -> bool:
    """Whether a folder is a model of ours: what ``--force`` may replace."""
    return (folder / "config.json").is_file() and (folder / "model.safetensors").is_file()


def model_folders(folder: Path) -> list[Path]:
    """The model folders in a folder, or the folder itself if it is one."""
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


def source_of(path: str, like: Source) -> Source:
    """How a cohort beside another is read: alike, but for one of ours, which has our columns and names whatever the other has."""
    if path not in NAMES and _description_of_ours(expanded(path)):
        return Source(path)
    # A root is of the benchmark among them.
    return replace(like, data=path, root=like.root if path in PUBLICATIONS else None)


def drawn_from(path: str) -> list[dict[str, Any]]:
    """What a synthetic cohort of ours says of each model that it was drawn from: its digest, and those of its participants, split and data.

    Of anything else, nothing.
    """
    classes = _description_of_ours(expanded(path)).get("Classes", {})
    parts = list(classes.values()) if isinstance(classes, dict) else []
    return [part for part in parts if isinstance(part, dict) and all(part.get(name) for name in ("participants", "split", "data"))]


def is_synthetic(folder: Path) -> bool:
    """Whether a folder is a synthetic cohort of ours: what ``--force`` may replace."""
    return folder.is_dir() and bool(_description_of_ours(folder))


def _description_of_ours(place: Path) -> dict[str, Any]:
    """The description of a synthetic cohort that we have written, by its folder or a file in it; of anything else, an empty one."""
    folder = place if place.is_dir() else place.parent
    try:
        content = read_json(folder / "dataset_description.json")
        return content if content["Synthetic"] is True and content["GeneratedBy"][0]["Name"] == "tinycohort" else {}
    except (OSError, ValueError, LookupError, TypeError):
        return {}
