"""What a synthetic cohort is worth, and what it gives away."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .options import Classes, DeviceOfNetworks, DropCopies, Fit, Force, Label, Plane, Position, Reason, Root, Scaling, Seed, Suffix, Table
from .reading import changed, command_line, given_source, parts_of, preparation_of

app = typer.Typer()


@app.command("fidelity", epilog="Example: augment fidelity my-bids-folder synthetic")
def fidelity_command(
    real: Annotated[str, typer.Argument(help="The real cohort.")],
    synthetic: Annotated[list[str], typer.Argument(help="Synthetic cohorts; several are ranked.")],
    extractor: Annotated[
        str,
        typer.Option(
            "--extractor",
            help="cohort (a classifier trained on half of the real people, or on the training side of --split), inception-2048 (FID), "
            "inception-768, -192 or -64 (inception-2048-bf16 and so on are quicker), or your own package.module:function.",
        ),
    ] = "cohort",
    weights: Annotated[Path | None, typer.Option("--weights", help="File with InceptionV3's weights, .pth or .safetensors.")] = None,
    measures: Annotated[
        list[str] | None,
        typer.Option(
            "--measures",
            help="Of frechet, kid, prd, precision-recall, density-coverage and ms-ssim; several with commas. \\[default: all]",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the scores here, as JSON.")] = None,
    split: Annotated[
        Path | None, typer.Option("--split", help="Split of the real cohort, as models/split.json: compare with its test side alone.")
    ] = None,
    models: Annotated[
        list[Path] | None,
        typer.Option(
            "--model", "--models", help="Models that a synthetic cohort was drawn from: tells whether they know the people compared with."
        ),
    ] = None,
    classes: Classes = None,
    root: Root = None,
    table: Table = None,
    label: Label = None,
    plane: Plane = None,
    suffix: Suffix = "T1w",
    drop_copies: DropCopies = False,
    size: Annotated[
        str | None, typer.Option("--size", help="Voxels at which all are compared, as 80x96. \\[default: the synthetic images' own]")
    ] = None,
    position: Position = None,
    fit: Fit = None,
    scaling: Scaling = None,
    seed: Seed = 0,
    device: DeviceOfNetworks = "cpu",
    force: Force = False,
) -> None:
    """Measure how good synthetic images are: Fréchet distance, KID, PRD and others, beside what real images score."""
    from ...datasets.readers import Source
    from ...experiments.fidelity import command as compare
    from ..fitting.fit import FitSettings
    from ..release.synthetic_cohort import source_of

    source = Source(real, table, label, plane, suffix, root, drop_copies or None)
    settings = changed(FitSettings(), preparation=preparation_of(size, plane, position, fit, scaling))
    request = compare.Request(
        real=source,
        synthetic=tuple(source_of(path, replace(source, table=None, drop_copies=None)) for path in synthetic),
        preparation=settings.preparation,
        extractor=extractor,
        weights=weights,
        labels=tuple(classes or []),
        split=split,
        models=tuple(models or []),
        seed=seed,
        device=device,
    )
    if measures:
        request = replace(request, measures=parts_of(measures))
    compare.compare(request, out, force=force)


@app.command("audit", epilog="Example: augment audit synthetic --model models --data my-bids-folder")
def audit_command(
    context: typer.Context,
    synthetic: Annotated[
        list[Path], typer.Argument(help="Synthetic cohorts, as augment generate writes them; several are reported together.")
    ],
    model: Annotated[Path, typer.Option("--model", "--models", help="The models that they were drawn from.")] = Path("models"),
    data: Annotated[str | None, typer.Option("--data", help="The cohort that the models were trained on, if it has moved.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the report, which shows patients. \\[default: the cohort's name with .audit]")
    ] = None,
    extractor: Annotated[
        str,
        typer.Option(
            "--extractor",
            help="Of the features: cohort (a classifier trained on all real people), inception-2048, -768, -192 or -64 "
            "(inception-2048-bf16 and so on are quicker), your own package.module:function, or none.",
        ),
    ] = "cohort",
    weights: Annotated[Path | None, typer.Option("--weights", help="File with InceptionV3's weights, .pth or .safetensors.")] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            "--threshold",
            help="Change one, with a --reason: level=0.05 (chance that a copy is seen where there is none), ratio=0.5 (of a copy's "
            "distance to a patient over that to others), copies=0.05 and duplicates=0.5 (shares that may be copies, or repeat each other), "
            "membership=0.75 (AUC that an attack may reach), power=0.9 (share of planted copies to be found).",
        ),
    ] = None,
    reason: Reason = "",
    root: Root = None,
    table: Table = None,
    label: Label = None,
    plane: Plane = None,
    suffix: Suffix = "T1w",
    drop_copies: DropCopies = False,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Find what a synthetic cohort gives away of the people behind it; copies are set aside, and exit code 5 refuses the cohort."""
    from ...experiments.audit import command
    from ..release.gate import Gate

    request = command.Request(
        synthetic=tuple(synthetic),
        models=model,
        moved=given_source(context),
        extractor=extractor,
        weights=weights,
        gate=Gate.parse(threshold or [], reason, "--threshold"),
        seed=seed,
        command=command_line(),
    )
    command.audit(request, out, force=force)
