"""How good are the samples? Each cell trains a system on so many real images, unless another has, draws from it, and scores the draws.

The paper's Tables 1, 3, 6 and 7 and its Figures 3, 4 and 9 to 14 are grids of such cells (``plans.py``). Real images that no generator has
seen are a system like any other: their scores are the floor. All cells are scored against the same reference, block by block.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...augment.detail.mosaic import Detail
from ...augment.fitting.model import FittedModel, decode, placed
from ...augment.fitting.nearest import nearest_images
from ...augment.fitting.plan import FitPlan
from ...augment.release.generation import draw_latents
from ...datasets.common.compute import Device, choose_device
from ...datasets.common.errors import UsageError
from ...datasets.common.files import whole_file
from ...datasets.common.seeds import seeded_generator
from ...datasets.spaces import ImageSpace
from ...datasets.splits import Split
from ..engine.generators import fitted_once
from ..engine.study_config import RunContext
from ..engine.study_folder import seed_of, slug
from ..engine.systems import RECONSTRUCTION, System
from ..fidelity.command import TOGETHER
from ..fidelity.features import Extractor, Gathered
from ..fidelity.scores import MEASURES, Sample, score_against, title_of
from .config import FidelityConfig, Grid
from .data import CHUNK, HELD_OUT, REFERENCE, StudyData, load_extractor, real_sample, split_of_run
from .plans import RECONSTRUCTIONS

REAL = "real"  # the "model" of the floor
FLOOR_KEY = {"run": 0, "n": 0, "model": REAL, "sampler": HELD_OUT}
SHOWN, AUDITED = 12, 500  # samples of a class that are kept as pictures, and whose nearest training images are looked for
NEAREST_TRAINING = "nearest\ntraining image"
AFFINE, FLAT_AXIS = "affine", "flat_axis"  # names of these among a cell's pictures, which have a class and a slash in theirs
FEW_CENTROIDS = 4  # so few are kept as pictures too (Fig. 13)


def cells_of(grid: Grid) -> list[dict[str, Any]]:
    """Keys of the grid: the floor, then run by run, from the smallest size; a size of 0 is the whole training side."""
    keys: list[dict[str, Any]] = [FLOOR_KEY]
    parsed = [System.parse(text) for text in grid.systems]
    for run in range(grid.runs):
        for n in sorted(grid.sizes, key=lambda size: (size == 0, size)):
            keys += [{"run": run, "n": n, "model": system.trained_as, "sampler": system.drawn_as} for system in parsed]
    return keys


def run_cell(key: Mapping[str, Any], seed: int, folder: Path, *, device: Device = "auto") -> dict[str, Any]:
    """Compute one cell: score the samples of a system, or the real images that set the floor.

    Parameters
    ----------
    key : mapping
        ``run``, ``n`` (training participants, a fifth of which select; 0 for all of the training side), and ``model`` and ``sampler``, as
        ``System.trained_as`` and ``drawn_as`` say it.
    seed : int
        Of this cell.
    folder : Path
        Of the study.
    device : {"auto", "cpu", "gpu"}
        Where networks compute.
    """
    context = RunContext(folder, FidelityConfig.load(folder), device)
    scoring, data = context.config.scoring, StudyData.load(context)
    extractors = {name: load_extractor(name, context) for name in scoring.features}

    def real(side: str) -> dict[str, Sample]:
        return {name: real_sample(side, extractor, data) for name, extractor in extractors.items()}

    if key["model"] == REAL:
        images, labels = data.real(HELD_OUT)
        _keep_pictures(folder, key, {label: {"samples": images[labels == label][:SHOWN]} for label in data.sizes}, data.prepared.space)
        return _scored(real(HELD_OUT), {REFERENCE: real(REFERENCE)}, data)
    system, place = System.of_key(key), choose_device(device)
    split = split_of(key, data)
    samples, reconstructed = _Samples(extractors), _Samples(extractors)
    notes, pictures = {}, {}
    for label, n in data.sizes.items():
        model = fitted_model(system, label, split, key, data)
        latents, sampling = latents_of(system, model, n, seed, place)
        training = data.training_images(split, label)
        generator = seeded_generator(seed, label, "detail")
        images = samples.add(label, decoded(model, latents, place, system.detail(model, training, place), generator))
        references = {NEAREST_TRAINING: training.images.pixels}
        notes[label] = {"sampling": sampling, **_audited(images, references[NEAREST_TRAINING], model)}
        if RECONSTRUCTIONS in scoring.sides:
            codes = model.codes[torch.randperm(len(model.codes), generator=seeded_generator(seed, label, RECONSTRUCTIONS))[:n]]
            reconstructed.add(label, decoded(model, codes, place))
            references["nearest\nreconstruction"] = torch.cat(list(decoded(model, model.codes, place)))
        pictures[label] = _pictures(images, references, model)
    against = {side: reconstructed.samples() if side == RECONSTRUCTIONS else real(side) for side in scoring.sides}
    _keep_pictures(folder, key, pictures, data.prepared.space)
    return _scored(samples.samples(), against, data) | {"generators": notes}


class _Samples:
    """Features of images that come batch by batch, class by class; of the images themselves the first are kept."""

    def __init__(self, extractors: Mapping[str, Extractor]):
        self.extractors = extractors
        self.features = {name: Gathered() for name in extractors}
        self.labels: list[str] = []

    def add(self, label: str, batches: Iterator[Tensor]) -> Tensor:
        """Take the images of a class; returns the first ``AUDITED``."""
        kept, n = [], 0
        for batch in batches:
            for name, extractor in self.extractors.items():
                self.features[name].extend(extractor.features([batch]))
            if n < AUDITED:
                kept.append(batch[: AUDITED - n].clone())  # a view, even an empty one, would keep the whole batch
            n += len(batch)
        self.labels += [label] * n
        return torch.cat(kept)

    def samples(self) -> dict[str, Sample]:
        """All of them, by features."""
        labels = np.array(self.labels)
        return {name: Sample(self.features[name].array(), extractor.passport, labels) for name, extractor in self.extractors.items()}


def split_of(key: Mapping[str, Any], data: StudyData) -> Split:
    """Who is trained on in a cell."""
    return split_of_run(data.split, data.prepared.cohort, key["n"], key["run"], data.context.config.seed)


def fitted_model(system: System, label: str, split: Split, key: Mapping[str, Any], data: StudyData) -> FittedModel:
    """The model of a class: fitted once, shared by all systems that train alike, and with the metric that this one asks for."""
    config, models = data.context.config, data.context.folder / "models"
    shared = {"run": key["run"], "n": key["n"], "model": key["model"]}
    seed = seed_of(config.seed, {**shared, "of": "generators"})
    settings = replace(system.fit_settings(data.context.fit_settings()), seed=seed)
    name = slug({**shared, "class": label})
    plan = FitPlan(data.cohort, split, label, settings, config.data.cohort.digest)
    return system.with_metric(fitted_once(models / name, plan, models / f".fitting-{name}"))


def latents_of(system: System, model: FittedModel, n: int, seed: int, device: torch.device | None = None) -> tuple[Tensor, dict[str, Any]]:
    """Latents ``(n, D)`` of a system, and what its sampler tells; of reconstructions the codes of training images, in random order."""
    if system.sampler == RECONSTRUCTION:
        order = torch.randperm(len(model.codes), generator=seeded_generator(seed, model.config.label, RECONSTRUCTION))
        if n > len(order):
            raise UsageError(f"There are {len(order)} training images to reconstruct, and {n} cannot be scored; ask for fewer samples.")
        return model.codes[order[:n]], {}
    latents, diagnostics = draw_latents(model, n, sampler=system.sampler, seed=seed, device=device, **system.sampling(model))
    return latents, diagnostics.as_dict() | {"warnings": diagnostics.warnings()}


def decoded(
    model: FittedModel, latents: Tensor, device: torch.device, detail: Detail | None = None, generator: torch.Generator | None = None
) -> Iterator[Tensor]:
    """Images of latents, ``CHUNK`` at a time: however many there are, memory stays the same. Detail takes a generator."""
    with placed(model.autoencoder, device):
        for part in latents.split(CHUNK):
            images = decode(model.autoencoder, part)
            if detail is not None:
                assert generator is not None
                images = detail(images, part, generator, device).pixels
            yield images


def _audited(images: Tensor, training: Tensor, model: FittedModel) -> dict[str, Any]:
    """How the fit went, and how close samples come to training images beside what held-out images, decoded, do."""
    distances, _ = nearest_images(images, training)
    fit = model.config.diagnostics
    told = ("explained_train", "explained_validation", "held_out_decoded_nearest_median", "best_epoch")
    return {"nearest_median": float(np.median(distances)), **{name: fit[name] for name in told}}


def _pictures(images: Tensor, references: Mapping[str, Tensor], model: FittedModel) -> dict[str, Tensor]:
    """Some samples and what is nearest to each; where there are few centroids, each beside what lies around it (Fig. 13)."""
    shown = images[:SHOWN]
    found = {"samples": shown}
    for name, others in references.items():
        found[name] = others[nearest_images(shown, others)[1]]
    if model.metric is not None and len(model.metric.centroids) <= FEW_CENTROIDS:
        centroids = decode(model.autoencoder, model.metric.centroids)
        training = references[NEAREST_TRAINING]
        _, nearest_training = nearest_images(centroids, training)
        _, nearest_centroid = nearest_images(images, centroids)
        for i, centroid in enumerate(centroids):
            around = [centroid, training[nearest_training[i]], *images[nearest_centroid == i][: SHOWN - 2]]
            found[f"centroid {i + 1}, decoded;\nnearest training image;\nsamples"] = torch.stack(around)
    return found


def _keep_pictures(folder: Path, key: Mapping[str, Any], pictures: Mapping[str, Mapping[str, Tensor]], space: ImageSpace) -> None:
    """Write pictures by class and name, 8 bit, and, of those that lie in a world, what tells which side is up and how long a voxel is."""
    arrays = {
        f"{label}/{name}": (255 * images[:, 0]).round().to(torch.uint8).numpy()
        for label, named in pictures.items()
        for name, images in named.items()
    }
    if space.affine is not None:
        arrays[AFFINE] = np.asarray(space.affine)
    if space.flat_axis is not None:
        arrays[FLAT_AXIS] = np.asarray(space.flat_axis)
    with whole_file(pictures_path(folder, key)) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]


def pictures_path(folder: Path, key: Mapping[str, Any]) -> Path:
    """Where a cell keeps some of its images: an ``.npz`` of arrays ``class/name``, and their affine and flat axis if they have them."""
    return folder / "pictures" / f"{slug(key)}.npz"


def _scored(
    samples: Mapping[str, Sample],
    references: Mapping[str, Mapping[str, Sample]],
    data: StudyData,
) -> dict[str, Any]:
    """Scores by features, reference, class and measure."""
    measures = data.context.config.scoring.measures
    # One seed for all cells: the same rows of the reference in the same blocks, so that systems are compared in pairs.
    seed = seed_of(data.context.config.seed, {"of": "scores"})
    result: dict[str, Any] = {"scores": {}, "passports": {}, "sizes": {}}
    for name, sample in samples.items():
        result["passports"][name] = asdict(sample.passport)
        better = {title_of(title, sample.passport): MEASURES[measure].better for measure in measures for title in MEASURES[measure].names}
        result["scores"][name] = {}
        for side, of_features in references.items():
            reference = of_features[name]
            sizes = {label: min(n, int(np.sum(reference.labels == label))) for label, n in data.sizes.items()}
            result["sizes"][side] = sizes
            parts = {label: {label: n} for label, n in sizes.items()} | ({TOGETHER: sizes} if len(sizes) > 1 else {})
            result["scores"][name][side] = {
                label: {
                    title: {**asdict(found), "better": better[title]}
                    for title, found in score_against(reference, sample, part, measures=measures, seed=seed).items()
                }
                for label, part in parts.items()
            }
    return result
