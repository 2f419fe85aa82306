"""Does a generator leave a fingerprint? A CNN is asked which of two models, fitted on two random halves of one class, made an image.

The halves are people of one diagnosis, so what tells the images apart is the model that made them, and not a disease:

    python benchmarks/fingerprint.py --data $OASIS_CORONAL --class CN --size 40x48

An AUC of 0.5 is none. "Unseen people, decoded": the same CNN on people of whom neither model has seen any, passed through both models.
"""

import argparse
from dataclasses import replace

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from tinycohort.augment.fitting.fit import fit_class
from tinycohort.augment.fitting.model import FittedModel, decode, encode
from tinycohort.augment.fitting.plan import FitPlan
from tinycohort.augment.fitting.settings import FitSettings
from tinycohort.augment.fitting.training import TrainingSettings
from tinycohort.augment.release.generation import generate_class
from tinycohort.augment.samplers.registry import SAMPLERS
from tinycohort.classifiers.training import ClassifierSettings, predict_probabilities, train_classifier
from tinycohort.datasets.common.compute import hardware
from tinycohort.datasets.common.seeds import derived_seed
from tinycohort.datasets.readers import read_cohort
from tinycohort.datasets.splits import split_cohort
from tinycohort.datasets.transforms import Preparation, prepare
from tinycohort.experiments.augmentation_study.cell import lengthened

HALVES = ("first", "second")
DRAWN = 200  # new samples of each model that the CNN is asked about


def told_apart(network: torch.nn.Module, first: Tensor, second: Tensor) -> float:
    """AUC of the CNN's probability that an image is the first model's."""
    probability = predict_probabilities(network, torch.cat([first, second]))[:, 0]
    return float(roc_auc_score([1] * len(first) + [0] * len(second), probability))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--class", dest="label", required=True)
    parser.add_argument("--size", type=lambda text: tuple(map(int, text.split("x"))), required=True)
    parser.add_argument("--samplers", nargs="+", choices=list(SAMPLERS), default=["gmm", "posterior", "riemannian"])
    parser.add_argument("--steps", type=int, default=1500, help="of each model")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    cohort = read_cohort(arguments.data).of_class(arguments.label)
    split = split_cohort(cohort, seed=arguments.seed)
    people = np.random.default_rng(arguments.seed).permutation(sorted(who for who, side in split.sides.items() if side == "train"))
    settings = FitSettings(preparation=Preparation(size=arguments.size), training=TrainingSettings(steps=arguments.steps))
    models: list[FittedModel] = []
    for half, others in zip(HALVES, reversed(np.array_split(people, 2)), strict=True):
        sides = split.sides | dict.fromkeys(map(str, others), "other half")
        halved = replace(split, sides=sides, fractions={**split.fractions, "other half": 0.0})
        seed = derived_seed(arguments.seed, half)
        models.append(fit_class(FitPlan(cohort, halved, arguments.label, replace(settings, seed=seed))))
    unseen = prepare(split.side(cohort, "test"), settings.preparation).pixels
    decoded = [decode(model.autoencoder, encode(model.autoencoder, unseen)) for model in models]

    print(f"{arguments.label}, halves of {len(people)} people; {hardware()}\n")
    print("| sampler | new samples, AUC | unseen people, decoded, AUC |\n|---|---|---|")
    for sampler in arguments.samplers:
        train, validation, new = (
            [generate_class(model, n, sampler=sampler, seed=derived_seed(arguments.seed, part)).images.pixels for model in models]
            for part, n in (("train", 2 * len(people)), ("validation", DRAWN // 4), ("new", DRAWN))
        )
        classifier = lengthened(ClassifierSettings(), 2 * len(train[0]), 250)
        trained = train_classifier(
            torch.cat(train),
            torch.arange(2).repeat_interleave(len(train[0])),
            (torch.cat(validation), torch.arange(2).repeat_interleave(len(validation[0]))),
            classifier,
            n_classes=2,
            seed=arguments.seed,
        )
        found = [f"{told_apart(trained.network, *images):.2f}" for images in (new, decoded)]
        print(f"| `{sampler}` | {' | '.join(found)} |")


if __name__ == "__main__":
    main()
