"""Pictures of a study of fidelity: scores against the training size, or of each row, beside what real images score; and samples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..augment.figures import SheetRow, contact_sheet
from ..datasets.transforms import Images, ImageSpace
from .fidelity_results import FLOOR, ONE_SCORE, Results, size_title
from .fidelity_study import SHOWN, pictures_path
from .plans import ALL, TEST
from .systems import System

MARKERS = "osD^vP*X<>hd"


def draw_scores(results: Results, n_train: int) -> Figure:
    """A panel for each kind of features, class and distance: lines over the training sizes, or, of one size, a bar for each row.

    Parameters
    ----------
    results : Results
    n_train : int
        What the size ``ALL`` is.
    """
    scores = results.chosen()
    frechet = scores["passport"].map({name: passport.frechet for name, passport in results.passports.items()})
    scores = scores[(scores["side"] == TEST) & ((scores["measure"] == frechet) | (scores["measure"] == "kid"))]
    panels = list(scores.groupby(ONE_SCORE, sort=False))
    columns, sizes = min(2, len(panels)), scores["n"].nunique()
    height = 4.2 if sizes > 1 else 1.2 + 0.3 * scores["row"].nunique()
    figure = Figure(figsize=(6.2 * columns, height * -(-len(panels) // columns)), dpi=110)
    axes = figure.subplots(-(-len(panels) // columns), columns, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for axis, (which, part) in zip(axes, panels, strict=False):
        floor = results.floor[(results.floor[ONE_SCORE] == list(which)).all(axis=1)]
        features, _, label, _, measure = which
        axis.set_title(f"{measure} ({features}), {label}: {part['images'].iloc[0]:,} images", fontsize=9)
        (_lines if sizes > 1 else _bars)(axis, part, floor, n_train)
        if measure != "kid" and sizes > 1:
            axis.set_yscale("log")
    if sizes > 1:
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    return figure


def _lines(axis: Axes, scores: pd.DataFrame, floor: pd.DataFrame, n_train: int) -> None:
    places = {n: n_train if n == ALL else n for n in scores["n"].unique()}
    for number, (row, part) in enumerate(scores.groupby("row", sort=False)):
        of_size = part.assign(n=part["n"].map(places)).groupby("n")["value"]
        means, spread = of_size.mean(), of_size.std().fillna(0)
        axis.errorbar(
            means.index, means, yerr=spread, label=str(row), marker=MARKERS[number % len(MARKERS)], markersize=5, linewidth=1.3, capsize=3
        )
    if len(floor):
        axis.axhline(floor["value"].iloc[0], color="0.4", linestyle="--", linewidth=1, label=FLOOR)
    axis.set_xscale("log")
    ticks = sorted(places.values())
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=8)
    axis.minorticks_off()
    axis.set_xlabel("training images")


def _bars(axis: Axes, scores: pd.DataFrame, floor: pd.DataFrame, n_train: int) -> None:
    groups = [(str(row), part["value"]) for row, part in scores.groupby("row", sort=False)]
    for place, (_, values) in enumerate(groups):
        axis.barh(-place, values.mean(), color="C0", alpha=0.5, height=0.7)
        axis.plot(values, np.full(len(values), -place), "o", color="C0", markersize=4)
    if len(floor):
        axis.axvline(floor["value"].iloc[0], color="0.4", linestyle="--", linewidth=1)
    axis.set_yticks([-place for place in range(len(groups))], [row for row, _ in groups], fontsize=8)
    axis.set_xlabel(f"bar: mean; dots: runs; dashed: {FLOOR}; {size_title(int(scores['n'].iloc[0]), n_train)} training images", fontsize=8)


def draw_samples(folder: Path, config: Mapping[str, Any], n: int, labels: Sequence[str]) -> Figure | None:
    """Samples of every row at a training size in the first run, below real images; ``None`` where no cell has any yet."""
    rows = []
    real = _pictures(folder, {"run": 0, "n": 0, "model": "real", "sampler": "validation"})
    if real:
        rows.append(SheetRow(FLOOR, _images(real["samples"], len(labels))))
    for title, (system, *others) in config["grid"]["rows"].items():
        if others:
            continue  # which of them is chosen depends on the features
        parsed = System.parse(system)
        found = _pictures(folder, {"run": 0, "n": n, "model": parsed.trained_as, "sampler": parsed.drawn_as})
        for name, arrays in found.items():
            rows.append(SheetRow(title if name == "samples" else name, _images(arrays, len(labels))))
    return contact_sheet(rows, columns=SHOWN) if len(rows) > bool(real) else None


def _pictures(folder: Path, key: Mapping[str, Any]) -> dict[str, np.ndarray]:
    path = pictures_path(folder, key)
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


def _images(arrays: np.ndarray, n_labels: int) -> Images:
    """Of several classes some of each: they lie one after the other."""
    chosen = np.concatenate([part[: -(-SHOWN // n_labels)] for part in np.array_split(arrays, n_labels)])[:SHOWN]
    return Images(torch.from_numpy(chosen)[:, None].float() / 255, ImageSpace(tuple(arrays.shape[1:])))
