"""What is left of images once the person nearest to each is taken out of them: of a blend, the other person.

A blend of two people lies on the line between their images. What a regression on the one leaves of it points to what that leaves of the
other, and to nobody else, be the other's share a half or a tenth. Of an honest image, what is left points a little nearer to one person
than to the next, as images themselves do, and by the same law (`datasets/likeness.py`).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ...datasets.likeness import aligned_distances, per_person, standardised
from .poses import CHUNK, Pose, poses_by_shift

LEAST = 1e-2  # distance to the person nearest, below which nothing is left but rounding


@dataclass(frozen=True, eq=False)
class Remainders:
    """How near what is left of images is to people.

    Parameters
    ----------
    nearest : array (n,)
        Whom each image is nearest to: the person who was taken out of it.
    names : array (people,)
        The people.
    distances : array (n, people)
        Distances, in [0, 2], between what is left of images and of people; infinite of those with whom an image is not compared.
    """

    nearest: NDArray[np.str_]
    names: NDArray[np.str_]
    distances: NDArray[np.float64]


def remainders(
    images: NDArray[np.floating],
    people: NDArray[np.floating],
    owners: ArrayLike,
    own: ArrayLike | None = None,
    device: torch.device | None = None,
) -> Remainders:
    """Take out of images ``(n, ...)`` who is nearest to each, of ``people`` ``(m, ...)`` that show ``owners`` ``(m,)``, and compare.

    Everybody is compared with an image in one pose: that in which it is nearest to anybody.

    Parameters
    ----------
    images, people : array
    owners : array (m,)
    own : array (n,), optional
        Whom the images show, with whom they are not compared.
    device : torch.device, optional
        Where images are compared; the CPU if left out.
    """
    place = device or torch.device("cpu")
    fixed, moving = torch.from_numpy(images).to(place), torch.from_numpy(people).to(place)
    whose = np.asarray(owners).astype(str)
    barred = np.zeros((len(images), len(people)), dtype=bool) if own is None else np.asarray(own).astype(str)[:, None] == whose
    shifts = list(poses_by_shift(images.shape[1:]))
    pose, nearest = _nearest(fixed, moving, torch.from_numpy(barred).to(place), shifts)
    barred |= whose[nearest][:, None] == whose
    distances = np.full(barred.shape, np.inf)
    for number, way in enumerate(way for ways in shifts for way in ways):
        in_pose = np.flatnonzero(pose == number)
        if not len(in_pose):
            continue
        others = standardised(way.of_others(moving))
        for rows in np.split(in_pose, range(CHUNK, len(in_pose), CHUNK)):
            some = standardised(way.of_one(fixed[torch.from_numpy(rows).to(place)]))
            left = _left(some, others, torch.from_numpy(nearest[rows]).to(place))
            distances[rows] = np.where(barred[rows], np.inf, left.cpu().numpy())
    to_people, names = per_person(distances, whose)
    return Remainders(whose[nearest], np.array(names), to_people.astype(np.float64))


def _nearest(images: Tensor, people: Tensor, barred: Tensor, shifts: list[list[Pose]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """In which pose each image is nearest to anybody ``(n,)``, and to whose image ``(n,)``; not to those who are ``barred`` ``(n, m)``."""
    best = torch.full((len(images),), torch.inf, device=images.device)
    pose, nearest = (torch.zeros(len(images), dtype=torch.int64, device=images.device) for _ in range(2))
    for number, ways in enumerate(shifts):
        moved = [standardised(way.of_others(people)) for way in ways]
        for start in range(0, len(images), CHUNK):
            part = slice(start, start + CHUNK)
            rows = standardised(ways[0].of_one(images[part]))
            for mirroring, others in enumerate(moved):
                least, who = aligned_distances(rows, others).masked_fill_(barred[part], torch.inf).min(dim=1)
                nearer = least < best[part]
                best[part] = torch.where(nearer, least, best[part])
                pose[part] = torch.where(nearer, number * len(ways) + mirroring, pose[part])
                nearest[part] = torch.where(nearer, who, nearest[part])
    return pose.cpu().numpy(), nearest.cpu().numpy()


def _left(images: Tensor, people: Tensor, nearest: Tensor) -> Tensor:
    """Distances ``(n, m)`` between what the ``nearest`` ``(n,)`` of the people leaves of images and of people, all ``standardised``.

    With unit rows x, y and a, what a leaves of x is x - (x, a) a, and the product of two remainders (x, y) - (x, a) (y, a).
    """
    taken = people[nearest]
    of_images = (images * taken).sum(dim=1, keepdim=True).double()
    of_people = (taken @ people.T).double()
    product = (images @ people.T).double() - of_images * of_people
    lengths = [(1 - along.square()).clamp(min=0).sqrt() for along in (of_images, of_people)]
    # Where nothing is left, it is like nobody: as far from all as what has nothing to do with them.
    something = (lengths[0] > LEAST) & (lengths[1] > LEAST)
    correlation = torch.where(something, product / (lengths[0] * lengths[1]).clamp(min=LEAST**2), 0.0)
    return (2 - 2 * correlation).clamp(min=0).sqrt()
