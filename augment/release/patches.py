"""Is a patch of an image one patient's? A twentieth of the image is compared at a time, as a whole image is, with the same place of all.

An image that is put together of several people's may be no copy of anybody, and still hold a piece of somebody.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...datasets.likeness import Closeness, aligned_distances, closeness_p, per_person, standardised
from .copying import FEWEST_PEOPLE, REACH, copies, examples_of
from .gate import Gate

SHARE = 0.05  # of an image's voxels, in a window
CHUNK = 512  # images compared with all others at a time
STEPS = {2: 3, 3: 4}  # to a window's width, so that a window lies within any patch of a tenth
# A window that is mostly exact background, or nearly constant, is alike in everybody.
LEAST_FOREGROUND = 0.5
LEAST_CONTRAST = 0.25  # standard deviation, as a share of the whole image's
EXAMPLES = 300  # people whose ratios tell what is usual at a place, of which there may be a hundred
LEAST_IMAGES = 0.5  # of the training images show something at a place, or it is not searched

Window = tuple[slice, ...]
Track = Callable[[Sequence[int]], Iterable[int]]


@dataclass(frozen=True, eq=False)
class Place:
    """How near images are to people at one place.

    Parameters
    ----------
    where : str
        The middle of the window, as shares of the sides.
    closeness : Closeness
        Of all images ``(n,)``; of those that show nothing here the distance is infinite and the ratio 1.
    p : array (n,)
        How probable it is that a new person comes so close to one; 1 of images that show nothing here.
    """

    where: str
    closeness: Closeness
    p: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Patches:
    """How near images are to people, place by place.

    Parameters
    ----------
    names : tuple of str
        The people.
    places : tuple of Place
        Those that were searched.
    """

    names: tuple[str, ...]
    places: tuple[Place, ...]

    def of(self, rows: slice) -> "Patches":
        """The patches of some of the images."""
        places = []
        for place in self.places:
            closeness = Closeness(place.closeness.distance[rows], place.closeness.ratio[rows], place.closeness.person[rows])
            places.append(Place(place.where, closeness, place.p[rows]))
        return Patches(self.names, tuple(places))

    def copies(self, gate: Gate, *, looks: int) -> dict[int, str]:
        """The images with a patch that copies somebody, by row, and why; ``looks`` is as for whole images."""
        found: dict[int, str] = {}
        for place in self.places:
            where = f"a patch at {place.where} of the sides"
            found = copies(place.closeness, place.p, self.names, gate, where=where, looks=looks * len(self.places)) | found
        return found

    def most_telling(self) -> dict[str, NDArray[Any]]:
        """Columns ``(n,)`` of the patch of each image that is least probably a new person's, of equal ones with the smallest ratio: whose
        is nearest, where it is, its ratio and p-value; empty where an image shows nothing. No columns if no place was searched."""
        if not self.places:
            return {}
        p, ratio, person, distance = (
            np.stack(columns, axis=1)
            for columns in zip(*((q.p, q.closeness.ratio, q.closeness.person, q.closeness.distance) for q in self.places), strict=True)
        )
        row, best = np.arange(len(p)), np.lexsort((ratio, p), axis=1)[:, 0]
        shows = np.isfinite(distance[row, best])
        return {
            "patch: nearest": np.where(shows, np.array(self.names)[person[row, best]], ""),
            "patch: place": np.where(shows, np.array([place.where for place in self.places])[best], ""),
            "patch: ratio": np.where(shows, ratio[row, best].round(6), np.nan),
            "patch: p": np.where(shows, p[row, best], np.nan),
        }


@dataclass(frozen=True, eq=False)
class PeoplesPatches:
    """People's images, with which others are compared place by place.

    Parameters
    ----------
    images : array (m, ...)
    people : array (m,)
        Whose each is.
    device : torch.device, optional
        Where they are compared; the CPU if left out.
    """

    images: NDArray[Any]
    people: NDArray[np.str_]
    device: torch.device | None = None
    _usual: dict[int, NDArray[np.float64]] = field(default_factory=dict, init=False)

    @cached_property
    def names(self) -> NDArray[np.str_]:
        """Of the people, each once."""
        return np.unique(self.people)

    @cached_property
    def _placed(self) -> Tensor:
        return torch.from_numpy(self.images).to(self.device or torch.device("cpu"))

    @cached_property
    def windows(self) -> list[tuple[Window, NDArray[np.bool_]]]:
        """The windows where half of the images show something, and which do."""
        least, found = least_contrast(self.images), []
        for window in windows(self.images.shape[1:]):
            showing = shows(self.images[:, *window], least)
            if len(set(self.people[showing])) >= FEWEST_PEOPLE and showing.mean() >= LEAST_IMAGES:
                found.append((window, showing))
        return found

    def usual_at(self, number: int) -> NDArray[np.float64]:
        """The people's own ratios among all others at one of the windows: what is usual; worked out once."""
        if number not in self._usual:
            self._usual[number] = self._own_ratios(*self.windows[number])
        return self._usual[number]

    def search(self, images: NDArray[Any], track: Track = iter) -> Patches:
        """Compare images ``(n, ...)`` with these, shifted by up to ``REACH`` voxels along each axis; ``track`` sees the places go by."""
        chunks, places = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)] or [images], []
        for number in track(range(len(self.windows))):
            (window, showing), usual = self.windows[number], self.usual_at(number)
            parts = [self._look(chunk, shows(chunk[:, *window], least_contrast(chunk)), window, showing, usual) for chunk in chunks]
            closeness = Closeness.joined([part.closeness for part in parts])
            places.append(Place(parts[0].where, closeness, np.concatenate([part.p for part in parts])))
        return Patches(tuple(self.names.tolist()), tuple(places))

    def _own_ratios(self, window: Window, showing: NDArray[np.bool_]) -> NDArray[np.float64]:
        around, people = self._around(window, showing), self.people[showing]
        examples = np.isin(people, examples_of(people, EXAMPLES))
        to_people, names = per_person(_shifted_distances(_middle(around[torch.from_numpy(examples)]), around), people)
        between, members = per_person(to_people.T, people[examples])
        return Closeness.of(np.where(np.array(names) == np.array(members)[:, None], np.inf, between.T)).ratio

    def _around(self, window: Window, showing: NDArray[np.bool_]) -> Tensor:
        """A window of those images that are ``showing``, and ``REACH`` voxels around it."""
        reach = REACH[len(window)]
        return self._placed[:, *(slice(part.start - reach, part.stop + reach) for part in window)][torch.from_numpy(showing)]

    def _look(
        self, images: NDArray[Any], here: NDArray[np.bool_], window: Window, showing: NDArray[np.bool_], usual: NDArray[np.float64]
    ) -> Place:
        """How near those images that show something at a window come to people, all of whom do."""
        everybody = Closeness(np.full(len(images), np.inf), np.ones(len(images)), np.zeros(len(images), dtype=np.int64))
        p = np.ones(len(images))
        if here.any():
            around, some = self._around(window, showing), torch.from_numpy(images[:, *window][here])
            distances, present = per_person(_shifted_distances(some.to(around.device), around), self.people[showing])
            found = Closeness.of(distances)
            everybody.distance[here], everybody.ratio[here] = found.distance, found.ratio
            everybody.person[here] = np.searchsorted(self.names, present)[found.person]
            p[here] = closeness_p(found.ratio, usual)
        where = ", ".join(f"{(part.start + part.stop) / 2 / side:.2f}" for part, side in zip(window, images.shape[1:], strict=True))
        return Place(where, everybody, p)


