"""What detail is worth, and what it gives away:

    python benchmarks/detail.py models [more models ...] [--weights inception.safetensors] [--row none --row mosaic ...] [--out tables.md]

Every folder holds the models of one cohort, fitted on one split; of several the mean and the standard deviation over them are told. Real
people are those whom the models were not trained on (everybody on the validation and test sides), and `training people` are the row that
shows how much of a score is the difference between two samples of people. A row is a detail of `augment generate --detail`, or `morph`.

sharpness: mean squared Laplacian, as a share of the real people's. told apart: area under the curve of a CNN that learns, on half of the
real people and half of the images, which are synthetic, and is tested on the other halves, both ways round; classes together. FD, KID:
Fréchet distance and 1000 KID to the real people, by features of the cohort's own classifier (trained on the training people) and, with
--weights, by the Inception's first 192 and 768 dimensions; of as many images as there are real people. attack: area under the curve of
telling training people from real ones by the distance to the nearest image. to training: median distance of images to the nearest training
image, RMS over voxels. copies: images that the gate refuses. share: the largest share of one donor. Jacobian: the smallest. seconds: of one
image, one thread, decoding and law included.

    python benchmarks/detail.py --size 80x96x80       # the time of detail alone, of made-up people in images of this size
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from measuring import Row, publish, table
from sklearn.metrics import roc_auc_score
from torch import Tensor

from tinycohort.augment.detail.donors import Donors
from tinycohort.augment.detail.morph import draw_morphs
from tinycohort.augment.detail.mosaic import Detail, Mosaic, add_detail
from tinycohort.augment.fitting.model import FittedModel
from tinycohort.augment.fitting.model_folders import load_models
from tinycohort.augment.fitting.nearest import nearest_images
from tinycohort.augment.fitting.training_images import TrainingImages
from tinycohort.augment.release.copying import Patients, screen_images
from tinycohort.augment.release.gate import Gate
from tinycohort.augment.release.generation import generate_class
from tinycohort.classifiers.network import CNN
from tinycohort.datasets.common.seeds import seeded_generator
from tinycohort.datasets.readers import read_cohort
from tinycohort.datasets.transforms import prepare
from tinycohort.experiments.audit.membership import attack
from tinycohort.experiments.fidelity.features import (
    Extractor,
    classifier_extractor,
    cohort_classifier,
    cohort_settings,
    features_of,
    inception_of_name,
    sliced,
)
from tinycohort.experiments.fidelity.frechet import frechet_distance_of_features
from tinycohort.experiments.fidelity.kernel import kernel_distance

NONE, MORPH, TRAINING = "none", "morph", "training people"
ROWS = (NONE, "mosaic", MORPH, TRAINING)
STEPS = {2: 300, 3: 60}  # of the CNN that tells synthetic from real slices, or volumes, of which a step takes twenty times as long
BATCH, RATE = 16, 5e-4


@dataclass(frozen=True, eq=False)
class Class:
    """A class of a cohort: its model, and the people whom it was trained on or not."""

    model: FittedModel
    training: TrainingImages
    held_out: Tensor

    @classmethod
    def read(cls, model: FittedModel, data: str | None) -> "Class":
        """Read a class's images again."""
        members = read_cohort(model.config.source({"data": data} if data else {})).of_class(model.config.label)
        names = members.table["participant_id"]
        trained = names.map(model.config.participants.trained_on).to_numpy(bool)
        parts = [members.where(rows) for rows in (trained, ~trained)]
        training, held_out = (prepare(part, model.config.preparation) for part in parts)
        return cls(model, TrainingImages.of(training, parts[0]), held_out.pixels)


