"""k-medoids of a distance matrix by FasterPAM (Schubert and Rousseeuw 2021, Sec. 3 and 4)."""

import numpy as np
from numpy.typing import NDArray

CHUNK_DISTANCES = 2**22  # looked at once: 16 MiB in float32, and twice that for their order
ROUNDING = 1e-10  # of the total: far above what sums of float64 lose, far below what a swap is worth


def faster_pam(distances: NDArray[np.float32], k: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Choose ``k`` medoids from random ones: every point is tried in turn, and a swap is made as soon as it lowers the total distance.

    Parameters
    ----------
    distances : numpy.ndarray
        ``(n, n)`` float32: symmetric, 0 on the diagonal.
    k : int
        From 1 to n - 1.
    generator : numpy.random.Generator
        Randomness of the first medoids and of the order in which points are tried; advanced.

    Returns
    -------
    numpy.ndarray
        ``(k,)`` distinct rows, in no order. No swap of one of them for another point lowers the sum over points of the distance to the
        nearest medoid. Held beside ``distances``: some vectors of n.
    """
    if k == 1:  # no second medoid to fall back on, and no search
        return distances.sum(axis=1, dtype=np.float64).argmin()[None]
    clusters = _Clusters(distances, generator.choice(len(distances), size=k, replace=False))
    order, since_swap = generator.permutation(len(distances)), 0
    while True:
        for candidate in order:
            if since_swap == len(order):
                return clusters.medoids
            since_swap += 1
            if not clusters.is_medoid[candidate]:
                slot, change = clusters.best_swap(candidate)
                if change < -ROUNDING * clusters.total:
                    clusters.swap(slot, candidate)
                    since_swap = 0


class _Clusters:
    """Medoids by slot ``(k,)``, and of every point the slots of its nearest and second medoid and the distances to these ``(n,)``."""

    def __init__(self, distances: NDArray[np.float32], medoids: NDArray[np.intp]):
        n = len(distances)
        self.distances, self.medoids = distances, medoids
        self.is_medoid = np.zeros(n, dtype=bool)
        self.is_medoid[medoids] = True
        self.nearest, self.second = np.empty(n, dtype=np.intp), np.empty(n, dtype=np.intp)
        self.to_nearest, self.to_second = np.empty(n, dtype=np.float32), np.empty(n, dtype=np.float32)
        self._assign(np.arange(n))
        self._sum_up()

    def best_swap(self, candidate: np.intp) -> tuple[np.intp, float]:
        """The slot whose medoid the candidate best replaces, and how that changes the total (Sec. 4.1: all k at the price of one)."""
        row = self.distances[candidate]
        # To all others it makes no difference which medoid goes, but for what they lose by it.
        touched = np.flatnonzero(row < self.to_second)
        # In float64, in which sums of float32 are exact enough that no two swaps undo each other for ever.
        to_candidate, to_nearest = row[touched].astype(np.float64), self.to_nearest[touched]
        gained = np.minimum(to_candidate - to_nearest, 0).sum()
        spared = np.maximum(to_candidate, to_nearest) - self.to_second[touched]
        change = self.removal + np.bincount(self.nearest[touched], spared, len(self.medoids))
        slot = change.argmin()
        return slot, float(change[slot] + gained)

    def swap(self, slot: np.intp, candidate: np.intp) -> None:
        """Let the candidate take the slot of a medoid."""
        self.is_medoid[self.medoids[slot]] = False
        self.is_medoid[candidate] = True
        self.medoids[slot] = candidate
        lost = np.flatnonzero((self.nearest == slot) | (self.second == slot))
        row = self.distances[candidate]
        first = row < self.to_nearest
        between = (row < self.to_second) & ~first
        self.second[first], self.to_second[first] = self.nearest[first], self.to_nearest[first]
        self.nearest[first], self.to_nearest[first] = slot, row[first]
        self.second[between], self.to_second[between] = slot, row[between]
        self._assign(lost)
        self._sum_up()

    def _assign(self, points: NDArray[np.intp]) -> None:
        """Find the two nearest medoids of these points."""
        rows = max(1, CHUNK_DISTANCES // len(self.medoids))
        for start in range(0, len(points), rows):
            part = points[start : start + rows]
            distances = self.distances[part[:, None], self.medoids]
            two = np.argpartition(distances, 1, axis=1)[:, :2]
            self.nearest[part], self.second[part] = two.T
            self.to_nearest[part], self.to_second[part] = np.take_along_axis(distances, two, axis=1).T

    def _sum_up(self) -> None:
        """The total distance, and by how much it grows where a medoid goes ``(k,)``."""
        self.total = float(self.to_nearest.sum(dtype=np.float64))
        self.removal = np.bincount(self.nearest, self.to_second.astype(np.float64) - self.to_nearest, len(self.medoids))
