"""Where the repository lies, and what a command has left in a folder."""

from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file

from tinycohort.experiments.engine.study_folder import all_runs

ROOT = Path(__file__).parents[2]  # of the repository


def tree(folder: Path) -> dict[str, bytes]:
    """The content of every file, and the folders, which have none."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


def visible(folder: Path) -> list[str]:
    """The names in a folder without what is being written; none where there is no folder."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []


def assert_same_model(one: Path, other: Path) -> None:
    """The same weights, codes and metric, to the bit, and the same history."""
    for file in ("model.safetensors", "latents.safetensors", "metric.safetensors"):
        a, b = load_file(one / file), load_file(other / file)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a), file
    assert (one / "history.csv").read_bytes() == (other / "history.csv").read_bytes()


def results_of(folder: Path) -> pd.DataFrame:
    """A study's results, a row a run; a dict in one as ``name.inner``."""
    return pd.json_normalize([run["key"] | run["result"] for run in all_runs(folder)])