@dataclass(frozen=True, eq=False)
class Made:
    """Images of a row, and what is known of how they were made."""

    pixels: Tensor
    seconds: float = np.nan
    share: float = np.nan
    jacobian: float = np.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="*")
    parser.add_argument("--size", help="of made-up images, to take the time of")
    parser.add_argument("--data", help="where the cohort lies, if it has moved")
    parser.add_argument("--row", action="append", help="a detail, morph, or training people; may be given again")
    parser.add_argument("-n", type=int, default=200, help="images drawn of each class [200]")
    parser.add_argument("--weights", type=Path, help="of the FID Inception; may end after its layer Mixed_6e")
    parser.add_argument("--most-real", type=int, default=500, help="real people of a class that are compared with [500]")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.size:
        print(f"{given.size}: {seconds_of_detail(tuple(map(int, given.size.split('x')))):.3f} s an image, one thread")
        return
    rows = given.row or ROWS
    found = [_of_folder(folder, rows, given) for folder in given.models]
    parts = []
    for label in found[0]:
        header = list(found[0][label][rows[0]])
        lines: list[Row] = [("images", *header)]
        lines += [(row, *(_spread([one[label][row][name] for one in found], name) for name in header)) for row in rows]
        parts.append(f"### {label}\n\n{table(lines)}\n")
    publish("\n".join(parts), given.out)


