"""The figures of a study: its learning curve, what every run found, and how its classifiers were trained."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..engine.wording import title
from .arm import Arm
from .effects import PRIMARY_SCORE, preferred
from .results import Section

STYLES = ("-", "--", ":", "-.")
WIDTH, DPI = 10, 110


def learning_curve(sections: Sequence[Section]) -> Figure | None:
    """The score of every arm by how many were learnt from, a panel a network; ``None`` of a study of one size.

    Bars are 95 % intervals of the difference to the reference, around the arm's mean, before any correction for their number.
    """
    sizes = list(dict.fromkeys(section.place.get("size") for section in sections))
    if len(sizes) < 2:
        return None
    first = sections[0].place["test_set"]
    networks = list(dict.fromkeys(section.place.get("network") for section in sections))
    figure = Figure(figsize=(WIDTH, 4.2), dpi=DPI)
    panels = figure.subplots(1, len(networks), sharey=True, squeeze=False)[0]
    for axes, network in zip(panels, networks, strict=True):
        here = [part for part in sections if part.place.get("network") == network and part.place["test_set"] == first]
        _draw_curves(axes, here)
        axes.set_title(network or "", fontsize=10)
        axes.set_xlabel("people of the smallest class who are learnt from")
    panels[0].set_ylabel(f"{title(PRIMARY_SCORE)}, %")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2)
    figure.tight_layout()
    return figure


def _draw_curves(axes: Axes, sections: Sequence[Section]) -> None:
    arms = list(dict.fromkeys(arm for section in sections for arm in section.table["arm"]))
    for number, arm in enumerate(arms):
        places, means, reach = [], [], []
        for place, section in enumerate(sections):
            values = 100 * section.table.loc[section.table["arm"] == arm, PRIMARY_SCORE].astype(float)
            if not len(values):
                continue
            places.append(place + 0.04 * (number - len(arms) / 2))
            means.append(float(values.mean()))
            reach.append(_reach(section.effects, arm))
        color, style = f"C{number % 10}", STYLES[number // 10 % 4]
        axes.errorbar(places, means, np.transpose(reach), color=color, linestyle=style, marker="o", markersize=4, label=arm)
    axes.set_xticks(range(len(sections)), [str(section.place["size"]) for section in sections])


def _reach(effects: pd.DataFrame, arm: str) -> tuple[float, float]:
    """How far the interval of an arm's difference to the reference reaches down and up, in points; NaN, which draws no bar, without one."""
    for row in _of_arms(effects):
        if str(Arm(row["method"], row["mode"])) == arm:
            return 100 * (row["difference"] - row["low"]), 100 * (row["high"] - row["difference"])
    return np.nan, np.nan


def _of_arms(effects: pd.DataFrame) -> list[dict[Any, Any]]:
    """Of every arm the row of the score that counts, by the test that counts."""
    return preferred(effects[effects["score"] == PRIMARY_SCORE]).to_dict("records") if len(effects) else []


def differences(section: Section) -> Figure:
    """All runs of each arm, and the interval of its difference to the reference."""
    arms = list(dict.fromkeys(section.table["arm"]))
    found = {str(Arm(row["method"], row["mode"])): row for row in _of_arms(section.effects)}
    figure = Figure(figsize=(WIDTH, 0.42 * len(arms) + 1.2), dpi=DPI)
    panels = figure.subplots(1, 2 if found else 1, squeeze=False, sharey=True)[0]
    for place, arm in enumerate(arms):
        values = 100 * section.table.loc[section.table["arm"] == arm, PRIMARY_SCORE].to_numpy(dtype=float)
        panels[0].plot(values, np.full(len(values), -place), "o", color="C0", alpha=0.4, markersize=4)
        panels[0].plot(np.nanmean(values), -place, "|", color="black", markersize=14)
        if arm in found:
            row = found[arm]
            color = "C3" if row["primary"] else "black"
            panels[1].plot([100 * row["low"], 100 * row["high"]], [-place, -place], color=color, linewidth=2)
            panels[1].plot(100 * row["difference"], -place, "o", color=color, markersize=5)
    panels[0].set_yticks([-place for place in range(len(arms))], arms)
    panels[0].set_xlabel(f"{title(PRIMARY_SCORE)}, %\n(dots: runs; bar: mean)")
    if found:
        row = next(iter(found.values()))
        panels[1].axvline(0, color="0.5", linewidth=1)
        panels[1].set_xlabel(f"difference, points, to\n{Arm(row['against'], row['against_mode'])}\n(bar: 95 % interval; red: primary)")
    figure.tight_layout()
    return figure


def losses(runs: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Mean training and validation loss of each arm's classifiers; ``None`` where no classifier was trained by steps or epochs."""
    histories: dict[str, list[pd.DataFrame]] = {}
    for run in runs:
        if run["result"]["history"]:
            history = pd.DataFrame(run["result"]["history"])
            histories.setdefault(str(Arm.of(run["key"])), []).append(history.set_index("step" if "step" in history else "epoch"))
    if not histories:
        return None
    columns = [name for name in ("train_loss", "validation_loss") if any(name in part for parts in histories.values() for part in parts)]
    figure = Figure(figsize=(WIDTH, max(3.4, 0.16 * len(histories) + 0.6)), dpi=DPI)
    panels = figure.subplots(1, len(columns), squeeze=False)[0]
    for place, (name, parts) in enumerate(histories.items()):
        mean = pd.concat(parts).groupby(level=0).mean()
        for axes, column in zip(panels, columns, strict=True):
            # There are ten colours, and often more methods.
            axes.plot(mean.index, mean[column], color=f"C{place % 10}", linestyle=STYLES[place // 10 % 4], label=name)
            axes.set_title(column.replace("_", " "), fontsize=9)
            axes.set_xlabel(str(mean.index.name))
    figure.tight_layout()
    panels[-1].legend(fontsize=6, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
