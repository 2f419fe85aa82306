"""What a synthetic cohort is worth, and what it gives away."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from .groups import takes_groups
from .options import Classes, Device, Force, GateOptions, PreparationOptions, ReadingOptions, Seed, Weights
from .reading import command_line, given_source, parts_of, require_outputs, require_places

app = typer.Typer()


@dataclass(frozen=True)
class MeasureOptions:
    """What is measured."""

    extractor: Annotated[
        str,
        typer.Option(
            "--extractor",
            help="cohort (a classifier trained on half of the real people, or on those that --split does not test), inception-2048 (FID), "
            "inception-768, -192 or -64 (inception-2048-bf16 and so on are quicker), or your own package.module:function.",
        ),
    ] = "cohort"
    weights: Weights = None
    measures: Annotated[
        list[str] | None,
        typer.Option(
            "--measures",
            help="Of frechet, kid, prd, precision-recall, density-coverage and ms-ssim; several with commas. \\[default: all]",
        ),
    ] = None


@dataclass(frozen=True)
class ComparedOptions:
    """Who is compared."""

    classes: Classes = None
    split: Annotated[
        Path | None, typer.Option("--split", help="Split of the real cohort, as models/split.json: compare with its test side alone.")
    ] = None
    models: Annotated[
        list[Path] | None,
        typer.Option(
            "--model", "--models", help="Models that a synthetic cohort was drawn from: tells whether they know the people compared with."
        ),
    ] = None


@dataclass(frozen=True)
class ComparedPreparation(PreparationOptions):
    """How images are prepared."""

    size: Annotated[
        str | None, typer.Option("--size", help="Voxels at which all are compared, as 80x96. \\[default: the synthetic images' own]")
    ] = None


@app.command("fidelity", epilog="Example: augment fidelity my-bids-folder synthetic")
@takes_groups
def fidelity_command(
    real: Annotated[str, typer.Argument(help="The real cohort.")],
    synthetic: Annotated[list[str], typer.Argument(help="Synthetic cohorts; several are ranked.")],
    measured: MeasureOptions,
    compared: ComparedOptions,
    reading: ReadingOptions,
    preparation: ComparedPreparation,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the scores here, as JSON.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    force: Force = False,
) -> None:
    """Measure how good synthetic images are: Fréchet distance, KID, PRD and others, beside what real images score."""
    require_places(real)
    require_outputs(*synthetic)
    from ...experiments.fidelity import command as compare
    from ..release.synthetic_cohort import source_of

    source = reading.source(real)
    request = compare.ComparisonRequest(
        real=source,
        synthetic=tuple(source_of(path, replace(source, table=None, drop_copies=None)) for path in synthetic),
        preparation=preparation.preparation(reading.plane),
        asked=tuple(preparation.given(reading.plane)),
        extractor=measured.extractor,
        weights=measured.weights,
        labels=tuple(compared.classes or []),
        split=compared.split,
        models=tuple(compared.models or []),
        seed=seed,
        device=device,
    )
    if measured.measures:
        request = replace(request, measures=parts_of(measured.measures))
    compare.compare(request, out, force=force)


@dataclass(frozen=True)
class FeatureOptions:
    """What images are compared by."""

    extractor: Annotated[
        str,
        typer.Option(
            "--extractor",
            help="Features: cohort (a classifier trained on all real people), inception-2048, -768, -192 or -64 "
            "(inception-2048-bf16 and so on are quicker), your own package.module:function, or none.",
        ),
    ] = "cohort"
    weights: Weights = None
    reidentification: Annotated[
        bool,
        typer.Option(
            "--re-identification/--no-re-identification",
            help="Train a network that knows people again, and attack with it, which takes a minute or two, of volumes longer.",
        ),
    ] = True
    device: Device = "cpu"


@dataclass(frozen=True)
class AuditGate(GateOptions):
    """The gate."""

    gate: Annotated[
        list[str] | None,
        typer.Option(
            "--gate",
            help="Change a threshold, with a --reason: level=0.05 (chance that a copy is seen where there is none), ratio=0.5 (of a "
            "patch's distance to a patient over that to others), copies=0.05 and duplicates=0.5 (shares that may be copies, or repeat each "
            "other), membership=0.75 (AUC that an attack may reach), power=0.9 (share of planted copies to be found).",
        ),
    ] = None


@dataclass(frozen=True)
class TrainedOn:
    """Who was trained on."""

    model: Annotated[
        Path | None,
        typer.Option("--model", "--models", help="The models that they were drawn from. \\[default: models; none for images of others]"),
    ] = None
    data: Annotated[
        str | None, typer.Option("--data", help="The real cohort, if it has moved, or if something else has made the images.")
    ] = None
    trained_on: Annotated[
        Path | None,
        typer.Option(
            "--trained-on",
            help="Without models: whom of --data they were made of, a split.json or a list of ids. \\[default: everybody]",
        ),
    ] = None


@app.command("audit", epilog="Example: augment audit synthetic --model models, or augment audit images-of-others --data my-bids-folder")
@takes_groups
def audit_command(
    context: typer.Context,
    synthetic: Annotated[
        list[Path], typer.Argument(help="Synthetic cohorts, of augment generate or of anything else; several are reported together.")
    ],
    features: FeatureOptions,
    gate: AuditGate,
    known: TrainedOn,
    reading: ReadingOptions,
    preparation: ComparedPreparation,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the report, which shows patients. \\[default: the cohort's name with .audit]")
    ] = None,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Find what a synthetic cohort gives away of the people behind it; copies are set aside, and exit code 5 refuses the cohort."""
    require_places(known.data)
    require_outputs(*synthetic)
    from ...experiments.audit import command

    request = command.AuditRequest(
        synthetic=tuple(synthetic),
        models=known.model,
        moved=given_source(context),
        trained_on=known.trained_on,
        preparation=preparation.preparation(reading.plane),
        asked=tuple(preparation.given(reading.plane)),
        extractor=features.extractor,
        weights=features.weights,
        reidentification=features.reidentification,
        device=features.device,
        gate=gate.thresholds(),
        seed=seed,
        command=command_line(),
    )
    command.audit(request, out, force=force)
