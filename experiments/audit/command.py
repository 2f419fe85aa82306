"""The command ``augment audit``: audit synthetic cohorts, write the report, set copies aside, and refuse what gives patients away."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...augment import console
from ...augment.fitting.model import FittedModel
from ...augment.fitting.model_config import poor_fit_warnings
from ...augment.fitting.model_folders import load_models
from ...augment.release.gate import AuditRecord, Gate
from ...augment.release.quarantine import quarantine_of
from ...augment.release.synthetic_cohort import SyntheticCohort, held_cohort
from ...datasets.cohort import Cohort
from ...datasets.common.errors import DataError, GateError, UsageError
from ...datasets.common.files import named, refuse_existing, whole_folder
from ...datasets.output import output
from ...datasets.readers import NAMES, Source
from ..fidelity.features import Extractor
from .audit import audit_class
from .material import AuditedClass, read_real, read_synthetic, require_model
from .report import overview, write_report
from .spaces import audit_extractor, feature_space, image_space, latent_space
from .verdict import Verdict, judge

MEND = (
    "Do not hand it on. More people to train on and to hold out give less away, and laws as broad as people differ "
    "(augment generate --sampler auto) less than those that stay beside single people; --gate with a --reason allows more."
)


@dataclass(frozen=True)
class AuditRequest:
    """The cohorts to audit, and how.

    Parameters
    ----------
    synthetic : tuple of Path
        Folders of cohorts, drawn from the same models.
    models : Path
        A folder of models, or one model.
    moved : mapping
        Place of the real cohort, if it has moved (``ModelConfig.source``).
    extractor : str
        As for ``augment fidelity``, or ``none``.
    weights : Path, optional
        File with InceptionV3's weights.
    gate : Gate
    seed : int
    command : str
        Recorded in the report.
    """

    synthetic: tuple[Path, ...]
    models: Path
    moved: Mapping[str, Any] = field(default_factory=dict)
    extractor: str = "cohort"
    weights: Path | None = None
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
    request = replace(request, synthetic=tuple(map(named, request.synthetic)))
    if len({folder.name for folder in request.synthetic}) < len(request.synthetic):
        raise UsageError("Two synthetic cohorts have one name, by which the report would tell them apart; give each once, or rename one.")
    if out is None:
        first, *others = request.synthetic
        if others:
            raise UsageError("Of several cohorts there is one report; say where with --out.")
        out = first.with_name(f"{first.name}.audit")
    with ExitStack() as alone:
        alone.enter_context(output(out, console.say))
        for folder in request.synthetic:
            alone.enter_context(held_cohort(folder, console.say))
        refuse_existing(out, force=force, ours=lambda folder: (folder / "audit.json").is_file())
        return _audit(request, out, force=force)


def _audit(request: AuditRequest, out: Path, *, force: bool) -> list[Verdict]:
    cohorts = [SyntheticCohort.open(folder) for folder in request.synthetic]
    for cohort in cohorts:
        require_model(cohort)
    models = load_models(request.models)
    images = [read_synthetic(cohort, models) for cohort in cohorts]
    models = {label: model for label, model in models.items() if any(label in found for found in images)}
    for label, model in models.items():
        for message in poor_fit_warnings(model.config.diagnostics):
            console.warn(f"{label}: {message}")
    if len({model.config.preparation for model in models.values()}) > 1:
        raise DataError(f"The models in {request.models} prepare images in different ways; audit their classes one by one.")
    source = _source(next(iter(models.values())), request.moved)
    real, sides = read_real(source, models)
    extractor = _extractor(request, source, real, models)
    verdicts = []
    for cohort, found in zip(cohorts, images, strict=True):
        findings = []
        with console.progress(f"auditing {cohort.folder.name}", len(found)) as advance:
            for label, people in found.items():
                spaces = [image_space(), latent_space(models[label]), *([] if extractor is None else [feature_space(extractor)])]
                audited = AuditedClass(label, models[label], people, *sides[label])
                findings.append(audit_class(audited, spaces, request.gate, seed=request.seed))
                advance(label)
        already = [cohort.description.set_aside.get(label, 0) for label in found]
        verdicts.append(judge(cohort.folder.name, findings, request.gate, already))
    with whole_folder(out, force=force) as temporary:
        write_report(temporary, verdicts, request.gate, _record(request, source, extractor))
    for cohort, verdict in zip(cohorts, verdicts, strict=True):
        _enforce(cohort, verdict, request.gate)
    table = overview(verdicts)
    console.show_table("How close the images come to patients", list(table.columns), table.to_numpy().tolist())
    for verdict in verdicts:
        if verdict.passed:
            console.say(verdict.sentence)
    console.say(f"The report, which shows patients, is {out / 'report.html'}.")
    refused = [verdict.sentence for verdict in verdicts if not verdict.passed]
    if refused:
        raise GateError(f"{' '.join(refused)} {MEND}")
    return verdicts


def _source(model: FittedModel, moved: Mapping[str, Any]) -> Source:
    """Where a model's data lie; raise a ``DataError`` if they have moved, and nobody has said where."""
    source = model.config.source(moved)
    if "data" not in moved and source.data not in NAMES and not Path(source.data).exists():
        raise DataError(f"The models were fitted on {source.data}, which is not there; say with --data where it is now.")
    return source


def _extractor(request: AuditRequest, source: Source, real: Cohort, models: Mapping[str, FittedModel]) -> Extractor | None:
    if request.extractor == "none":
        return None
    if request.extractor == "cohort" and len(real.labels) < 2:
        console.warn("The data have one class, so no classifier gives features: only voxels and codes are compared.")
        return None
    preparation = next(iter(models.values())).config.preparation
    return audit_extractor(request.extractor, request.weights, source, real, preparation, request.seed)


def _enforce(cohort: SyntheticCohort, verdict: Verdict, gate: Gate) -> None:
    """Move copies out of the cohort, and write what was found into its description."""
    reasons = {
        finding.audited.synthetic.participants[row]: reason for finding in verdict.findings for row, reason in finding.copies.items()
    }
    counts = {finding.audited.label: len(finding.copies) for finding in verdict.findings}
    cohort.record(AuditRecord(counts, verdict.objections, gate), reasons)
    if reasons:
        console.warn(f"{len(reasons)} images of {cohort.folder} copy a patient and were moved to {quarantine_of(cohort.folder)}.")


def _record(request: AuditRequest, source: Source, extractor: Extractor | None) -> dict[str, Any]:
    return {
        "Data": source.data,
        "Models": str(request.models),
        "Seed": request.seed,
        "Features": None if extractor is None else asdict(extractor.passport),
        "Version": version("tinycohort"),
        "Command": request.command,
    }
