"""Whether synthetic images help a classifier."""

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
    Scaling,
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

OF_GENERATORS = {"preset", "steps", "latent_dim", "channels", "beta"}

app = typer.Typer()


@app.command("evaluate", epilog="Example: augment evaluate --data my-bids-folder --runs 20 --jobs 2 --out studies/mine")
def evaluate_command(
    context: typer.Context,
    data: Data = "demo",
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--methods",
            help="Of original, resampled, weighted, classical, covariates, and model:sampler such as vae:riemannian, which may have "
            "settings of its own: 'vae:riemannian rho_scale=2 steps=500'; several with commas, or given again.",
        ),
    ] = None,
    runs: Annotated[int, typer.Option("--runs", help="Repetitions of everything.")] = 20,
    modes: Annotated[
        list[str] | None,
        typer.Option(
            "--mode",
            help="resampled+synthetic (real images resampled to balance, and as many synthetic ones in each class), real+synthetic (the "
            "real ones topped up) or synthetic-only (the paper's); several with commas, or given again. \\[default: resampled+synthetic]",
        ),
    ] = None,
    protocol: Annotated[
        str, typer.Option("--protocol", help="resampled: new split and generators in each run; paper: one of each, no verdict.")
    ] = "resampled",
    limit: Annotated[list[str] | None, typer.Option("--limit", help="Keep so many training participants of a class, as AD=22.")] = None,
    stratum: Annotated[str, typer.Option("--stratum", help="Also score these test participants, as 'age>=60'.")] = "",
    test_data: Annotated[str | None, typer.Option("--test-data", help="Another cohort to test on as well.")] = None,
    external_only: Annotated[
        bool, typer.Option("--external-only", help="Test on --test-data alone: the test side of the split is trained on.")
    ] = False,
    generators: Annotated[
        Path | None,
        typer.Option("--generators", help="With --protocol paper: a folder of models, as augment fit writes it, and their split."),
    ] = None,
    n_synthetic: Annotated[int, typer.Option("--n-synthetic", help="Images per class of synthetic-only.")] = 2000,
    enlarge: Annotated[
        float, typer.Option("--enlarge", help="With real images: each class gets this many times the images of the largest real one.")
    ] = 2.0,
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
    preset: Annotated[str, typer.Option("--preset", help="Of the generators: default or paper-oasis.")] = "default",
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", help="Optimisation steps of a generator. \\[default: by size, at most 3000; fewer where it stops improving]"
        ),
    ] = None,
    latent_dim: Annotated[int | None, typer.Option("--latent-dim", help="Latent dimensions of the generators.")] = None,
    channels: Annotated[int | None, typer.Option("--channels", help="Channels of the generators' first convolution.")] = None,
    beta: Annotated[float | None, typer.Option("--beta", help="Weight of the generators' KL term.")] = None,
    epochs: Annotated[int, typer.Option("--epochs", help="Of the classifier.")] = 50,
    least_steps: Annotated[
        int,
        typer.Option(
            "--least-steps", help="More epochs for small training sets, until every classifier has so many steps; 0 for the paper's way."
        ),
    ] = 1000,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Of the classifier.")] = 1e-4,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Of the classifier.")] = 200,
    network: Annotated[
        str | None, typer.Option("--network", help="Your own classifier: package.module:function, called with shape and number of classes.")
    ] = None,
    seed: Seed = 0,
    device: Device = None,
    jobs: Jobs = 1,
    threads: Threads = 1,
    shard: Shard = None,
    slurm: Slurm = None,
    submit: Submit = False,
    sbatch: Sbatch = None,
    config: Config = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the study; one that is there is taken up again.")] = Path(
        "studies/evaluation"
    ),
) -> None:
    """Measure whether synthetic images help a classifier: repeated runs, intervals, and a verdict per method.

    The demo cohort is studied, unless options say otherwise, on a coronal slice, with 1,000 steps of the generators and --least-steps 250.
    """
    from ...classifiers.training import ClassifierSettings
    from ...datasets.common.errors import UsageError
    from ...datasets.readers import Source
    from ...experiments import demo
    from ...experiments.augmentation_study import command as evaluate
    from ...experiments.augmentation_study.protocols import DEFAULT_MODE, Protocols
    from ...experiments.engine.launch import HowToRun

    how = HowToRun(jobs, threads, shard, slurm, submit, tuple(sbatch or ()), device or "auto")
    given = given_options(context)
    if config is not None:
        ignored = [option for name, option in given.items() if name not in HOW_TO_RUN | WHERE_THINGS_ARE]
        if ignored:
            raise UsageError(f"With --config the study is what {config} says: leave out {', '.join(ignored)}, or --config.")
        resolved = evaluate.read_configuration(config, network, given_places(context))
    else:
        unused = [option for name, option in given.items() if name in OF_GENERATORS] if generators else []
        if unused:
            raise UsageError(f"With --generators nothing is fitted: leave out {', '.join(unused)}.")
        if data == "demo":
            # Volumes at full length would take hours, which nobody wants who tries this out.
            if not given.keys() & {"size", "plane", "position"}:
                plane, position = demo.PREPARATION.plane, demo.PREPARATION.position
            steps = demo.STEPS if steps is None and "preset" not in given else steps
            least_steps = least_steps if "least_steps" in given else demo.LEAST_STEPS
        settings = changed(
            lasting(preset_settings(preset), None, steps),
            latent_dim=latent_dim,
            channels=channels,
            model_settings={"beta": beta},
            preparation=preparation_of(size, plane, position, fit, scaling),
        )
        request = evaluate.Request(
            source=Source(data, table, label, plane, suffix, root, drop_copies or None),
            test_source=None if test_data is None else Source(test_data, None, label, plane, suffix),
            methods=parts_of(methods),
            modes=parts_of(modes) or (DEFAULT_MODE,),
            runs=runs,
            protocols=Protocols(protocol, n_synthetic, enlarge, _parse_limits(limit or []), least_steps, stratum, external_only or None),  # type: ignore[arg-type]
            fit=settings,
            classifier=ClassifierSettings(epochs=epochs, learning_rate=learning_rate, batch_size=batch_size),
            seed=seed,
            network=network,
            command=command_line(),
            generators=generators,
        )
        resolved = evaluate.configuration_of(request)
    evaluate.evaluate(resolved, out, how)


def _parse_limits(texts: list[str]) -> dict[str, int]:
    from ...datasets.common.errors import UsageError

    limits = {}
    for text in texts:
        label, _, number = text.partition("=")
        if not label or not number.isdigit():
            raise UsageError(f"--limit is written as AD=22, not '{text}'.")
        limits[label] = int(number)
    return limits
