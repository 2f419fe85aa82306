"""``augment show`` and ``augment models``: what there is, as pictures and tables."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...datasets.cohort import Cohort
from ...datasets.common.errors import UsageError
from ...datasets.common.files import refuse_existing
from ...datasets.output import output
from ...datasets.readers import Source, read_cohort
from ...datasets.transforms import Preparation, prepare, space_of
from .. import console
from ..autoencoders import AUTOENCODERS
from ..detail.morph import NAME as MORPH
from ..detail.morph import TITLE as MORPH_TITLE
from ..detail.morph import Morph
from ..fitting.figures import SheetRow, save_contact_sheet, save_latent_map, save_loss_curve
from ..fitting.model import FittedModel
from ..fitting.model_folders import load_models
from ..release.prepared_cohort import as_prepared, is_prepared
from ..release.synthetic_cohort import folder_of, prepared_as, source_of
from ..samplers.law_scores import COLUMNS
from ..samplers.registry import SAMPLERS, samplers_for
from ..settings import Settings, settings_of
from .alike import own_sizes, prepared_alike, ranged


def show_cohorts(
    paths: Sequence[str],
    source: Source,
    preparation: Preparation,
    out: Path,
    *,
    columns: int,
    labels: Sequence[str],
    asked: Collection[str] = (),
    force: bool = False,
) -> None:
    """Write a contact sheet of cohorts, a row per class; of a model folder with two latent dimensions, its latent map.

    Real images beside synthetic ones are prepared as these were, and at their size where none is asked for, if these agree in that.
    ``asked`` are the fields of the preparation that were named.
    """
    with output(out, console.say, data=paths):
        refuse_existing(out, force=force)
        if len(paths) == 1 and (Path(paths[0]) / "config.json").is_file():
            _show_model(Path(paths[0]), out)
            return
        made = [path for path in paths if prepared_as(path) is not None]
        if made and any(path not in made and not is_prepared(folder_of(path)) for path in paths):
            preparation = _as_made(preparation, asked, made)
        cohorts = {path: _read(path, source, preparation) for path in paths}
        everywhere = sorted({label for cohort in cohorts.values() for label in cohort.labels})
        if unknown := [label for label in labels if label not in everywhere]:
            raise UsageError(
                f"{', '.join(paths)}: there is no image of class {', '.join(unknown)}; the classes are: {', '.join(everywhere)}."
            )
        synthetic = {path: cohort for path, cohort in cohorts.items() if cohort.synthetic}
        sizes = set(own_sizes(preparation, synthetic).values()) if preparation.size is None else set()
        of_all = sizes.pop() if len(sizes) == 1 else ()
        rows = []
        for path, cohort in cohorts.items():
            present = [label for label in cohort.labels if not labels or label in labels]
            if not present:
                raise UsageError(f"{path} has no image of class {', '.join(labels)}; it has: {', '.join(cohort.labels)}.")
            wanted = preparation
            if of_all and not cohort.synthetic and len(space_of(cohort, preparation).shape) == len(of_all):
                wanted = replace(preparation, size=of_all)
            rows += [_row(path, cohort, label, wanted, columns) for label in present]
        save_contact_sheet(out, rows, columns=columns)
        console.say(f"Wrote a contact sheet of {len(rows)} row{'s' if len(rows) != 1 else ''} to {out}.")


def _as_made(preparation: Preparation, asked: Collection[str], made: Sequence[str]) -> Preparation:
    """As ``prepared_alike``; of several cohorts that do not agree a sheet is drawn all the same."""
    try:
        return prepared_alike(preparation, asked, made)
    except UsageError as error:
        if len(made) == 1:
            raise
        console.warn(f"{error} Real images are shown as if they stood alone.")
        return preparation


def _show_model(folder: Path, out: Path) -> None:
    model = FittedModel.load(folder)
    if model.config.architecture.latent_dim != 2 or model.metric is None:
        save_loss_curve(out, model.history, model.config.diagnostics["best_epoch"])
        console.say(f"Wrote the loss curve of {folder} to {out} (a latent map needs two latent dimensions and a Gaussian posterior).")
    else:
        save_latent_map(out, model)
        console.say(f"Wrote the latent map of {folder} to {out}.")


def _read(path: str, source: Source, preparation: Preparation) -> Cohort:
    if (Path(path) / "config.json").is_file():
        raise UsageError(f"{path} is a model; show it by itself.")
    if models := sorted(config.parent for config in Path(path).glob("*/config.json")):
        raise UsageError(f"{path} is a folder of models; show one of them, as {models[0]}.")
    return read_cohort(source_of(path, replace(source, plane=source.plane or preparation.plane)))


def _row(path: str, cohort: Cohort, label: str, preparation: Preparation, columns: int) -> SheetRow:
    members = cohort.of_class(label)
    shown = _first(members, columns)
    sampler = f"\n{members.table['sampler'][0]}" if "sampler" in members.table else ""
    title = f"{label}{', synthetic' if cohort.synthetic else ''}{sampler}"
    # A prepared image has its range already, as a synthetic one has.
    if is_prepared(folder_of(path)):
        shown, preparation = as_prepared(shown, folder_of(path)), replace(preparation, scaling="none")
    return SheetRow(title, prepare(shown, ranged(preparation, cohort), on_warning=console.warn))


def _first(cohort: Cohort, n: int) -> Cohort:
    """The first images, of as many people as there are: further ones of somebody only where there is nobody else."""
    order = np.argsort(cohort.table["participant_id"].duplicated().to_numpy(), kind="stable")[:n]
    return cohort.where(np.isin(np.arange(len(cohort)), order))


def show_models(folder: Path | None = None) -> None:
    """List the models and the samplers, as their registries have them; of a folder the laws of each model in it."""
    if folder is not None:
        for model in load_models(folder).values():
            show_laws(model)
        return
    console.show_table(
        "models",
        "Models (augment fit --model NAME)",
        ("name", "what it is", "after", "sampled with", "settings (--set name=value)"),
        [
            (
                name,
                kind.title,
                kind.source,
                ", ".join(samplers_for(kind)),
                _told(settings_of(kind)),
            )
            for name, kind in AUTOENCODERS.items()
        ],
    )
    console.show_table(
        "samplers",
        "Samplers (augment generate --sampler NAME)",
        ("name", "what it draws", "after", "settings (--set name=value)"),
        [
            *((name, entry.title, entry.source, _told(entry.settings)) for name, entry in SAMPLERS.items()),
            (MORPH, MORPH_TITLE, "needs no fit, but --data", _told(settings_of(Morph))),
        ],
    )


def _told(settings: Settings) -> str:
    """Names of settings with their defaults, where a default is one value."""
    return ", ".join(name if setting.default is None else f"{name}={setting.default}" for name, setting in settings.items())


def show_laws(model: FittedModel) -> None:
    """Print how probable each latent law makes people left out."""
    scores = model.law_scores
    console.show_table("laws", f"{model.config.label}: how probable latent laws make people left out", COLUMNS, scores.rows())
    console.say(f"--sampler auto draws from {scores.sentence}.")
    if scores.promise:
        console.say(f"riemannian is {scores.promise}.")
