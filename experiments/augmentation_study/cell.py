"""Does a synthetic cohort help a classifier? Table 2 as a study that anyone can repeat on their own data.

Each run draws a split by participant (protocol ``resampled``), fits the generators on its training side, trains one CNN per method, and
scores it on the real test side. Under protocol ``paper`` all runs share one split and one set of generators, and only the CNN's seed
differs: what Table 2 reports, which measures seed noise and so gets no verdict.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ...classifiers.network import NetworkBuilder
from ...classifiers.networks import DEFAULT_NETWORK, network_of
from ...classifiers.performance import choose_threshold, scores
from ...classifiers.training import ClassifierSettings, TrainedClassifier, predict_probabilities, train_classifier
from ...datasets.cohort import Cohort
from ...datasets.common.compute import Device
from ...datasets.common.errors import DataError
from ...datasets.common.files import digest_of
from ...datasets.splits import Split
from ...datasets.together import Pairs, one_name_each
from ..engine.study_config import RunContext
from ..engine.study_folder import seed_of
from ..engine.study_images import Part, Prepared, stratum
from .config import AugmentationConfig
from .generators import split_of_given
from .method import Drawn, Run, TrainingSet
from .methods import method_of
from .predictions import in_stratum, keep_predictions
from .protocols import split_of


def run_cell(key: Mapping[str, Any], seed: int, folder: Path, *, device: Device = "auto") -> dict[str, Any]:
    """Compute one cell of the grid method x run x mode: train, score, and tell how it came about.

    Parameters
    ----------
    key : mapping
        ``method``, ``run``, ``mode``, and ``size`` and ``network`` where the study names some.
    seed : int
        Of this cell.
    folder : Path
        Of the study.
    device : {"auto", "cpu", "gpu"}
        Where networks compute.
    """
    context = RunContext(folder, AugmentationConfig.load(folder), device)
    config = context.config
    # What all methods of a run share, its split and its generators, all runs of the paper's protocol do.
    number, size = key["run"] if config.protocols.protocol == "resampled" else 0, key.get("size")
    data, split, drawn = _shared(context, number, size)
    run = Run(context, data, split, number, key["mode"], seed, size, drawn)
    tests, validation = data.tests(run.split), data.side(run.split, "validation")
    training = method_of(key["method"]).training(run)
    if isinstance(training, TrainingSet):
        trained = _train(training, validation, run, key.get("network", DEFAULT_NETWORK))
        probabilities = {name: predict_probabilities(trained.network, part.images).numpy() for name, part in tests.items()}
        selecting = predict_probabilities(trained.network, validation.images).numpy()
        labels, history = training.labels, trained.history.to_dict("records")
        notes = {**training.notes, "n_train": _counts(labels, data.classes), "best_epoch": trained.best_epoch}
    else:
        probabilities = {name: training.predict(part.table) for name, part in tests.items()}
        selecting = training.predict(validation.table)
        history, notes = [], {"n_train": _counts(run.train.labels, data.classes)}
    threshold = choose_threshold(selecting, validation.labels.numpy())
    found = _scored(tests, probabilities, data.classes, config.protocols.stratum, threshold)
    for side, part in (("train", run.train), ("validation", validation)):
        found["people"][side] = count_people(part.table, part.alike, data.classes)
    found["predictions"] = keep_predictions(folder, key, tests, probabilities, data.classes)
    rounded = [{str(name): round(value, 5) for name, value in record.items()} for record in history]
    return found | {"n_fitted_on": len(run.train.table), "notes": notes, "history": rounded}


@lru_cache(maxsize=1)  # the cells of a run come one after the other
def _shared(context: RunContext[AugmentationConfig], number: int, size: str | None) -> tuple[Prepared, Split, Drawn]:
    data = Prepared.load(context.folder, context.config.data)
    return data, split_of_run(data.cohort, context.config, number, size), Drawn()


def split_of_run(cohort: Cohort, config: AugmentationConfig, run: int, size: str | None = None) -> Split:
    """The split of a run of a study: drawn for it, or that of the generators that were given.

    The sizes of a run share its seed, so that who is learnt from in a small one is so in the larger ones, but for the usual splits.
    """
    given = None if config.generators is None else split_of_given(cohort, config)
    return split_of(cohort, config.protocols, seed_of(config.seed, {"run": run, "of": "split"}), given, size)


def _train(training: TrainingSet, validation: Part, run: Run, network: str) -> TrainedClassifier:
    config = run.context.config
    settings = lengthened(config.classifier, len(training.images), config.protocols.least_steps)
    return train_classifier(
        training.images,
        training.labels,
        (validation.images, validation.labels),
        replace(settings, device=run.context.device),
        n_classes=len(run.data.classes),
        seed=run.seed,
        class_weights=training.class_weights,
        augmentation=training.augmentation,
        network=_network(network, config.where.weights, config.weights),
    )


def require_weights(weights: str | None, digest: str | None) -> None:
    """Raise a ``DataError`` if these are not the weights that a study was started with."""
    if weights is None:
        return
    if not Path(weights).is_file():
        raise DataError(f"There are no weights at {weights}; give the file that the study was started with as --weights.")
    if digest_of(Path(weights)) != digest:
        raise DataError(f"{weights} is not the file of weights that the study was started with; restore it.")


@lru_cache(maxsize=4)
def _network(name: str, weights: str | None, digest: str | None) -> NetworkBuilder:
    require_weights(weights, digest)
    return network_of(name, None if weights is None else Path(weights))


def _scored(
    tests: Mapping[str, Part],
    probabilities: Mapping[str, np.ndarray],
    classes: Sequence[str],
    condition: str,
    threshold: float | None,
) -> dict[str, Any]:
    """Scores on every test set, and on its stratum where there is a condition, with how many are tested."""
    found: dict[str, Any] = {"scores": {}, "n_test": {}, "people": {}}
    for name, part in tests.items():
        kept = {name: np.ones(len(part.table), dtype=bool)}
        if condition:
            kept[in_stratum(name, condition)] = stratum(part.table, condition)
        for title, rows in kept.items():
            said, truth = probabilities[name][rows], part.labels.numpy()[rows]
            found["scores"][title] = scores(said, truth, classes, threshold=threshold) if rows.any() else {}
            found["n_test"][title] = int(rows.sum())
            found["people"][title] = count_people(part.table[rows], part.alike, classes)
    return found


def count_people(table: pd.DataFrame, alike: Pairs, classes: Sequence[str]) -> dict[str, int]:
    """How many people of each class are in a cohort's table, where who may be one person is one."""
    people = table.assign(person=one_name_each(table["participant_id"], alike))
    counts = people.groupby("label")["person"].nunique()
    return {label: int(counts.get(label, 0)) for label in classes}


def _counts(labels: Tensor, classes: Sequence[str]) -> dict[str, int]:
    return dict(zip(classes, torch.bincount(labels, minlength=len(classes)).tolist(), strict=True))


def lengthened(settings: ClassifierSettings, n_images: int, least_steps: int) -> ClassifierSettings:
    """The settings with as many passes an epoch as make ``least_steps``; a fixed length stays what it is.

    With more epochs instead, of few images more of them would be looked at, and the best of these chosen.
    """
    if settings.steps is not None:
        return settings
    passes = math.ceil(least_steps / (settings.epochs * math.ceil(n_images / settings.batch_size)))
    return replace(settings, passes=passes) if passes > 1 else settings