def _of_folder(folder: Path, rows: Sequence[str], given: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """By class and row, the numbers by name."""
    models = load_models(folder)
    classes = {label: Class.read(model, given.data) for label, model in models.items()}
    extractors = _extractors(classes, given.weights)
    rng = np.random.default_rng(0)
    real = {label: one.held_out[rng.permutation(len(one.held_out))[: given.most_real]] for label, one in classes.items()}
    features = {label: {name: features_of(extractor, [real[label]]) for name, extractor in extractors.items()} for label in classes}
    found: dict[str, dict[str, dict[str, float]]] = {label: {} for label in classes}
    for row in rows:
        made = {label: _made(one, row, given.n) for label, one in classes.items()}
        apart = told_apart(torch.cat([one.pixels for one in made.values()]), torch.cat(list(real.values())))
        for label, one in classes.items():
            images = made[label]
            numbers = {"sharpness": sharpness(images.pixels) / sharpness(real[label]), "told apart": apart}
            some = images.pixels[: len(real[label])]
            for name, extractor in extractors.items():
                of_images = features_of(extractor, [some])
                numbers[f"FD {name}"] = frechet_distance_of_features(features[label][name][: len(some)], of_images)
                numbers[f"KID {name}"] = 1000 * kernel_distance(features[label][name], of_images)
            numbers |= _given_away(images.pixels, one, real[label], itself=row == TRAINING)
            numbers |= {"share": images.share, "Jacobian": images.jacobian, "seconds": images.seconds}
            found[label][row] = numbers
            told = ", ".join(f"{name} {value:.3g}" for name, value in numbers.items())
            print(f"{folder.name} {label} {row}: {told}", flush=True)
    return found


def _made(one: Class, row: str, n: int) -> Made:
    """So many images of a class; of the training people as many as there are."""
    if row == TRAINING:
        return Made(one.training.images.pixels)
    start = time.process_time()
    if row == MORPH:
        drawn = draw_morphs(one.training.images.pixels, one.training.people, n, seeded_generator(0, one.model.config.label, MORPH))
        return Made(drawn.pixels, (time.process_time() - start) / n)
    detail = None if row == NONE else Detail(Mosaic.parse(row), Donors.of(one.model, one.training))
    part = generate_class(one.model, n, seed=0, detail=detail)
    seconds = (time.process_time() - start) / n
    if part.detail is None:
        return Made(part.images.pixels, seconds)
    return Made(part.images.pixels, seconds, float(part.detail.shares.max()), part.detail.smallest_jacobian)


def seconds_of_detail(shape: tuple[int, ...]) -> float:
    """Seconds that the detail of an image takes, of people who are smooth noise with white noise on it."""
    n = 64 if len(shape) == 2 else 4
    generator = torch.Generator().manual_seed(0)

    def smooth(count: int) -> Tensor:
        coarse = torch.rand((count, 1, *[5] * len(shape)), generator=generator)
        return F.interpolate(coarse, shape, mode="bilinear" if len(shape) == 2 else "trilinear", align_corners=True)

    residuals = 0.1 * torch.randn((8, 1, *shape), generator=generator)
    people = tuple(map(str, range(8)))
    donors = Donors(smooth(8), residuals, torch.ones_like(residuals, dtype=torch.bool), torch.zeros(8, 2), people)
    decoded = smooth(n)
    start = time.process_time()
    add_detail(Mosaic(), donors, decoded, torch.zeros(n, 2), generator)
    return (time.process_time() - start) / n


def _given_away(images: Tensor, one: Class, real: Tensor, *, itself: bool) -> dict[str, float]:
    training = one.training.images.pixels
    everybody = torch.cat([training, real])
    trained = np.arange(len(everybody)) < len(training)
    if itself:
        return {"attack": np.nan, "to training": np.nan, "copies": np.nan}
    copies = screen_images(images, Patients.of(training, one.training.people), Gate(), looks=len(images))
    return {
        "attack": attack(-nearest_images(everybody, images)[0], trained, np.random.default_rng(0)).auc,
        "to training": float(np.median(nearest_images(images, training)[0])),
        "copies": len(copies),
    }


def sharpness(images: Tensor) -> float:
    """Mean squared Laplacian of images ``(n, channels, ...)``, without their border."""
    axes = range(2, images.ndim)
    inside = (slice(None), slice(None), *[slice(1, -1)] * len(axes))
    laplacian = sum(torch.roll(images, step, axis) for step in (-1, 1) for axis in axes) - 2 * len(axes) * images
    return float(laplacian[inside].square().mean())


def told_apart(images: Tensor, real: Tensor) -> float:
    """Area under the curve of a CNN that tells images from real ones that it was not trained on."""
    generator = torch.Generator().manual_seed(0)
    # As many as of real people, so that neither side is the better known.
    sides = [part[torch.randperm(len(part), generator=generator)] for part in (real, images)]
    sides[1] = sides[1][: max(len(real), 100)]
    halves = [part.tensor_split(2) for part in sides]
    return float(np.mean([_told_apart(halves, seen, generator) for seen in (0, 1)]))


def _told_apart(halves: Sequence[Sequence[Tensor]], seen: int, generator: torch.Generator) -> float:
    real, images = (half[seen] for half in halves)
    unseen = [half[1 - seen] for half in halves]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seen)
        network = CNN(tuple(real.shape[2:]), 2).train()
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-2)
    n_steps = STEPS[real.ndim - 2]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=n_steps)
    labels = torch.tensor([0.0] * BATCH + [1.0] * BATCH).long()
    for _ in range(n_steps):
        batch = torch.cat([part[torch.randint(len(part), (BATCH,), generator=generator)] for part in (real, images)])
        optimizer.zero_grad()
        F.cross_entropy(network(batch), labels).backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        scores = [torch.cat([network(batch) for batch in part.split(64)]).softmax(1)[:, 1].numpy() for part in unseen]
    return float(roc_auc_score(np.repeat([0, 1], [len(part) for part in scores]), np.concatenate(scores)))


def _extractors(classes: Mapping[str, Class], weights: Path | None) -> dict[str, Extractor]:
    found = {}
    if len(classes) > 1:
        parts = [one.training.images.pixels for one in classes.values()]
        images, labels = torch.cat(parts), torch.cat([torch.full((len(part),), number) for number, part in enumerate(parts)])
        found["cohort"] = classifier_extractor(cohort_classifier(images, labels, cohort_settings(len(images)), seed=0), device="auto")
    if weights is not None:
        volumes = next(iter(classes.values())).held_out.ndim == 5
        for dimension in (192, 768):
            extractor = inception_of_name(f"inception-{dimension}", weights)
            assert extractor is not None
            found[str(dimension)] = sliced(extractor) if volumes else extractor
    return found


def _spread(values: Sequence[float], name: str) -> str:
    digits = {"copies": 0, "share": 2, "told apart": 2, "attack": 2, "sharpness": 2, "Jacobian": 2, "seconds": 3, "to training": 3}
    if np.isnan(values).all():
        return "-"
    told = f"{np.mean(values):.{digits.get(name, 1)}f}"
    return told if len(values) == 1 else f"{told} ± {np.std(values, ddof=1):.{digits.get(name, 1)}f}"


if __name__ == "__main__":
    main()
