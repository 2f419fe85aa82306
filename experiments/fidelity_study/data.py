"""The real side of a study of fidelity: its images, its split, and the features of what samples are compared with.

Nothing here knows of generators, but for what one is trained on. The side ``test`` is the reference; the side ``validation``, which no
generator of a size study sees, sets the floor. What is costly (features of thousands of images, the classifier of the features ``cohort``)
is made once and kept in the folder.
"""

from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...augment.fitting.training_images import TrainingImages
from ...classifiers.network import CNN
from ...datasets.cohort import Cohort
from ...datasets.common.errors import DataError, UsageError
from ...datasets.common.files import expanded
from ...datasets.common.seeds import derived_seed
from ...datasets.splits import Split, split_cohort
from ...datasets.training_sizes import of_training_size
from ...datasets.transforms import Images
from ..engine.study_config import RunContext
from ..engine.study_folder import configuration_digest, digest, seed_of
from ..engine.study_images import Prepared, make_once
from ..fidelity.features import (
    BF16,
    Extractor,
    classifier_extractor,
    cohort_classifier,
    cohort_settings,
    features_of,
    inception_of_name,
    sliced,
)
from ..fidelity.scores import FEWEST, Sample
from .config import FidelityConfig
from .plans import ALL, TEST, VALIDATION

EVERYTHING = "all"  # the one class of a cohort whose classes are generated together
REFERENCE, HELD_OUT = TEST, VALIDATION
INCEPTION = ("inception-64", "inception-192", "inception-768", "inception-2048")
FEATURES = ("cohort", *INCEPTION, *(f"{name}{BF16}" for name in INCEPTION[1:]))
CLASSIFIER_IMAGES = 10_000  # real ones, at most, that the features 'cohort' are learnt on
CHUNK = 256  # images that are looked at at a time


@dataclass(frozen=True, eq=False)
class StudyData:
    """The images of a study, and who is on which side.

    Parameters
    ----------
    context : RunContext
        Of the study.
    prepared : Prepared
        With the cohort's own labels.
    cohort : Cohort
        With the labels by which generators are fitted: ``EVERYTHING``, or, per class, its own.
    split : Split
        The official one, or one that is drawn for the study: all runs test on the same people.
    sizes : dict
        From each label of ``cohort`` to how many images of it everything is scored by.
    """

    context: RunContext[FidelityConfig]
    prepared: Prepared
    cohort: Cohort
    split: Split
    sizes: dict[str, int]

    @classmethod
    def load(cls, context: RunContext[FidelityConfig]) -> "StudyData":
        """The data of a study; those of the last are kept in memory, because a worker does many of its cells."""
        return _load(context)

    def real(self, side: str) -> tuple[Tensor, np.ndarray]:
        """The real images ``(n, 1, ...)`` of a side that are scored, or scored by, and their labels ``(n,)``."""
        found = [self._images(self.split, side, label) for label in self.sizes]
        order = np.random.default_rng(derived_seed(0, "real", side))
        chosen = [images[order.permutation(len(images))[:n]] for images, n in zip(found, self.sizes.values(), strict=True)]
        return torch.cat(chosen), np.repeat(list(self.sizes), list(self.sizes.values()))

    def training_images(self, split: Split, label: str) -> TrainingImages:
        """The images that a generator is fitted on, and whose they are."""
        images = Images(self._images(split, "train", label), self.prepared.space)
        return TrainingImages.of(images, split.side(self.cohort.of_class(label), "train"))

    def _images(self, split: Split, side: str, label: str) -> Tensor:
        assert self.cohort.arrays is not None
        rows = split.side(self.cohort.of_class(label), side).table["image"].to_numpy(dtype=int)
        return torch.from_numpy(self.cohort.arrays[rows])[:, None]


@lru_cache(maxsize=1)
def _load(context: RunContext[FidelityConfig]) -> StudyData:
    config = context.config
    prepared = Prepared.load(context.folder, config.data)
    split = split_of_study(prepared.cohort, config.seed)
    cohort = prepared.cohort if config.scoring.per_class else in_one_class(prepared.cohort)
    return StudyData(context, prepared, cohort, split, sizes_of(cohort, split, config.scoring.n_samples))


def split_of_study(cohort: Cohort, seed: int) -> Split:
    """The official sides of a cohort that knows who is alike, or those that a study of this seed draws."""
    return split_cohort(cohort, seed=seed_of(seed, {"of": "split"}))


