"""What speaks for an image being a copy: how much nearer it is to one person, or to two, than to the next.

The ratio of the distances to the k-th and the next nearest person needs no limit of its own: real people's own ratios say how small it can
be by chance (`augment/release/copying.py`; with k - 1 others within the ball, -log ratio is exponential with mean 1 / (k d)). With k = 1 it
shows a copy; with k = 2 a blend of two, which is as near to both.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ...datasets.likeness import closeness_p
from .alignment import align
from .distances import View
from .material import AuditedClass
from .scales import SCALES

ALIGNED_AT = tuple(SCALES)[:2]  # those at which aligned images are compared: what hides from the others is seen in place
FEWEST = 3  # ratios of real people, from which nothing could be told otherwise


@dataclass(frozen=True, eq=False)
class Evidence:
    """The evidence on some images.

    Parameters
    ----------
    where : str
        Where they were compared.
    people : array (n, k)
        Names of the k nearest people.
    ratio, p : array (n,)
        How far the farthest of them is, as a share of the distance to the next; how probable so small a ratio is of a new person.
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

    def _reason(self, row: int) -> str:
        who, single = " and ".join(self.people[row]), len(self.people[row]) == 1
        what, farther = ("a copy", "them as from anybody else") if single else ("a blend", "both as from others")
        return f"{what} of {who} ({self.where}: {self.ratio[row]:.2f} times as far from {farther})"


@dataclass(frozen=True, eq=False)
class Look:
    """One way of looking at all images: the evidence on the synthetic ones, on held-out people, and on planted copies."""

    synthetic: Evidence
    held_out: Evidence
    planted: Evidence


def looks_of(view: View) -> Iterator[Look]:
    """For a copy and for a blend, as far as there are people enough."""
    names = np.array(view.patients)
    parts = [view.to_people[:, view.training], view.of_held_out, view.planted]
    real = [view.among[np.ix_(~view.training, view.training)], view.among_training]
    yield from _looks(view.space.name, [(part, np.broadcast_to(names, part.shape)) for part in parts], real, (1, 2))


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
        for look in _looks(f"{name}, aligned", named, [parts[1].distances[name], among.distances[name]], (1,)):
            yield replace(look, planted=look.planted.among(sought))


def _looks(
    where: str,
    parts: Sequence[tuple[NDArray[np.floating], NDArray[np.str_]]],
    real: Sequence[NDArray[np.floating]],
    numbers: Sequence[int],
) -> Iterator[Look]:
    for k in numbers:
        if parts[0][0].shape[1] <= k:
            continue
        usual = np.concatenate([_gaps(distances, k)[1] for distances in real])
        usual = usual[~np.isnan(usual)]
        if len(usual) >= FEWEST:
            yield Look(*(_evidence(where, distances, names, usual, k) for distances, names in parts))


def _evidence(where: str, distances: NDArray[np.floating], names: NDArray[np.str_], usual: ArrayLike, k: int) -> Evidence:
    nearest, ratio = _gaps(distances, k)
    return Evidence(where, np.take_along_axis(names, nearest, axis=1), ratio, closeness_p(ratio, usual))


def _gaps(distances: NDArray[np.floating], k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The k nearest columns ``(n, k)``, and the ratio ``(n,)`` of the distances to the last of them and the next; NaN without one."""
    order = np.argpartition(distances, np.arange(k + 1), axis=1)[:, : k + 1]
    last, following = np.take_along_axis(distances, order, axis=1)[:, k - 1 :].astype(np.float64).T
    ratio = np.divide(last, following, out=np.zeros_like(last), where=last > 0)
    return order[:, :k], np.where(np.isfinite(following), ratio, np.nan)
