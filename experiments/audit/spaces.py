"""Where images are compared: image, latent and feature space, each an embedding and a distance between what it embeds."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import euclidean_distances
from torch import Tensor

from ...augment.fitting.model import FittedModel, encode
from ...datasets.cohort import Cohort
from ...datasets.readers import Source
from ...datasets.transforms import Preparation
from ..fidelity.command import ComparisonRequest, build_extractor
from ..fidelity.features import Extractor, features_of
from .poses import posed_distances
from .scales import SCALES, Scale


@dataclass(frozen=True, eq=False)
class Space:
    """A way to compare images.

    Parameters
    ----------
    name : str
        For people.
    embed : callable
        From images ``(n, 1, ...)`` to arrays ``(n, ...)``.
    between : callable
        Distances ``(n, m)`` between arrays of ``embed``.
    shows_copies : bool
        Whether an image that is a copy here is set aside.
    measured : bool
        Whether the measures of memorisation are taken here.
    learnt : bool
        Whether it was learnt from the real people, held-out ones too, and not from the images: then people's distances are no yardstick
        for those of images, and only who was trained on can be asked, of whom it knows nothing.
    needs_model : bool
        Whether only who has the model can look here.
    """

    name: str
    embed: Callable[[Tensor], NDArray[Any]]
    between: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]
    shows_copies: bool = True
    measured: bool = True
    learnt: bool = False
    needs_model: bool = False


def image_spaces(device: torch.device | None = None) -> list[Space]:
    """Voxels at several scales, whatever the brightness and contrast, of the best of some poses: mirrored along an axis or not, shifted by
    some voxels. The first is of the images as they are, and the one that measures are of. They are compared on ``device``,
    by default the CPU."""
    return [_image_space(name, scale, device, measured=number == 0) for number, (name, scale) in enumerate(SCALES.items())]


def _image_space(name: str, scale: Scale, device: torch.device | None, *, measured: bool) -> Space:
    between = partial(posed_distances, device=device)
    return Space(name, lambda images: scale(images)[:, 0].numpy(), between, measured=measured)


def latent_space(model: FittedModel) -> Space:
    """The model's mean codes. Only who has the model sees them, and any code near a patient's decodes to what the model made of them,
    which may be little: no image is set aside for it."""
    return Space(
        "latent",
        lambda images: encode(model.autoencoder, images).double().numpy(),
        euclidean_distances,
        shows_copies=False,
        needs_model=True,
    )


def feature_space(extractor: Extractor) -> Space:
    """Features, which see what a shift, a turn or another contrast hide from voxels.

    The classifier of ``cohort`` has learnt from the real people and not from the images, so that people's ratios are no yardstick for
    theirs: it serves measures, which compare people with people, and no image is set aside for it.
    """
    learnt = extractor.passport.extractor == "cohort"
    return Space(
        f"features ({extractor.passport.extractor})",
        lambda images: features_of(extractor, [images]).astype(np.float64),
        euclidean_distances,
        shows_copies=not learnt,
        learnt=learnt,
    )


def audit_extractor(
    name: str, weights: Path | None, source: Source, real: Cohort, preparation: Preparation, seed: int, device: str = "cpu"
) -> Extractor:
    """The extractor ``name`` of ``augment fidelity``; ``cohort`` is trained on all real people.

    Had it been trained on those alone whom the models saw, it would itself tell them from the held-out ones.
    """
    request = ComparisonRequest(
        real=source, synthetic=(), preparation=preparation, extractor=name, weights=weights, seed=seed, device=device
    )
    return build_extractor(request, real, preparation)
