"""Pictures of a study of fidelity: scores against training sizes or settings, beside what real images score; and samples."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..augment.figures import SheetRow, contact_sheet
from ..datasets.transforms import Images, ImageSpace
from .fidelity_results import FLOOR, ONE_SCORE, Results
from .fidelity_study import FLOOR_KEY, SHOWN, pictures_path
from .plans import ALL, TEST, Panel, Plan
from .systems import System

MARKERS = "osD^vP*X<>hd"
DPI = 110
Drawing = Callable[[Axes], None]


def draw_scores(results: Results, plan: Plan, n_train: int) -> Figure:
    """The distances from the test side: against the training sizes, or against the settings of the plan's panels, or a bar a row.

    Parameters
    ----------
    results : Results
    plan : Plan
    n_train : int
        What the size ``ALL`` is.
    """
    scores = results.chosen()
    scores = scores[scores["side"] == TEST]
    frechet = scores["measure"] == scores["passport"].map({name: passport.frechet for name, passport in results.passports.items()})
    rows = set(scores["row"])
    panels = [panel for panel in plan.panels if rows.intersection(*[row for line in panel.lines.values() for row in line.values()])]
    by_size = scores["n"].nunique() > 1
    # Against settings the Fréchet distance alone: two measures of six panels are more than a page.
    shown = scores[frechet | (scores["measure"] == "kid")] if by_size or not panels else scores[frechet]
    drawings: list[Drawing] = []
    for which, part in shown.groupby(ONE_SCORE, sort=False):
        floor = results.floor[(results.floor[ONE_SCORE] == list(which)).all(axis=1)]["value"].tolist()
        features, _, label, _, measure = which
        name = f"{measure} ({features}{'' if label == 'all' else f', {label}'}), {part['images'].iloc[0]:,} images"
        if by_size:
            drawings.append(partial(_against_size, name=name, scores=part, floor=floor, n_train=n_train))
        elif panels:
            drawings += [partial(_against_setting, name=name, scores=part, floor=floor, panel=panel) for panel in panels]
        else:
            drawings.append(partial(_bars, name=name, scores=part, floor=floor))
    columns = min(len(drawings), 3 if panels and not by_size else 2)
    height = 3.6 if by_size or panels else 1.2 + 0.28 * len(rows)
    figure = Figure(figsize=(4.6 * columns if panels else 5.8 * columns, height * -(-len(drawings) // columns)), dpi=DPI)
    axes = figure.subplots(-(-len(drawings) // columns), columns, squeeze=False).ravel()
    for axis, draw in zip(axes, drawings, strict=False):
        draw(axis)
    for axis in axes[len(drawings) :]:
        axis.set_visible(False)
    if by_size:
        figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    return figure


def _against_size(axis: Axes, *, name: str, scores: pd.DataFrame, floor: list[float], n_train: int) -> None:
    placed = scores.assign(n=scores["n"].replace(ALL, n_train))
    for number, (row, part) in enumerate(placed.groupby("row", sort=False)):
        _line(axis, part.groupby("n")["value"], number, str(row))
    ticks = sorted(placed["n"].unique().tolist())
    _finish(axis, name, "training images", ticks, [f"{tick:,}" for tick in ticks], floor)


def _against_setting(axis: Axes, *, name: str, scores: pd.DataFrame, floor: list[float], panel: Panel) -> None:
    ticks = sorted({value for line in panel.lines.values() for value in line})
    for number, (title, line) in enumerate(panel.lines.items()):
        place = {row: value for value, row in line.items()}
        part = scores[scores["row"].isin(place)]
        _line(axis, part.groupby(part["row"].map(place))["value"], number, title, connected=panel.ordered)
    _finish(axis, name, panel.title, ticks, [f"{tick:g}" for tick in ticks], floor, log=panel.ordered)
    axis.legend(fontsize=7, frameon=False)


def _line(axis: Axes, groups: Any, number: int, title: str, *, connected: bool = True) -> None:
    means, spread = groups.mean(), groups.std().fillna(0)
    look = {"color": colormaps["tab20" if number >= 10 else "tab10"](number % 20), "marker": MARKERS[number % len(MARKERS)]}
    axis.errorbar(
        means.index, means, yerr=spread, label=title, markersize=4.5, linewidth=1.3 if connected else 0, elinewidth=1, capsize=3, **look
    )


def _finish(
    axis: Axes, name: str, title: str, ticks: Sequence[float], texts: Sequence[str], floor: list[float], *, log: bool = True
) -> None:
    axis.set_title(name, fontsize=9)
    axis.set_xlabel(title, fontsize=9)
    if log:
        axis.set_xscale("log")
    axis.set_xticks(ticks, texts, fontsize=8)
    axis.minorticks_off()
    for value in floor:
        axis.axhline(value, color="0.4", linestyle="--", linewidth=1, label=FLOOR)
    axis.tick_params(labelsize=8)
    low, high = axis.get_ylim()
    if floor and 0 < 10 * floor[0] < high and low > 0:
        axis.set_yscale("log")


def _bars(axis: Axes, *, name: str, scores: pd.DataFrame, floor: list[float]) -> None:
    groups = [(str(row), part["value"].to_numpy()) for row, part in scores.groupby("row", sort=False)]
    for place, (_, values) in enumerate(groups):
        axis.barh(-place, values.mean(), color="C0", alpha=0.4, height=0.7)
        axis.plot(values, np.full(len(values), -place), "o", color="C0", markersize=4)
    for value in floor:
        axis.axvline(value, color="0.4", linestyle="--", linewidth=1)
    axis.set_yticks([-place for place in range(len(groups))], [row for row, _ in groups], fontsize=8)
    axis.set_title(name, fontsize=9)
    axis.set_xlabel(f"bar: mean; dots: runs; dashed: {FLOOR}", fontsize=8)


def draw_samples(folder: Path, config: Mapping[str, Any], n: int, plan: Plan) -> Figure | None:
    """Samples of the rows at a training size in the first run, below real images; ``None`` where no cell has any yet.

    Of a plan with panels, the ends of each line; of a row that chooses among systems nothing, as what is chosen depends on the features.
    """
    rows = [SheetRow(FLOOR, images) for images in _pictures(folder, FLOOR_KEY).values()]
    n_real = len(rows)
    ends = {line[value] for panel in plan.panels for line in panel.lines.values() for value in (min(line), max(line))}
    for title, (system, *others) in config["grid"]["rows"].items():
        if others or (ends and title not in ends):
            continue
        parsed = System.parse(system)
        found = _pictures(folder, {"run": 0, "n": n, "model": parsed.trained_as, "sampler": parsed.drawn_as})
        rows += [SheetRow(title.replace(" ", "\n") if name == "samples" else name, images) for name, images in found.items()]
    return contact_sheet(rows, columns=SHOWN) if len(rows) > n_real else None


def _pictures(folder: Path, key: Mapping[str, Any]) -> dict[str, Images]:
    """What a cell has kept, by name: of several classes some of each."""
    path = pictures_path(folder, key)
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as content:
        arrays = {tuple(name.rsplit("/", 1)): content[name] for name in content.files}
    labels = list(dict.fromkeys(label for label, _ in arrays))
    found = {}
    for name in dict.fromkeys(name for _, name in arrays):
        chosen = np.concatenate([arrays[label, name][: -(-SHOWN // len(labels))] for label in labels if (label, name) in arrays])[:SHOWN]
        found[name] = Images(torch.from_numpy(chosen)[:, None].float() / 255, ImageSpace(tuple(chosen.shape[1:])))
    return found
