"""From the images of one class to a fitted model: train, encode, build the metric, and say how well it went."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ...datasets.cohort import Cohort
from ...datasets.common.compute import choose_device
from ...datasets.common.errors import UsageError
from ...datasets.common.files import write_json
from ...datasets.common.seeds import derived_seed
from ...datasets.common.words import dotted, listed
from ...datasets.together import digest_of
from ...datasets.transforms import Images, prepare
from ..autoencoders import Autoencoder, GaussianAutoencoder, build_autoencoder
from ..samplers.latents import Latents
from .assessment import assess, fit_warnings, posterior_of
from .model import FittedModel, build_metric, encode, placed
from .model_config import ModelConfig, Participants, installed_versions
from .plan import FitPlan
from .training import Record, train
from .training_images import people_in

_MARKER = "plan.json"  # in the folder of a resume point


@dataclass(frozen=True)
class Hooks:
    """Where a fit tells how far it is; silent by default."""

    on_image: Callable[[], None] = lambda: None
    on_epoch: Callable[[Record], None] = lambda record: None
    on_warning: Callable[[str], None] = lambda message: None


def fit_class(plan: FitPlan, *, resume_folder: Path | None = None, command: str = "", hooks: Hooks | None = None) -> FittedModel:
    """Fit a model on one class's training side; its validation side selects the weights, of its test side at most the grid is read.

    Parameters
    ----------
    plan : FitPlan
        What is fitted, on whom and how.
    resume_folder : Path, optional
        Where the state of training is kept, and taken up if there is one of the same plan.
    command : str
        Recorded in the model.
    hooks : Hooks, optional
        Progress.

    Raises
    ------
    UsageError
        If ``resume_folder`` holds the state of another plan, or the plan does not say of which images it is (``data_digest``), or this
        machine has no memory for the images or the model.
    DataError
        If images cannot be prepared alike.
    GateError
        If training diverges.
    """
    hooks = hooks or Hooks()
    settings, label, cohort, split, sides = plan.settings, plan.label, plan.cohort, plan.split, plan.sides
    plan.require_memory()
    if resume_folder is not None:
        require_same_fit(resume_folder, plan)
        now = settings.training.computes_with
        begun = _begun(resume_folder).get("computes_with", now)
        if begun != now:
            hooks.on_warning(
                f"{label}: this fit was begun with {begun}, and goes on with {now}: its weights will not be those of one that was never "
                "interrupted."
            )
        write_json(resume_folder / _MARKER, {"plan": plan.digest, "computes_with": begun, "content": plan.content})

    images = _prepare_together(plan, hooks)
    autoencoder = _initialise(plan)
    result = train(
        autoencoder,
        images["train"].pixels,
        images["validation"].pixels,
        settings.training,
        seed=derived_seed(settings.seed, label, "training"),
        resume_folder=resume_folder,
        on_epoch=hooks.on_epoch,
    )

    place = choose_device(settings.training.device)
    with placed(autoencoder, place):
        found, held_out = (_latents_of(autoencoder, images[side].pixels, _whose(sides[side])) for side in ("train", "validation"))
        diagnostics = assess(autoencoder, images["train"], images["validation"], found.posterior) | {"best_epoch": result.best_epoch}
    metric = None
    if found.posterior is not None:
        metric = build_metric(found.posterior, settings.metric, seed=settings.seed, label=label)
    for message in fit_warnings(diagnostics, plan.settings_used):
        hooks.on_warning(f"{label}: {message}")
    config = ModelConfig(
        label=label,
        model=settings.model,
        model_settings=settings.model_settings,
        architecture=plan.architecture,
        preparation=replace(settings.preparation, size=images["train"].space.shape),
        space=images["train"].space,
        training=plan.settings_used.training,
        metric=settings.metric,
        participants=Participants.record(sides["train"].table["participant_id"], sides["validation"].table["participant_id"]),
        seed=settings.seed,
        data={
            "name": cohort.name,
            "source": cohort.source,
            "read_as": plan.read_as or {"data": cohort.source},
            "licence": cohort.licence,
            "label_column": cohort.label_column,
            **({} if cohort.skull_stripped is None else {"skull_stripped": cohort.skull_stripped}),
            "synthetic": cohort.synthetic,
            "digest": plan.data_digest,
            **({"alike": digest_of(cohort.alike)} if cohort.digests or plan.data_digest else {}),  # where somebody has looked
            "counts": split.side(cohort, "train").counts(),
            "n_train": len(sides["train"]),
            "n_validation": len(sides["validation"]),
        },
        split={"digest": split.digest, "tested": split.tested, "seed": split.seed},
        plan=plan.digest,
        diagnostics=diagnostics,
        versions=installed_versions(),
        command=command,
        threads=torch.get_num_threads(),
    )
    model = FittedModel(config, autoencoder, found.codes, found.posterior, metric, result.history, found.person)
    with placed(autoencoder, place):
        return model.scored(held_out)


def require_same_fit(resume_folder: Path, plan: FitPlan) -> None:
    """Raise a ``UsageError`` if a folder holds the state of another fit than this one, or nobody can tell whether it does."""
    if not plan.data_digest:
        raise UsageError(
            "A fit can go on from a resume_folder only where its plan says of which images it is; give FitPlan the whole "
            "cohort that require_sound(cohort) returns."
        )
    begun = _begun(resume_folder)
    if begun and begun.get("plan") != plan.digest:
        raise UsageError(
            f"{resume_folder} holds an unfinished fit with other settings, data, split or version of tinycohort"
            f"{_what_differs(begun.get('content'), plan.content)}; repeat those settings, or leave out --resume to start anew."
        )


def _what_differs(theirs: Any, ours: Mapping[str, Any]) -> str:
    """Of the plans of two fits, in brackets; nothing where the former version did not keep it."""
    if not isinstance(theirs, dict):
        return ""
    there, here = dict(dotted(theirs)), dict(dotted(json.loads(json.dumps(ours))))  # as JSON has them: tuples are lists
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    told = [name if name in ("data", "split") else f"{name}: {there.get(name)} there, {here.get(name)} here" for name in names]
    return f" ({listed((text.removeprefix('settings.') for text in told), most=5)})" if told else ""


def _begun(resume_folder: Path) -> dict[str, Any]:
    """What is known of the fit that was begun there; nothing if none was."""
    marker = resume_folder / _MARKER
    return json.loads(marker.read_text(encoding="utf-8")) if marker.exists() else {}


def _whose(cohort: Cohort) -> Tensor | None:
    """A number for the person of each image ``(n,)``, where somebody has several."""
    people = pd.Series(people_in(cohort.table, cohort.alike))
    return torch.from_numpy(pd.factorize(people)[0].astype("int64")) if people.duplicated().any() else None


def _latents_of(autoencoder: Autoencoder, images: Tensor, person: Tensor | None) -> Latents:
    """Codes of images, whose they are, and their posteriors where there are some."""
    posterior = posterior_of(autoencoder, images) if isinstance(autoencoder, GaussianAutoencoder) else None
    return Latents(encode(autoencoder, images), autoencoder, posterior, person=person)


def _prepare_together(plan: FitPlan, hooks: Hooks) -> dict[str, Images]:
    """Both sides in one pass, so that a user is warned once."""
    sides = plan.sides
    both = replace(sides["train"], table=pd.concat([side.table for side in sides.values()], ignore_index=True))
    images = prepare(both, plan.settings.preparation, like=plan.space, on_image=hooks.on_image, on_warning=hooks.on_warning)
    n = len(sides["train"])
    return {"train": images[:n], "validation": images[n:]}


def _initialise(plan: FitPlan) -> Autoencoder:
    """Fresh weights from the seed; torch's global state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(plan.settings.seed, plan.label, "weights"))
        return build_autoencoder(plan.settings.model, plan.architecture, **plan.settings.model_settings)
