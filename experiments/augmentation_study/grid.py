"""The cells of an augmentation study: every method, in its modes, run by run."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ...classifiers.networks import DEFAULT_NETWORK
from ...datasets.common.errors import UsageError
from .arm import Arm, Primary
from .config import AugmentationConfig, Grid
from .methods import BASELINE, method_of
from .mode import REAL

AXES = ("size", "network")  # of the grid, in studies that have them
REFERENCES = (BASELINE, "classical", "resampled", "weighted", "original")  # the first that a study has, from the strongest that we know on


def cells_of(grid: Grid) -> list[dict[str, Any]]:
    """Keys of the grid, run by run and size by size: a method that generates has one cell a mode, another has one cell.

    Whatever shares images comes one after the other.

    Raises
    ------
    UsageError
        If there is no such method.
    """
    sizes = [{"size": size} for size in grid.sizes] or [{}]
    networks = [{"network": network} if network else {} for network in grid.networks] or [{}]
    axes = itertools.product(range(grid.runs), sizes, arms_of(grid), networks)
    return [{"run": run, **size, **vars(arm), **network} for run, size, arm, network in axes]


def networks_of(grid: Grid) -> tuple[str, ...]:
    """The networks by name, of which one that is not named is the default one."""
    return tuple(network or DEFAULT_NETWORK for network in grid.networks or ("",))


def axes_of(grid: Grid) -> list[str]:
    """Which of size and network tables tell."""
    return [name for name, told in zip(AXES, (grid.sizes, any(grid.networks)), strict=True) if told]


def told_cells(grid: Grid) -> list[dict[str, Any]]:
    """``cells_of`` as tables tell them: where some name a network, those that name none are of the default one."""
    more = {"network": DEFAULT_NETWORK} if "network" in axes_of(grid) else {}
    return [key | {name: key.get(name, value) for name, value in more.items()} for key in cells_of(grid)]


def told_table(table: pd.DataFrame, grid: Grid) -> pd.DataFrame:
    """A table of runs, a row's network told as ``told_cells`` does."""
    if "network" not in axes_of(grid):
        return table
    return table.assign(network=table["network"].fillna(DEFAULT_NETWORK) if "network" in table else DEFAULT_NETWORK)


def grids_of(config: AugmentationConfig) -> list[Grid]:
    """What is computed, and what was planned at earlier starts."""
    return [config.grid, *config.planned]


def arms_of(grid: Grid) -> list[Arm]:
    """What is compared: a method that generates in every mode, another as it is; a ``UsageError`` if there is no such method."""
    return [Arm(method, mode) for method in grid.methods for mode in (grid.modes if method_of(method).source.generates else (REAL,))]


def primary_of(grid: Grid, primary: str = "", against: str = "") -> Primary | None:
    """The comparison that counts.

    Parameters
    ----------
    grid : Grid
    primary, against : str
        As ``Arm.find`` reads them. If left out, the first arm that generates, of a model before another, and the strongest baseline that
        there is.

    Returns
    -------
    Primary or None
        None where there is nothing to compare, and nothing was asked for.

    Raises
    ------
    UsageError
        If they are not of the study, or one and the same.
    """
    arms = arms_of(grid)
    generating = sorted((arm for arm in arms if arm.mode != REAL), key=lambda arm: method_of(arm.method).source.system is None)
    references = [arm for name in REFERENCES for arm in arms if arm.method == name]
    found = Arm.find(primary, arms, "--primary") if primary else next(iter(generating), None)
    other = Arm.find(against, arms, "--against") if against else next((arm for arm in references if arm != found), None)
    if found is None or other is None:
        if primary or against:
            lacking = "--against, what it is compared with" if primary else "--primary, what is compared with it"
            raise UsageError(f"A comparison has two sides: give {lacking}.")
        return None
    if found == other:
        raise UsageError(f"--primary and --against are both '{found}'; compare two different arms.")
    return Primary(found, other)


def staggered(cells: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The cells, every run's begun at another of them.

    Where runs share their generators, those that are computed at the same time would otherwise all fit the same one.
    """
    golden = (math.sqrt(5) - 1) / 2  # whose multiples, taken modulo 1, lie far apart however many there are
    runs = [list(part) for _, part in itertools.groupby(cells, key=lambda key: key["run"])]
    starts = [int(len(part) * (place * golden % 1)) for place, part in enumerate(runs)]
    return [key for part, start in zip(runs, starts, strict=True) for key in (*part[start:], *part[:start])]
