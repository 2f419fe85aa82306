"""Studies of how good samples are."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .options import (
    Config,
    Data,
    Device,
    DropCopies,
    Fit,
    Jobs,
    Label,
    Plane,
    Position,
    Root,
    Sbatch,
    Seed,
    Shard,
    Size,
    Slurm,
    Submit,
    Suffix,
    Table,
    Threads,
)
from .reading import (
    HOW_TO_RUN,
    WHERE_THINGS_ARE,
    changed,
    command_line,
    given_options,
    given_places,
    lasting,
    parts_of,
    preparation_of,
    preset_settings,
)

app = typer.Typer()


@app.command("study", epilog="Example: augment study low-data --data mnist --root mnist-files --channels 32 --jobs 2 --out studies/mnist")
def study_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="One of the studies that `augment studies` lists.")] = "low-data",
    data: Data = "mnist",
    systems: Annotated[
        list[str] | None,
        typer.Option(
            "--systems",
            help="Instead of the study's own: model:sampler, as vae:riemannian, with settings after it, as 'vae:riemannian rho_scale=2'; "
            "several with commas, or given again.",
        ),
    ] = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option("--sizes", help="Training images, a fifth of which select, or all; several with commas. \\[default: the study's]"),
    ] = None,
    runs: Annotated[int | None, typer.Option("--runs", help="Repetitions, with other training images. \\[default: the study's]")] = None,
    samples: Annotated[int, typer.Option("--samples", help="Images drawn (of each class); no more than each real side has.")] = 10_000,
    features: Annotated[
        list[str] | None,
        typer.Option(
            "--features",
            help="cohort (a classifier trained on the training side), inception-2048 (FID), -768, -192 or -64 "
            "(inception-2048-bf16 and so on are quicker); several with commas. "
            "\\[default: cohort]",
        ),
    ] = None,
    weights: Annotated[str | None, typer.Option("--weights", help="File with InceptionV3's weights, .pth or .safetensors.")] = None,
    measures: Annotated[
        list[str] | None,
        typer.Option(
            "--measures", help="Of frechet, kid, prd, precision-recall and density-coverage; several with commas. \\[default: the first 3]"
        ),
    ] = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="A generator for each class, and scores of each.")] = False,
    root: Root = None,
    table: Table = None,
    label: Label = None,
    plane: Plane = None,
    suffix: Suffix = "T1w",
    drop_copies: DropCopies = False,
    size: Size = None,
    position: Position = None,
    fit: Fit = None,
    scaling: Annotated[str | None, typer.Option("--scaling", help="percentile, minmax, or none for images of 8 bit.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            help="default, paper-mnist, paper-cifar10, paper-svhn, paper-celeba or paper-oasis; options change it. "
            "\\[default: the benchmark's]",
        ),
    ] = None,
    arch: Annotated[str | None, typer.Option("--arch", help="As for augment fit.")] = None,
    latent_dim: Annotated[int | None, typer.Option("--latent-dim", help="Latent dimensions.")] = None,
    channels: Annotated[int | None, typer.Option("--channels", help="Channels of the first convolution, which scale all others.")] = None,
    beta: Annotated[float | None, typer.Option("--beta", help="Weight of the KL term.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the training images.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Optimisation steps, instead of --epochs.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="Of Adam.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Images a step.")] = None,
    seed: Seed = 0,
    device: Device = None,
    jobs: Jobs = 1,
    threads: Threads = 1,
    shard: Shard = None,
    slurm: Slurm = None,
    submit: Submit = False,
    sbatch: Sbatch = None,
    config: Config = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the study; one that is there is taken up again.")] = None,
) -> None:
    """Measure how good samples are, over models, samplers, settings and training sizes: the paper's tables and figures, resumable."""
    from ...datasets.common.errors import UsageError
    from ...datasets.readers import Source
    from ...experiments.engine.launch import HowToRun
    from ...experiments.fidelity_study import command as studies
    from ...experiments.fidelity_study.cell import Scoring

    how = HowToRun(jobs, threads, shard, slurm, submit, tuple(sbatch or ()), device or "auto")
    given = given_options(context)
    if config is not None:
        ignored = [option for parameter, option in given.items() if parameter not in HOW_TO_RUN | WHERE_THINGS_ARE]
        if ignored:
            raise UsageError(f"With --config the study is what {config} says: leave out {', '.join(ignored)}, or --config.")
        resolved = studies.read_configuration(config, given_places(context))
    else:
        chosen = lasting(preset_settings(preset or studies.PRESET_OF.get(data, "default")), epochs, steps)
        scoring = Scoring(samples, per_class=per_class or None)
        asked = {"features": parts_of(features), "measures": parts_of(measures)}
        request = studies.Request(
            plan=name,
            source=Source(data, table, label, plane, suffix, root, drop_copies or None),
            fit=changed(
                chosen,
                arch=arch,
                latent_dim=latent_dim,
                channels=channels,
                model_settings={"beta": beta},
                preparation=preparation_of(size, plane, position, fit, scaling),
                training={"learning_rate": learning_rate, "batch_size": batch_size},
            ),
            scoring=replace(scoring, **{key: parts for key, parts in asked.items() if parts}),
            systems=parts_of(systems),
            sizes=tuple(_parse_training_size(text) for text in parts_of(sizes)),
            runs=runs,
            seed=seed,
            weights=weights,
            command=command_line(),
        )
        resolved = studies.configuration_of(request)
    folder = out or Path("studies") / resolved["grid"]["plan"]
    studies.run(resolved, folder, how)


@app.command("studies", epilog="Example: augment studies")
def studies_command() -> None:
    """List the studies of `augment study`: what each repeats, its systems and its sizes."""
    from ...experiments.fidelity_study import command as fidelity_command

    fidelity_command.show_plans()


def _parse_training_size(text: str) -> int:
    from ...datasets.common.errors import UsageError

    if text != "all" and not text.isdigit():
        raise UsageError(f"--sizes are numbers of training images, or all, not '{text}'.")
    return 0 if text == "all" else int(text)
