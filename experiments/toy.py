"""The toy of Fig. 1: a latent space of two dimensions in which discs and rings wrap around each other, and curves in it."""

import math
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..augment import console
from ..augment.commands.interpolate import decode_codes
from ..augment.fitting.figures import PathRow, save_loss_curve
from ..augment.fitting.fit import Hooks, fit_class
from ..augment.fitting.model import FittedModel
from ..augment.fitting.model_config import MetricSettings
from ..augment.fitting.plan import FitPlan
from ..augment.fitting.settings import FitSettings
from ..augment.fitting.training import Record, TrainingSettings
from ..augment.geometry.interpolation import COLOURS, TITLES, Cost, Interpolation, interpolate, outside_support
from ..augment.geometry.pullback import Agreement, agreement, best_precision, pullback
from ..augment.geometry.shortest_paths import distance_maps
from ..datasets.cohort import Cohort
from ..datasets.common.errors import UsageError
from ..datasets.common.files import whole_file, whole_folder
from ..datasets.image_checks import content_digest
from ..datasets.layouts.rings import rings_and_discs
from ..datasets.layouts.table import cohort_table
from ..datasets.output import output
from ..datasets.splits import Split, split_cohort
from ..datasets.transforms import Preparation, space_of
from .engine.page import markdown_table
from .toy_figure import Map, save_toy_figure

BOTH = "rings and discs"  # one model of both kinds: the class of every image
KINDS = ("disc", "ring")
BETA = 1.0
N_STEPS = 10  # images on a curve
GRID = 160  # points a side of the maps
MARGIN = 0.15  # of the codes' extent, around them


def run_toy(out: Path, *, steps: int = 2000, seed: int = 0, force: bool = False) -> None:
    """Fit a VAE with two latent dimensions on discs and rings, and draw Fig. 1.

    Parameters
    ----------
    out : Path
        Gets ``model/``, ``toy.png``, ``table.md``, ``curves.csv`` and ``pullback.csv``. A model that is there is used again.
    steps : int
        Steps of its training.
    seed : int
        Seed of the images, the training, and the points from which curves may begin.
    force : bool
        Fit anew if another model is there.
    """
    made = [out / name for name in ("model", "toy.png", "table.md", "curves.csv", "pullback.csv")]
    with output(out, console.say, *made):
        _run(out, steps, seed, force)


def _run(out: Path, steps: int, seed: int, force: bool) -> None:
    cohort = toy_cohort(seed)
    split = split_cohort(cohort, seed=seed)
    model = _fitted(cohort, split, toy_settings(steps, seed), out, force)
    kinds = split.side(cohort, "train").in_order().table["kind"].to_numpy()  # as the model's codes
    assert model.posterior is not None
    assert model.metric is not None
    codes = model.posterior.mean.double()
    pairs = [farthest_pair(codes, np.flatnonzero(kinds == kind)) for kind in KINDS]
    starts, ends = codes[[start for start, _ in pairs]], codes[[end for _, end in pairs]]
    found = interpolate(model.metric, starts, ends, seed=seed, on_curve=console.say)

    low, high = codes.amin(0), codes.amax(0)
    reached = torch.cat([curves.flatten(0, 1) for curves in found.points.values()])
    low, high = torch.minimum(low, reached.amin(0)), torch.maximum(high, reached.amax(0))
    margin = MARGIN * (high - low)
    across, up = (torch.linspace(float(a), float(b), GRID, dtype=torch.float64) for a, b in zip(low - margin, high + margin, strict=True))
    console.say("drawing maps of the distance")
    maps = distance_maps(found.metric.tensor, torch.cat([starts, ends]), across, up)
    # A path over the grid passes one of its points.
    by_graph = (maps[: len(starts)] + maps[len(starts) :]).amin((1, 2))
    volume = found.metric.log_volume(torch.cartesian_prod(across, up)).reshape(GRID, GRID)

    save_toy_figure(
        out / "toy.png",
        Map(across, up, volume, "log sqrt det G"),
        [Map(across, up, distance, f"Riemannian distance from a {kind}") for distance, kind in zip(maps, KINDS, strict=False)],
        {kind: codes[kinds == kind] for kind in KINDS},
        found.points,
        {f"Decoded, from a {kind} to another; framed: off the manifold": path_rows(model, found, pair) for pair, kind in enumerate(KINDS)},
    )
    _write_tables(out, found.costs(), by_graph, pullback_agreements(model))
    console.say(f"Wrote the figure {out / 'toy.png'} and the tables in {out / 'table.md'}.")


def toy_cohort(seed: int) -> Cohort:
    """1,000 discs and rings of varying size and thickness in the middle (Sec. 4.6), all of one class, their kind in the column ``kind``."""
    images, labels = rings_and_discs(seed=seed, shift=0)
    names = [f"image{number:04d}" for number in range(len(images))]
    rows = [
        {"image_id": name, "participant_id": name, "image": row, "label": BOTH, "kind": KINDS[label]}
        for row, (name, label) in enumerate(zip(names, labels.tolist(), strict=True))
    ]
    return Cohort(name=BOTH, table=cohort_table(rows), source=BOTH, arrays=images[:, 0])


