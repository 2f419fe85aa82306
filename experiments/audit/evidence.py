"""What speaks for an image being a copy, or a blend of two: how much nearer it is to one person than to the next.

The ratio of the distances to the nearest person and the next needs no limit of its own: real people's own ratios say how small it can be
by chance (`datasets/likeness.py`). Of images as they are it shows a copy; of what is left of them once the person nearest is taken out
(`blends.py`), a blend.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ...datasets.likeness import closeness_p
from .alignment import align
from .blends import remainders
from .distances import View
from .material import AuditedClass
from .scales import SCALES

ALIGNED_AT = tuple(SCALES)[:2]  # those at which aligned images are compared: what hides from the others is seen in place
BLENDS_AT = ("image blurred by 1 voxel", "local contrast")  # what noise hides, and what gamma or shading hide
FEWEST = 3  # ratios of real people, from which nothing could be told otherwise


@dataclass(frozen=True, eq=False)
class Evidence:
    """The evidence on some images.

    Parameters
    ----------
    where : str
        Where they were compared.
    people : array (n, k)
        The person whom each image shows, or the two: k is 1 or 2.
    ratio, p : array (n,)
        How far that person is (of two, the second, once the first is taken out), as a share of the distance to the next; how probable so
        small a ratio is of a new person.
    """

    where: str
    people: NDArray[np.str_]
    ratio: NDArray[np.float64]
    p: NDArray[np.float64]

    def copies(self, level: float) -> dict[int, str]:
        """The images that are improbable at ``level``, by row, and why."""
        return {int(row): self._reason(int(row)) for row in np.flatnonzero(self.p <= level)}

    def among(self, looked_at: NDArray[np.bool_]) -> "Evidence":
        """The evidence on more images ``(m,)``, of which those ``looked_at`` were, in this order; of the others there is none."""
        people = np.full((len(looked_at), self.people.shape[1]), "", dtype=self.people.dtype)
        ratio, p = np.full(len(looked_at), np.nan), np.ones(len(looked_at))
        people[looked_at], ratio[looked_at], p[looked_at] = self.people, self.ratio, self.p
        return Evidence(self.where, people, ratio, p)

    def beside(self, first: NDArray[np.str_]) -> "Evidence":
        """The evidence that images show these people ``(n,)`` as well."""
        return replace(self, people=np.concatenate([first[:, None], self.people], axis=1))

    def _reason(self, row: int) -> str:
        *first, who = self.people[row]
        farther = f"{self.ratio[row]:.2f} times as far from {who if first else 'them'} as from anybody else"
        if first:
            return f"a blend of {first[0]} and {who} ({self.where}: without {first[0]}, {farther})"
        return f"a copy of {who} ({self.where}: {farther})"


@dataclass(frozen=True, eq=False)
class Look:
    """One way of looking at all images: the evidence on the synthetic ones, on held-out people, and on planted copies."""

    synthetic: Evidence
    held_out: Evidence
    planted: Evidence


def looks_of(view: View) -> Iterator[Look]:
    """For a copy, as far as there are people enough."""
    names = np.array(view.patients)
    parts = [view.to_people[:, view.training], view.of_held_out, view.planted]
    real = [view.among[np.ix_(~view.training, view.training)], view.among_training]
    yield from _looks(view.space.name, [(part, np.broadcast_to(names, part.shape)) for part in parts], real)


def blend_looks(audited: AuditedClass, copied: torch.Tensor, device: torch.device | None = None) -> Iterator[Look]:
    """For a blend of two: whom each image is like once the person nearest to it is taken out of it."""
    training, owners = audited.training.images.pixels, np.array(audited.training.participants).astype(str)
    for name in BLENDS_AT:
        people = SCALES[name](training)[:, 0].numpy()
        seen = (SCALES[name](images)[:, 0].numpy() for images in (audited.synthetic.images.pixels, audited.held_out.images.pixels, copied))
        parts = [remainders(images, people, owners, device=device) for images in seen]
        among = remainders(people, people, owners, owners, device=device)
        named = [(part.distances, np.broadcast_to(part.names, part.distances.shape)) for part in parts]
        for look in _looks(name, named, [parts[1].distances, among.distances]):
            yield Look(
                *(each.beside(part.nearest) for each, part in zip((look.synthetic, look.held_out, look.planted), parts, strict=True))
            )


def aligned_looks(
    audited: AuditedClass, copied: torch.Tensor, sought: NDArray[np.bool_], device: torch.device | None = None
) -> Iterator[Look]:
    """For copies that were turned, scaled or bent: each image with the training people most like it brought to it.

    Of planted copies those that are ``sought`` ``(k,)`` alone: it takes longest, and the others were found in place.
    """
    training, owners = audited.training.images.pixels, np.array(audited.training.participants).astype(str)
    seen = (audited.synthetic.images.pixels, audited.held_out.images.pixels, copied[torch.from_numpy(np.flatnonzero(sought))])
    parts = [align(images, training, owners, scales=ALIGNED_AT, device=device) for images in seen]
    among = align(training, training, owners, owners, scales=ALIGNED_AT, device=device)
    for name in ALIGNED_AT:
        named = [(part.distances[name], owners[part.who]) for part in parts]
        for look in _looks(f"{name}, aligned", named, [parts[1].distances[name], among.distances[name]]):
            yield replace(look, planted=look.planted.among(sought))


def _looks(
    where: str, parts: Sequence[tuple[NDArray[np.floating], NDArray[np.str_]]], real: Sequence[NDArray[np.floating]]
) -> Iterator[Look]:
    if parts[0][0].shape[1] < 2:
        return
    usual = np.concatenate([_gaps(distances)[1] for distances in real])
    usual = usual[~np.isnan(usual)]
    if len(usual) >= FEWEST:
        yield Look(*(_evidence(where, distances, names, usual) for distances, names in parts))


def _evidence(where: str, distances: NDArray[np.floating], names: NDArray[np.str_], usual: ArrayLike) -> Evidence:
    nearest, ratio = _gaps(distances)
    return Evidence(where, np.take_along_axis(names, nearest[:, None], axis=1), ratio, closeness_p(ratio, usual))


def _gaps(distances: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The nearest column ``(n,)``, and the ratio ``(n,)`` of the distances to it and to the next; NaN without one."""
    first, second = np.partition(distances, 1, axis=1)[:, :2].astype(np.float64).T
    ratio = np.divide(first, second, out=np.zeros_like(first), where=(first > 0) & np.isfinite(second))
    return distances.argmin(axis=1), np.where(np.isfinite(second), ratio, np.nan)
