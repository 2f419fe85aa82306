"""Does a synthetic cohort help a classifier? Table 2 as a study that anyone can repeat on their own data.

Each run draws a split by participant (protocol ``resampled``), fits the generators on its training side, trains one CNN per method, and
scores it on the real test side. Under protocol ``paper`` all runs share one split and one set of generators, and only the CNN's seed
differs: what Table 2 reports, which measures seed noise and so gets no verdict.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..augment.autoencoders import AUTOENCODERS
from ..augment.fitting import FitSettings
from ..augment.nearest import nearest_images
from ..augment.samplers import SAMPLERS
from ..classifiers.augmentation import classical
from ..classifiers.covariates import CovariateClassifier
from ..classifiers.network import CNN, load_network
from ..classifiers.scores import scores
from ..classifiers.training import Augmentation, ClassifierSettings, balancing_weights, predict_probabilities, train_classifier
from ..datasets.cohort import Cohort
from ..datasets.errors import UsageError
from ..datasets.splits import Split, sides_of_rows, split_cohort
from ..datasets.subsets import LEFT_OUT
from .generators import check_no_leakage, generator_of, split_of_given
from .prepared import TEST, Prepared, stratum, without_places
from .study import read_config, seed_of
from .systems import System

BASELINES = ("original", "resampled", "weighted", "classical", "covariates")
REAL = "real"  # the mode of a method that generates nothing
DEFAULT_METHODS = ("original", "resampled", "weighted", "classical", "vae:posterior", "vae:riemannian")

Mode = Literal["resampled+synthetic", "real+synthetic", "synthetic-only"]
MODES: tuple[Mode, ...] = get_args(Mode)
DEFAULT_MODE: Mode = "resampled+synthetic"
Protocol = Literal["resampled", "paper"]


@dataclass(frozen=True)
class Protocols:
    """What is compared, and how.

    Parameters
    ----------
    protocol : {"resampled", "paper"}
        A new split and new generators in every run, or one of each for all runs.
    n_synthetic : int
        Images per class of ``synthetic-only`` (the paper: 2,000).
    enlarge : float
        Where real images are part, each class gets this many times the images of the largest class of the real training set.
    limit : dict
        From class to how many of its training participants are kept; validation and test are left alone.
    least_steps : int
        Every CNN gets at least so many optimisation steps, by more epochs where its training set is small: the paper's 50 epochs are 100
        steps on 200 real images and 1,000 on 4,000 synthetic ones, and a comparison of the two would reward the longer training. 0 for
        the paper's way.
    stratum : str
        Also score the test participants for whom this holds, such as ``age>=60``; empty for none.
    external_only : True or None
        Test on the external cohort alone: who would be on the test side is trained on. ``None`` is no, because a configuration leaves it
        out: studies from before there was a choice stay what they are.
    """

    protocol: Protocol = "resampled"
    n_synthetic: int = 2000
    enlarge: float = 2.0
    limit: dict[str, int] = field(default_factory=dict)
    least_steps: int = 1000
    stratum: str = ""
    external_only: Literal[True] | None = None

    def __post_init__(self) -> None:
        if self.protocol not in ("resampled", "paper"):
            raise UsageError(f"--protocol is resampled or paper, not '{self.protocol}'.")
        if self.external_only not in (None, True):
            raise UsageError(f"external_only is true or is left out, not {self.external_only}.")
        if self.n_synthetic < 1 or not 1 <= self.enlarge < math.inf or min(self.limit.values(), default=1) < 1:
            raise UsageError("A study needs at least 1 synthetic image, 1 participant in each limit, and may not shrink the training set.")


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """What a method trains its CNN on: images ``(n, 1, ...)``, labels ``(n,)``, weights of the classes, random changes."""

    images: Tensor
    labels: Tensor
    class_weights: Tensor | None = None
    augmentation: Augmentation | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def check_method(method: str) -> None:
    """Raise a ``UsageError`` if there is no such method."""
    if method in BASELINES:
        return
    if ":" not in method:
        raise UsageError(
            f"There is no method '{method}'; choose of {', '.join(BASELINES)}, or model:sampler with a model of "
            f"{', '.join(AUTOENCODERS)} and a sampler of {', '.join(SAMPLERS)}."
        )
    System.parse(method)


def run_cell(key: Mapping[str, Any], seed: int, folder: Path) -> dict[str, Any]:
    """Compute one cell of the grid method x run x mode: train, score, and tell how it came about.

    Parameters
    ----------
    key : mapping
        ``method``, ``run``, and ``mode`` for a method that generates.
    seed : int
        Of this cell.
    folder : Path
        Of the study.
    """
    config = read_config(folder)
    protocols = Protocols(**config["protocols"])
    data = Prepared.load(folder, config)
    shared = {"run": key["run"] if protocols.protocol == "resampled" else 0}
    split = split_of_run(data.cohort, config, shared["run"])
    sides = {name: data.side(split, name) for name in ("train", "validation")}
    method, classes = key["method"], data.classes
    if method == "covariates":
        classifier = CovariateClassifier.fit(sides["train"].table, classes)
        probabilities = {name: classifier.predict(part.table) for name, part in data.tests(split).items()}
        notes: dict[str, Any] = {"n_train": {label: int((sides["train"].table["label"] == label).sum()) for label in classes}}
        history: list[dict[str, float]] = []
    else:
        training = training_set(method, key.get("mode", ""), data, split, protocols, config, shared, seed, folder)
        settings = lengthened(ClassifierSettings(**config["classifier"]), len(training.images), protocols.least_steps)
        network = load_network(config["network"]) if config.get("network") else CNN
        trained = train_classifier(
            training.images,
            training.labels,
            sides["validation"].images,
            sides["validation"].labels,
            settings,
            n_classes=len(classes),
            seed=seed,
            class_weights=training.class_weights,
            augmentation=training.augmentation,
            network=network,
        )
        probabilities = {name: predict_probabilities(trained.network, part.images) for name, part in data.tests(split).items()}
        history = [{str(name): round(value, 5) for name, value in record.items()} for record in trained.history.to_dict("records")]
        counts = torch.bincount(training.labels, minlength=len(classes)).tolist()
        notes = training.notes | {"n_train": dict(zip(classes, counts, strict=True)), "best_epoch": trained.best_epoch}
    result: dict[str, Any] = {"scores": {}, "n_test": {}, "predictions": {}}
    for name, part in data.tests(split).items():
        kept = {name: np.ones(len(part.table), dtype=bool)}
        if protocols.stratum:
            kept[f"{name}, {protocols.stratum}"] = stratum(part.table, protocols.stratum)
        for title, rows in kept.items():
            result["scores"][title] = scores(probabilities[name][rows], part.labels.numpy()[rows], classes) if rows.any() else {}
            result["n_test"][title] = int(rows.sum())
        result["predictions"][name] = {
            str(image): [round(float(value), 4) for value in row]
            for image, row in zip(part.table["image_id"], probabilities[name], strict=True)
        }
    return result | {"n_fitted_on": len(sides["train"].table), "notes": notes, "history": history}


def lengthened(settings: ClassifierSettings, n_images: int, least_steps: int) -> ClassifierSettings:
    """The settings with as many epochs as make ``least_steps``, and a patience that grows with them."""
    epochs = max(settings.epochs, math.ceil(least_steps / math.ceil(n_images / settings.batch_size)))
    return replace(settings, epochs=epochs, patience=round(settings.patience * epochs / settings.epochs))


def require_splits(cohort: Cohort, protocols: Protocols) -> None:
    """Raise a ``UsageError`` if runs shall have new splits, and the cohort has official sides.

    A new split would train on the published test side. With one split for all, runs tell of the seeds alone: that is the paper's protocol,
    and it gives no verdict.
    """
    if protocols.protocol == "resampled" and sides_of_rows(cohort) is not None:
        raise UsageError(f"{cohort.name} has official sides, so no run may have a split of its own; give --protocol paper (no verdict).")


def split_of_run(cohort: Cohort, config: Mapping[str, Any], run: int) -> Split:
    """The split of a run of a study: drawn for it, or that of the generators that were given."""
    given = split_of_given(cohort, config) if config.get("generators") else None
    return split_of(cohort, Protocols(**config["protocols"]), seed_of(config["seed"], {"run": run, "of": "split"}), given)


def split_of(cohort: Cohort, protocols: Protocols, seed: int, given: Split | None = None) -> Split:
    """The split of a run, drawn unless it is given.

    Training participants beyond a class's limit are on a side of their own; where only an external cohort is tested, the test side is
    trained on.

    Raises
    ------
    UsageError
        If every run shall have a new split, and the cohort has official sides.
    """
    require_splits(cohort, protocols)
    split = given or split_cohort(cohort, seed=seed)
    sides, fractions = dict(split.sides), dict(split.fractions)
    if protocols.external_only:
        sides = {who: "train" if side == TEST else side for who, side in sides.items()}
        fractions["train"] += fractions.pop(TEST, 0.0)
    label_of = dict(zip(cohort.table["participant_id"], cohort.table["label"], strict=True))
    for label, limit in protocols.limit.items():
        people = sorted(who for who, side in sides.items() if side == "train" and label_of[who] == label)
        order = np.random.default_rng(seed).permutation(len(people))
        sides |= {people[i]: LEFT_OUT for i in order[limit:]}
    return replace(split, sides=sides, fractions={**fractions, LEFT_OUT: 0.0})


def training_set(
    method: str,
    mode: str,
    data: Prepared,
    split: Split,
    protocols: Protocols,
    config: Mapping[str, Any],
    shared: Mapping[str, Any],
    seed: int,
    folder: Path,
) -> TrainingSet:
    """The training set of a method.

    The modes differ in what goes with the generated images. ``resampled+synthetic``: the real ones, resampled to balance, so that every
    class has the same share of generated images. ``real+synthetic``: the real ones as they are; the smaller class is then mostly
    generated, and a CNN can tell the classes by what generated images look like. ``synthetic-only``: nothing (the paper).
    """
    real = data.side(split, "train")
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
        model = generator_of(system, label, data, split, config, shared, folder)
        check_no_leakage(model, split, data.external_participants)
        n = protocols.n_synthetic if mode == "synthetic-only" else target - int(counts[index])
        if n == 0:
            continue
        generated = system.draw(model, n, seed=seed_of_samples(config, shared["run"], system))
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


def study_config(
    data: Mapping[str, Any],
    protocols: Protocols,
    fit: FitSettings,
    classifier: ClassifierSettings,
    *,
    seed: int,
    network: str | None,
    methods: Sequence[str],
    modes: Sequence[str],
    runs: int,
    command: str = "",
    generators: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The resolved configuration of a study, as its ``config.toml`` keeps it.

    The data are known by their digests; where they lie stands apart, so that a study can go on where they lie elsewhere, and so does
    the command line, which may differ in how many jobs there are.
    """
    bound, places = without_places(data)
    where: dict[str, Any] = {"command": command or None}
    if generators is not None:
        generators, where["generators"] = generators["digests"], generators["folder"]
    where |= places
    return {
        "seed": seed,
        "data": bound,
        "where": where,
        "protocols": asdict(protocols),
        "fit": fit.as_dict(),
        "classifier": asdict(classifier),
        "network": network,
        "generators": generators,
        "grid": {"methods": list(methods), "modes": list(modes), "runs": runs},
    }