def toy_settings(steps: int, seed: int) -> FitSettings:
    """A vanilla VAE with the paper's loss (Eq. 3), and a metric of twice the reach, so that 700 centroids leave no gaps."""
    return FitSettings(
        model_settings={"beta": BETA, "likelihood": "fixed"},
        arch="conv",
        latent_dim=2,
        channels=8,
        preparation=Preparation(scaling="minmax"),
        training=TrainingSettings(steps=steps, batch_size=32, jitter=0.0),
        metric=MetricSettings(rho_scale=2.0),
        seed=seed,
    )


def farthest_pair(codes: Tensor, rows: np.ndarray) -> tuple[int, int]:
    """The two of ``rows`` whose codes ``(n, D)`` lie farthest apart, in flat space."""
    distances = torch.cdist(codes[rows], codes[rows])
    first, second = divmod(int(distances.argmax()), len(rows))
    return int(rows[first]), int(rows[second])


def path_rows(model: FittedModel, found: Interpolation, pair: int) -> list[PathRow]:
    """Decoded images along every curve of a pair, framed where they lie outside of the metric's support."""
    rows = []
    for kind, latents in found.steps(N_STEPS).items():
        steps = latents[pair]
        rows.append(PathRow(TITLES[kind], COLOURS[kind], decode_codes(model, steps), outside_support(found.metric, steps).tolist()))
    return rows


def pullback_agreements(model: FittedModel) -> dict[str, Agreement]:
    """Sigma^-1 and G at the posterior means, each beside what the decoder's pull-back metric makes them (Sec. 4.4)."""
    assert model.posterior is not None
    assert model.metric is not None
    expected = best_precision(pullback(model.autoencoder.decode, model.posterior.mean), beta=BETA)
    return {
        "Sigma^-1": agreement(model.posterior.precision, expected),
        "G of Eq. 7": agreement(model.metric.tensor(model.posterior.mean), expected),
    }


def _fitted(cohort: Cohort, split: Split, settings: FitSettings, out: Path, force: bool) -> FittedModel:
    """The model in ``out``, or a new one."""
    folder, unfinished = out / "model", out / ".fitting"
    assert cohort.arrays is not None
    plan = FitPlan(cohort, split, BOTH, settings, content_digest(cohort.arrays))
    if (folder / "config.json").is_file():
        model = FittedModel.load(folder)
        if model.config.plan == plan.digest:
            console.say(f"{folder} is used again.")
            return model
        if not force:
            raise UsageError(f"{folder} was fitted with other settings; choose another --out, or give --force to fit anew.")
    if force:
        shutil.rmtree(unfinished, ignore_errors=True)
    epochs = settings.training.schedule(len(split.side(cohort, "train")), space_of(cohort, settings.preparation).shape).epochs
    with console.progress(f"fitting {BOTH}", epochs) as advance:

        def on_epoch(record: Record) -> None:
            advance(f"loss {record['train_loss']:.2f}, validation {record['validation_loss']:.2f}")

        hooks = Hooks(on_epoch=on_epoch, on_warning=console.warn)
        model = fit_class(plan, resume_folder=unfinished, command="augment toy", hooks=hooks)
    with whole_folder(folder, force=force) as temporary:
        save_loss_curve(temporary / "loss.png", model.history, model.config.diagnostics["best_epoch"])
        model.save(temporary)  # last, because it seals the folder
    shutil.rmtree(unfinished)
    return model


def _write_tables(out: Path, costs: list[Cost], by_graph: Tensor, agreements: dict[str, Agreement]) -> None:
    curves = pd.DataFrame([asdict(cost) for cost in costs])
    curves["pair"] = [KINDS[pair] for pair in curves["pair"]]
    curves["length_by_graph"] = [float(by_graph[cost.pair]) if cost.kind == "geodesic" else None for cost in costs]
    pulled = pd.DataFrame([{"what": what} | asdict(found) for what, found in agreements.items()])
    for name, table in (("curves", curves), ("pullback", pulled)):
        with whole_file(out / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    shown = [markdown_table(table.map(_rounded)) for table in (curves, pulled)]
    with whole_file(out / "table.md") as temporary:
        temporary.write_text(TABLES.format(*shown), encoding="utf-8")


def _rounded(cell: object) -> object:
    return cell if not isinstance(cell, float) else "" if math.isnan(cell) else f"{cell:.3g}"


TABLES = """\
# The toy of Fig. 1

## Curves

Between the two discs, and the two rings, whose codes lie farthest apart. length, energy: of Eq. 4, the energy at constant Euclidean
speed; eq12: the integral of Eq. 12, in units of the straight line's; off_manifold: share of the curve outside of the metric's support;
residual: slope that is left, 0 at a minimum; length_by_graph: the same distance by Dijkstra's algorithm on a grid, good to some percent,
which is a check that begins from no curve.

{}

## Pull-back (Sec. 4.4)

What a posterior's precision and the metric are, at the training images' means, beside 1 + 2 / beta diag(J^T J), which the best posterior's
precision is where the decoder is straight: correlation of their logarithms, and quantiles 0.05, 0.5 and 0.95 of the first by the second.
G adds up the precisions of all centroids whose reach a point is in, so it grows with their number too.

{}
"""
