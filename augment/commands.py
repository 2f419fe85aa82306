"""What the commands do, once their options are read: whole jobs on folders, with progress on the terminal."""

import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..datasets.check import Examination, examine, require_sound
from ..datasets.cohort import Cohort
from ..datasets.compute import choose_device
from ..datasets.errors import DataError, TinycohortError, UsageError
from ..datasets.files import named, refuse_existing, whole_file, whole_folder
from ..datasets.readers import Source
from ..datasets.splits import Split, split_cohort
from ..datasets.transforms import Images, Preparation, prepare, require_memory, space_of
from . import console
from .autoencoders import AUTOENCODERS, defaults
from .card import model_card
from .figures import SheetRow, save_contact_sheet, save_latent_map, save_loss_curve
from .fitting import FEWEST_IMAGES, FitSettings, Hooks, count_parameters, fit_class, fit_warnings, plan_digest, training_sides
from .gate import OF_GENERATION, Gate
from .generation import Generated, generate_class, top_up
from .law_scores import COLUMNS
from .manifold import HOLDS
from .model import FittedModel
from .model_config import ModelConfig, poor_fit_warnings
from .quarantine import quarantine_of, record
from .samplers import DEFAULT_SAMPLER, SAMPLERS, samplers_for
from .screening import TRAINING_IMAGES, Screen, screen_of
from .stored import is_model, is_synthetic, load_models, model_folders, source_of
from .synthetic_cohort import Format, write_cohort
from .training import RESUME_POINT, Record


def check(source: Source, *, sized: bool) -> bool:
    """Examine a cohort and print what was found; whether it is sound."""
    cohort = source.read()
    found = examine(cohort, sized=sized, minimum=FEWEST_IMAGES, progress=console.tracked("checking"))
    rows = [(label, found.participants.get(label, 0), count) for label, count in found.images.items()]
    console.show_table(f"{cohort.name}: {_shapes(found)}", ("class", "participants", "images"), rows)
    if found.sound:
        console.say("Sound: nothing is missing, unreadable, repeated or doubly labelled.")
    else:
        problems = [(p.participant, p.path, p.what, p.mend) for p in found.problems]
        console.show_table(f"{len(problems)} problem{'s' if len(problems) != 1 else ''}", ("participant", "file", "what", "mend"), problems)
    if found.remarks:
        remarks = [(p.participant, p.path, p.what, p.mend) for p in found.remarks]
        console.show_table("To be known, not mended", ("participant", "file", "what", "remark"), remarks)
    return found.sound


def fit(
    source: Source,
    labels: Sequence[str],
    settings: FitSettings,
    out: Path,
    *,
    split_file: Path | None = None,
    split_seed: int | None = None,
    resume: bool = False,
    force: bool = False,
    dry_run: bool = False,
    skull_stripped: bool | None = None,
    command: str = "",
) -> dict[str, FittedModel]:
    """Fit a model per class into ``out/<class>``, all on the split in ``out/split.json``; the models by label.

    ``skull_stripped`` says of the images what the source does not.
    """
    choose_device(settings.training.device)
    cohort = source.read()
    if skull_stripped is not None:
        cohort = replace(cohort, skull_stripped=skull_stripped)
    labels = list(labels) or cohort.labels
    sized = settings.preparation.size is not None
    for label in labels:
        cohort.of_class(label)
    spelt_alike = [label for label in labels if sum(folder_name(label).casefold() == folder_name(other).casefold() for other in labels) > 1]
    if spelt_alike:
        raise UsageError(f"The classes {', '.join(spelt_alike)} would share a folder; rename one, or fit them with different --out.")
    found = require_sound(cohort, sized=sized, minimum=FEWEST_IMAGES, progress=console.tracked("checking"))
    if found.remarks:
        console.warn(f"{cohort.name}: {len(found.remarks)} remark{'s' if len(found.remarks) != 1 else ''}, which `augment check` lists.")
    cohort = found.bound(cohort)
    # All that can be refused is refused here: before anything is written, and hours before the end of training.
    split = _split(cohort, out, split_file, split_seed)
    n_at_once = max(sum(len(side) for side in training_sides(cohort, split, label).values()) for label in labels)
    shape = space_of(cohort, settings.preparation).shape
    require_memory(n_at_once, shape)
    n_parameters = count_parameters(settings, shape)
    finished = {label: _finished(out, label, settings, found, split) for label in labels} if resume else {}
    for label in labels:
        if finished.get(label) is None:
            refuse_existing(out / folder_name(label), force=force, ours=is_model)
        if (_unfinished(out, label) / RESUME_POINT).exists() and not (resume or force):
            raise UsageError(f"{out} holds an unfinished fit of {label}; give --resume to go on with it, or --force to start anew.")
    if dry_run:
        _show_plan(cohort, split, labels, settings, found, out, shape, n_parameters)
        return {}
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "split.json").exists():
        split.save(out / "split.json")
    fitted: dict[str, FittedModel] = {}
    for label in labels:
        done = finished.get(label)
        if done is not None:
            console.say(f"{label}: fitted already, in {out / folder_name(label)}.")
            for message in poor_fit_warnings(done.config.diagnostics):
                console.warn(f"{label}: {message}")
        fitted[label] = done or _fit_one(source, cohort, split, label, settings, out, found.digest, resume, force, command)
    return fitted


