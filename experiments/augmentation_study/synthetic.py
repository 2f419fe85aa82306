"""The method ``model:sampler``: images that are generated class by class, in place of the real ones or mixed with them."""

from typing import Any

import numpy as np
import torch

from ...augment.fitting.nearest import nearest_images
from ...augment.release.generation import Generated
from ..engine.study_folder import seed_of
from ..engine.systems import System
from .baselines import balanced_rows
from .generators import check_no_leakage, generator_of
from .method import Method, Run, TrainingSet

GENERATED = "images of a generator of each class, mixed with real ones as --mode says (`augment models` lists models and samplers)"
COMPARED = 500  # images of a class whose nearest training images are looked for


def synthetic(system: System) -> Method:
    """The method of a system."""
    return Method(GENERATED, lambda run: _training(system, run), generates=True, system=system)


def seed_of_samples(seed: int, run: int, system: System) -> int:
    """Of the images that a system draws in a run of a study of this ``seed``: models with the same sampler share its randomness."""
    return seed_of(seed, {"run": run, "of": "samples", "sampler": system.sampler})


def _training(system: System, run: Run) -> TrainingSet:
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
        model = generator_of(system, label, run)
        check_no_leakage(model, run.split, run.data.external_participants)
        n = protocols.n_synthetic if run.mode == "synthetic-only" else target - int(counts[index])
        if n == 0:
            continue
        generated = system.draw(model, n, seed=seed_of_samples(run.context.config.seed, run.number, system))
        parts.append(generated.images.pixels)
        kinds.append(torch.full((n,), index))
        notes[label] = _notes(generated, run.train.images[run.train.labels == index], model.config.diagnostics)
    if run.mode != "synthetic-only":
        parts.append(images)
        kinds.append(labels)
    return TrainingSet(torch.cat(parts), torch.cat(kinds), notes={"generators": notes})


def _notes(generated: Generated, real: torch.Tensor, fit: dict[str, Any]) -> dict[str, Any]:
    """What the sampler tells, how the fit went, and how close the images come to training images beside what held-out ones do."""
    nearest, _ = nearest_images(generated.images.pixels[:COMPARED], real)
    return {
        "sampling": generated.diagnostics.as_dict(),
        "nearest_median": float(np.median(nearest)),
        "held_out_decoded_nearest_median": fit["held_out_decoded_nearest_median"],
        "explained_validation": fit["explained_validation"],
    }
