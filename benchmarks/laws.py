"""What each latent law of fitted models reaches, and what it gives away:

    python benchmarks/laws.py models [--data DATA] [--out tables.md]  # for docs/results/laws.md

For every class and law: the mean log density of training people who are left out and of those who are held out (validation and test side
of ``split.json``); then, of images drawn from it, the median distance from held-out people, decoded, to the nearest image (coverage), that
of the images to the nearest training image, how well distances to the nearest image tell who was trained on (area under the curve), the
Fréchet distance and KID to held-out people, decoded (what decoding loses is every law's), by the features of a classifier of the
training side, and R-hat. Distances are RMS over voxels. The draws are repeated by ``--seeds``; the standard deviation over them stands
beside the mean.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Row, publish, table

from tinycohort.augment.autoencoders import GaussianAutoencoder
from tinycohort.augment.fitting.assessment import posterior_of
from tinycohort.augment.fitting.model import FittedModel, decode, encode
from tinycohort.augment.fitting.model_folders import load_models
from tinycohort.augment.fitting.nearest import nearest_images
from tinycohort.augment.release.generation import generate_class
from tinycohort.augment.samplers.latents import Latents
from tinycohort.augment.samplers.registry import samplers_for
from tinycohort.datasets.readers import read_cohort
from tinycohort.datasets.splits import Split
from tinycohort.datasets.transforms import prepare
from tinycohort.experiments.audit.membership import attack
from tinycohort.experiments.fidelity.features import Extractor, classifier_extractor, cohort_classifier, cohort_settings, features_of
from tinycohort.experiments.fidelity.frechet import frechet_distance_of_features
from tinycohort.experiments.fidelity.kernel import kernel_distance

# As a row says it: a sampler, and its settings. `reach` 1 is what version 0.2.0.dev1 drew by default.
ROWS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "auto": ("auto", {}),
    "riemannian": ("riemannian", {}),
    "gaussian": ("gaussian", {}),
    "mixture": ("mixture", {}),
    "kde": ("kde", {}),
    "gmm": ("gmm", {}),
    "normal": ("normal", {}),
    "posterior": ("posterior", {}),
    "riemannian reach=1": ("riemannian", {"reach": 1.0}),
    "riemannian-paper": ("riemannian-paper", {}),
}
HEADER = ("law", "left out", "held out", "coverage", "to training", "attack", "Fréchet", "1000 KID", "R-hat")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("--data", help="where the cohort lies, if it has moved")
    parser.add_argument("-n", type=int, default=400, help="images drawn of each class [400]")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    models = load_models(given.models)
    sides = {label: _sides(model, given) for label, model in models.items()}
    extractor = _extractor(sides) if len(models) > 1 else None
    parts = []
    for label, model in models.items():
        training, held_out = sides[label]["train"], torch.cat([sides[label][side] for side in ("validation", "test")])
        people = _latents_of(model, held_out)
        model = model.scored(people)  # so that the table and what auto draws from are of one scoring, by this very version
        rows = _rows(model, training, held_out, people, extractor, given)
        auto = model.law_scores.sentence
        parts.append(f"### {label}: {len(training)} trained on, {len(held_out)} held out\n\n{table(rows)}\n\n`auto` is {auto}.\n")
        print(parts[-1], flush=True)
    if given.out:
        publish("\n".join(parts), given.out)


def _sides(model: FittedModel, given: argparse.Namespace) -> dict[str, torch.Tensor]:
    cohort = read_cohort(model.config.source({"data": given.data} if given.data else {}))
    split = Split.load(given.models / "split.json", cohort)
    members = cohort.of_class(model.config.label)
    return {side: prepare(split.side(members, side), model.config.preparation).pixels for side in ("train", "validation", "test")}


def _extractor(sides: Mapping[str, Mapping[str, torch.Tensor]]) -> Extractor:
    images = torch.cat([parts["train"] for parts in sides.values()])
    labels = torch.cat([torch.full((len(parts["train"]),), number) for number, parts in enumerate(sides.values())])
    return classifier_extractor(cohort_classifier(images, labels, cohort_settings(len(images)), seed=0), device="auto")


def _latents_of(model: FittedModel, images: torch.Tensor) -> Latents:
    autoencoder = model.autoencoder
    posterior = posterior_of(autoencoder, images) if isinstance(autoencoder, GaussianAutoencoder) else None
    return Latents(encode(autoencoder, images), autoencoder, posterior)


def _rows(
    model: FittedModel,
    training: torch.Tensor,
    held_out: torch.Tensor,
    people: Latents,
    extractor: Extractor | None,
    given: argparse.Namespace,
) -> list[Row]:
    autoencoder = model.autoencoder
    scores = {law.sampler: law for law in model.law_scores.laws}
    decoded = decode(autoencoder, people.codes)
    everybody = torch.cat([training, held_out])
    trained = np.arange(len(everybody)) < len(training)
    real = None if extractor is None else features_of(extractor, [decoded])
    rows: list[Row] = [HEADER]
    for title, (sampler, settings) in ROWS.items():
        if sampler not in ("auto", *samplers_for(type(autoencoder))):
            continue
        found: dict[str, list[float]] = {name: [] for name in HEADER[3:]}
        for seed in range(given.seeds):
            part = generate_class(model, given.n, sampler=sampler, seed=seed, **settings)
            images = part.images.pixels
            found["coverage"].append(float(np.median(nearest_images(decoded, images)[0])))
            found["to training"].append(float(np.median(nearest_images(images, training)[0])))
            found["attack"].append(attack(-nearest_images(everybody, images)[0], trained, np.random.default_rng(0)).auc)
            if extractor is not None and real is not None:
                features = features_of(extractor, [images])
                found["Fréchet"].append(frechet_distance_of_features(real, features))
                found["1000 KID"].append(1000 * kernel_distance(real, features))
            if part.diagnostics.r_hat is not None:
                found["R-hat"].append(part.diagnostics.r_hat)
        law = scores.get(model.law_scores.chosen if sampler == "auto" else title)
        nats = [None, None] if law is None else [law.left_out, law.held_out]
        digits = {"coverage": 4, "to training": 4, "attack": 2, "Fréchet": 2, "1000 KID": 1, "R-hat": 2}
        told = ("-" if value is None else f"{value:.1f}" if abs(value) < 1e4 else f"{value:.2g}" for value in nats)
        rows.append((f"`{title}`", *told, *(_spread(found[name], digits[name]) for name in HEADER[3:])))
    return rows


def _spread(values: list[float], digits: int) -> str:
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}" if values else "-"


if __name__ == "__main__":
    main()
