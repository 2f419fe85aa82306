"""Checking a cohort, and fitting models to it."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .options import (
    Classes,
    Data,
    Device,
    DropCopies,
    Fit,
    Force,
    Label,
    Plane,
    Position,
    Root,
    Scaling,
    Seed,
    Size,
    SkullStripped,
    Suffix,
    Table,
    ThreadsOfCommand,
)
from .reading import changed, command_line, lasting, preparation_of, preset_settings

app = typer.Typer()


@app.command("check", epilog="Example: augment check --data my-bids-folder")
def check_command(
    data: Data = "demo",
    root: Root = None,
    table: Table = None,
    label: Label = None,
    plane: Plane = None,
    suffix: Suffix = "T1w",
    drop_copies: DropCopies = False,
    size: Size = None,
) -> None:
    """Examine a whole cohort and list every problem; exit code 3 if there is any. Nothing is written."""
    from ...datasets.readers import Source
    from ..commands.check import check_cohort

    if not check_cohort(Source(data, table, label, plane, suffix, root, drop_copies or None), sized=size is not None):
        raise typer.Exit(3)


@app.command("fit", epilog="Example: augment fit --data my-bids-folder --class AD --size 80x96 --out models")
def fit_command(
    context: typer.Context,
    data: Data = "demo",
    classes: Classes = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of models; each class gets a folder in it.")] = Path("models"),
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            help="default, paper-oasis (1000 epochs at 208 x 176), paper-mnist, -cifar10, -svhn or -celeba. Options change it.",
        ),
    ] = "default",
    root: Root = None,
    table: Table = None,
    label: Label = None,
    plane: Plane = None,
    suffix: Suffix = "T1w",
    drop_copies: DropCopies = False,
    size: Size = None,
    position: Position = None,
    fit: Fit = None,
    scaling: Scaling = None,
    model: Annotated[str | None, typer.Option("--model", help="One of `augment models`. \\[default: vae]")] = None,
    model_settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the model, as beta=0.1; may be given again. See `augment models`."),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(
            "--arch",
            help="light, conv or resnet (any size); paper (the paper's for 32x32, 64x64 or 208x176), or by name paper-mnist, paper-svhn, "
            "paper-celeba, paper-oasis.",
        ),
    ] = None,
    latent_dim: Annotated[int | None, typer.Option("--latent-dim", help="Latent dimensions.")] = None,
    channels: Annotated[
        int | None,
        typer.Option(
            "--channels",
            help="Channels of the first convolution, which scale all others; by default 16, and the paper's own in its networks.",
        ),
    ] = None,
    beta: Annotated[float | None, typer.Option("--beta", help="Weight of the KL term.")] = None,
    likelihood: Annotated[
        str | None, typer.Option("--likelihood", help="calibrated (the decoder's variance at its optimum) or fixed (the paper).")
    ] = None,
    bounded_log_var: Annotated[
        bool | None,
        typer.Option("--bounded-log-var/--free-log-var", help="Pass the log-variance through tanh, as the released OASIS model."),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the training images.")] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", help="Optimisation steps, instead of --epochs. \\[default: by size, at most 3000]")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="Of Adam.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Images a step.")] = None,
    patience: Annotated[
        int | None, typer.Option("--patience", help="Epochs without improvement until the learning rate is halved.")
    ] = None,
    jitter: Annotated[float | None, typer.Option("--jitter", help="Strength of random changes of the training images; 0 for none.")] = None,
    stop_after: Annotated[
        int | None,
        typer.Option(
            "--stop-after",
            min=1,
            help="Epochs without improvement until the fit ends. \\[default: twice --patience; with --epochs or --steps, never]",
        ),
    ] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="auto, bf16 or fp32.")] = None,
    device: Device = None,
    threads: ThreadsOfCommand = None,
    centroids: Annotated[int | None, typer.Option("--centroids", help="Centroids of the metric. \\[default: all, at most 1000]")] = None,
    selection: Annotated[str | None, typer.Option("--selection", help="k-medoids, random or first: which images become centroids.")] = None,
    lam: Annotated[float | None, typer.Option("--lambda", help="Value of the metric far from every centroid.")] = None,
    tau: Annotated[float | None, typer.Option("--tau", help="Its decay.")] = None,
    rho: Annotated[
        float | None, typer.Option("--rho", help="Reach of a centroid. \\[default: largest distance to a nearest neighbour]")
    ] = None,
    rho_scale: Annotated[
        float | None,
        typer.Option("--rho-scale", help="Deprecated: the --reach of augment generate needs no new training. Multiplies the default rho."),
    ] = None,
    seed: Seed = 0,
    skull_stripped: SkullStripped = None,
    split: Annotated[Path | None, typer.Option("--split", help="Use this split. \\[default: the one in --out, or a new one]")] = None,
    split_seed: Annotated[
        int | None, typer.Option("--split-seed", min=0, help="Of a new split (70 % train, 10 % validation, 20 % test). \\[default: 0]")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a fit that was interrupted.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and do nothing.")] = False,
    force: Force = False,
) -> None:
    """Fit one generative model per class on its training images."""
    from ...datasets.common.compute import computing_with
    from ...datasets.readers import Source
    from .. import console
    from ..autoencoders import settings_of_model
    from ..commands.fit import fit_models
    from ..settings import read_settings

    if rho_scale is not None:
        draw = f"`augment generate --sampler riemannian --reach {rho_scale:g}`"
        console.warn(f"--rho-scale is deprecated: {draw} does the same without another training. --sampler auto does not use it.")
    chosen = lasting(preset_settings(preset), epochs, steps)
    settings = changed(
        # What a preset says of its own model, another one does not take.
        chosen if model in (None, chosen.model) else replace(chosen, model_settings={}),
        model=model,
        arch=arch,
        latent_dim=latent_dim,
        channels=channels,
        seed=seed,
        model_settings={"beta": beta, "likelihood": likelihood, "bounded_log_var": bounded_log_var}
        | read_settings(settings_of_model(model or chosen.model), model_settings or [], f"the model '{model or chosen.model}'"),
        preparation=preparation_of(size, plane, position, fit, scaling),
        training={
            "learning_rate": learning_rate,
            "batch_size": batch_size,
            "patience": patience,
            "stop_after": stop_after,
            "jitter": jitter,
            "precision": precision,
            "device": device,
        },
        metric={"n_centroids": centroids, "selection": selection, "lam": lam, "tau": tau, "rho": rho, "rho_scale": rho_scale},
    )
    context.with_resource(computing_with(threads))
    fit_models(
        Source(data, table, label, plane, suffix, root, drop_copies or None),
        classes or [],
        settings,
        out,
        split_file=split,
        split_seed=split_seed,
        resume=resume,
        force=force,
        dry_run=dry_run,
        skull_stripped=skull_stripped,
        command=command_line(),
    )
