"""``augment fit``: a model per class, all on one split."""

import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ...datasets.check import Examination
from ...datasets.cohort import Cohort
from ...datasets.common.compute import choose_device
from ...datasets.common.errors import DataError, UsageError
from ...datasets.common.files import refuse_existing, whole_folder
from ...datasets.output import output, refuse_misplaced
from ...datasets.readers import Source, read_cohort
from ...datasets.sizes import sides_told
from ...datasets.splits import Split, split_cohort
from ...datasets.transforms import in_array_order, prepare
from .. import console
from ..fitting.assessment import fit_warnings
from ..fitting.figures import save_loss_curve
from ..fitting.fit import Hooks, fit_class, require_same_fit
from ..fitting.kept_images import FILE as DETAIL
from ..fitting.kept_images import keep_images
from ..fitting.loggers import logged, require_loggers
from ..fitting.model import FittedModel
from ..fitting.model_card import model_card
from ..fitting.model_config import ModelConfig, poor_fit_warnings
from ..fitting.model_folders import is_model, model_folders, prepared_alike
from ..fitting.plan import FEWEST_IMAGES, FitPlan
from ..fitting.settings import FitSettings
from ..fitting.training import FORMER_RESUME_POINT, RESUME_POINT, Record
from ..fitting.training_images import TrainingImages
from .check import require_sound_cohort, shapes_told, warn_of_people_apart
from .show import show_laws


@dataclass(frozen=True)
class FitRequest:
    """What is fitted, on what, and how; the options of ``augment fit``, with their defaults.

    Parameters
    ----------
    source : Source
        The cohort.
    labels : sequence of str
        Classes; none for all.
    settings : FitSettings
    split_file : Path, optional
        A split that was made before.
    split_seed : int, optional
        Seed of a new split.
    skull_stripped : bool, optional
        Whether the images are, where the source does not say it.
    keep_detail : bool
        Keep the training images, which are personal data, in the models' folders.
    loggers : sequence of str
        Where the fit can be watched (``fitting.loggers``), in ``<class>.logs`` beside each model.
    command : str
        Recorded in the models.
    """

    source: Source
    labels: Sequence[str] = ()
    settings: FitSettings = field(default_factory=FitSettings)
    split_file: Path | None = None
    split_seed: int | None = None
    skull_stripped: bool | None = None
    keep_detail: bool = False
    loggers: Sequence[str] = ()
    command: str = ""


def fit_models(
    request: FitRequest, out: Path, *, resume: bool = False, force: bool = False, dry_run: bool = False
) -> dict[str, FittedModel]:
    """Fit a model per class into ``out/<class>``, all on the split in ``out/split.json``; the models by label."""
    choose_device(request.settings.training.device)
    require_loggers(request.loggers)
    cohort = read_cohort(request.source)
    if request.skull_stripped is not None:
        cohort = replace(cohort, skull_stripped=request.skull_stripped)
    labels = list(dict.fromkeys(request.labels)) or cohort.labels
    for label in labels:
        cohort.of_class(label)
    spelt_alike = [label for label in labels if sum(folder_name(label).casefold() == folder_name(other).casefold() for other in labels) > 1]
    if spelt_alike:
        raise UsageError(f"The classes {', '.join(spelt_alike)} would share a folder; rename one, or fit them with different --out.")
    with ExitStack() as held:
        for label in labels:
            folder = out / folder_name(label)
            if dry_run:
                refuse_misplaced(folder, [request.source.data])
            else:
                held.enter_context(output(folder, console.say, data=[request.source.data]))
        return _fit(request, out, cohort, labels, resume=resume, force=force, dry_run=dry_run)


def _fit(
    request: FitRequest, out: Path, cohort: Cohort, labels: Sequence[str], *, resume: bool, force: bool, dry_run: bool
) -> dict[str, FittedModel]:
    """Fit into folders that nobody else writes."""
    settings, sized = request.settings, request.settings.preparation.size is not None
    cohort, found = require_sound_cohort(cohort, sized=sized, minimum=FEWEST_IMAGES)
    settings = replace(settings, preparation=in_array_order(settings.preparation, cohort))
    # All that can be refused is refused here: before anything is written, and hours before the end of training.
    split = _split(cohort, out, request.split_file, request.split_seed)
    warn_of_people_apart(cohort, split)
    read_as = asdict(request.source.resolved())
    plans = {label: FitPlan(cohort, split, label, settings, read_as=read_as) for label in labels}
    first = plans[labels[0]]
    for plan in plans.values():
        plan.require_memory()
    n_parameters = first.count_parameters()
    finished = {label: _finished(out, plan) for label, plan in plans.items()} if resume else {}
    for label in labels:
        if finished.get(label) is None:
            if resume and not force and is_model(out / folder_name(label)):
                raise UsageError(
                    f"{out / folder_name(label)} is a finished fit with other settings, data, split or version of tinycohort, with which "
                    "there is nothing to go on; give --force to fit anew, or another --out."
                )
            refuse_existing(out / folder_name(label), force=force, ours=is_model)
            if resume:
                require_same_fit(_unfinished(out, label), plans[label])
        if any((_unfinished(out, label) / name).exists() for name in (RESUME_POINT, FORMER_RESUME_POINT)) and not (resume or force):
            raise UsageError(f"{out} holds an unfinished fit of {label}; give --resume to go on with it, or --force to start anew.")
    _warn_of_others(out, first, labels)
    if dry_run:
        _show_plans(plans, found, out, n_parameters)
        return {}
    _share(split, out)
    fitted: dict[str, FittedModel] = {}
    for label, plan in plans.items():
        done = finished.get(label)
        if done is not None:
            console.say(f"{label}: fitted already, in {out / folder_name(label)}.")
            for message in poor_fit_warnings(done.config.diagnostics):
                console.warn(f"{label}: {message}")
            if request.keep_detail and not (out / folder_name(label) / DETAIL).is_file():
                console.warn(f"{label}: the model was fitted without --keep-detail, and keeps none; fit it anew with --force.")
        elif not resume:
            shutil.rmtree(_unfinished(out, label), ignore_errors=True)
        fitted[label] = done or _fit_one(plan, out, force=force, request=request)
    return fitted