def split_of_run(split: Split, cohort: Cohort, n: int, run: int, seed: int) -> Split:
    """Who of a study's split is trained on in a run: with a limited size part of the training side, and nobody of another side."""
    return split if n == ALL else of_training_size(split, cohort, n, seed_of(seed, {"run": run, "of": "subset"}))


def in_one_class(cohort: Cohort) -> Cohort:
    """The same images as one class, of which one generator is trained."""
    return replace(cohort, table=cohort.table.assign(label=EVERYTHING))


def sizes_of(cohort: Cohort, split: Split, n_samples: int) -> dict[str, int]:
    """Of each class ``n_samples``, or what the smaller of the two real sides has; raise a ``DataError`` if that is too few."""
    tables = [split.side(cohort, side).table["label"] for side in (REFERENCE, HELD_OUT)]
    real = {label: min(int((table == label).sum()) for table in tables) for label in cohort.labels}
    few = {label: n for label, n in real.items() if n < FEWEST}
    if few:
        less = "" if cohort.labels == [EVERYTHING] else ", or leave out --per-class"
        raise DataError(
            f"To score by takes {FEWEST} images on the test and on the validation side, a tenth of the participants; {cohort.name} has "
            f"{', '.join(f'{n} ({label})' for label, n in few.items())}: take a larger cohort{less}."
        )
    return {label: min(n_samples, n) for label, n in real.items()}


@lru_cache(maxsize=len(FEATURES))
def load_extractor(name: str, context: RunContext[FidelityConfig]) -> Extractor:
    """The features ``name`` of a study; the classifier of ``cohort`` is trained if it is not there yet.

    Raises
    ------
    UsageError
        If there are no such features, or Inception's weights are not given.
    DataError
        If these are not the weights that the study was started with.
    """
    if name == "cohort":
        return _classifier(context)
    config = context.config
    extractor = inception(name, config.where.weights, context.device)
    if extractor.passport.weights != config.scoring.weights:
        raise DataError(f"{config.where.weights} is not the file of weights that the study was started with; restore it.")
    return sliced(extractor) if len(_shape(config)) == 3 else extractor


def inception(name: str, weights: str | None, device: str = "cpu") -> Extractor:
    """The features ``inception-<dimension>``, or ``inception-<dimension>-bf16``, from a file of weights.

    Raises
    ------
    UsageError
        If there are no such features, or no weights.
    """
    # One name for the same features: the abbreviation 'inception' is none here.
    extractor = inception_of_name(name, None if weights is None else expanded(weights), device=device) if name in FEATURES else None
    if extractor is None:
        raise UsageError(f"There are no features '{name}'; choose among: {', '.join(FEATURES)}.")
    return extractor


def _shape(config: FidelityConfig) -> tuple[int, ...]:
    """Of the prepared images: a study's configuration has it settled."""
    assert config.data.preparation.size is not None
    return config.data.preparation.size


def _classifier(context: RunContext[FidelityConfig]) -> Extractor:
    """Trained on real images of the training side: what is scored is unknown to it."""
    # Whose folder it is may have been begun with other settings, and left before anything was scored.
    data, place = StudyData.load(context), context.folder / "classifier" / configuration_digest(context.config.content())[:16]
    shape, n_classes = _shape(context.config), len(data.prepared.classes)

    def train(temporary: Path) -> None:
        part = data.prepared.side(data.split, "train")
        seed = derived_seed(context.config.seed, "extractor")
        chosen = torch.randperm(len(part.images), generator=torch.Generator().manual_seed(seed))[:CLASSIFIER_IMAGES]
        settings = replace(cohort_settings(len(chosen)), device=context.device)
        learnt = cohort_classifier(part.images[chosen], part.labels[chosen], settings, seed=seed)
        save_file(learnt.state_dict(), temporary / "model.safetensors")

    make_once(place, train)
    network = CNN(shape, n_classes)
    network.load_state_dict(load_file(place / "model.safetensors"))
    return classifier_extractor(network.eval(), device=context.device)


def real_sample(side: str, extractor: Extractor, data: StudyData) -> Sample:
    """Features of a real side, from the study's cache, which may be deleted at any time."""
    images, labels = data.real(side)
    known_by = digest({"passport": asdict(extractor.passport), "configuration": configuration_digest(data.context.config.content())})
    place = data.context.folder / "cache" / f"{side}-{known_by[:16]}"
    make_once(place, lambda temporary: np.save(temporary / "features.npy", features_of(extractor, images.split(CHUNK))))
    return Sample(np.load(place / "features.npy", allow_pickle=False), extractor.passport, labels)
