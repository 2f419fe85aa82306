"""Training images that a model's folder keeps, so that detail can be drawn where the cohort is not."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ...datasets.common.custody import is_inside
from ...datasets.transforms import Images
from .model import FittedModel
from .model_config import DAMAGES, damaged
from .tensors import write_tensors
from .training_images import TrainingImages

FILE = "detail.safetensors"


def keep_images(training: TrainingImages, folder: Path) -> None:
    """Write a model's training images into its folder, before it is sealed; of whose they are, only which are of the same person."""
    numbers = {name: i for i, name in enumerate(dict.fromkeys(training.people))}
    kept = {"images": training.images.pixels, "person": torch.tensor([numbers[name] for name in training.people])}
    if training.age is not None:
        kept["age"] = torch.tensor(training.age, dtype=torch.float64)
    write_tensors(folder / FILE, kept)


def kept_images(model: FittedModel, folder: Path) -> TrainingImages | None:
    """The training images in a model's folder, people called by numbers; ``None`` if it keeps none.

    Raises
    ------
    DataError
        If they are damaged, or not those that the model was trained on.
    """
    if not (folder / FILE).is_file():
        return None
    try:
        if not is_inside(folder / FILE, folder):
            raise ValueError(f"{FILE} is a link out of the folder")
        kept = load_file(folder / FILE)
        images, person, age = kept["images"], kept["person"], kept.get("age")
        if person.shape != images.shape[:1] or (age is not None and age.shape != person.shape):
            raise ValueError(f"{FILE} does not say whose its images are")
        people = tuple(f"training person {number + 1}" for number in person.tolist())
        training = TrainingImages(Images(images, model.config.space), people, None if age is None else tuple(age.tolist()))
        return training.in_order(model.order_of_training(images).tolist())
    except (*DAMAGES, SafetensorError) as error:
        raise damaged(folder, error) from error
