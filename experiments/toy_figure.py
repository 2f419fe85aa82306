"""Fig. 1 drawn: maps of a latent space of two dimensions with curves above, what they decode to below."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from torch import Tensor

from ..augment.fitting.figures import PathRow, draw_paths, save_figure
from ..augment.geometry.interpolation import COLOURS, TITLES

POINTS = ("#e69f00", "#56b4e9")  # Okabe and Ito's orange and sky blue, apart in every kind of colour vision
DASHES = {"affine": (4, 2), "geodesic": (None, None), "eq12": (None, None)}
DPI = 100
LEVELS = 24
OUTLINE = [Stroke(linewidth=3.2, foreground="white"), Normal()]


@dataclass(frozen=True, eq=False)
class Map:
    """A quantity over a plane: ``values`` ``(len(across), len(up))``, and its title."""

    across: Tensor
    up: Tensor
    values: Tensor
    title: str


def save_toy_figure(
    path: Path,
    volume: Map,
    distances: Sequence[Map],
    codes: Mapping[str, Tensor],
    curves: Mapping[str, Tensor],
    paths: Mapping[str, Sequence[PathRow]],
) -> None:
    """Write Fig. 1 as PNG.

    Parameters
    ----------
    path : Path
        Path of the file.
    volume : Map
        Drawn in grey, with codes and all curves.
    distances : sequence of Map
        One a pair, each with its own curves.
    codes : mapping
        From the name of a kind of image to its codes ``(n, 2)``.
    curves : mapping
        From the kind of curve to ``(p, T + 1, 2)``.
    paths : mapping
        From a title to the decoded images of a pair.
    """
    figure = Figure(figsize=(12, 6.6), dpi=DPI, facecolor="white")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(4.4, 2.2))[:, 0]
    axes = above.subplots(1, 1 + len(distances), sharey=True)
    above.subplots_adjust(left=0.04, right=0.97, bottom=0.15, top=0.94, wspace=0.12)
    _draw_map(above, axes[0], volume, "gray")
    for pair, (axis, distance) in enumerate(zip(axes[1:], distances, strict=True)):
        _draw_map(above, axis, distance, "viridis")
        for shown in (axes[0], axis):
            _draw_curves(shown, {kind: points[pair] for kind, points in curves.items()})
    handles = []
    for (kind, points), colour in zip(codes.items(), POINTS, strict=True):
        axes[0].scatter(*points.numpy().T, s=3, color=colour, linewidths=0, zorder=3)
        handles.append(Line2D([], [], color=colour, marker="o", markersize=5, linestyle="", label=f"codes of {kind}s"))
    handles += [Line2D([], [], color=COLOURS[kind], dashes=DASHES[kind], label=TITLES[kind]) for kind in curves]
    above.legend(handles=handles, loc="lower center", ncols=len(handles), fontsize=8, frameon=False)
    for block, (title, rows) in zip(below.subfigures(1, len(paths), squeeze=False)[0], paths.items(), strict=True):
        draw_paths(block, rows)
        block.subplots_adjust(left=0.2, right=0.99, bottom=0.01, top=0.84)
        block.suptitle(title, fontsize=9, x=0.6, y=0.99, va="top")
    save_figure(figure, path)


def _draw_map(canvas: SubFigure, axis: Axes, shown: Map, colours: str) -> None:
    drawn = axis.contourf(shown.across.numpy(), shown.up.numpy(), shown.values.T.numpy(), levels=LEVELS, cmap=colours)
    axis.set_title(shown.title, fontsize=9)
    axis.tick_params(labelsize=7)
    canvas.colorbar(drawn, ax=axis, fraction=0.04, pad=0.02).ax.tick_params(labelsize=7)


def _draw_curves(axis: Axes, curves: Mapping[str, Tensor]) -> None:
    for kind, points in curves.items():
        axis.plot(*points.numpy().T, color=COLOURS[kind], dashes=DASHES[kind], linewidth=1.6, path_effects=OUTLINE)
    start = next(iter(curves.values()))[0]
    axis.plot(*start.numpy(), marker="o", color="black", markersize=5, markeredgecolor="white")
