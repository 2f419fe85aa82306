"""Comparison of drawn images, before they are kept, with the training images or, where these cannot be read, with the latents."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from torch import Tensor

from ..fitting.model import FittedModel
from ..fitting.training_images import TrainingImages
from .copying import Patients, screen_images, screen_latents
from .gate import IMAGES, LATENTS, NOTHING, Gate


@dataclass(frozen=True)
class Screen:
    """A test of drawn images for whether they show a patient; its reasons name nobody, because they are handed on with the cohort.

    Parameters
    ----------
    compared : str
        What is compared: ``images``, ``latents only`` or ``nothing``.
    reason : str
        Fault of those that are found.
    find : callable
        From images ``(n, 1, ...)`` and the latents ``(n, D)`` that they were decoded from, the rows of those that show a patient.
    """

    compared: str
    reason: str
    find: Callable[[Tensor, Tensor], Collection[int]]

    def __call__(self, pixels: Tensor, latents: Tensor) -> dict[int, str]:
        """Why images are refused, by row."""
        return dict.fromkeys(sorted(self.find(pixels, latents)), self.reason)


def screen_of(model: FittedModel, training: TrainingImages | None, gate: Gate, *, n: int) -> Screen:
    """The screen of a model's draws.

    Parameters
    ----------
    model : FittedModel
    training : TrainingImages, optional
        The model's own; without them its latents are compared, and without posteriors nothing is.
    gate : Gate
    n : int
        Number of images that are asked for. The gate's ``level`` is shared out over so many, in every round of drawing alike: by the
        size of the round, an image would be kept among many and refused among few, and what replaces a copy would be held to another law.
    """
    posterior = model.latents.posterior_of_codes
    if training is not None:
        return screen_of_people(training, gate, n=n)
    if posterior is not None:
        return Screen(
            LATENTS,
            "the reconstruction of a training image",
            lambda _, latents: screen_latents(latents, posterior, gate, looks=n),
        )
    return Screen(NOTHING, "", lambda pixels, latents: ())


def screen_of_people(training: TrainingImages, gate: Gate, *, n: int) -> Screen:
    """The screen of what comes from these images; ``gate`` and ``n`` are as for ``screen_of``."""
    patients = Patients.of(training.images.pixels, training.people)
    return Screen(IMAGES, "a copy of a training image", lambda pixels, _: screen_images(pixels, patients, gate, looks=n))
