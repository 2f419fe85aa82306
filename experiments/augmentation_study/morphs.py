"""The method ``morph``: images between two people of a class, in place of the real ones or mixed with them. It fits nothing."""

from typing import Any

import torch
from torch import Tensor

from ...augment.detail.morph import Morph, draw_morphs
from ..engine.study_folder import seed_of
from .method import Run, TrainingSet
from .mixing import mixed


def morphs(run: Run) -> TrainingSet:
    """Morphs of the training side, mixed with real images as a generator's are."""
    return mixed(run, _draw)


def _draw(run: Run, label: str, n: int) -> tuple[Tensor, dict[str, Any]]:
    own = run.train.labels == run.data.classes.index(label)
    generator = torch.Generator().manual_seed(seed_of(run.context.config.seed, {"run": run.number, "of": "morphs", "class": label}))
    people = run.train.table["participant_id"][own.numpy()].tolist()
    return draw_morphs(Morph(), run.train.images[own], people, n, generator).pixels, {}
