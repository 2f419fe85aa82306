"""Is an image a copy of a training image? The evidence is how much nearer it is to one person than to anybody else.

How improbable the ratio of the two distances is, the law in ``datasets/likeness.py`` says.

A blurred image is nearer to everybody, which leaves its ratio alone; a distance by itself would call it a copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from torch import Tensor

from ...datasets.likeness import Closeness, aligned_distances, closeness_p, per_person, standardised
from ..posterior import Posterior
from .gate import Gate

FEWEST_PEOPLE = 3  # with fewer, nobody has two others to compare
FEWEST_POSTERIORS = 2  # a latent shows one of them where it could not be another's
EXAMPLES = 1000  # people whose ratios among all others tell what is usual; of more, as many spread evenly over them
REACH = {2: 2, 3: 1}  # voxels along each axis of slices, of volumes: as far as a shifted copy is looked for
CHUNK = 256  # images, or people, that are compared with all others at a time


def among_people(distances: ArrayLike, people: ArrayLike) -> tuple[NDArray[np.floating], list[str]]:
    """Distances ``(people, people)`` between the nearest images of each two, infinite on the diagonal, from those of images ``(m, m)``."""
    rows, names = per_person(np.asarray(distances).T, people)
    between, _ = per_person(rows.T, people)
    between = between.copy()
    np.fill_diagonal(between, np.inf)
    return between, names


def copies(closeness: Closeness, p: ArrayLike, names: Sequence[str], gate: Gate, *, where: str, looks: int) -> dict[int, str]:
    """The images that copy somebody, by row, and why: their ratio is at most the gate's, and too small for a new person's.

    Parameters
    ----------
    closeness : Closeness
    p : array (n,)
        p-values of ``closeness_p``.
    names : sequence of str
        Names of the people.
    gate : Gate
    where : str
        Where the distances were measured, for the reason.
    looks : int
        Number of p-values over which the gate's ``level`` is shared out (Bonferroni): the images, times the spaces in which they are
        looked at.
    """
    found = (np.asarray(p) <= gate.level / looks) & (closeness.ratio <= gate.ratio)
    return {
        int(row): f"a copy of {names[who]} ({where}: {ratio:.2f} times as far from them as from anybody else)"
        for row, who, ratio in zip(np.flatnonzero(found), closeness.person[found], closeness.ratio[found], strict=True)
    }


@dataclass(frozen=True, eq=False)
class Patients:
    """The people trained on, as images are compared with them: ``standardised`` images ``(m, voxels)``, and whose each is ``(m,)``."""

    images: Tensor
    people: NDArray[np.str_]

    @classmethod
    def of(cls, images: Tensor, people: Sequence[str], device: torch.device | None = None) -> "Patients":
        """The patients of images ``(m, 1, ...)``, by participant; others are compared with them on ``device``, by default the CPU."""
        return cls(standardised(images.to(device or torch.device("cpu"))), np.asarray(people).astype(str))

    @cached_property
    def ratios(self) -> NDArray[np.float64]:
        """Their own ratios, among themselves: what is usual."""
        return usual_ratios(self.images, self.people)


def screen_images(images: Tensor, patients: Patients, gate: Gate, *, looks: int) -> dict[int, str]:
    """The images ``(n, 1, ...)`` that copy a patient, by row, and why: in brightness and contrast of their own, but in place.

    Nothing can be told, and nothing is found, if there are fewer than 3 patients. ``looks`` is as for ``copies``.
    """
    names = np.unique(patients.people)
    if len(names) < FEWEST_PEOPLE:
        return {}
    place = patients.images.device
    chunks = (aligned_distances(standardised(chunk.to(place)), patients.images).cpu() for chunk in images.split(CHUNK))
    closeness = Closeness.joined([Closeness.of(per_person(distances, patients.people)[0]) for distances in chunks])
    p = closeness_p(closeness.ratio, patients.ratios)
    return copies(closeness, p, names.tolist(), gate, where="image", looks=looks)


def examples_of(people: NDArray[np.str_], most: int) -> NDArray[np.str_]:
    """The people whose ratios among all others tell what is usual: all, or as many as ``most``, spread evenly over their names."""
    names = np.unique(people)
    return names[np.linspace(0, len(names) - 1, min(len(names), most)).round().astype(int)]


def usual_ratios(images: Tensor, people: NDArray[np.str_]) -> NDArray[np.float64]:
    """Ratios ``(EXAMPLES,)`` of people among all others, by their ``standardised`` images ``(m, voxels)``; of fewer people, of each."""
    names, chosen, ratios = np.unique(people), examples_of(people, EXAMPLES), []
    for start in range(0, len(chosen), CHUNK):
        rows = np.isin(people, chosen[start : start + CHUNK])
        to_people, _ = per_person(aligned_distances(images[torch.from_numpy(rows)], images).cpu(), people)
        between, members = per_person(to_people.T, people[rows])
        others = np.where(names == np.array(members)[:, None], np.inf, between.T)
        ratios.append(Closeness.of(others).ratio)
    return np.concatenate(ratios)


def screen_latents(z: Tensor, posterior: Posterior, gate: Gate, *, looks: int) -> dict[int, str]:
    """The latents ``(n, D)`` that decode to the reconstruction of one patient, by row: nearer to a posterior's mean than its draws come.

    The squared distance in standard deviations follows the chi-squared law with D degrees for draws of that posterior, so that of ``looks``
    such draws any is called a reconstruction with probability ``gate.level`` at most: every patient is looked at. Where the latent may as
    well be a draw of another patient's posterior, as all may once the posterior has collapsed, it shows neither.
    """
    if len(posterior) < FEWEST_POSTERIORS:
        return {}
    chunks = z.split(max(1, CHUNK * EXAMPLES // len(posterior)))
    squares = torch.cat(
        [((rows[:, None] - posterior.mean) / posterior.std).square().sum(-1).topk(2, largest=False).values for rows in chunks]
    )
    nearest, second = squares.T.numpy()
    at_a_mean = nearest <= stats.chi2.ppf(gate.level / (looks * len(posterior)), posterior.dim)
    found = at_a_mean & (second > stats.chi2.isf(gate.level, posterior.dim))
    return {int(row): "the reconstruction of a patient: decoded from where their posterior has its mean" for row in np.flatnonzero(found)}
