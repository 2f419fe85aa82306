"""Synthetic images and real people in one space: all distances that an audit needs, measured once."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from ...augment.release.copying import among_people
from ...datasets.likeness import Closeness, closeness_p, per_person
from .material import AuditedClass
from .spaces import Space


@dataclass(frozen=True, eq=False)
class View:
    """Synthetic images and people in one space.

    Parameters
    ----------
    space : Space
    names : tuple of str
        Names of the people, trained on or held out.
    training : array (people,)
        True of those trained on.
    to_people, among : array (n, people), (people, people)
        As in ``measures``.
    nearest_image : array (n,)
        The training image that is nearest to each synthetic one.
    of_held_out, planted : array (m, training people), (k, training people)
        Distances of held-out people's images, and of planted copies.
    """

    space: Space
    names: tuple[str, ...]
    training: NDArray[np.bool_]
    to_people: NDArray[np.floating]
    among: NDArray[np.floating]
    nearest_image: NDArray[np.int64]
    of_held_out: NDArray[np.floating]
    planted: NDArray[np.floating]

    @cached_property
    def patients(self) -> list[str]:
        """The names of those trained on."""
        return [name for name, is_training in zip(self.names, self.training, strict=True) if is_training]

    @cached_property
    def among_training(self) -> NDArray[np.floating]:
        """Distances of those trained on to each other."""
        return self.among[np.ix_(self.training, self.training)]

    @cached_property
    def closeness(self) -> Closeness:
        """Closeness of the synthetic images to those trained on."""
        return Closeness.of(self.to_people[:, self.training])

    @cached_property
    def held_out(self) -> Closeness:
        """Closeness of held-out people to those trained on: the yardstick."""
        return Closeness.of(self.among[np.ix_(~self.training, self.training)])

    @cached_property
    def real_ratios(self) -> NDArray[np.float64]:
        """Ratios of real people: of the held-out to those trained on, and of these to each other."""
        return np.concatenate([self.held_out.ratio, Closeness.of(self.among_training).ratio])

    @cached_property
    def p(self) -> NDArray[np.float64]:
        """How probable it is that a new person is so close to one patient, for each synthetic image ``(n,)``."""
        return closeness_p(self.closeness.ratio, self.real_ratios)


def look(audited: AuditedClass, space: Space, copied: torch.Tensor) -> View:
    """Embed the images of a class, and planted copies ``(k, 1, ...)`` of its patients, once each, and measure all distances."""
    synthetic, training, held_out = (part.images.pixels for part in (audited.synthetic, audited.training, audited.held_out))
    people = (*audited.training.participants, *audited.held_out.participants)
    real = space.embed(torch.cat([training, held_out]))
    n = len(training)
    distances = space.between(space.embed(synthetic), real)
    to_people, names = per_person(distances, people)
    between = space.between(real, real)
    among, _ = among_people(between, people)
    of_held_out, _ = per_person(between[n:, :n], people[:n])
    to_patients, _ = per_person(space.between(space.embed(copied), real[:n]), people[:n])
    is_training = np.isin(names, audited.training.participants)
    return View(space, tuple(names), is_training, to_people, among, distances[:, :n].argmin(axis=1), of_held_out, to_patients)
