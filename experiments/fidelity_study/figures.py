"""Pictures of a study of fidelity: scores against training sizes or settings, beside what real images score; and samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...augment.fitting.figures import SheetRow, contact_sheet
from ...datasets.spaces import ImageSpace
from ...datasets.transforms import Images
from ..engine.systems import System
from .cell import AFFINE, FLAT_AXIS, FLOOR_KEY, NEAREST_TRAINING, SHOWN, pictures_path
from .data import EVERYTHING
from .plans import ALL, TEST, Panel, Plan
from .results import FLOOR, ONE_SCORE, Results

MARKERS = "osD^vP*X<>hd"
DPI = 110


@dataclass(frozen=True, eq=False)
class _Case:
    """One number (``ONE_SCORE``) of all rows, and its floor: no value, or one."""

    name: str
    measure: str
    frechet: bool
    scores: pd.DataFrame
    floor: list[float]


def draw_scores(results: Results, plan: Plan, n_train: int) -> Figure:
    """The distances from the test side (where there are none, all measures): against the training sizes, or against the settings of the
    plan's panels, or a bar a row.

    Parameters
    ----------
    results : Results
    plan : Plan
    n_train : int
        What the size ``ALL`` is.
    """
    chosen, cases = results.chosen(), []
    for which, part in chosen[chosen["side"] == TEST].groupby(ONE_SCORE, sort=False):
        features, passport, label, _, measure = map(str, which)
        name = f"{measure} ({features}{'' if label == EVERYTHING else f', {label}'}), {part['images'].iloc[0]:,} images"
        floor = results.floor[(results.floor[ONE_SCORE] == list(which)).all(axis=1)]["value"].tolist()
        cases.append(_Case(name, measure, measure == results.passports[passport].frechet, part, floor))
    cases = [case for case in cases if case.frechet or case.measure == "kid"] or cases
    rows = set(chosen["row"])
    panels = [panel for panel in plan.panels if rows & set(panel.rows)]
    if chosen["n"].nunique() > 1:
        return _against_sizes(cases, n_train)
    # Of six panels one distance: two of them are more than a page.
    return _against_settings([case for case in cases if case.frechet] or cases[:1], panels) if panels else _bars(cases, len(rows))


def _against_sizes(cases: Sequence[_Case], n_train: int) -> Figure:
    figure, axes = _grid(len(cases), 2, width=5.4, height=3.6)
    for axis, case in zip(axes, cases, strict=True):
        placed = case.scores.assign(place=case.scores["n"].replace(ALL, n_train))
        for number, (row, part) in enumerate(placed.groupby("row", sort=False)):
            _line(axis, part, number, str(row))
        for value in case.floor:
            axis.axhline(value, color="0.4", linestyle="--", linewidth=1, label=FLOOR)
        values = [*placed["value"], *case.floor]
        if 0 < 10 * min(values) < max(values):  # a KID may be negative
            axis.set_yscale("log")
        ticks = sorted(placed["place"].unique().tolist())
        _label(axis, case.name, "training images", ticks, [f"{tick:,}" for tick in ticks])
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    return figure


def _against_settings(cases: Sequence[_Case], panels: Sequence[Panel]) -> Figure:
    figure, axes = _grid(len(cases) * len(panels), 3, width=4.4, height=3.4)
    order = list(dict.fromkeys(title for panel in panels for title in panel.lines))
    for number, case in enumerate(cases):
        # The floor is far below, and a line there would leave no room for what differs.
        told = "".join(f"; {FLOOR}: {value:.3g}" for value in case.floor)
        values = case.scores[["value", "low", "high"]].to_numpy(dtype=float)
        least, most = np.nanmin(values), np.nanmax(values)
        margin = 0.05 * (most - least) or 1.0  # of scores that are all one number
        for axis, panel in zip(axes[number * len(panels) :], panels, strict=False):
            for title, line in panel.lines.items():
                place = {row: value for value, row in line.items()}
                part = case.scores[case.scores["row"].isin(place)]
                _line(axis, part.assign(place=part["row"].map(place)), order.index(title), title, connected=panel.ordered)
            ticks = sorted({value for line in panel.lines.values() for value in line})
            _label(axis, f"{case.name}{told}", panel.title, ticks, [f"{tick:g}" for tick in ticks], log=panel.ordered)
            axis.set_ylim(least - margin, most + margin)
            axis.legend(fontsize=7, frameon=False)
    figure.tight_layout()
    return figure


def _bars(cases: Sequence[_Case], n_rows: int) -> Figure:
    figure, axes = _grid(len(cases), 2, width=5.8, height=1.2 + 0.28 * n_rows)
    for axis, case in zip(axes, cases, strict=True):
        groups = [(str(row), part["value"].to_numpy()) for row, part in case.scores.groupby("row", sort=False)]
        for place, (_, values) in enumerate(groups):
            axis.barh(-place, values.mean(), color="C0", alpha=0.4, height=0.7)
            axis.plot(values, np.full(len(values), -place), "o", color="C0", markersize=4)
        for value in case.floor:
            axis.axvline(value, color="0.4", linestyle="--", linewidth=1)
        axis.set_yticks([-place for place in range(len(groups))], [row for row, _ in groups], fontsize=8)
        axis.set_ylim(0.6 - len(groups), 0.6)
        axis.set_title(case.name, fontsize=8)
        axis.set_xlabel(f"bar: mean; dots: runs; dashed: {FLOOR}", fontsize=8)
        axis.tick_params(labelsize=8)
    figure.tight_layout()
    return figure


def _grid(n: int, columns: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with ``n`` axes, row by row."""
    columns = min(n, columns)
    rows = -(-n // columns)
    figure = Figure(figsize=(width * columns, height * rows), dpi=DPI)
    return figure, [figure.add_subplot(rows, columns, i + 1) for i in range(n)]


def _line(axis: Axes, scores: pd.DataFrame, number: int, title: str, *, connected: bool = True) -> None:
    """Means over runs at each ``place``, with their standard deviation; of one run, with the interval of its blocks."""
    groups = scores.groupby("place")
    means = groups["value"].mean()
    low, high = means - groups["value"].std(), groups["value"].std() + means
    if (groups.size() == 1).all() and not scores["of_blocks"].any():
        low, high = groups["low"].first(), groups["high"].first()
    reach = np.nan_to_num(np.stack([means - low, high - means]).astype(float))
    axis.errorbar(
        means.index,
        means,
        yerr=reach,
        label=title,
        color=colormaps["tab10" if number < 10 else "tab20b"](number % 10),
        marker=MARKERS[number % len(MARKERS)],
        markersize=4.5,
        linewidth=1.3 if connected else 0,
        elinewidth=0.8,
        capsize=2,
    )


def _label(axis: Axes, name: str, title: str, ticks: Sequence[float], texts: Sequence[str], *, log: bool = True) -> None:
    axis.set_title(name, fontsize=8)
    axis.set_xlabel(title, fontsize=9)
    if log:
        axis.set_xscale("log")
    axis.set_xticks(ticks, texts)
    axis.minorticks_off()
    axis.tick_params(labelsize=8)


def draw_samples(folder: Path, results: Results, n: int, plan: Plan) -> Figure | None:
    """Samples of the rows at a training size in their first run, below real images; ``None`` where no cell has any yet.

    Of a plan with panels, the ends of each line; of a row that chooses among systems, what it chooses by the first kind of features.
    """
    rows = [SheetRow(FLOOR, images) for images in _pictures(folder, FLOOR_KEY).values()]
    n_real = len(rows)
    several = set(results.scores.groupby("row")["system"].nunique().loc[lambda counts: counts > 1].index)
    chosen = results.chosen()
    shown = chosen[(chosen["n"] == n) & (chosen["features"] == results.scores["features"].iloc[0])]
    shown = shown.sort_values("run", kind="stable").drop_duplicates("row").sort_index()
    panels = [panel for panel in plan.panels if set(shown["row"]) & set(panel.rows)]
    ends = {line[value] for panel in panels for line in panel.lines.values() for value in (min(line), max(line))}
    for title, system, run in zip(shown["row"], shown["system"], shown["run"], strict=True):
        if ends and title not in ends:
            continue
        parsed = System.parse(system)
        found = _pictures(folder, {"run": int(run), "n": n, "model": parsed.trained_as, "sampler": parsed.drawn_as})
        if not plan.reconstructions:
            found.pop(NEAREST_TRAINING, None)
        label = f"{title}: {system.partition(' ')[2]}" if title in several else title
        rows += [SheetRow(label.replace(" ", "\n") if name == "samples" else name, images) for name, images in found.items()]
    return contact_sheet(rows, columns=SHOWN) if len(rows) > n_real else None


def _pictures(folder: Path, key: Mapping[str, Any]) -> dict[str, Images]:
    """What a cell has kept, by name: of several classes some of each."""
    path = pictures_path(folder, key)
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as content:
        arrays = {(name.rpartition("/")[0], name.rpartition("/")[2]): content[name] for name in content.files if "/" in name}
        affine = tuple(map(tuple, content[AFFINE].tolist())) if AFFINE in content.files else None
        flat_axis = int(content[FLAT_AXIS]) if FLAT_AXIS in content.files else None
    labels = list(dict.fromkeys(label for label, _ in arrays))
    found = {}
    for name in dict.fromkeys(name for _, name in arrays):
        chosen = np.concatenate([arrays[label, name][: -(-SHOWN // len(labels))] for label in labels if (label, name) in arrays])[:SHOWN]
        found[name] = Images(torch.from_numpy(chosen)[:, None].float() / 255, ImageSpace(tuple(chosen.shape[1:]), affine, flat_axis))
    return found
