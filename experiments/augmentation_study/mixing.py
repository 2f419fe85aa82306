"""What goes with generated images: how many of each class are drawn, and which real ones they are mixed with."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...augment.fitting.nearest import nearest_images
from .baselines import balanced_rows
from .method import Run, TrainingSet

Draw = Callable[[Run, str, int], tuple[Tensor, dict[str, Any]]]  # from a run, a class and a number to images, and notes on them
COMPARED = 500  # images of a class whose nearest training images are looked for


def mixed(run: Run, draw: Draw) -> TrainingSet:
    """Generated images, with the real ones that the mode says.

    ``resampled+synthetic``: resampled to balance, so that every class has the same share of generated images. ``real+synthetic``: as they
    are; the smaller class is then mostly generated, and a CNN can tell the classes by what generated images look like.
    ``synthetic-only``: none (the paper).
    """
    protocols, classes = run.context.config.protocols, run.data.classes
    images, labels = run.train.images, run.train.labels
    if run.mode == "resampled+synthetic":
        rows = balanced_rows(labels.numpy(), np.random.default_rng(run.seed))
        images, labels = images[rows], labels[rows]
    counts = torch.bincount(labels, minlength=len(classes))
    target = round(protocols.enlarge * int(counts.max()))
    parts, kinds, notes = [], [], {}
    for index, label in enumerate(classes):
        n = protocols.n_synthetic if run.mode == "synthetic-only" else target - int(counts[index])
        if n == 0:
            continue
        pixels, told = draw(run, label, n)
        parts.append(pixels)
        kinds.append(torch.full((n,), index))
        nearest, _ = nearest_images(pixels[:COMPARED], run.train.images[run.train.labels == index])
        notes[label] = {"nearest_median": float(np.median(nearest)), **told}
    if run.mode != "synthetic-only":
        parts.append(images)
        kinds.append(labels)
    return TrainingSet(torch.cat(parts), torch.cat(kinds), notes={"generators": notes})
