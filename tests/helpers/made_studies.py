"""A made-up augmentation study: of its configuration and runs nothing was computed, and nobody in it exists."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tinycohort.experiments.augmentation_study.config import AugmentationConfig
from tinycohort.experiments.augmentation_study.grid import cells_of
from tinycohort.experiments.augmentation_study.predictions import keep_predictions
from tinycohort.experiments.engine.study_folder import claim, seed_of, write_run
from tinycohort.experiments.engine.study_images import Part

PEOPLE = {"AD": [f"sub-P{i:02d}_T1w" for i in range(4)], "CN": [f"sub-P{i:02d}_T1w" for i in range(4, 12)]}  # of every test side
VERSIONS = {"python": "3.11.7", "tinycohort": "0.1.0", "torch": "2.13.0+cpu"}
CONFIG = """
seed = 0

[data]
digest = "1111111111111111111111111111111111111111111111111111111111111111"
classes = ["AD", "CN"]

[data.source]
suffix = "T1w"

[data.preparation]
size = [16, 16]
position = "0.5"
fit = "resize"
scaling = "percentile"

[where.source]
data = "made-up"

[protocols]
protocol = "resampled"
n_synthetic = 20
enlarge = 2.0
least_steps = 0
stratum = "age>=60"

[protocols.limit]

[fit]
model = "vae"
arch = "light"
latent_dim = 2
channels = 2
seed = 0

[fit.model_settings]

[fit.preparation]
size = [16, 16]
position = "0.5"
fit = "resize"
scaling = "percentile"

[fit.training]
steps = 8
learning_rate = 0.003
batch_size = 16
jitter = 1.0
precision = "auto"

[fit.metric]
selection = "k-medoids"
lam = 0.01
tau = 0.0
rho_scale = 1.0

[classifier]
epochs = 3
learning_rate = 0.0001
batch_size = 16
patience = 5
precision = "auto"

[grid]
methods = ["original", "resampled", "covariates", "vae:gmm"]
modes = ["real+synthetic", "synthetic-only"]
runs = 3
"""


def write_study(folder: Path, *, old: bool = False) -> Path:
    """Write a finished study; an ``old`` one keeps its predictions in its runs."""
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(CONFIG.lstrip(), encoding="utf-8")
    config = AugmentationConfig.load(folder)
    configuration = claim(folder, config)
    for key in cells_of(config.grid):
        seed = seed_of(config.seed, key)
        answer = {"result": _result(folder, key, seed, old=old), "record": {"seconds": 1.0, "versions": VERSIONS}}
        write_run(folder, configuration, key, seed, answer)
    return folder


def _result(folder: Path, key: dict[str, Any], seed: int, *, old: bool) -> dict[str, Any]:
    rng = np.random.default_rng(seed % 2**32)
    images = [image for label in PEOPLE for image in PEOPLE[label]]
    first = rng.random(len(images))
    probabilities = np.stack([first, 1 - first], axis=1)
    if old:
        rows = zip(images, probabilities, strict=True)
        predictions: Any = {"test": {image: [round(float(value), 4) for value in row] for image, row in rows}}
    else:
        part = Part(None, None, pd.DataFrame({"image_id": images}))  # type: ignore[arg-type]
        predictions = keep_predictions(folder, key, {"test": part}, {"test": probabilities}, ["AD", "CN"])
    sizes = {"test": 12, "test, age>=60": 6}
    generates, trained = ":" in key["method"], key["method"] != "covariates"
    # What a poor fit is, the report says: those of AD are.
    fits = {label: {"explained_validation": share * rng.random(), "sampling": {}} for label, share in (("AD", 0.05), ("CN", 0.9))}
    return {
        "scores": {name: _scores(rng) for name in sizes},
        "n_test": sizes,
        "predictions": predictions,
        "n_fitted_on": 40,
        "notes": {"generators": fits if generates else {}, "n_train": {"AD": 20, "CN": 20}} | ({"best_epoch": 1} if trained else {}),
        "history": [
            {"epoch": float(i), "train_loss": 1.0 / (i + 1), "validation_loss": 1.0, "validation_balanced_accuracy": round(rng.random(), 5)}
            for i in range(3 * trained)
        ],
    }


def _scores(rng: np.random.Generator) -> dict[str, Any]:
    names = [f"{name}_{label}" for label in PEOPLE for name in ("precision", "recall", "f1")]
    return {name: float(rng.random()) for name in ("balanced_accuracy", "accuracy", "roc_auc", *names)} | {"confusion_AD_as_AD": 3}