def cells_of(methods: Sequence[str], modes: Sequence[str], runs: int) -> list[dict[str, Any]]:
    """Keys of the grid, run by run: a method that generates has one cell a mode, another has one cell.

    Raises
    ------
    UsageError
        If there is no such method or mode, or there are no runs.
    """
    if runs < 1:
        raise UsageError(f"The number of runs must be 1 or more, not {runs}.")
    for mode in modes:
        if mode not in MODES:
            raise UsageError(f"--mode is {', '.join(MODES[:-1])} or {MODES[-1]}, not '{mode}'.")
    for method in methods:
        check_method(method)
    of_a_run = [{"method": method, "mode": mode} for method in methods for mode in (modes if ":" in method else (REAL,))]
    return [{"run": run, **cell} for run in range(runs) for cell in of_a_run]


def staggered(cells: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The cells, every run's begun at another of them.

    Where runs share their generators, those that are computed at the same time would otherwise all fit the same one.
    """
    golden = (math.sqrt(5) - 1) / 2  # whose multiples, taken modulo 1, lie far apart however many there are
    runs = [list(part) for _, part in groupby(cells, key=lambda key: key["run"])]
    starts = [int(len(part) * (place * golden % 1)) for place, part in enumerate(runs)]
    return [key for part, start in zip(runs, starts, strict=True) for key in (*part[start:], *part[:start])]
