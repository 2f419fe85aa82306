"""``augment generate``: a synthetic cohort, screened as it is drawn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...datasets.check import examine
from ...datasets.cohort import Cohort
from ...datasets.common.compute import choose_device
from ...datasets.common.errors import DataError, GateError, TinycohortError, UsageError
from ...datasets.common.machine import require_memory
from ...datasets.readers import Source, read_cohort
from ...datasets.transforms import prepare
from .. import console
from ..detail.donors import Donors
from ..detail.morph import NAME as MORPH
from ..detail.mosaic import NAME as MOSAIC
from ..detail.mosaic import Detail, Mosaic
from ..fitting.kept_images import kept_images
from ..fitting.model import FittedModel, placed
from ..fitting.model_config import ModelConfig, poor_fit_warnings
from ..fitting.model_folders import load_models, model_folders, require_alike
from ..fitting.training_images import TrainingImages
from ..release.generation import Generated, generate_class
from ..release.origin import Origin
from ..release.screening import Screen, screen_of
from ..release.synthetic_cohort import cohort_output, cohort_place
from ..samplers.manifold import HOLDS
from ..samplers.registry import DEFAULT_SAMPLER, SAMPLERS
from .drawn import CohortRequest, measured, tell_written, write_screened

NO_DETAIL, AUTO_DETAIL = "none", "auto"


@dataclass(frozen=True)
class GenerationRequest(CohortRequest):
    """What is drawn, from which models; the options of ``augment generate``, with their defaults; the rest is as for ``CohortRequest``.

    Parameters
    ----------
    models : Path
        A folder of models, or one model.
    labels : sequence of str
        Classes; none for all.
    sampler, sampler_settings
        A key of ``SAMPLERS``, or ``auto``, and what is set of it.
    detail : str
        What gives images that which decoding loses: ``none``, ``mosaic`` with its settings, or ``auto``, the mosaic where its donors can be
        read, the sampler's images are not those of the paper, and the gate lets it pass.
    moved : mapping
        Place of the training images by now (``ModelConfig.source``): for distances to them, and to see copies.
    """

    models: Path
    labels: Sequence[str] = ()
    sampler: str = DEFAULT_SAMPLER
    sampler_settings: Mapping[str, Any] = field(default_factory=dict)
    detail: str = AUTO_DETAIL
    moved: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sampler == MORPH:
            raise UsageError("Morphs are made of people, and of no model: ask for them with a MorphRequest.")
        if self.detail not in (NO_DETAIL, AUTO_DETAIL):
            Mosaic.parse(self.detail)


def generate_cohort(request: GenerationRequest, out: Path, *, force: bool = False) -> list[Generated]:
    """Write a synthetic cohort into ``out``, and beside it ``<out>.audit.csv``: which participant is nearest to each image.

    Images that copy a patient are drawn again.

    Raises
    ------
    GateError
        If the copies are too many; nothing is written then, and what was there stays.
    """
    out = cohort_place(out)
    data = [place for folder in model_folders(request.models) for place in ModelConfig.read(folder).places(request.moved)]
    with cohort_output(out, console.say, force=force, data=data):
        return _generate(request, out, force=force)


def _generate(request: GenerationRequest, out: Path, *, force: bool) -> list[Generated]:
    models = load_models(request.models, request.labels)
    require_alike((model.config for model in models.values()), request.models)
    place = choose_device(request.device)
    request.values(model.config.space for model in models.values())  # what cannot be written is refused before it is drawn
    wanted = request.wanted(models, {label: count for model in models.values() for label, count in model.config.data["counts"].items()})
    require_memory(sum(wanted.values()), next(iter(models.values())).config.space.shape, "give a smaller -n")
    training = _training_images(request, {label: models[label] for label in wanted}, place)

    def draw(details: Mapping[str, Detail]) -> tuple[dict[str, Screen], list[Generated]]:
        screens = {
            label: screen_of(
                models[label],
                training[label],
                request.gate,
                n=n,
                in_pieces=label in details,
                track=console.tracked(f"looking for pieces of people in {label}"),
                device=place,
            )
            for label, n in wanted.items()
        }
        return screens, [_generate_one(models[label], n, request, place, screens[label], details.get(label)) for label, n in wanted.items()]

    details = _details(request, models, training, place)
    try:
        screens, generated = draw(details)
    except GateError as error:
        if not details or request.detail != AUTO_DETAIL:
            raise
        console.warn(f"Images with detail do not pass the gate, and are drawn as they are decoded: {error}")
        screens, generated = draw({})
    generated = [measured(part, training[part.label]) for part in generated]
    write_screened(request, out, generated, {label: Origin.of(model) for label, model in models.items()}, screens, force=force)
    _show_sampling(generated, models)
    tell_written(out, generated, screens, _detail_told)
    return generated


def _training_images(
    request: GenerationRequest, models: Mapping[str, FittedModel], device: torch.device
) -> dict[str, TrainingImages | None]:
    """By class the images that a model was trained on: read again, or kept in its folder; ``None`` if they cannot be had.

    That they are these a model sees on ``device``.
    """
    folders = {ModelConfig.read(folder).label: folder for folder in model_folders(request.models)}
    looked_over = cache(_looked_over)  # once for all classes
    found: dict[str, TrainingImages | None] = {}
    for label, model in models.items():
        with placed(model.autoencoder, device):
            try:
                found[label] = _read_again(model, request.moved, looked_over)
            except (TinycohortError, OSError, TypeError) as error:
                found[label] = kept_images(model, folders[label]) if label in folders else None
                if found[label] is None:
                    console.warn(
                        f"{label}: the training images cannot be read again ({error}), so no distances to them are given. "
                        "Name them with --data (and --table)."
                    )
    return found


def _details(
    request: GenerationRequest, models: Mapping[str, FittedModel], training: Mapping[str, TrainingImages | None], device: torch.device
) -> dict[str, Detail]:
    """By class what gives its images detail: of all classes or of none, because sharpness must not tell a class.

    Raises
    ------
    UsageError
        If a mosaic is asked for that the training people of a class cannot give.
    """
    asked = request.detail != AUTO_DETAIL
    as_published = request.sampler in SAMPLERS and SAMPLERS[request.sampler].as_published
    if request.detail == NO_DETAIL or (as_published and not asked):
        return {}
    mosaic = Mosaic.parse(request.detail if asked else MOSAIC)
    try:
        return {label: _detail(mosaic, models[label], images, device) for label, images in training.items()}
    except UsageError as error:
        if asked:
            raise
        console.warn(f"{error} All images are drawn as they are decoded, blurred.")
        return {}


def _detail(mosaic: Mosaic, model: FittedModel, training: TrainingImages | None, device: torch.device) -> Detail:
    label = model.config.label
    if training is None:
        raise UsageError(
            f"{label}: detail is that of the training people, and their images cannot be read; name them with --data, or fit with "
            "--keep-detail, or give --detail none."
        )
    donors = Donors.of(model, training, device)
    try:
        mosaic.require(donors)
    except UsageError as error:
        raise UsageError(f"{label}: {error}") from error
    return Detail(mosaic, donors, partial(console.progress, f"detail of {label}"))


def _detail_told(part: Generated) -> str:
    found = part.detail
    if found is None:
        return "images are as the model decodes them, without detail."
    return (
        f"every image has the detail of {found.shares.shape[1]} training people, of one at most {found.shares.max():.0%}; the smallest "
        f"Jacobian of what moved it is {found.smallest_jacobian:.2f}."
    )


def _generate_one(
    model: FittedModel, n: int, request: GenerationRequest, device: torch.device, screen: Screen, detail: Detail | None
) -> Generated:
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
        detail=detail,
        **request.sampler_settings,
    )
    for message in [*poor_fit_warnings(model.config.diagnostics), *part.diagnostics.warnings()]:
        console.warn(f"{label}: {message}")
    return part


def _looked_over(source: Source) -> Cohort:
    """A cohort, with who may be one person."""
    cohort = read_cohort(source)
    return examine(cohort, progress=console.tracked("looking for people under two names")).bound(cohort)


def _read_again(model: FittedModel, moved: Mapping[str, Any], looked_over: Callable[[Source], Cohort]) -> TrainingImages:
    """The images that a model was trained on; raise a ``TinycohortError``, ``OSError`` or ``TypeError`` if they cannot be had."""
    source = model.config.source(moved)
    # When a model that does not tell who is alike was fitted, nobody had looked.
    cohort = read_cohort(source) if "alike" in model.config.data else looked_over(source)
    members = cohort.of_class(model.config.label).in_order()
    members = members.of_participants([p for p in members.table["participant_id"] if model.config.participants.trained_on(p)])
    if len(members) != model.config.data["n_train"]:
        raise DataError(f"{len(members)} of the {model.config.data['n_train']} images are there")
    images = prepare(members, model.config.preparation)
    rows = model.order_of_training(images.pixels).tolist()
    return TrainingImages.of(images, _with_its_people(members, rows, model.person)).in_order(rows)


def _with_its_people(members: Cohort, rows: Sequence[int], person: torch.Tensor | None) -> Cohort:
    """Training images with what their model, which knows them in the order of ``rows``, knows of who may be one person."""
    if person is None:
        return members
    first: dict[int, str] = {}
    named = zip(person.tolist(), members.table["participant_id"].iloc[list(rows)], strict=True)
    pairs = tuple((name, who) for number, who in named if (name := first.setdefault(number, who)) != who)
    return replace(members, alike=(*members.alike, *pairs))


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
    console.show_table("drawn", "What was drawn", header, rows)
    console.say(
        "refused: share of the drawn, because they show a patient; others were drawn instead. off: share off the manifold that holds "
        f"{HOLDS:.0%} of people left out, or off the sampler's own. people: about how many centroids a draw is near to. nearest: median "
        "distance of a synthetic image to the nearest training image (RMS over voxels); held out decoded, held out: that of what real "
        "images not trained on decode to, and of these images themselves."
    )