def generate(
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


def show(
    paths: Sequence[str], source: Source, preparation: Preparation, out: Path, *, columns: int, labels: Sequence[str], force: bool = False
) -> None:
    """Write a contact sheet of cohorts, a row per class; of a model folder with two latent dimensions, its latent map."""
    refuse_existing(out, force=force)
    if len(paths) == 1 and (Path(paths[0]) / "config.json").is_file():
        model = FittedModel.load(Path(paths[0]))
        if model.config.architecture.latent_dim != 2 or model.metric is None:
            save_loss_curve(out, model.history, model.config.diagnostics["best_epoch"])
            console.say(f"Wrote the loss curve of {paths[0]} to {out} (a latent map needs two latent dimensions and a Gaussian posterior).")
        else:
            save_latent_map(out, model)
            console.say(f"Wrote the latent map of {paths[0]} to {out}.")
        return
    rows = []
    for path in paths:
        models = sorted(config.parent for config in Path(path).glob("*/config.json"))
        if (Path(path) / "config.json").is_file():
            raise UsageError(f"{path} is a model; show it by itself.")
        if models:
            raise UsageError(f"{path} is a folder of models; show one of them, as {models[0]}.")
        cohort = source_of(path, source).read()
        present = [label for label in cohort.labels if not labels or label in labels]
        if not present:
            raise UsageError(f"{path} has no image of class {', '.join(labels)}; it has: {', '.join(cohort.labels)}.")
        for label in present:
            members = cohort.of_class(label)
            shown = members.where(np.arange(len(members)) < columns)
            sampler = f"\n{members.table['sampler'][0]}" if "sampler" in members.table else ""
            title = f"{label}{', synthetic' if cohort.synthetic else ''}{sampler}"
            # A synthetic image has its range already; scaling it anew would show another image.
            wanted = replace(preparation, scaling="none") if cohort.synthetic else preparation
            images = prepare(shown, wanted, on_warning=console.warn)
            rows.append(SheetRow(title, images))
    save_contact_sheet(out, rows, columns=columns)
    console.say(f"Wrote a contact sheet of {len(rows)} row{'s' if len(rows) != 1 else ''} to {out}.")


def folder_name(label: str) -> str:
    """A class's folder: its label, with nothing in it that a file system could take otherwise."""
    return re.sub(r"[^\w.-]", "_", label).lstrip(".") or "class"


def _fit_one(
    source: Source,
    cohort: Cohort,
    split: Split,
    label: str,
    settings: FitSettings,
    out: Path,
    digest: str,
    resume: bool,
    force: bool,
    command: str,
) -> FittedModel:
    unfinished = _unfinished(out, label)
    if not resume:
        shutil.rmtree(unfinished, ignore_errors=True)
    n_images, shape = len(split.side(cohort.of_class(label), "train")), space_of(cohort, settings.preparation).shape
    schedule = settings.training.schedule(n_images, shape)
    with console.progress(f"fitting {label}", schedule.epochs) as advance:

        def on_epoch(record: Record) -> None:
            advance(f"loss {record['train_loss']:.1f}, validation {record['validation_loss']:.1f}")

        model = fit_class(
            cohort,
            split,
            label,
            settings,
            data_digest=digest,
            read_as=asdict(source.resolved()),
            resume_folder=unfinished,
            command=command,
            hooks=Hooks(on_epoch=on_epoch, on_warning=console.warn),
        )
    with whole_folder(out / folder_name(label), force=force) as folder:
        save_loss_curve(folder / "loss.png", model.history, model.config.diagnostics["best_epoch"])
        (folder / "README.md").write_text(model_card(model, fit_warnings(model.config.diagnostics, settings)), encoding="utf-8")
        model.save(folder)  # last, because it seals the folder
    shutil.rmtree(unfinished, ignore_errors=True)
    found = model.config.diagnostics
    units = f", {found['active_units']} active latent units, KL to N(0, I) {found['kl']:.1f}" if "kl" in found else ""
    console.say(
        f"{label}: explains {found['explained_train']:.0%} of the training and {found['explained_validation']:.0%} of the held-out images' "
        f"variance{units}; kept epoch {found['best_epoch']} of {len(model.history)}. Model in {out / folder_name(label)}."
    )
    show_laws(model)
    return model


def show_laws(model: FittedModel) -> None:
    """Print how probable each latent law makes people left out."""
    scores = model.law_scores
    console.show_table(f"{model.config.label}: how probable latent laws make people left out", COLUMNS, scores.rows())
    console.say(f"--sampler auto draws from {scores.sentence}.")
    if scores.promise:
        console.say(f"riemannian is {scores.promise}.")


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


def _unfinished(out: Path, label: str) -> Path:
    """Where the state of a fit is kept until its model is whole."""
    return out / f".fitting-{folder_name(label)}"


def _split(cohort: Cohort, out: Path, split_file: Path | None, seed: int | None) -> Split:
    """The given split, else the one that the models in ``out`` share, else a new one.

    Raises
    ------
    UsageError
        If another split is asked for than that of ``out`` (its test participants would be others than the models'), or that of ``out``
        is lost, or no longer the one that its models were fitted on.
    """
    shared = Split.load(out / "split.json", cohort) if (out / "split.json").exists() else None
    asked = Split.load(split_file, cohort) if split_file else None if shared and seed is None else split_cohort(cohort, seed=seed or 0)
    if shared and asked and asked.digest != shared.digest:
        raise UsageError(f"The models in {out} share the split {out / 'split.json'}, which is another; choose another --out.")
    split = shared or asked
    assert split is not None
    for folder in model_folders(out):
        with suppress(DataError):  # a damaged model may be there to be replaced
            if ModelConfig.read(folder).split.get("digest") != split.digest:
                file = out / "split.json"
                told = f"{file} is not the split" if shared else f"There is no {file}, and the one asked for is not that"
                raise UsageError(f"{told} that {folder} was fitted on; restore it, or choose another --out.")
    return split


def _finished(out: Path, label: str, settings: FitSettings, found: Examination, split: Split) -> FittedModel | None:
    """The model of this very plan, if it is there."""
    folder = out / folder_name(label)
    if not (folder / "config.json").is_file():
        return None
    model = FittedModel.load(folder)
    return model if model.config.plan == plan_digest(settings, label, found.digest, split) else None


def _training_images(model: FittedModel, moved: Mapping[str, Any]) -> tuple[Images | None, list[str]]:
    """The images that a model was trained on, read again, with their participants; ``None`` if they cannot be had."""
    label = model.config.label
    try:
        cohort = model.config.source(moved).read()
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


def _show_plan(
    cohort: Cohort,
    split: Split,
    labels: Sequence[str],
    settings: FitSettings,
    found: Examination,
    out: Path,
    shape: tuple[int, ...],
    n_parameters: int,
) -> None:
    rows = [
        (
            label,
            *(len(split.side(cohort.of_class(label), side)) for side in ("train", "validation", "test")),
            settings.training.schedule(len(split.side(cohort.of_class(label), "train")), shape).epochs,
            out / folder_name(label),
        )
        for label in labels
    ]
    title = f"{cohort.name}: {_shapes(found)}, brought to {' x '.join(map(str, shape))}; {settings.model}, {n_parameters:,} parameters"
    console.show_table(title, ("class", "train", "validation", "test", "epochs", "model"), rows)
    console.say("A dry run: nothing was trained or written.")


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


def _shapes(found: Examination) -> str:
    return ", ".join(f"{count} of {' x '.join(map(str, shape))}" for shape, count in found.shapes.items()) or "no readable image"


def models(folder: Path | None = None) -> None:
    """List the models and the samplers, as their registries have them; of a folder the laws of each model in it."""
    if folder is not None:
        for model in load_models(folder).values():
            show_laws(model)
        return
    console.show_table(
        "Models (augment fit --model NAME)",
        ("name", "what it is", "after", "sampled with", "settings (--set name=value)"),
        [
            (
                name,
                kind.title,
                kind.source,
                ", ".join(samplers_for(kind)),
                ", ".join(f"{key}={value}" for key, value in defaults(name).items()),
            )
            for name, kind in AUTOENCODERS.items()
        ],
    )
    console.show_table(
        "Samplers (augment generate --sampler NAME)",
        ("name", "what it draws", "after", "settings"),
        [(name, entry.title, entry.source, ", ".join(entry.settings)) for name, entry in SAMPLERS.items()],
    )
