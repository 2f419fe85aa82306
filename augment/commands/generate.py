"""``augment generate``: a synthetic cohort, screened as it is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...datasets.common.compute import choose_device
from ...datasets.common.errors import DataError, TinycohortError, UsageError
from ...datasets.common.files import named
from ...datasets.readers import read_cohort
from ...datasets.transforms import prepare
from .. import console
from ..fitting.model import FittedModel
from ..fitting.model_config import poor_fit_warnings
from ..fitting.model_folders import load_models
from ..release.gate import Gate, ScreeningRecord
from ..release.generation import Generated, generate_class, top_up
from ..release.image_files import Format
from ..release.screening import Screen, screen_of
from ..release.synthetic_cohort import refuse_occupied, write_cohort
from ..release.training_images import TrainingImages
from ..samplers.manifold import HOLDS
from ..samplers.registry import DEFAULT_SAMPLER


@dataclass(frozen=True)
class GenerationRequest:
    """What is drawn, from which models; the options of ``augment generate``, with their defaults.

    Parameters
    ----------
    models : Path
        A folder of models, or one model.
    labels : sequence of str
        Classes; none for all.
    n : int, optional
        Images a class; with ``balance``, real and synthetic ones together. By default 100, or as many as the largest class has.
    balance : bool
        Only as many as each class lacks beside its real training images.
    sampler, sampler_settings
        A key of ``SAMPLERS``, or ``auto``, and what is set of it.
    seed : int
    file_format : {"nifti", "png", "npz"}, optional
        By default as the source.
    moved : mapping
        Place of the training images by now (``ModelConfig.source``): for distances to them, and to see copies.
    device : {"auto", "cpu", "gpu"}
        Where images are decoded.
    skull_stripped : bool, optional
        Whether the images are; by default what the models know.
    gate : Gate
        Limits for copies of patients.
    command : str
        Recorded in the description.
    """

    models: Path
    labels: Sequence[str] = ()
    n: int | None = None
    balance: bool = False
    sampler: str = DEFAULT_SAMPLER
    sampler_settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    file_format: Format | None = None
    moved: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    skull_stripped: bool | None = None
    gate: Gate = field(default_factory=Gate)
    command: str = ""

    def __post_init__(self) -> None:
        if self.n is not None and self.n < 1:
            raise UsageError(f"-n must be 1 or more, not {self.n}.")


def generate_cohort(request: GenerationRequest, out: Path, *, force: bool = False) -> list[Generated]:
    """Write a synthetic cohort into ``out``, and beside it ``<out>.audit.csv``: which participant is nearest to each image.

    Images that copy a patient are drawn again.

    Raises
    ------
    GateError
        If the copies are too many; nothing is written then, and what was there stays.
    """
    out = named(out)
    refuse_occupied(out, force=force)
    models = load_models(request.models, request.labels)
    first, *others = (model.config.space for model in models.values())
    if not all(first.is_like(other) for other in others):
        raise DataError(
            f"The models in {request.models} make images of different sizes or places, which gives their class away; fit them alike."
        )
    place = choose_device(request.device)
    if request.file_format == "png" and any(len(model.config.space.shape) == 3 for model in models.values()):
        raise UsageError("Volumes cannot be written as PNG; choose --format nifti or npz.")
    wanted = _wanted(request, models)
    training = {label: _training_images(models[label], request.moved) for label in wanted}
    screens = {label: screen_of(models[label], training[label], request.gate, n=count) for label, count in wanted.items()}
    generated = [_generate_one(models[label], count, request, place, screens[label]) for label, count in wanted.items()]
    generated = [_measured(part, training[part.label]) for part in generated]
    screening = ScreeningRecord(
        looked_at={label: screen.looked_at for label, screen in screens.items()},
        drawn={part.label: part.drawn for part in generated},
        refused={part.label: part.refused for part in generated},
        gate=request.gate,
    )
    write_cohort(
        out,
        generated,
        models,
        file_format=request.file_format,
        skull_stripped=request.skull_stripped,
        screening=screening,
        command=request.command,
        force=force,
    )
    _show_sampling(generated, models)
    for part in generated:
        refused = [f"{count} as {reason}" for reason, count in part.refused.items()]
        found = f"refused and drawn again: {', '.join(refused)}" if refused else "none refused"
        console.say(f"{part.label}: drawn images were compared with {screens[part.label].looked_at}; {found}.")
    console.say(f"Wrote {sum(len(part.images) for part in generated)} synthetic images to {out}.")
    return generated


def _wanted(request: GenerationRequest, models: Mapping[str, FittedModel]) -> dict[str, int]:
    """How many images of each class; raise a ``UsageError`` if there are none to draw."""
    if request.balance:
        # The largest class sets the number, whether or not it is drawn from.
        counts = {label: count for model in models.values() for label, count in model.config.data["counts"].items()}
        wanted = top_up({label: counts[label] for label in models}, max(counts.values()) if request.n is None else request.n)
    else:
        wanted = dict.fromkeys(models, 100 if request.n is None else request.n)
    wanted = {label: count for label, count in wanted.items() if count > 0}
    if not wanted:
        raise UsageError("The classes are balanced already, so there is nothing to generate; give -n to enlarge them all.")
    return wanted


def _generate_one(model: FittedModel, n: int, request: GenerationRequest, device: torch.device, screen: Screen) -> Generated:
    label = model.config.label
    progress = partial(console.progress, f"sampling {label}")
    part = generate_class(
        model,
        n,
        sampler=request.sampler,
        seed=request.seed,
        device=device,
        progress=progress,
        screen=screen,
        **request.sampler_settings,
    )
    for message in [*poor_fit_warnings(model.config.diagnostics), *part.diagnostics.warnings()]:
        console.warn(f"{label}: {message}")
    return part


def _measured(part: Generated, training: TrainingImages | None) -> Generated:
    """The same images with their distances to those that the model was trained on, where these are known."""
    return part if training is None else replace(part, nearest=training.nearest(part.images))


def _training_images(model: FittedModel, moved: Mapping[str, Any]) -> TrainingImages | None:
    """The images that a model was trained on, read again, with their participants; ``None`` if they cannot be had."""
    label = model.config.label
    try:
        cohort = read_cohort(model.config.source(moved))
        members = cohort.of_class(label)
        members = members.of_participants([p for p in members.table["participant_id"] if model.config.participants.trained_on(p)])
        if len(members) != model.config.data["n_train"]:
            raise DataError(f"{len(members)} of the {model.config.data['n_train']} images are there")
        return TrainingImages(prepare(members, model.config.preparation), tuple(members.people))
    except (TinycohortError, OSError, TypeError) as error:
        console.warn(
            f"{label}: the training images cannot be read again ({error}); no distances to them are given, "
            "and copies of them are not seen, but by latents. Name them with --data (and --table)."
        )
        return None


def _show_sampling(generated: Sequence[Generated], models: Mapping[str, FittedModel]) -> None:
    rows = []
    for part in generated:
        found = part.diagnostics
        fit = models[part.label].config.diagnostics
        rows.append(
            (
                part.label,
                found.sampler,
                len(part.images),
                part.drawn,
                f"{1 - len(part.images) / part.drawn:.1%}",
                *("-" if v is None else f"{v:.2f}" for v in (found.off_manifold, found.effective_centroids, found.r_hat)),
                "-" if part.nearest is None else f"{np.median(part.nearest.distances):.4f}",
                f"{fit['held_out_decoded_nearest_median']:.4f}",
                f"{fit['held_out_nearest_median']:.4f}",
            )
        )
        if part.law:
            console.say(f"{part.label}: --sampler auto chose {part.law}.")
    header = ("class", "sampler", "images", "drawn", "refused", "off", "people", "R-hat", "nearest", "held out decoded", "held out")
    console.show_table("What was drawn", header, rows)
    console.say(
        "refused: share of the drawn, because they show a patient; others were drawn instead. off: share off the manifold that holds "
        f"{HOLDS:.0%} of people left out, or off the sampler's own. people: about how many centroids a draw is near to. nearest: median "
        "distance of a synthetic image to the nearest training image (RMS over voxels); held out decoded, held out: that of what real "
        "images not trained on decode to, and of these images themselves."
    )