def windows(shape: Sequence[int]) -> list[Window]:
    """Windows of a twentieth of an image's voxels, overlapping, as far from the edge as they are shifted; none of a tiny image."""
    reach, axes = REACH[len(shape)], []
    for side in shape:
        width = max(1, round(side * SHARE ** (1 / len(shape))))
        room = side - 2 * reach - width
        corners = np.linspace(reach, reach + room, 1 + math.ceil(STEPS[len(shape)] * room / width)).round().astype(int) if room >= 0 else []
        axes.append([slice(int(corner), int(corner) + width) for corner in np.unique(corners)])
    return list(itertools.product(*axes))


def least_contrast(images: NDArray[Any]) -> NDArray[Any]:
    """The contrast ``(n,)`` below which a part of an image ``(n, ...)`` shows nothing."""
    return LEAST_CONTRAST * images.reshape(len(images), -1).std(axis=1)


def shows(parts: NDArray[Any], least: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each of ``parts`` ``(n, ...)`` is half foreground or more, with a contrast above ``least`` ``(n,)``."""
    rows = parts.reshape(len(parts), -1)
    return (np.mean(rows != 0, axis=1) >= LEAST_FOREGROUND) & (rows.std(axis=1) > least)


def _middle(around: Tensor) -> Tensor:
    """The windows of what has ``REACH`` voxels around them."""
    reach = REACH[around.ndim - 1]
    return around[:, *(slice(reach, side - reach) for side in around.shape[1:])]


def _shifted_distances(some: Tensor, around: Tensor) -> Tensor:
    """Aligned distances ``(n, m)`` on the CPU between windows and those of others, with what is ``around`` them, in the best shift of each
    two."""
    here, shape = standardised(some), some.shape[1:]
    nearest = torch.full((len(some), len(around)), math.inf, device=some.device)
    for shift in itertools.product(range(2 * REACH[len(shape)] + 1), repeat=len(shape)):
        there = standardised(around[:, *(slice(step, step + side) for step, side in zip(shift, shape, strict=True))])
        for start in range(0, len(some), CHUNK):
            part = slice(start, start + CHUNK)
            torch.minimum(nearest[part], aligned_distances(here[part], there), out=nearest[part])
    return nearest.cpu()
