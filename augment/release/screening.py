"""Comparison of drawn images, before they are kept, with the training images or, where these cannot be read, with the latents."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..fitting.model import FittedModel
from ..fitting.training_images import TrainingImages
from .copying import FEWEST_PEOPLE, FEWEST_POSTERIORS, Patients, screen_images, screen_latents
from .gate import IMAGES, LATENTS, NOTHING, Gate
from .patches import PeoplesPatches, Track

COPY, PIECE = "a copy of a training image", "with a piece of a training image"
RECONSTRUCTION = "the reconstruction of a training image"


@dataclass(frozen=True)
class Screen:
    """A test of drawn images for whether they show a patient; its reasons name nobody, because they are handed on with the cohort.

    Parameters
    ----------
    compared : str
        What is compared: ``images``, ``latents only`` or ``nothing``.
    find : callable
        From images ``(n, 1, ...)`` and the latents ``(n, D)`` that they were decoded from, why some are refused, by row.
    in_pieces : bool
        Whether pieces of the images are compared too.
    """

    compared: str
    find: Callable[[Tensor, Tensor], Mapping[int, str]]
    in_pieces: bool = False

    def __call__(self, pixels: Tensor, latents: Tensor) -> dict[int, str]:
        """Why images are refused, by row."""
        return dict(sorted(self.find(pixels, latents).items()))


def screen_of(
    model: FittedModel,
    training: TrainingImages | None,
    gate: Gate,
    *,
    n: int,
    in_pieces: bool = False,
    track: Track = iter,
    device: torch.device | None = None,
) -> Screen:
    """The screen of a model's draws.

    Parameters
    ----------
    model : FittedModel
    training : TrainingImages, optional
        The model's own; without them its latents are compared. Of too few people to tell a copy by, and without posteriors, nothing is.
    gate : Gate
    n : int
        Number of images that are asked for. The gate's ``level`` is shared out over so many, in every round of drawing alike: by the
        size of the round, an image would be kept among many and refused among few, and what replaces a copy would be held to another law.
    in_pieces : bool
        Whether pieces of the images are compared too, place by place, if there is a place: of images that are made of several people's.
    track : callable
        Sees the places of the pieces go by, round by round.
    device : torch.device, optional
        Where images are compared; the CPU if left out.
    """
    posterior = model.latents.posterior_of_codes
    if training is not None:
        return screen_of_people(training, gate, n=n, in_pieces=in_pieces, track=track, device=device)
    if posterior is not None and len(posterior) >= FEWEST_POSTERIORS:
        return Screen(LATENTS, lambda _, latents: dict.fromkeys(screen_latents(latents, posterior, gate, looks=n), RECONSTRUCTION))
    return _NO_SCREEN


def screen_of_people(
    training: TrainingImages, gate: Gate, *, n: int, in_pieces: bool = False, track: Track = iter, device: torch.device | None = None
) -> Screen:
    """The screen of what comes from these images; the others are as for ``screen_of``."""
    pixels, people = training.images.pixels, np.asarray(training.people).astype(str)
    if len(set(people)) < FEWEST_PEOPLE:
        return _NO_SCREEN
    searched = PeoplesPatches(pixels.mean(1).numpy(), people, device) if in_pieces else None
    # Tiny images, and those that are mostly background, have no place to look at.
    pieces = searched if searched is not None and searched.windows else None
    patients, looks = Patients.of(pixels, training.people, device), n * (1 if pieces is None else 2)

    def find(pixels: Tensor, _: Tensor) -> dict[int, str]:
        found = {} if pieces is None else dict.fromkeys(pieces.search(pixels.mean(1).numpy(), track).copies(gate, looks=looks), PIECE)
        return found | dict.fromkeys(screen_images(pixels, patients, gate, looks=looks), COPY)

    return Screen(IMAGES, find, in_pieces=pieces is not None)


_NO_SCREEN = Screen(NOTHING, lambda pixels, latents: {})
