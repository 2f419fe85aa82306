"""Drawing from fitted models: a cohort, or curves through their latent spaces."""

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    Classes,
    DeviceOfNetworks,
    DropCopies,
    Force,
    Label,
    Plane,
    Reason,
    Root,
    Seed,
    SkullStripped,
    Suffix,
    Table,
    ThreadsOfCommand,
)
from .reading import command_line, given_source

app = typer.Typer()


@app.command("generate", epilog="Example: augment generate --models models --balance --out synthetic")
def generate_command(
    context: typer.Context,
    models: Annotated[Path, typer.Option("--models", help="Folder of models, or one model.")] = Path("models"),
    classes: Classes = None,
    n: Annotated[
        int | None,
        typer.Option("-n", help="Images per class; with --balance, real and synthetic together. \\[default: 100; the largest class]"),
    ] = None,
    balance: Annotated[bool, typer.Option("--balance", help="Only as many as each class lacks beside the real training images.")] = False,
    sampler: Annotated[
        str,
        typer.Option(
            "--sampler",
            help="auto (the law that makes people left out most probable), riemannian, gaussian, mixture, posterior, or another that "
            "`augment models` names.",
        ),
    ] = "auto",
    reach: Annotated[
        str | None,
        typer.Option(
            "--reach",
            help="Of riemannian: auto (people left out are on the manifold), or a multiple of Algorithm 1's rho, as 1: the paper's. "
            "\\[default: auto]",
        ),
    ] = None,
    holds: Annotated[
        float | None,
        typer.Option("--holds", help="Share of people left out that riemannian's manifold holds, at the reach auto. \\[default: 0.9]"),
    ] = None,
    iterations: Annotated[
        int | None, typer.Option("--iterations", help="Transitions of each chain. \\[default: 100; with a --reach, until they have mixed]")
    ] = None,
    leapfrog: Annotated[int | None, typer.Option("--leapfrog", help="Leapfrog steps of a transition. \\[default: 10]")] = None,
    step_size: Annotated[float | None, typer.Option("--step-size", help="Leapfrog step of the paper's samplers. \\[default: 0.01]")] = None,
    warm_up: Annotated[
        int | None, typer.Option("--warm-up", help="Transitions in which riemannian and own-metric adapt their step. \\[default: 100]")
    ] = None,
    target: Annotated[float | None, typer.Option("--target-acceptance", help="What they adapt it to. \\[default: 0.8]")] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold", help="Least omega on the manifold of a --reach, between 0 and 1. \\[default: keeps 99 % near a centroid]"
        ),
    ] = None,
    components: Annotated[int | None, typer.Option("--components", help="Of gmm and mixture. \\[default: 10; as many as are best]")] = None,
    training_steps: Annotated[int | None, typer.Option("--training-steps", help="Of two-stage. \\[default: 1000]")] = None,
    seed: Seed = 0,
    file_format: Annotated[str | None, typer.Option("--format", help="nifti, png or npz. \\[default: as the source]")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the synthetic cohort.")] = Path("synthetic"),
    data: Annotated[
        str | None, typer.Option("--data", help="The cohort that the models were trained on, if it has moved: for distances to it.")
    ] = None,
    root: Root = None,
    table: Table = None,
    label: Label = None,
    plane: Plane = None,
    suffix: Suffix = "T1w",
    drop_copies: DropCopies = False,
    skull_stripped: SkullStripped = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            "--gate",
            help="Change a threshold for copies of patients, with a --reason: level=0.05 (chance that one is seen where there is none), "
            "ratio=0.5 (of a copy's distance to the patient over that to others).",
        ),
    ] = None,
    reason: Reason = "",
    device: DeviceOfNetworks = "cpu",
    threads: ThreadsOfCommand = None,
    force: Force = False,
) -> None:
    """Draw a synthetic cohort from fitted models; images that copy a patient are drawn again."""
    import math

    from ...datasets.common.compute import computing_with
    from ...datasets.common.errors import UsageError
    from .. import console
    from ..commands.generate import generate_cohort
    from ..release.gate import OF_GENERATION, Gate
    from ..samplers.registry import CHAIN

    if file_format not in (None, "nifti", "png", "npz"):
        raise UsageError(f"--format is nifti, png or npz, not '{file_format}'.")
    if threshold is not None and not 0 < threshold < 1:
        raise UsageError(f"--threshold lies between 0 and 1, not at {threshold}.")
    settings = {
        "reach": None if reach is None else _reach(reach),
        "holds": holds,
        "n_iterations": iterations,
        "n_leapfrog": leapfrog,
        "step_size": step_size,
        "n_warm_up": warm_up,
        "target_acceptance": target,
        "log_threshold": None if threshold is None else math.log(threshold),
        "n_components": components,
        "n_training_steps": training_steps,
    }
    settings = {name: value for name, value in settings.items() if value is not None}
    if sampler == "riemannian" and reach is None and {*CHAIN, "log_threshold"} & set(settings):
        told = "Settings of chains and their threshold are those of Algorithm 1's metric"
        console.warn(f"{told}: without a --reach it draws at that of the fit, not on the manifold that holds people left out.")
    context.with_resource(computing_with(threads))
    generate_cohort(
        models,
        classes or [],
        out,
        n=n,
        balance=balance,
        sampler=sampler,
        sampler_settings=settings,
        seed=seed,
        file_format=file_format,  # type: ignore[arg-type]
        moved=given_source(context),
        device=device,
        skull_stripped=skull_stripped,
        gate=Gate.parse(gate or [], reason, "--gate", OF_GENERATION),
        force=force,
        command=command_line(),
    )


