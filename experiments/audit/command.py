"""The command ``augment audit``: audit synthetic cohorts, write the report, set copies aside, and refuse what gives patients away."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ...augment import console
from ...augment.commands.alike import prepared_alike
from ...augment.fitting.model import FittedModel, placed
from ...augment.fitting.model_config import ModelConfig, poor_fit_warnings
from ...augment.fitting.model_folders import load_models, model_folders
from ...augment.release.gate import AuditRecord, Gate
from ...augment.release.quarantine import quarantine_of
from ...augment.release.synthetic_cohort import SyntheticCohort, cohort_place, held_cohort, is_synthetic
from ...datasets.cohort import Cohort
from ...datasets.common.compute import choose_device, exactly
from ...datasets.common.errors import DataError, GateError, UsageError
from ...datasets.common.files import refuse_existing, whole_folder
from ...datasets.output import output
from ...datasets.readers import NAMES, Source
from ...datasets.transforms import Preparation
from ..fidelity.features import Extractor
from .audit import audit_class
from .foreign import read_foreign
from .material import AuditedClass, is_drawn_from_models, read_real, read_synthetic
from .reidentification import reidentification_space
from .report import overview, write_report
from .spaces import Space, audit_extractor, feature_space, image_spaces, latent_space
from .verdict import Verdict, judge

MEND = (
    "Do not hand it on; where the patients' images are, it may be used. More people to train on and to hold out give less away, images as "
    "they are decoded less than with detail (augment generate --detail none), and of the laws --sampler auto less than those that stay "
    "beside single people, and --sampler normal least, whose images are less like the class; --gate with a --reason allows more."
)


@dataclass(frozen=True)
class AuditRequest:
    """The cohorts to audit, and how.

    Parameters
    ----------
    synthetic : tuple of Path
        Folders of cohorts, drawn from the same models.
    models : Path, optional
        A folder of models, or one model; by default ``models`` for cohorts that were drawn from such, and none for others.
    moved : mapping
        Place of the real cohort, if it has moved (``ModelConfig.source``), and how it is read.
    trained_on : Path, optional
        Without models: who of the real cohort the images were made of, as ``foreign.read_foreign`` takes it.
    preparation : Preparation
        Without models: how images are prepared. What a cohort of ours records of its own is as for ``alike.prepared_alike``.
    asked : tuple of str
        The fields of the preparation that were named.
    extractor : str
        As for ``augment fidelity``, or ``none``.
    weights : Path, optional
        File with InceptionV3's weights.
    reidentification : bool
        Whether a network learns to know the people again.
    device : {"auto", "cpu", "gpu"}
        Where networks compute, and images are aligned.
    gate : Gate
    seed : int
    command : str
        Recorded in the report.
    """

    synthetic: tuple[Path, ...]
    models: Path | None = None
    moved: Mapping[str, Any] = field(default_factory=dict)
    trained_on: Path | None = None
    preparation: Preparation = field(default_factory=Preparation)
    asked: tuple[str, ...] = ()
    extractor: str = "cohort"
    weights: Path | None = None
    reidentification: bool = True
    device: str = "cpu"
    gate: Gate = field(default_factory=Gate)
    seed: int = 0
    command: str = ""


def audit(request: AuditRequest, out: Path | None = None, *, force: bool = False) -> list[Verdict]:
    """Audit cohorts; report into ``out``, by default beside the only one as ``<cohort>.audit``; set copies aside.

    Raises
    ------
    GateError
        If any of the cohorts is refused; the report is written all the same.
    """
    request = replace(request, synthetic=tuple(map(cohort_place, request.synthetic)))
    if len({folder.name for folder in request.synthetic}) < len(request.synthetic):
        raise UsageError("Two synthetic cohorts have one name, by which the report would tell them apart; give each once, or rename one.")
    if out is None:
        first, *others = request.synthetic
        if others:
            raise UsageError("Of several cohorts there is one report; say where with --out.")
        out = first.with_name(f"{first.name}.audit")
    data = [request.moved["data"]] if "data" in request.moved else []
    for model in [] if request.models is None else model_folders(request.models):
        data += ModelConfig.read(model).places(request.moved)
    with ExitStack() as alone:
        alone.enter_context(output(out, console.say, data=data))
        for folder in request.synthetic:
            # One that is not there may be what a kill has hidden; what something else has made is only read.
            if is_synthetic(folder) or not folder.exists():
                alone.enter_context(held_cohort(folder, console.say))
        refuse_existing(out, force=force, ours=lambda folder: (folder / "audit.json").is_file())
        return _audit(request, out, force=force)


def _audit(request: AuditRequest, out: Path, *, force: bool) -> list[Verdict]:
    request, place = _with_models(request), choose_device(request.device)
    told = _read_foreign(request) if request.models is None else _read_ours(request, request.models)
    extractor = _extractor(request, told)
    asked = any(audited.held_out.participants for part in told.classes for audited in part)
    again = [_reidentification(told, request.seed, place)] if request.reidentification and asked else []
    verdicts = []
    for folder, cohort, classes in zip(request.synthetic, told.cohorts, told.classes, strict=True):
        findings = []
        with console.progress(f"auditing {folder.name}", len(classes)) as advance:
            for audited in classes:
                of_model = [] if audited.model is None else [latent_space(audited.model)]
                features = [] if extractor is None else [feature_space(extractor)]
                spaces = [*image_spaces(place), *of_model, *features, *again]
                with exactly(place) if audited.model is None else placed(audited.model.autoencoder, place):
                    findings.append(audit_class(audited, spaces, request.gate, seed=request.seed, device=place))
                advance(audited.label)
        already = [0 if cohort is None else cohort.description.set_aside.get(audited.label, 0) for audited in classes]
        verdicts.append(judge(folder.name, findings, request.gate, already))
    with whole_folder(out, force=force) as temporary:
        write_report(temporary, verdicts, request.gate, _record(request, told.source, extractor))
    for cohort, verdict in zip(told.cohorts, verdicts, strict=True):
        if cohort is not None:
            _enforce(cohort, verdict, request.gate)
    table = overview(verdicts)
    console.show_table("closeness", "How close the images come to patients", list(table.columns), table.to_numpy().tolist())
    for verdict in verdicts:
        if verdict.passed:
            console.say(verdict.sentence)
    console.say(f"The report, which shows patients, is {out / 'report.html'}.")
    refused = [verdict.sentence for verdict in verdicts if not verdict.passed]
    if refused:
        raise GateError(f"{' '.join(refused)} {MEND}")
    return verdicts


@dataclass(frozen=True, eq=False)
class _Told:
    """What is audited: cohorts (``None`` where something else has made them), their classes, and the real people."""

    source: Source
    real: Cohort
    preparation: Preparation
    cohorts: list[SyntheticCohort | None]
    classes: list[list[AuditedClass]]


def _with_models(request: AuditRequest) -> AuditRequest:
    """The request with the models that are meant where none are named, and none where there are none."""
    if request.models is None and request.trained_on is None and all(map(is_drawn_from_models, request.synthetic)):
        return replace(request, models=Path("models"))
    return request


def _read_foreign(request: AuditRequest) -> _Told:
    if "data" not in request.moved:
        raise UsageError(
            f"{', '.join(map(str, request.synthetic))}: say with --data which real people the images may show, and with --trained-on "
            "which of them they were made of; or with --model the models that they were drawn from."
        )
    preparation = prepared_alike(request.preparation, request.asked, list(map(str, request.synthetic)))
    source = Source(**{"plane": preparation.plane, **request.moved})
    real, preparation, classes = read_foreign(request.synthetic, source, preparation, request.trained_on)
    for audited in (audited for part in classes for audited in part):
        held_out, label = len(set(audited.held_out.participants)), audited.label
        others = f"{held_out} others are held out" if held_out else "--trained-on names nobody else, so membership is not asked"
        console.say(f"{label}: compared with {len(set(audited.training.participants))} real people, and {others}; no model is looked at.")
    return _Told(source, real, preparation, [None] * len(classes), classes)


def _read_ours(request: AuditRequest, folder: Path) -> _Told:
    if request.trained_on is not None:
        raise UsageError("Models know who they were trained on: give --model or --trained-on.")
    # The plane is of how the data are read, which may be said anew.
    if replace(request.preparation, plane=None) != Preparation():
        raise UsageError(
            "Models know how images are prepared; --size, --position, --resize and --scaling are for images of others, without --model."
        )
    cohorts = [SyntheticCohort.open(made) for made in request.synthetic]
    models = load_models(folder)
    images = [read_synthetic(cohort, models) for cohort in cohorts]
    models = {label: model for label, model in models.items() if any(label in found for found in images)}
    for label, model in models.items():
        for message in poor_fit_warnings(model.config.diagnostics):
            console.warn(f"{label}: {message}")
    preparations = {model.config.preparation for model in models.values()}
    if len(preparations) > 1:
        raise DataError(f"The models in {folder} prepare images in different ways; audit their classes one by one.")
    source = _source(next(iter(models.values())), request.moved)
    real, sides = read_real(source, models)
    classes = [[AuditedClass(label, models[label], people, *sides[label]) for label, people in found.items()] for found in images]
    return _Told(source, real, preparations.pop(), list(cohorts), classes)


def _source(model: FittedModel, moved: Mapping[str, Any]) -> Source:
    """Where a model's data lie; raise a ``DataError`` if they have moved, and nobody has said where."""
    source = model.config.source(moved)
    if "data" not in moved and source.data not in NAMES and not Path(source.data).exists():
        raise DataError(f"The models were fitted on {source.data}, which is not there; say with --data where it is now.")
    return source


