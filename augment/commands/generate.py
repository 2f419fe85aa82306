"""``augment generate``: a synthetic cohort, screened as it is drawn."""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from ...datasets.common.compute import choose_device
from ...datasets.common.errors import DataError, TinycohortError, UsageError
from ...datasets.common.files import named, refuse_existing, whole_file, whole_folder
from ...datasets.readers import read_cohort
from ...datasets.transforms import Images, prepare
from .. import console
from ..fitting.model import FittedModel
from ..fitting.model_config import poor_fit_warnings
from ..release.gate import OF_GENERATION, Gate
from ..release.generation import Generated, generate_class, top_up
from ..release.outputs import is_synthetic, load_models
from ..release.quarantine import quarantine_of, record
from ..release.screening import TRAINING_IMAGES, Screen, screen_of
from ..release.synthetic_cohort import Format, write_cohort
from ..samplers.manifold import HOLDS
from ..samplers.registry import DEFAULT_SAMPLER


def generate_cohort(
    models_folder: Path,
    labels: Sequence[str],
    out: Path,
    *,
    n: int | None = None,
    balance: bool = False,
    sampler: str = DEFAULT_SAMPLER,
    sampler_settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    file_format: Format | None = None,
    moved: Mapping[str, Any] | None = None,
    device: str = "cpu",
    skull_stripped: bool | None = None,
    gate: Gate | None = None,
    force: bool = False,
    command: str = "",
) -> list[Generated]:
    """Write a synthetic cohort into ``out``, and beside it ``<out>.audit.csv``: which participant is nearest to each image.

    Images that copy a patient are drawn again. ``moved`` says where the training images are by now, for that and for the distances to them
    (``ModelConfig.source``).

    Raises
    ------
    GateError
        If the copies are too many; nothing is written then, and what was there stays.
    """
    gate, out = gate or Gate(), named(out)
    audit_file, quarantine = out.with_name(f"{out.name}.audit.csv"), quarantine_of(out)
    refuse_existing(out, force=force, ours=is_synthetic)
    refuse_existing(audit_file, force=force)
    refuse_existing(quarantine, force=force, ours=is_synthetic)
    if n is not None and n < 1:
        raise UsageError(f"-n must be 1 or more, not {n}.")
    models = load_models(models_folder, labels)
    first, *others = (model.config.space for model in models.values())
    if not all(first.is_like(other) for other in others):
        raise DataError(
            f"The models in {models_folder} make images of different sizes or places, which gives their class away; fit them alike."
        )
    place = choose_device(device)
    if file_format == "png" and any(len(model.config.space.shape) == 3 for model in models.values()):
        raise UsageError("Volumes cannot be written as PNG; choose --format nifti or npz.")
    if balance:
        # The largest class sets the number, whether or not it is drawn from.
        counts = {label: count for model in models.values() for label, count in model.config.data["counts"].items()}
        wanted = top_up({label: counts[label] for label in models}, max(counts.values()) if n is None else n)
    else:
        wanted = dict.fromkeys(models, 100 if n is None else n)
    wanted = {label: count for label, count in wanted.items() if count > 0}
    if not wanted:
        raise UsageError("The classes are balanced already, so there is nothing to generate; give -n to enlarge them all.")
    references = {label: _training_images(models[label], moved or {}) for label in wanted}
    screens = {label: screen_of(models[label], *references[label], gate, n=count) for label, count in wanted.items()}
    settings = dict(sampler_settings or {})
    generated = [_generate_one(models[label], count, sampler, seed, place, screens[label], settings) for label, count in wanted.items()]
    known = {label: images for label, (images, _) in references.items() if images is not None}
    with whole_folder(out, force=force) as folder:
        audit = write_cohort(
            folder, generated, models, file_format=file_format, training_images=known, skull_stripped=skull_stripped, command=command
        )
        record(folder, _screening(generated, screens, gate))
    if force:
        # What belonged to the cohort that was replaced names participants by the same synthetic ids.
        audit_file.unlink(missing_ok=True)
        shutil.rmtree(quarantine, ignore_errors=True)
    if len(audit):
        people = {label: participants for label, (_, participants) in references.items()}
        nearest = [people[label][row] for label, row in zip(audit["label"], audit.pop("nearest_training_row"), strict=True)]
        with whole_file(audit_file) as temporary:
            audit.assign(nearest_training_participant=nearest).to_csv(temporary, index=False)
    _show_sampling(generated, models, audit)
    for part in generated:
        refused = [f"{count} as {reason}" for reason, count in part.refused.items()]
        found = f"refused and drawn again: {', '.join(refused)}" if refused else "none refused"
        console.say(f"{part.label}: drawn images were compared with {screens[part.label].looked_at}; {found}.")
    console.say(f"Wrote {sum(len(part.images) for part in generated)} synthetic images to {out}.")
    return generated


def _generate_one(model: FittedModel, n: int, sampler: str, seed: int, device: Any, screen: Screen, settings: dict[str, Any]) -> Generated:
    label = model.config.label
    progress = partial(console.progress, f"sampling {label}")
    part = generate_class(model, n, sampler=sampler, seed=seed, device=device, progress=progress, screen=screen, **settings)
    for message in [*poor_fit_warnings(model.config.diagnostics), *part.diagnostics.warnings()]:
        console.warn(f"{label}: {message}")
    return part


def _screening(generated: Sequence[Generated], screens: Mapping[str, Screen], gate: Gate) -> dict[str, Any]:
    """What a cohort's description says of the images that were refused, and are not in it."""
    looked_at = {part.label: screens[part.label].looked_at for part in generated}
    return {
        "By": "augment generate",
        "LookedAt": looked_at,
        "Drawn": {part.label: part.drawn for part in generated},
        "Refused": {part.label: sum(part.refused.values()) for part in generated},
        "RefusedBecause": {part.label: dict(part.refused) for part in generated if part.refused},
        # Without the training images nobody can tell.
        "Passed": True if set(looked_at.values()) == {TRAINING_IMAGES} else None,
    } | gate.record(OF_GENERATION)


def _training_images(model: FittedModel, moved: Mapping[str, Any]) -> tuple[Images | None, list[str]]:
    """The images that a model was trained on, read again, with their participants; ``None`` if they cannot be had."""
    label = model.config.label
    try:
        cohort = read_cohort(model.config.source(moved))
        members = cohort.of_class(label)
        members = members.of_participants([p for p in members.table["participant_id"] if model.config.participants.trained_on(p)])
        if len(members) != model.config.data["n_train"]:
            raise DataError(f"{len(members)} of the {model.config.data['n_train']} images are there")
        return prepare(members, model.config.preparation), members.people
    except (TinycohortError, OSError, TypeError) as error:
        console.warn(
            f"{label}: the training images cannot be read again ({error}); no distances to them are given, "
            "and copies of them are not seen, but by latents. Name them with --data (and --table)."
        )
        return None, []


def _show_sampling(generated: Sequence[Generated], models: Mapping[str, FittedModel], audit: pd.DataFrame) -> None:
    rows = []
    for part in generated:
        found = part.diagnostics
        near = audit.loc[audit["label"] == part.label, "distance"]
        fit = models[part.label].config.diagnostics
        rows.append(
            (
                part.label,
                found.sampler,
                len(part.images),
                part.drawn,
                f"{1 - len(part.images) / part.drawn:.1%}",
                *("-" if v is None else f"{v:.2f}" for v in (found.off_manifold, found.effective_centroids, found.r_hat)),
                f"{near.median():.4f}" if len(near) else "-",
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