def _reach(text: str) -> float | str:
    from ...datasets.common.errors import UsageError
    from ..samplers.registry import parse_reach

    try:
        return parse_reach(text)
    except ValueError:
        raise UsageError(f"--reach is auto, or a number above 0, not '{text}'.") from None


@app.command("interpolate", epilog="Example: augment interpolate models/AD --pairs 3 --out paths")
def interpolate_command(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(help="A model, or a folder of models and --class.")],
    label_of_model: Annotated[str | None, typer.Option("--class", help="Class, where MODEL holds several.")] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Participant or image to start from. \\[default: random training images]")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="And to go to.")] = None,
    pairs: Annotated[int, typer.Option("--pairs", help="Random pairs, without --from and --to.")] = 3,
    steps: Annotated[int, typer.Option("--steps", help="Images on a curve, ends included.")] = 10,
    curves: Annotated[
        list[str] | None,
        typer.Option(
            "--curve",
            help="affine (straight), geodesic (shortest in the metric, Eq. 4) or eq12 (keeps to the data); may be given again. "
            "\\[default: all]",
        ),
    ] = None,
    seed: Seed = 0,
    file_format: Annotated[str | None, typer.Option("--format", help="nifti or png. \\[default: as the source]")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the figure, the table and the images.")] = Path("paths"),
    data: Annotated[
        str | None, typer.Option("--data", help="The cohort of --from and --to. \\[default: what the model learnt from]")
    ] = None,
    root: Root = None,
    table: Table = None,
    label: Label = None,
    plane: Plane = None,
    suffix: Suffix = "T1w",
    force: Force = False,
) -> None:
    """Decode along curves between two people's codes: straight, geodesic, and through the data."""
    from ...datasets.common.errors import UsageError
    from ..commands.interpolate import interpolate_class
    from ..fitting.model_folders import load_models
    from ..geometry.interpolation import KINDS

    if (start is None) != (end is None):
        raise UsageError("--from and --to go together.")
    unknown = [curve for curve in curves or [] if curve not in KINDS]
    if unknown:
        raise UsageError(f"There is no curve '{unknown[0]}'; choose among: {', '.join(KINDS)}.")
    if file_format not in (None, "nifti", "png"):
        raise UsageError(f"--format is nifti or png, not '{file_format}'.")
    models = load_models(model, [] if label_of_model is None else [label_of_model])
    if len(models) > 1:
        raise UsageError(f"{model} holds models of the classes {', '.join(models)}; choose one with --class.")
    interpolate_class(
        next(iter(models.values())),
        out,
        named=None if start is None or end is None else (start, end),
        n_pairs=pairs,
        n_steps=steps,
        kinds=[kind for kind in KINDS if kind in (curves or KINDS)],
        seed=seed,
        moved=given_source(context),
        file_format=file_format,  # type: ignore[arg-type]
        force=force,
        command=command_line(),
    )
