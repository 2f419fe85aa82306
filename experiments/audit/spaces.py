"""Where images are compared: image, latent and feature space, each an embedding and a distance between what it embeds."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import euclidean_distances
from torch import Tensor

from ...augment.copying import aligned_distances, standardised
from ...augment.model import FittedModel, encode
from ...datasets.cohort import Cohort
from ...datasets.readers import Source
from ...datasets.splits import split_cohort
from ...datasets.transforms import Preparation
from ..features import Extractor
from ..fidelity.compare import Request, build_extractor

REACH = {2: 2, 3: 1}  # voxels along each axis of slices, of volumes: as far as a shifted copy is looked for


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
    """

    name: str
    embed: Callable[[Tensor], NDArray[Any]]
    between: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]
    shows_copies: bool = True


def image_space() -> Space:
    """Voxels, whatever the brightness and contrast, of the best of some poses: mirrored along an axis or not, shifted by some voxels."""
    return Space("image", standardised, posed_distances)


def latent_space(model: FittedModel) -> Space:
    """The model's mean codes. Only who has the model sees them, and any code near a patient's decodes to what the model made of them,
    which may be little: no image is set aside for it."""
    return Space("latent", lambda images: encode(model.autoencoder, images).double().numpy(), euclidean_distances, shows_copies=False)


def feature_space(extractor: Extractor) -> Space:
    """Features, which see what a shift, a turn or another contrast hide from voxels."""
    return Space(
        f"features ({extractor.passport.extractor})",
        lambda images: np.concatenate(list(extractor.features([images]))).astype(np.float64),
        euclidean_distances,
    )


def audit_extractor(name: str, weights: Path | None, source: Source, real: Cohort, preparation: Preparation, seed: int) -> Extractor:
    """The extractor ``name`` of ``augment fidelity``; ``cohort`` is trained on all real people.

    Had it been trained on those alone whom the models saw, it would itself tell them from the held-out ones. Who selects its weights is
    drawn among all too, so official sides are not followed.
    """
    everyone = replace(real, table=real.table.drop(columns="split", errors="ignore"))
    split = split_cohort(everyone, fractions={"train": 0.8, "validation": 0.2}, seed=seed) if name == "cohort" else None
    request = Request(real=source, synthetic=(), preparation=preparation, extractor=name, weights=weights, seed=seed)
    return build_extractor(request, everyone, preparation, split)


def posed_distances(some: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """Distances ``(n, m)`` between ``standardised`` images ``(n, ...)`` and the best pose of each other one ``(m, ...)``: symmetric."""
    nearest = None
    for posed in poses(others):
        distances = aligned_distances(some, posed)
        nearest = distances if nearest is None else np.minimum(nearest, distances)
    assert nearest is not None
    return nearest


def poses(images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Images ``(n, ...)`` mirrored along no axis or one, each shifted by up to ``REACH`` voxels; past one edge they enter at the other."""
    axes = tuple(range(1, images.ndim))
    reach = REACH[len(axes)]
    for mirrored in (None, *axes):
        turned = images if mirrored is None else np.flip(images, mirrored)
        for shift in itertools.product(range(-reach, reach + 1), repeat=len(axes)):
            yield np.roll(turned, shift, axis=axes)
