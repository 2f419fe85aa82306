"""What goes with generated images: how many of each class are drawn, and which real ones they are mixed with."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from ...augment.fitting.nearest import nearest_images
from .baselines import balanced_rows
from .choosing import TIMES, chosen
from .method import Generated, Run, TrainingSet
from .mode import Mode

Draw = Callable[[Run, str, int], Generated]  # from a run, a class and a number
COMPARED = 500  # images of a class whose nearest training images are looked for


def mixed(run: Run, source: str, draw: Draw) -> TrainingSet:
    """Images that a source generates, with the real ones that the mode says (``Mode``)."""
    protocols, classes, mode = run.context.config.protocols, run.data.classes, Mode.parse(run.mode)
    images, labels = run.train.images, run.train.labels
    if mode.mixing == "resampled+synthetic":
        rows = balanced_rows(labels.numpy(), np.random.default_rng(run.seed))
        images, labels = images[rows], labels[rows]
    counts = torch.bincount(labels, minlength=len(classes))
    if mode.mixing == "synthetic-only":
        wanted = [mode.n or protocols.n_synthetic] * len(classes)
    else:
        wanted = (round((mode.enlarge or protocols.enlarge) * int(counts.max())) - counts).tolist()
    parts, kinds, notes = [], [], {}
    for index, (label, n) in enumerate(zip(classes, wanted, strict=True)):
        if n == 0:
            continue
        drawn = n if mode.choose is None else TIMES * n
        pixels, told = run.drawn.of(source, label, drawn, partial(draw, run, label, drawn))
        if mode.choose is not None:
            rows = chosen(pixels, n, mode.choose, run, index)
            pixels, told = pixels[rows], {**told, "distinct": len(np.unique(rows))}
        parts.append(pixels)
        kinds.append(torch.full((len(pixels),), index))
        nearest, _ = nearest_images(pixels[:COMPARED], run.train.images[run.train.labels == index])
        notes[label] = {"nearest_median": float(np.median(nearest)), **told}
    if mode.mixing != "synthetic-only":
        parts.append(images)
        kinds.append(labels)
    return TrainingSet(torch.cat(parts), torch.cat(kinds), notes={"generators": notes})
