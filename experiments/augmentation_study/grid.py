"""The cells of an augmentation study: every method, in its modes, run by run."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from .config import Grid
from .methods import method_of

REAL = "real"  # the mode of a method that generates nothing


def cells_of(grid: Grid) -> list[dict[str, Any]]:
    """Keys of the grid, run by run: a method that generates has one cell a mode, another has one cell.

    Raises
    ------
    UsageError
        If there is no such method.
    """
    of_a_run = [
        {"method": method, "mode": mode} for method in grid.methods for mode in (grid.modes if method_of(method).generates else (REAL,))
    ]
    return [{"run": run, **cell} for run in range(grid.runs) for cell in of_a_run]


def staggered(cells: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The cells, every run's begun at another of them.

    Where runs share their generators, those that are computed at the same time would otherwise all fit the same one.
    """
    golden = (math.sqrt(5) - 1) / 2  # whose multiples, taken modulo 1, lie far apart however many there are
    runs = [list(part) for _, part in groupby(cells, key=lambda key: key["run"])]
    starts = [int(len(part) * (place * golden % 1)) for place, part in enumerate(runs)]
    return [key for part, start in zip(runs, starts, strict=True) for key in (*part[start:], *part[:start])]
