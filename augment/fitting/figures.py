"""Pictures: contact sheets, the loss curve, the map of a two-dimensional latent space, and images along curves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure, SubFigure

from ...datasets.common.files import whole_file
from ...datasets.spaces import as_seen
from ...datasets.transforms import Images
from .model import FittedModel

DPI = 120
ROW_INCHES = 1.25
LONG_VOXELS = 1.1  # times the shortest side


@dataclass(frozen=True, eq=False)
class SheetRow:
    """A row of a contact sheet: its title and its images."""

    title: str
    images: Images


def save_contact_sheet(path: Path, rows: Sequence[SheetRow], *, columns: int = 8, title: str = "") -> None:
    """Write ``contact_sheet`` as PNG."""
    save_figure(contact_sheet(rows, columns=columns, title=title), path)


def contact_sheet(rows: Sequence[SheetRow], *, columns: int = 8, title: str = "") -> Figure:
    """The first ``columns`` images of each row; of a volume its three middle slices, beside each other."""
    first = [_tile(row.images, 0) for row in rows]
    cell = max(tile.shape[1] / tile.shape[0] for tile in first) * ROW_INCHES
    figure = Figure(figsize=(cell * columns + 1.3, ROW_INCHES * len(rows) + (0.4 if title else 0.1)), dpi=DPI, facecolor="white")
    axes = figure.subplots(len(rows), columns, squeeze=False, gridspec_kw={"wspace": 0.04, "hspace": 0.06})
    for line, row in zip(axes, rows, strict=True):
        for i, axis in enumerate(line):
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_frame_on(False)
            if i < len(row.images):
                axis.imshow(_tile(row.images, i), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        line[0].set_ylabel(row.title, fontsize=8, rotation=0, ha="right", va="center")
    if title:
        figure.suptitle(title, fontsize=9)
    return figure


def save_loss_curve(path: Path, history: pd.DataFrame, best_epoch: int) -> None:
    """Write a PNG of the training and validation loss over the epochs."""
    figure = Figure(figsize=(6, 3.2), dpi=DPI)
    axis = figure.subplots()
    axis.plot(history["epoch"], history["train_loss"], label="train", color="0.6")
    axis.plot(history["epoch"], history["validation_loss"], label="validation", color="C0")
    axis.axvline(best_epoch, color="C3", linewidth=1, linestyle=":", label=f"kept: epoch {best_epoch}")
    # The first epochs are off any scale that shows the others.
    shown = np.concatenate([history["train_loss"], history["validation_loss"]])
    low, high = shown.min(), np.quantile(shown, 0.9)
    axis.set_ylim(low - 0.05 * (high - low + 1e-9), high + 0.25 * (high - low + 1e-9))
    axis.set_xlabel("epoch")
    axis.set_ylabel("loss")
    axis.legend(frameon=False)
    save_figure(figure, path)


def save_latent_map(path: Path, model: FittedModel) -> None:
    """Write a PNG of log sqrt det G over a two-dimensional latent space with the training images' posterior means (Fig. 1, top left)."""
    assert model.metric is not None
    assert model.posterior is not None
    means = model.posterior.mean
    middle, reach = means.mean(dim=0), 1.3 * (means - means.mean(dim=0)).abs().amax()
    steps = torch.linspace(-1, 1, 240) * reach
    grid = torch.cartesian_prod(middle[0] + steps, middle[1] + steps)
    volume = model.metric.log_volume(grid).reshape(240, 240).T
    edges = [float(v) for v in (grid[0, 0], grid[-1, 0], grid[0, 1], grid[-1, 1])]
    figure = Figure(figsize=(5, 4.4), dpi=DPI)
    axis = figure.subplots()
    shown = axis.imshow(volume.numpy(), origin="lower", extent=(edges[0], edges[1], edges[2], edges[3]), cmap="gray")
    axis.scatter(means[:, 0], means[:, 1], s=6, color="C1", label=f"{model.config.label}: training images")
    figure.colorbar(shown, label="log sqrt det G")
    axis.set_xlabel("z1")
    axis.set_ylabel("z2")
    axis.legend(loc="upper right", fontsize=7)
    save_figure(figure, path)


@dataclass(frozen=True, eq=False)
class PathRow:
    """Images along a curve, from left to right: the row's title and colour, and which images shall have a red frame."""

    title: str
    colour: str
    images: Images
    framed: Sequence[bool]


def save_paths(path: Path, rows: Sequence[PathRow], *, title: str) -> None:
    """Write a PNG of images along curves, a row a curve; of a volume the three middle slices, below each other."""
    first = _tile(rows[0].images, 0, below=True)
    height = ROW_INCHES * (1 if rows[0].images.pixels.ndim == 4 else 2.4)
    width = height * first.shape[1] / first.shape[0]
    figure = Figure(figsize=(width * len(rows[0].images) + 2.0, height * len(rows) + 0.6), dpi=DPI, facecolor="white")
    draw_paths(figure, rows)
    figure.suptitle(title, fontsize=9, y=0.99, va="top")
    figure.subplots_adjust(left=2.0 / figure.get_figwidth(), right=1, bottom=0, top=1 - 0.55 / figure.get_figheight())
    save_figure(figure, path)


def draw_paths(canvas: Figure | SubFigure, rows: Sequence[PathRow]) -> None:
    """Draw images along curves, a row a curve, with the numbers of the steps above."""
    axes = canvas.subplots(len(rows), len(rows[0].images), squeeze=False, gridspec_kw={"wspace": 0.06, "hspace": 0.06})
    for line, row in zip(axes, rows, strict=True):
        for i, axis in enumerate(line):
            axis.set_xticks([])
            axis.set_yticks([])
            axis.imshow(_tile(row.images, i, below=True), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.spines[:].set(visible=bool(row.framed[i]), color="red", linewidth=2)
        line[0].set_ylabel(row.title, fontsize=8, rotation=0, ha="right", va="center", color=row.colour, labelpad=8)
    for i, axis in enumerate(axes[0]):
        axis.set_title(str(i + 1), fontsize=7, pad=3)


def _tile(images: Images, index: int, *, below: bool = False) -> np.ndarray:
    """One image as rows and columns, as it is seen (``datasets/spaces.py``); a volume's three middle slices beside each other, or below."""
    array = _in_proportion(images.pixels[index, 0].numpy(), images.space.spacing)
    if array.ndim == 2:
        return array if images.space.is_picture else as_seen(array)
    slices = [as_seen(np.take(array, side // 2, axis=axis)) for axis, side in enumerate(array.shape)]
    along, across = (0, 1) if below else (1, 0)
    widest = max(part.shape[across] for part in slices)
    lacks = [widest - part.shape[across] for part in slices]
    # Below each other they share their middle, beside each other their top.
    pads = [(lack // 2, lack - lack // 2) if below else (0, lack) for lack in lacks]
    padded = [np.pad(part, [pad if axis == across else (0, 0) for axis in (0, 1)]) for part, pad in zip(slices, pads, strict=True)]
    return np.concatenate(padded, axis=along)


def _in_proportion(array: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Voxels that are much longer one way are repeated along it, so that thick slices show a body as it is."""
    if max(spacing) < LONG_VOXELS * min(spacing):
        return array
    for axis, step in enumerate(spacing):
        side = array.shape[axis]
        length = round(side * step / min(spacing))
        array = np.take(array, np.arange(length) * side // length, axis=axis)
    return array


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole."""
    with whole_file(path) as temporary:
        # Without a date in it, the same picture is the same file.
        figure.savefig(temporary, format="png", bbox_inches="tight", pad_inches=0.05, metadata={"Software": "tinycohort"})
