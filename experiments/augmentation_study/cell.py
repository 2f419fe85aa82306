"""Does a synthetic cohort help a classifier? Table 2 as a study that anyone can repeat on their own data.

Each run draws a split by participant (protocol ``resampled``), fits the generators on its training side, trains one CNN per method, and
scores it on the real test side. Under protocol ``paper`` all runs share one split and one set of generators, and only the CNN's seed
differs: what Table 2 reports, which measures seed noise and so gets no verdict.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...augment.fitting.nearest import nearest_images
from ...classifiers.augmentation import classical
from ...classifiers.covariates import CovariateClassifier
from ...classifiers.network import CNN, load_network
from ...classifiers.performance import scores
from ...classifiers.training import (
    Augmentation,
    ClassifierSettings,
    TrainedClassifier,
    balancing_weights,
    predict_probabilities,
    train_classifier,
)
from ...datasets.splits import Split
from ..engine.generators import check_no_leakage, generator_of
from ..engine.study_folder import read_config, seed_of
from ..engine.study_images import Part, Prepared, stratum
from ..engine.study_settings import classifier_settings_of, on_device
from ..engine.systems import System
from .predictions import keep_predictions
from .protocols import Protocols, split_of_run


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """What a method trains its CNN on: images ``(n, 1, ...)``, labels ``(n,)``, weights of the classes, random changes."""

    images: Tensor
    labels: Tensor
    class_weights: Tensor | None = None
    augmentation: Augmentation | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def run_cell(key: Mapping[str, Any], seed: int, folder: Path, *, device: str = "auto") -> dict[str, Any]:
    """Compute one cell of the grid method x run x mode: train, score, and tell how it came about.

    Parameters
    ----------
    key : mapping
        ``method``, ``run``, and ``mode`` for a method that generates.
    seed : int
        Of this cell.
    folder : Path
        Of the study.
    device : {"auto", "cpu", "gpu"}
        Where networks compute.
    """
    config = on_device(read_config(folder), device)
    protocols = Protocols(**config["protocols"])
    data = Prepared.load(folder, config)
    # What all methods of a run share, its split and its generators, all runs of the paper's protocol do.
    run = key["run"] if protocols.protocol == "resampled" else 0
    split = split_of_run(data.cohort, config, run)
    train, tests = data.side(split, "train"), data.tests(split)
    notes: dict[str, Any]
    history: list[dict[str, float]] = []
    if key["method"] == "covariates":
        classifier = CovariateClassifier.fit(train.table, data.classes)
        probabilities = {name: classifier.predict(part.table) for name, part in tests.items()}
        notes = {"n_train": _counts(train.labels, data.classes)}
    else:
        training = training_set(key["method"], key["mode"], data, split, config, run=run, seed=seed, folder=folder)
        trained = _train(training, data.side(split, "validation"), config, n_classes=len(data.classes), seed=seed)
        probabilities = {name: predict_probabilities(trained.network, part.images).numpy() for name, part in tests.items()}
        notes = training.notes | {"n_train": _counts(training.labels, data.classes), "best_epoch": trained.best_epoch}
        history = [{str(name): round(value, 5) for name, value in record.items()} for record in trained.history.to_dict("records")]
    found = _scored(tests, probabilities, data.classes, protocols.stratum)
    found["predictions"] = keep_predictions(folder, key, tests, probabilities, data.classes)
    return found | {"n_fitted_on": len(train.table), "notes": notes, "history": history}


def _train(training: TrainingSet, validation: Part, config: Mapping[str, Any], *, n_classes: int, seed: int) -> TrainedClassifier:
    return train_classifier(
        training.images,
        training.labels,
        validation.images,
        validation.labels,
        lengthened(classifier_settings_of(config), len(training.images), config["protocols"]["least_steps"]),
        n_classes=n_classes,
        seed=seed,
        class_weights=training.class_weights,
        augmentation=training.augmentation,
        network=load_network(config["network"]) if config.get("network") else CNN,
    )


def _scored(tests: Mapping[str, Part], probabilities: Mapping[str, np.ndarray], classes: Sequence[str], condition: str) -> dict[str, Any]:
    """Scores on every test set, and on its stratum where there is a condition."""
    found: dict[str, Any] = {"scores": {}, "n_test": {}}
    for name, part in tests.items():
        kept = {name: np.ones(len(part.table), dtype=bool)}
        if condition:
            kept[f"{name}, {condition}"] = stratum(part.table, condition)
        for title, rows in kept.items():
            found["scores"][title] = scores(probabilities[name][rows], part.labels.numpy()[rows], classes) if rows.any() else {}
            found["n_test"][title] = int(rows.sum())
    return found


def _counts(labels: Tensor, classes: Sequence[str]) -> dict[str, int]:
    return dict(zip(classes, torch.bincount(labels, minlength=len(classes)).tolist(), strict=True))


def lengthened(settings: ClassifierSettings, n_images: int, least_steps: int) -> ClassifierSettings:
    """The settings with as many epochs as make ``least_steps``, and a patience that grows with them."""
    epochs = max(settings.epochs, math.ceil(least_steps / math.ceil(n_images / settings.batch_size)))
    return replace(settings, epochs=epochs, patience=round(settings.patience * epochs / settings.epochs))


def training_set(
    method: str,
    mode: str,
    data: Prepared,
    split: Split,
    config: Mapping[str, Any],
    *,
    run: int,
    seed: int,
    folder: Path,
) -> TrainingSet:
    """The training set of a method.

    The modes differ in what goes with the generated images. ``resampled+synthetic``: the real ones, resampled to balance, so that every
    class has the same share of generated images. ``real+synthetic``: the real ones as they are; the smaller class is then mostly
    generated, and a CNN can tell the classes by what generated images look like. ``synthetic-only``: nothing (the paper).
    """
    protocols, real = Protocols(**config["protocols"]), data.side(split, "train")
    images, labels = real.images, real.labels
    if method == "original":
        return TrainingSet(images, labels)
    if method == "weighted":
        return TrainingSet(images, labels, class_weights=balancing_weights(labels, len(data.classes)))
    if method in ("resampled", "classical"):
        rows = balanced_rows(labels.numpy(), np.random.default_rng(seed))
        change = classical if method == "classical" else None
        return TrainingSet(images[rows], labels[rows], augmentation=change)
    system = System.parse(method)
    if mode == "resampled+synthetic":
        rows = balanced_rows(labels.numpy(), np.random.default_rng(seed))
        images, labels = images[rows], labels[rows]
    counts = torch.bincount(labels, minlength=len(data.classes))
    target = round(protocols.enlarge * int(counts.max()))
    parts, kinds, notes = [], [], {}
    for index, label in enumerate(data.classes):
        model = generator_of(system, label, data, split, config, run, folder)
        check_no_leakage(model, split, data.external_participants)
        n = protocols.n_synthetic if mode == "synthetic-only" else target - int(counts[index])
        if n == 0:
            continue
        generated = system.draw(model, n, seed=seed_of_samples(config, run, system))
        parts.append(generated.images.pixels)
        kinds.append(torch.full((n,), index))
        nearest, _ = nearest_images(generated.images.pixels[:500], real.images[real.labels == index])
        fit = model.config.diagnostics
        notes[label] = {
            "sampling": generated.diagnostics.as_dict(),
            "nearest_median": float(np.median(nearest)),
            "held_out_decoded_nearest_median": fit["held_out_decoded_nearest_median"],
            "explained_validation": fit["explained_validation"],
        }
    if mode != "synthetic-only":
        parts.append(images)
        kinds.append(labels)
    return TrainingSet(torch.cat(parts), torch.cat(kinds), notes={"generators": notes})


def seed_of_samples(config: Mapping[str, Any], run: int, system: System) -> int:
    """Of the images that a system draws in a run: models with the same sampler share its randomness."""
    return seed_of(config["seed"], {"run": run, "of": "samples", "sampler": system.sampler})


def balanced_rows(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows in which each class occurs as often as the largest: all of its own, whole rounds of repeats, then a random part of one."""
    counts = np.bincount(labels)
    rows = []
    for label in np.flatnonzero(counts):
        own = np.flatnonzero(labels == label)
        rounds, rest = divmod(int(counts.max()), len(own))
        rows += [np.tile(own, rounds), rng.permutation(own)[:rest]]
    return np.concatenate(rows)
