"""What other networks, losses and settings explain of people held out, and at what price, as a table in Markdown:

    python benchmarks/decoders.py --data $OASIS --class AD --size 80x96 [--steps 400] [--variants "latent_dim 32"] [--rows rows.csv]

All are trained for the same number of steps on the same splits, one thread; a row says what differs from the base, which has the default
settings but for 16 latent dimensions (``--base`` chooses another row). With ``--steps 0`` they are as long as a fit by default, and end as
it does. explained: share of the variance around the training images' mean of people of the test side, whom
nothing has seen (``--split-seeds``: mean and standard deviation); ahead: of the base, split by split, and on how many. sharpness: mean
squared Laplacian of test people decoded, as a share of their own; the same of draws. coverage: median RMS distance from test people to the
nearest of 400 decoded draws of a Gaussian law (log densities of codes compare no two latent spaces). attack: area under the curve of
telling trained from test people by that distance. time: CPU time of training beside the base's, on the same split. ``--rows`` keeps what
was found, so that more can be added.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from detail import sharpness
from measuring import Row, publish, table
from torch import Tensor

from tinycohort.augment.autoencoders.likelihood import loss_of_error, squared_error
from tinycohort.augment.autoencoders.vae import VAE
from tinycohort.augment.fitting import jitter
from tinycohort.augment.fitting.model import decode, encode
from tinycohort.augment.fitting.nearest import explained_variance, nearest_images
from tinycohort.augment.fitting.settings import DEFAULT_TRAINING
from tinycohort.augment.fitting.training import train
from tinycohort.augment.networks import Architecture, Decoder
from tinycohort.augment.samplers.laws import Gaussian
from tinycohort.datasets.cohort import Cohort
from tinycohort.datasets.common.compute import computing_with, hardware
from tinycohort.datasets.readers import read_cohort
from tinycohort.datasets.splits import split_cohort
from tinycohort.datasets.transforms import Preparation, prepare, space_of
from tinycohort.experiments.audit.membership import attack

DRAWS = 400
Sides = Mapping[str, Tensor]


class GradientVAE(VAE):
    """Also sees how images change from voxel to voxel: the Gaussian's precision is that of white noise plus ``weight`` Laplacians."""

    def __init__(self, architecture: Architecture, *, weight: float):
        super().__init__(architecture)
        self.weight = weight

    def loss(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        posterior = self.posterior(x)
        decoded = self.decode(posterior.sample(generator))
        steps = sum(squared_error(x.diff(dim=axis), decoded.diff(dim=axis)) for axis in range(2, x.ndim))
        error = squared_error(x, decoded) + self.weight * steps
        reconstruction = loss_of_error(error, x[0].numel(), "calibrated").mean()
        return {"loss": reconstruction + posterior.kl().sum(1).mean(), "reconstruction": reconstruction}


class OwnCentre(Decoder):
    """Centred on the first channel of images that have their class as a second."""

    def centre_on(self, image: Tensor) -> None:
        super().centre_on(image[:1])


class SharedVAE(VAE):
    """One decoder of all classes: it takes the class as a further dimension, 1 for the one asked for. Images bring it as a channel."""

    def __init__(self, architecture: Architecture):
        super().__init__(architecture)
        self.decoder = replace(architecture, latent_dim=architecture.latent_dim + 1).decoder()
        self.decoder.__class__ = OwnCentre

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(torch.cat([z, z.new_ones(len(z), self.decoder.latent_dim - z.shape[1])], dim=1))

    def loss(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        # What jitter moves in from outside is 0.
        image, label = x[:, :1], (x[:, 1:].flatten(1).amax(1, keepdim=True) > 0.5).float()
        posterior = self.posterior(image)
        decoded = self.decode(torch.cat([posterior.sample(generator), label], dim=1))
        reconstruction = loss_of_error(squared_error(image, decoded), image[0].numel(), "calibrated").mean()
        return {"loss": reconstruction + posterior.kl().sum(1).mean(), "reconstruction": reconstruction}


@dataclass(frozen=True)
class Variant:
    """What is not as in the base.

    Parameters
    ----------
    architecture, training : dict
        Settings of both; ``steps`` of training is a multiple of the number for all.
    knots : int
        A side, of the grid on which jitter bends images; 5 is as was the default when the first of these were compared.
    model : callable
        From an architecture to a model.
    sides : callable
        From the images of the class by side, and those of other classes to train on, to what is trained and validated on.
    """

    architecture: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    knots: int = 5
    model: Callable[[Architecture], VAE] = VAE
    sides: Callable[[Sides, Tensor], tuple[Tensor, Tensor]] = lambda sides, _: (sides["train"], sides["validation"])


def mirrored(sides: Sides, _: Tensor) -> tuple[Tensor, Tensor]:
    """Every image twice, the second time from left to right."""
    return torch.cat([sides["train"], sides["train"].flip(2)]), sides["validation"]


def all_classes(sides: Sides, others: Tensor) -> tuple[Tensor, Tensor]:
    """About as many of the class as of all others, with the class as a second channel."""
    own = sides["train"].repeat(max(1, round(len(others) / len(sides["train"]))), 1, *[1] * (others.ndim - 2))
    return torch.cat([_labelled(own, 1), _labelled(others, 0)]), _labelled(sides["validation"], 1)


def _labelled(images: Tensor, label: int) -> Tensor:
    return torch.cat([images, torch.full_like(images, label)], dim=1)


BASE = "latent_dim 16"
VARIANTS: Mapping[str, Variant] = {
    BASE: Variant(),
    "beta 0.3": Variant(model=lambda architecture: VAE(architecture, beta=0.3)),
    "gradient 1": Variant(model=lambda architecture: GradientVAE(architecture, weight=1)),
    "gradient 10": Variant(model=lambda architecture: GradientVAE(architecture, weight=10)),
    "latent_dim 8": Variant({"latent_dim": 8}),
    "latent_dim 32": Variant({"latent_dim": 32}),
    "latent_dim 64": Variant({"latent_dim": 64}),
    "latent_dim 128": Variant({"latent_dim": 128}),
    "mirrored images too": Variant(sides=mirrored),
    "shared, class code": Variant(model=SharedVAE, sides=all_classes),
    "shared, latent_dim 64": Variant({"latent_dim": 64}, model=SharedVAE, sides=all_classes),
    "learning rate 0.01": Variant(training={"learning_rate": 0.01}),
    "channels 8": Variant({"channels": 8}),
    "resnet, channels 8": Variant({"name": "resnet", "channels": 8}),
    "steps x 2": Variant(training={"steps": 2}),
    "channels 32": Variant({"channels": 32}),
    "conv": Variant({"name": "conv"}),
    "resnet": Variant({"name": "resnet"}),
    "jitter 2": Variant(training={"jitter": 2.0}),
    "latent_dim 32, jitter 1.5": Variant({"latent_dim": 32}, training={"jitter": 1.5}),
    "latent_dim 64, jitter 1.5": Variant({"latent_dim": 64}, training={"jitter": 1.5}),
    "latent_dim 64, jitter 2": Variant({"latent_dim": 64}, training={"jitter": 2.0}),
    "latent_dim 128, jitter 2": Variant({"latent_dim": 128}, training={"jitter": 2.0}),
    **{
        f"64, {knots} knots, jitter {strength}": Variant({"latent_dim": 64}, training={"jitter": float(strength)}, knots=knots)
        for knots in (5, 8, 12)
        for strength in ("1", "1.5", "2")
    },
}
LINEAR = {"PCA, 16 components": 16, "PCA, all components": None}


def images_of(cohort: Cohort, label: str, size: tuple[int, ...], seed: int, most: int | None = None) -> tuple[dict[str, Tensor], Tensor]:
    """Images of a class by side, and of the other classes on the training side, on one grid.

    Of the training side at most so many, who are drawn by lot, and for validation a fifth of that; the others of the training side are
    tested too.
    """
    preparation = Preparation(size=size)
    split, like = split_cohort(cohort, seed=seed), space_of(cohort, preparation)

    def prepared(label: str, side: str) -> Tensor:
        return prepare(split.side(cohort.of_class(label), side), preparation, like=like).pixels

    sides = {side: prepared(label, side) for side in ("train", "validation", "test")}
    if most is not None:
        order = torch.randperm(len(sides["train"]), generator=torch.Generator().manual_seed(seed))
        few, others = sides["train"][order[:most]], sides["train"][order[most:]]
        sides = {"train": few, "validation": sides["validation"][: max(3, most // 5)], "test": torch.cat([sides["test"], others])}
    return sides, torch.cat([sides["train"][:0], *(prepared(other, "train") for other in cohort.labels if other != label)])


def of_variant(variant: Variant, sides: Sides, others: Tensor, steps: int, seed: int) -> dict[str, float]:
    """Scores of one fit."""
    settings: dict[str, Any] = {
        "device": "cpu",
        "jitter": 1.0,
        **variant.training,
        "steps": steps * variant.training.get("steps", 1) or None,
    }
    torch.manual_seed(seed)
    shape = tuple(sides["train"].shape[2:])
    model = variant.model(Architecture(**{"name": "light", "shape": shape, "latent_dim": 16, **variant.architecture}))
    start = time.process_time()
    with patch.object(jitter, "BEND_GRID", variant.knots):
        train(model, *variant.sides(sides, others), replace(DEFAULT_TRAINING, **settings), seed=seed)
    seconds = time.process_time() - start
    codes = encode(model, sides["train"])
    draws = decode(model, Gaussian.fit(codes).sample(DRAWS, torch.Generator().manual_seed(0))[0])
    near = {side: nearest_images(sides[side], draws)[0] for side in ("train", "test")}
    trained = np.repeat([True, False], [len(near["train"]), len(near["test"])])
    return of_decoded(sides, decode(model, encode(model, sides["test"]))) | {
        "explained, training": explained_variance(sides["train"], decode(model, codes), sides["train"].mean(dim=0)),
        "of draws": sharpness(draws) / sharpness(sides["test"]),
        "coverage": float(np.median(near["test"])),
        "attack": attack(-np.concatenate([near["train"], near["test"]]), trained, np.random.default_rng(0)).auc,
        "seconds": seconds,
    }


def of_decoded(sides: Sides, decoded: Tensor) -> dict[str, float]:
    """Scores of test people, decoded."""
    test, mean = sides["test"], sides["train"].mean(dim=0)
    return {"explained": explained_variance(test, decoded, mean), "sharpness": sharpness(decoded) / sharpness(test)}


def of_components(n: int | None, sides: Sides) -> dict[str, float]:
    """Scores of a principal component analysis: what is linear of it."""
    mean = sides["train"].mean(dim=0)
    axes = torch.linalg.svd((sides["train"] - mean).flatten(1), full_matrices=False)[2][: n or len(sides["train"]) - 1]
    return of_decoded(sides, ((sides["test"] - mean).flatten(1) @ axes.T @ axes).reshape(sides["test"].shape) + mean)


def fits(given: argparse.Namespace) -> Iterator[dict[Any, Any]]:
    """One row for each split seed and variant; those that were kept are not made anew."""
    cohort = read_cohort(given.data)
    kept = pd.read_csv(given.rows).to_dict("records") if given.rows and given.rows.exists() else []
    known: dict[tuple[int, str], dict[Any, Any]] = {(row["seed"], row["variant"]): row for row in kept}
    for seed in given.split_seeds:
        sides, others = images_of(cohort, given.label, given.size, seed, given.images)
        for name in dict.fromkeys((*LINEAR, given.base, *given.variants)):
            if (seed, name) not in known:
                variant = VARIANTS.get(name)
                found = of_variant(variant, sides, others, given.steps, seed) if variant else of_components(LINEAR[name], sides)
                known[seed, name] = {"seed": seed, "variant": name, **found}
                if given.rows:
                    pd.DataFrame(known.values()).to_csv(given.rows, index=False)
            yield known[seed, name]


def table_of(found: pd.DataFrame, base_name: str) -> list[Row]:
    """A row for each variant: means over split seeds, and standard deviations."""
    rows: list[Row] = [("", "explained", "ahead", "on splits", "of training images", "sharpness", "of draws", "coverage", "attack", "time")]
    by_seed = found.set_index(["variant", "seed"])
    base = by_seed.loc[base_name]
    for name in dict.fromkeys(found["variant"]):
        own = by_seed.loc[name]
        ahead = own["explained"] - base["explained"].reindex(own.index)
        times = (own["seconds"] / base["seconds"].reindex(own.index)).median()
        rows.append(
            (
                name,
                _spread(own["explained"]),
                "-" if name == base_name else _spread(ahead, "+"),
                "-" if name == base_name else f"{(ahead > 0).sum()} of {len(ahead)}",
                _told(own["explained, training"].mean(), 3),
                _told(own["sharpness"].mean(), 3),
                _told(own["of draws"].mean(), 3),
                _told(own["coverage"].mean(), 4),
                _told(own["attack"].mean(), 2),
                _told(times, 2),
            )
        )
    return rows


def _spread(values: "pd.Series[float]", sign: str = "") -> str:
    return f"{values.mean():{sign}.3f}" + (f" ± {values.std():.3f}" if len(values) > 1 else "")


def _told(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="demo")
    parser.add_argument("--class", dest="label", default="AD")
    parser.add_argument("--size", type=lambda text: tuple(map(int, text.split("x"))), required=True)
    parser.add_argument("--steps", type=int, default=400, help="of every fit [%(default)s]; 0 for a fit by default")
    parser.add_argument("--images", type=int, help="train on so many of the training side [all]")
    parser.add_argument("--base", choices=list(VARIANTS), default=BASE, help="what the others are ahead of [%(default)s]")
    parser.add_argument("--split-seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--rows", type=Path, help="CSV of what was found, read and written")
    parser.add_argument("--out", type=Path, help="write the table into this Markdown file as well")
    given = parser.parse_args()
    if given.steps == 0 and "steps x 2" in given.variants:
        parser.error("what is as long as a fit by default cannot be twice as long: choose other --variants than 'steps x 2'")
    with computing_with(1):
        found = pd.DataFrame(fits(given))
    size = " x ".join(map(str, given.size))
    steps = given.steps or "as many as by default"
    title = f"{given.label}, {size}, {steps} steps, split seeds {' '.join(map(str, given.split_seeds))}; {hardware()}, one thread"
    publish(f"{title}\n\n{table(table_of(found, given.base))}", given.out)


if __name__ == "__main__":
    main()