def folder_name(label: str) -> str:
    """A class's folder: its label, with nothing in it that a file system could take otherwise."""
    return re.sub(r"[^\w.-]", "_", label).lstrip(".") or "class"


def _fit_one(plan: FitPlan, out: Path, *, force: bool, request: FitRequest) -> FittedModel:
    label, unfinished = plan.label, _unfinished(out, plan.label)
    logs, curve = out / f"{folder_name(label)}.logs", []
    with console.progress(f"fitting {label}", plan.schedule.epochs) as advance, logged(request.loggers, logs, label) as log:

        def on_epoch(record: Record) -> None:
            log(record)
            curve.append(record["validation_loss"])
            advance(f"loss {record['train_loss']:.1f}, validation {record['validation_loss']:.1f} {console.curve(curve)}")

        model = fit_class(plan, resume_folder=unfinished, command=request.command, hooks=Hooks(on_epoch=on_epoch, on_warning=console.warn))
    with whole_folder(out / folder_name(label), force=force) as folder:
        save_loss_curve(folder / "loss.png", model.history, model.config.diagnostics["best_epoch"])
        warnings = fit_warnings(model.config.diagnostics, plan.settings_used)
        (folder / "README.md").write_text(model_card(model, warnings, keeps_detail=request.keep_detail), encoding="utf-8")
        if request.keep_detail:
            keep_images(_training_images(plan), folder)
        model.save(folder)  # last, because it seals the folder
    shutil.rmtree(unfinished, ignore_errors=True)
    found = model.config.diagnostics
    units = f", {found['active_units']} active latent units, KL to N(0, I) {found['kl']:.1f}" if "kl" in found else ""
    console.say(
        f"{label}: explains {found['explained_train']:.0%} of the training and {found['explained_validation']:.0%} of the held-out images' "
        f"variance{units}; kept epoch {found['best_epoch']} of {len(model.history)}. Model in {out / folder_name(label)}."
    )
    if request.loggers:
        console.say(f"{label}: losses were logged to {logs} ({', '.join(request.loggers)}).")
    show_laws(model)
    return model


def _training_images(plan: FitPlan) -> TrainingImages:
    training = plan.sides["train"]
    return TrainingImages.of(prepare(training, plan.settings.preparation, like=plan.space), training)


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


def _warn_of_others(out: Path, plan: FitPlan, labels: Sequence[str]) -> None:
    """Tell of models in ``out`` that stay, and are of images that were prepared otherwise: they may be next to be fitted anew."""
    for folder in model_folders(out):
        with suppress(DataError):
            other = ModelConfig.read(folder)
            if other.label not in labels and not prepared_alike(plan.settings.preparation, plan.space, other.preparation, other.space):
                console.warn(
                    f"{folder} is of images that were prepared otherwise: no cohort is made of both until it is fitted anew, alike."
                )


def _share(split: Split, out: Path) -> None:
    """Write the split that the models in ``out`` share, or compare it with that of a command that fits other classes meanwhile."""
    file = out / "split.json"
    with output(file, console.say, patience=60):
        if not file.exists():
            split.save(file)
        elif Split.load(file).digest != split.digest:
            raise UsageError(f"Another command has begun to fit models in {out} on another split; choose another --out.")


def _finished(out: Path, plan: FitPlan) -> FittedModel | None:
    """The model of this very plan, if it is there."""
    folder = out / folder_name(plan.label)
    if not (folder / "config.json").is_file():
        return None
    model = FittedModel.load(folder)
    return model if model.config.plan == plan.digest else None


def _show_plans(plans: Mapping[str, FitPlan], found: Examination, out: Path, n_parameters: int) -> None:
    rows = []
    for label, plan in plans.items():
        sides = plan.sides
        n_test = len(plan.split.side(plan.cohort.of_class(label), "test"))
        length = plan.schedule
        sizes = (len(sides["train"]), len(sides["validation"]), n_test)
        rows.append((label, *sizes, length.epochs, round(length.jitter, 2), out / folder_name(label)))
    plan = next(iter(plans.values()))
    shape = sides_told(plan.space.shape, picture=plan.space.is_picture)
    title = f"{plan.cohort.name}: {shapes_told(found)}, brought to {shape}; {plan.settings.model}, {n_parameters:,} parameters"
    console.show_table("plan", title, ("class", "train", "validation", "test", "epochs", "jitter", "model"), rows)
    console.say("A dry run: nothing was trained or written.")