def _extractor(request: AuditRequest, told: _Told) -> Extractor | None:
    if request.extractor == "none":
        return None
    if request.extractor == "cohort" and len(told.real.labels) < 2:
        console.warn("The data have one class, so no classifier gives features: only voxels and codes are compared.")
        return None
    return audit_extractor(request.extractor, request.weights, told.source, told.real, told.preparation, request.seed, request.device)


def _reidentification(told: _Told, seed: int, device: torch.device) -> Space:
    """The space of a network that knows all people of the audited classes again."""
    classes = {audited.label: audited for part in told.classes for audited in part}
    parts = [people for audited in classes.values() for people in (audited.training, audited.held_out)]
    images, whose = torch.cat([people.images.pixels for people in parts]), [who for people in parts for who in people.participants]
    return reidentification_space(images, whose, seed=seed, track=console.tracked("learning to know people again"), device=device)


def _enforce(cohort: SyntheticCohort, verdict: Verdict, gate: Gate) -> None:
    """Move copies out of the cohort, and write what was found into its description."""
    reasons = {
        finding.audited.synthetic.participants[row]: reason for finding in verdict.findings for row, reason in finding.copies.items()
    }
    counts = {finding.audited.label: len(finding.copies) for finding in verdict.findings}
    cohort.record(AuditRecord(counts, verdict.objections, gate), reasons)
    if reasons:
        aside, n = quarantine_of(cohort.folder), len(reasons)
        told = "1 image" if n == 1 else f"{n} images"
        console.warn(f"{told} of {cohort.folder} set aside as copies or blends of patients, into {aside}, whose participants.tsv says why.")


def _record(request: AuditRequest, source: Source, extractor: Extractor | None) -> dict[str, Any]:
    return {
        "Data": source.data,
        "Models": None if request.models is None else str(request.models),
        "TrainedOn": None if request.trained_on is None else str(request.trained_on),
        "Seed": request.seed,
        "Features": None if extractor is None else asdict(extractor.passport),
        "Version": version("tinycohort"),
        "Command": request.command,
    }
