"""Augmentation studies of a tiny cohort, computed in this process."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from tinycohort.augment.fitting.settings import FitSettings
from tinycohort.augment.fitting.training import TrainingSettings
from tinycohort.classifiers.training import ClassifierSettings
from tinycohort.datasets.readers import Source
from tinycohort.experiments.augmentation_study import command as evaluate
from tinycohort.experiments.augmentation_study.cell import run_cell
from tinycohort.experiments.augmentation_study.config import AugmentationConfig
from tinycohort.experiments.augmentation_study.grid import cells_of
from tinycohort.experiments.augmentation_study.predictions import read_predictions
from tinycohort.experiments.augmentation_study.protocols import Protocols
from tinycohort.experiments.engine.study_folder import claim, seed_of, write_run

SIDE = 16


def write_cohort(path: Path, n: dict[str, int], seed: int = 0, contrast: float = 0.8) -> Path:
    """Squares of two sizes, with noise: a CNN and a VAE have something to learn, the less the fainter they are."""
    rng = np.random.default_rng(seed)
    images, labels, ages = [], [], []
    for label, count in n.items():
        for _ in range(count):
            image = 0.1 * rng.random((SIDE, SIDE))
            half = {"AD": 6, "CN": 3}[label]
            image[8 - half : 8 + half, 8 - half : 8 + half] += contrast
            images.append(image)
            labels.append(label)
            ages.append(rng.integers(60, 90) if label == "AD" else rng.integers(20, 80))
    path.mkdir(parents=True)
    participants = [f"p{seed}-{i:03d}" for i in range(len(labels))]
    np.savez(path / "images.npz", images=np.array(images, dtype=np.float32), labels=np.array(labels), participants=np.array(participants))
    table = pd.DataFrame({"participant_id": participants, "diagnosis": labels, "age": ages, "sex": ["F", "M"] * (len(labels) // 2)})
    table.to_csv(path / "participants.tsv", sep="\t", index=False)
    return path


def request(cohort: Path, **changes) -> evaluate.EvaluationRequest:
    plain = evaluate.EvaluationRequest(
        source=Source(str(cohort)),
        test_source=None,
        methods=("original", "weighted", "covariates", "vae:riemannian"),
        modes=("real+synthetic",),
        runs=2,
        protocols=Protocols(least_steps=0, stratum="age>=60", n_synthetic=12),
        fit=FitSettings(latent_dim=2, channels=4, training=TrainingSettings(steps=8)),
        classifier=ClassifierSettings(epochs=3, learning_rate=1e-2, batch_size=16),
        seed=0,
    )
    return replace(plain, **changes)


def compute(folder: Path, config: AugmentationConfig) -> None:
    """All cells in this process: what workers do is tested with the engine."""
    configuration = claim(folder, config)
    for key in cells_of(config.grid):
        seed = seed_of(config.seed, key)
        result = json.loads(json.dumps(run_cell(key, seed, folder)).replace("NaN", "null"))
        write_run(folder, configuration, key, seed, {"result": result, "record": {"seconds": 1.0}})


def those_predicted(folder: Path, run: dict) -> set[str]:
    """The images of its own test side that a run has predicted."""
    predicted = read_predictions(folder, run, ["AD", "CN"])
    return set(predicted.loc[predicted["test_set"] == "test", "image_id"])
