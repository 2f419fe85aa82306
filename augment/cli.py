"""The command line. Nothing heavy is imported until a command runs, so that --help answers at once."""

import shlex
import sys
import tempfile
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..datasets.errors import TinycohortError

if TYPE_CHECKING:
    from .fitting import FitSettings

INTERRUPTED = 130  # what typer exits with at Ctrl-C
# Options of evaluate that are no part of a study's configuration; the network is, and is confirmed on the command line.
HOW_TO_RUN = {"config", "out", "jobs", "threads", "shard", "slurm", "submit", "network"}
WHERE_THINGS_ARE = {"root", "weights", "device"}  # of a study that is repeated elsewhere
OF_GENERATORS = {"preset", "steps", "latent_dim", "channels", "beta"}

app = typer.Typer(
    name="augment",
    help="Synthetic cohorts for small medical-imaging studies: fit one generative model per class, draw from it, see whether it helps.",
    epilog="Example: augment fit --class AD && augment generate --class AD -n 200",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Data = Annotated[
    str,
    typer.Option(
        "--data",
        help="A BIDS dataset, a folder of volumes or pictures with a table, a table of paths, an OASIS-1 download, an .npz, or a name: "
        "demo, oasis-vbm, mnist, fashion-mnist, cifar10, svhn, celeba (with --root), rings-and-discs.",
    ),
]
Root = Annotated[str | None, typer.Option("--root", help="Folder of the published files of a benchmark that --data names.")]
DropCopies = Annotated[
    bool,
    typer.Option("--drop-copies", help="Leave out images that lie on two official sides of a benchmark, or bear two labels."),
]
Table = Annotated[str | None, typer.Option("--table", help="Table of participants, where the data's own is not meant.")]
Label = Annotated[str | None, typer.Option("--label", help="Column with the classes. \\[default: diagnosis, label, group or dx]")]
Plane = Annotated[
    str | None,
    typer.Option(
        "--plane", help="axial, coronal or sagittal: cut this slice out of volumes, or take the pictures with this word in their names."
    ),
]
Suffix = Annotated[str, typer.Option("--suffix", help="Which images of a BIDS dataset.")]
Size = Annotated[
    str | None,
    typer.Option("--size", help="Voxels of the prepared images, as 80x96 or 40x48x40. \\[default: their own, at most 96 or 48 a side]"),
]
Position = Annotated[
    str | None, typer.Option("--position", help="Where --plane cuts: a fraction such as 0.5, or a coordinate such as -12mm.")
]
Fit = Annotated[str | None, typer.Option("--fit", help="resize or crop: how --size is reached.")]
Scaling = Annotated[str | None, typer.Option("--scaling", help="percentile or minmax: what becomes 0 and 1 in each image.")]
Classes = Annotated[list[str] | None, typer.Option("--class", help="Class; may be given again. \\[default: every class]")]
Seed = Annotated[int, typer.Option("--seed", help="Same seed, same result, on the same machine.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Reason = Annotated[str, typer.Option("--reason", help="Why a threshold was changed; the cohort's description keeps it.")]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu or gpu.")]


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
    from ..datasets.readers import Source
    from . import commands

    if not commands.check(Source(data, table, label, plane, suffix, root, drop_copies or None), sized=size is not None):
        raise typer.Exit(3)


@app.command("fit", epilog="Example: augment fit --data my-bids-folder --class AD --size 80x96 --out models")
def fit_command(
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
            help="conv or resnet (any size); paper (the paper's for 32x32, 64x64 or 208x176), or by name paper-mnist, paper-svhn, "
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
    steps: Annotated[int | None, typer.Option("--steps", help="Optimisation steps, where --epochs is not given. \\[default: 3000]")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="Of Adam.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Images a step.")] = None,
    patience: Annotated[
        int | None, typer.Option("--patience", help="Epochs without improvement until the learning rate is halved.")
    ] = None,
    jitter: Annotated[float | None, typer.Option("--jitter", help="Strength of random changes of the training images; 0 for none.")] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="auto, bf16 or fp32.")] = None,
    device: Device = None,
    centroids: Annotated[int | None, typer.Option("--centroids", help="Centroids of the metric. \\[default: all, at most 1000]")] = None,
    selection: Annotated[str | None, typer.Option("--selection", help="k-medoids, random or first: which images become centroids.")] = None,
    lam: Annotated[float | None, typer.Option("--lambda", help="Value of the metric far from every centroid.")] = None,
    tau: Annotated[float | None, typer.Option("--tau", help="Its decay.")] = None,
    rho: Annotated[
        float | None, typer.Option("--rho", help="Reach of a centroid. \\[default: largest distance to a nearest neighbour]")
    ] = None,
    rho_scale: Annotated[float | None, typer.Option("--rho-scale", help="Multiplies the default rho. \\[default: 1]")] = None,
    seed: Seed = 0,
    split: Annotated[Path | None, typer.Option("--split", help="Use this split. \\[default: the one in --out, or a new one]")] = None,
    split_seed: Annotated[
        int | None, typer.Option("--split-seed", help="Of a new split (70 % train, 10 % validation, 20 % test). \\[default: 0]")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a fit that was interrupted.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and do nothing.")] = False,
    force: Force = False,
) -> None:
    """Fit one generative model per class on its training images."""
    from ..datasets.readers import Source
    from . import commands
    from .autoencoders import parse_settings

    chosen = _preset(preset)
    settings = _change(
        # What a preset says of its own model, another one does not take.
        chosen if model in (None, chosen.model) else replace(chosen, model_settings={}),
        model=model,
        arch=arch,
        latent_dim=latent_dim,
        channels=channels,
        seed=seed,
        model_settings={"beta": beta, "likelihood": likelihood, "bounded_log_var": bounded_log_var}
        | parse_settings(model or chosen.model, model_settings or []),
        preparation=_preparation(size, plane, position, fit, scaling),
        training={
            "epochs": epochs,
            "steps": steps,
            "learning_rate": learning_rate,
            "batch_size": batch_size,
            "patience": patience,
            "jitter": jitter,
            "precision": precision,
            "device": device,
        },
        metric={"n_centroids": centroids, "selection": selection, "lam": lam, "tau": tau, "rho": rho, "rho_scale": rho_scale},
    )
    commands.fit(
        Source(data, table, label, plane, suffix, root, drop_copies or None),
        classes or [],
        settings,
        out,
        split_file=split,
        split_seed=split_seed,
        resume=resume,
        force=force,
        dry_run=dry_run,
        command=_command_line(),
    )


@app.command("generate", epilog="Example: augment generate --models models --balance --out synthetic")
def generate_command(
    models: Annotated[Path, typer.Option("--models", help="Folder of models, or one model.")] = Path("models"),
    classes: Classes = None,
    n: Annotated[
        int | None,
        typer.Option("-n", help="Images per class; with --balance, real and synthetic together. \\[default: 100; the largest class]"),
    ] = None,
    balance: Annotated[bool, typer.Option("--balance", help="Only as many as each class lacks beside the real training images.")] = False,
    sampler: Annotated[
        str, typer.Option("--sampler", help="riemannian, posterior, gmm, normal, or another that `augment models` names.")
    ] = "riemannian",
    iterations: Annotated[int | None, typer.Option("--iterations", help="Transitions of each chain. \\[default: 100]")] = None,
    leapfrog: Annotated[int | None, typer.Option("--leapfrog", help="Leapfrog steps of a transition. \\[default: 10]")] = None,
    step_size: Annotated[float | None, typer.Option("--step-size", help="Leapfrog step of the paper's samplers. \\[default: 0.01]")] = None,
    warm_up: Annotated[
        int | None, typer.Option("--warm-up", help="Transitions in which riemannian and own-metric adapt their step. \\[default: 100]")
    ] = None,
    target: Annotated[float | None, typer.Option("--target-acceptance", help="What they adapt it to. \\[default: 0.8]")] = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", help="Least omega on the manifold, between 0 and 1. \\[default: keeps 99 % near a centroid]"),
    ] = None,
    components: Annotated[int | None, typer.Option("--components", help="Of gmm. \\[default: 10]")] = None,
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
    gate: Annotated[
        list[str] | None,
        typer.Option(
            "--gate",
            help="Change a threshold for copies of patients, with a --reason: level=0.05 (chance that one is seen where there is none), "
            "ratio=0.5 (of a copy's distance to the patient over that to others), copies=0.05 (share that may be set aside).",
        ),
    ] = None,
    reason: Reason = "",
    device: Device = None,
    force: Force = False,
) -> None:
    """Draw a synthetic cohort from fitted models; images that copy a patient are set aside beside it."""
    import math

    from ..datasets.errors import UsageError
    from ..datasets.readers import Source
    from . import commands
    from .gate import OF_GENERATION, Gate

    if file_format not in (None, "nifti", "png", "npz"):
        raise UsageError(f"--format is nifti, png or npz, not '{file_format}'.")
    if threshold is not None and not 0 < threshold < 1:
        raise UsageError(f"--threshold lies between 0 and 1, not at {threshold}.")
    settings = {
        "n_iterations": iterations,
        "n_leapfrog": leapfrog,
        "step_size": step_size,
        "n_warm_up": warm_up,
        "target_acceptance": target,
        "log_threshold": None if threshold is None else math.log(threshold),
        "n_components": components,
        "n_training_steps": training_steps,
    }
    commands.generate(
        models,
        classes or [],
        out,
        n=n,
        balance=balance,
        sampler=sampler,
        sampler_settings={name: value for name, value in settings.items() if value is not None},
        seed=seed,
        file_format=file_format,  # type: ignore[arg-type]
        source=None if data is None else Source(data, table, label, plane, suffix, root, drop_copies or None),
        device=device or "cpu",
        gate=Gate.parse(gate or [], reason, "--gate", OF_GENERATION),
        force=force,
        command=_command_line(),
    )


@app.command("interpolate", epilog="Example: augment interpolate models/AD --pairs 3 --out paths")
def interpolate_command(
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
    from ..datasets.errors import UsageError
    from ..datasets.readers import Source
    from . import commands
    from .decoded_paths import interpolate_class
    from .interpolation import KINDS

    if (start is None) != (end is None):
        raise UsageError("--from and --to go together.")
    unknown = [curve for curve in curves or [] if curve not in KINDS]
    if unknown:
        raise UsageError(f"There is no curve '{unknown[0]}'; choose among: {', '.join(KINDS)}.")
    if file_format not in (None, "nifti", "png"):
        raise UsageError(f"--format is nifti or png, not '{file_format}'.")
    models = commands.load_models(model, [] if label_of_model is None else [label_of_model])
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
        source=None if data is None else Source(data, table, label, plane, suffix, root),
        file_format=file_format,  # type: ignore[arg-type]
        force=force,
        command=_command_line(),
    )


@app.command("models", epilog="Example: augment models")
def models_command() -> None:
    """List the models, what each is, the samplers that it can be used with, and its settings."""
    from . import commands

    commands.models()


@app.command("show", epilog="Example: augment show my-bids-folder synthetic --out sheet.png")
def show_command(
    paths: Annotated[
        list[str], typer.Argument(help="Cohorts, real or synthetic; or one model folder: its loss curve, or the map of its 2-D latents.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The PNG to write.")] = Path("sheet.png"),
    columns: Annotated[int, typer.Option("-n", min=1, max=40, help="Images per class.")] = 8,
    classes: Classes = None,
    root: Root = None,
    table: Table = None,
    label: Label = None,
    plane: Plane = None,
    suffix: Suffix = "T1w",
    size: Size = None,
    position: Position = None,
    fit: Fit = None,
    scaling: Scaling = None,
    force: Force = False,
) -> None:
    """Draw a contact sheet of cohorts, a row per class."""
    from ..datasets.readers import Source
    from . import commands
    from .fitting import FitSettings

    settings = _change(FitSettings(), preparation=_preparation(size, plane, position, fit, scaling))
    commands.show(
        paths,
        Source("", table, label, plane, suffix, root),
        settings.preparation,
        out,
        columns=columns,
        labels=classes or [],
        force=force,
    )


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
            "real ones topped up) or synthetic-only (the paper's); may be given again. \\[default: resampled+synthetic]",
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
    steps: Annotated[int | None, typer.Option("--steps", help="Optimisation steps of a generator. \\[default: 3000]")] = None,
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
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Runs computed at a time.")] = 1,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of each.")] = 1,
    shard: Annotated[
        str | None, typer.Option("--shard", help="Compute only this part, as 2/8: for several machines on one folder.")
    ] = None,
    slurm: Annotated[int | None, typer.Option("--slurm", help="Print a SLURM job array of so many shards instead.")] = None,
    submit: Annotated[bool, typer.Option("--submit", help="With --slurm: submit it.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", help="Repeat the study with this config.toml; only --out and how to run are taken from here.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the study; one that is there is taken up again.")] = Path(
        "studies/evaluation"
    ),
) -> None:
    """Measure whether synthetic images help a classifier: repeated runs, intervals, and a verdict per method.

    The demo cohort is studied, unless options say otherwise, on a coronal slice, with 1,000 steps of the generators and --least-steps 250.
    """
    from ..classifiers.training import ClassifierSettings
    from ..datasets.errors import UsageError
    from ..datasets.readers import Source
    from ..experiments import demo, evaluate
    from ..experiments.protocols import DEFAULT_MODE, Protocols

    if submit and slurm is None:
        raise UsageError("--submit goes with --slurm N, the number of shards.")
    given = _given(context)
    if config is not None:
        ignored = [option for name, option in given.items() if name not in HOW_TO_RUN]
        if ignored:
            raise UsageError(f"With --config the study is what {config} says: leave out {', '.join(ignored)}, or --config.")
        resolved = evaluate.read_configuration(config, network)
    else:
        unused = [option for name, option in given.items() if name in OF_GENERATORS] if generators else []
        if unused:
            raise UsageError(f"With --generators nothing is fitted: leave out {', '.join(unused)}.")
        if data == "demo":
            # Volumes at full length would take hours, which nobody wants who tries this out.
            if not given.keys() & {"size", "plane", "position"}:
                plane, position = demo.PREPARATION.plane, demo.PREPARATION.position
            steps = demo.STEPS if steps is None else steps
            least_steps = least_steps if "least_steps" in given else demo.LEAST_STEPS
        settings = _change(
            _preset(preset),
            latent_dim=latent_dim,
            channels=channels,
            model_settings={"beta": beta},
            preparation=_preparation(size, plane, position, fit, scaling),
            training={"steps": steps},
        )
        request = evaluate.Request(
            source=Source(data, table, label, plane, suffix, root, drop_copies or None),
            test_source=None if test_data is None else Source(test_data, None, label, plane, suffix),
            methods=_parts(methods),
            modes=tuple(modes or [DEFAULT_MODE]),
            runs=runs,
            protocols=Protocols(protocol, n_synthetic, enlarge, _parse_limits(limit or []), least_steps, stratum, external_only or None),  # type: ignore[arg-type]
            fit=settings,
            classifier=ClassifierSettings(epochs=epochs, learning_rate=learning_rate, batch_size=batch_size),
            seed=seed,
            network=network,
            command=_command_line(),
            generators=generators,
        )
        resolved = evaluate.configuration_of(request)
    evaluate.evaluate(resolved, out, jobs=jobs, threads=threads, shard=shard, slurm=slurm, send=submit)


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
            help="cohort (a classifier trained on the training side), inception-2048 (FID), -768, -192 or -64; several with commas. "
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
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Processes; what shares a model is done by one of them.")] = 1,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of each.")] = 1,
    shard: Annotated[
        str | None, typer.Option("--shard", help="Compute only this part, as 2/8: for several machines on one folder.")
    ] = None,
    slurm: Annotated[int | None, typer.Option("--slurm", help="Print a SLURM job array of so many shards instead.")] = None,
    submit: Annotated[bool, typer.Option("--submit", help="With --slurm: submit it.")] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Repeat the study with this config.toml; only where things are, and how to run, is taken from here."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the study; one that is there is taken up again.")] = None,
) -> None:
    """Measure how good samples are, over models, samplers, settings and training sizes: the paper's tables and figures, resumable."""
    from ..datasets.errors import UsageError
    from ..datasets.readers import Source
    from ..experiments import fidelity_command as studies
    from ..experiments.fidelity_study import Scoring

    if submit and slurm is None:
        raise UsageError("--submit goes with --slurm N, the number of shards.")
    if epochs is not None and steps is not None:
        raise UsageError("A fit is as long as --epochs or as --steps say; give one of them.")
    given = _given(context)
    if config is not None:
        ignored = [option for parameter, option in given.items() if parameter not in HOW_TO_RUN | WHERE_THINGS_ARE]
        if ignored:
            raise UsageError(f"With --config the study is what {config} says: leave out {', '.join(ignored)}, or --config.")
        resolved = studies.read_configuration(config, root=root, weights=weights, device=device)
    else:
        chosen = _preset(preset or studies.PRESET_OF.get(data, "default"))
        if steps is not None:
            chosen = replace(chosen, training=replace(chosen.training, epochs=None))
        scoring = Scoring(samples, per_class=per_class or None)
        asked = {"features": _parts(features), "measures": _parts(measures)}
        request = studies.Request(
            plan=name,
            source=Source(data, table, label, plane, suffix, root, drop_copies or None),
            fit=_change(
                chosen,
                arch=arch,
                latent_dim=latent_dim,
                channels=channels,
                model_settings={"beta": beta},
                preparation=_preparation(size, plane, position, fit, scaling),
                training={
                    "epochs": epochs,
                    "steps": steps,
                    "learning_rate": learning_rate,
                    "batch_size": batch_size,
                    "device": device,
                },
            ),
            scoring=replace(scoring, **{key: parts for key, parts in asked.items() if parts}),
            systems=_parts(systems),
            sizes=tuple(_parse_training_size(text) for text in _parts(sizes)),
            runs=runs,
            seed=seed,
            weights=weights,
            device=device or "cpu",
            command=_command_line(),
        )
        resolved = studies.configuration_of(request)
    folder = out or Path("studies") / resolved["grid"]["plan"]
    studies.run(resolved, folder, jobs=jobs, threads=threads, shard=shard, slurm=slurm, send=submit)


@app.command("studies", epilog="Example: augment studies")
def studies_command() -> None:
    """List the studies of `augment study`: what each repeats, its systems and its sizes."""
    from ..experiments import fidelity_command

    fidelity_command.show_plans()


@app.command("fidelity", epilog="Example: augment fidelity my-bids-folder synthetic")
def fidelity_command(
    real: Annotated[str, typer.Argument(help="The real cohort.")],
    synthetic: Annotated[list[str], typer.Argument(help="Synthetic cohorts; several are ranked.")],
    extractor: Annotated[
        str,
        typer.Option(
            "--extractor",
            help="cohort (a classifier trained on half of the real people, or on the training side of --split), inception-2048 (FID), "
            "inception-768, -192 or -64, or your own package.module:function.",
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
    classes: Classes = None,
    table: Table = None,
    label: Label = None,
    plane: Plane = None,
    suffix: Suffix = "T1w",
    size: Size = None,
    position: Position = None,
    fit: Fit = None,
    scaling: Scaling = None,
    seed: Seed = 0,
    device: Device = None,
    force: Force = False,
) -> None:
    """Measure how good synthetic images are: Fréchet distance, KID, PRD and others, beside what real images score."""
    from ..datasets.readers import Source
    from ..experiments.fidelity import compare
    from .fitting import FitSettings

    settings = _change(FitSettings(), preparation=_preparation(size, plane, position, fit, scaling))
    request = compare.Request(
        real=Source(real, table, label, plane, suffix),
        synthetic=tuple(Source(path, None, label, plane, suffix) for path in synthetic),
        preparation=settings.preparation,
        extractor=extractor,
        weights=weights,
        labels=tuple(classes or []),
        split=split,
        seed=seed,
        device=device or "cpu",
    )
    if measures:
        request = replace(request, measures=_parts(measures))
    compare.compare(request, out, force=force)


@app.command("audit", epilog="Example: augment audit synthetic --model models --data my-bids-folder")
def audit_command(
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
            help="Of the features: cohort (a classifier trained on all real people), inception-2048, -768, -192 or -64, your own "
            "package.module:function, or none.",
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
    from ..datasets.readers import Source
    from ..experiments.audit import command
    from .gate import Gate

    request = command.Request(
        synthetic=tuple(synthetic),
        models=model,
        source=None if data is None else Source(data, table, label, plane, suffix, root, drop_copies or None),
        extractor=extractor,
        weights=weights,
        gate=Gate.parse(threshold or [], reason, "--threshold"),
        seed=seed,
        command=_command_line(),
    )
    command.audit(request, out, force=force)


@app.command("report", epilog="Example: augment report studies/mine")
def report_command(study: Annotated[Path, typer.Argument(help="Folder of a study.")]) -> None:
    """Draw a study's table and report anew, from the runs that are finished."""
    from ..experiments import evaluate, fidelity_command
    from ..experiments.study import read_config

    (fidelity_command if "scoring" in read_config(study) else evaluate).report(study)


@app.command("verify", epilog="Example: augment verify models --data my-bids-folder")
def verify_command(
    path: Annotated[Path, typer.Argument(help="A model, a folder of models, a synthetic cohort or a study.")],
    models: Annotated[Path | None, typer.Option("--models", help="The models that a synthetic cohort is said to be drawn from.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="The cohort that models, or a study, are said to be of; it is read.")] = None,
) -> None:
    """Compute digests again and say what does not match; exit code 3 if anything does not. It finds accidents and is no signature."""
    from ..experiments.verify import verify

    if not verify(path, models=models, data=data):
        raise typer.Exit(3)


@app.command("demo", epilog="Example: augment demo --out demo-output")
def demo_command(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything the demo makes.")] = Path("demo-output"),
    steps: Annotated[int, typer.Option("--steps", min=1, help="Of the training of each model.")] = 1000,
    force: Force = False,
) -> None:
    """Show the whole method on a made-up cohort: check, fit both classes, generate a balanced cohort, look at it, see whether it helps."""
    from ..experiments.demo import run_demo

    run_demo(out, steps=steps, force=force)


@app.command("toy", epilog="Example: augment toy --out toy")
def toy_command(
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the figure, its tables and the model; a model that is there is used again.")
    ] = Path("toy"),
    steps: Annotated[int, typer.Option("--steps", min=1, help="Of the training.")] = 2000,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Draw Fig. 1: discs and rings in a latent space of two dimensions, distances in it, and curves with what they decode to."""
    from ..experiments.toy import run_toy

    run_toy(out, steps=steps, seed=seed, force=force)


def main() -> None:
    """Run a command; what a user can cause is one sentence and an exit code, anything else a traceback in a log file."""
    try:
        app()
    except TinycohortError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        typer.echo(f"Error: {place}{error.strerror or error}; mend that and repeat the command (a fit goes on with --resume).", err=True)
        sys.exit(3)
    except MemoryError as error:
        typer.echo(f"Error: there is not enough memory ({error}); bring the images to a smaller --size.", err=True)
        sys.exit(3)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            typer.echo("Interrupted; a fit goes on with --resume, a study with the same command.", err=True)
        raise
    except Exception as error:
        with tempfile.NamedTemporaryFile("w", prefix="augment-error-", suffix=".log", delete=False, encoding="utf-8") as log:
            log.write(f"{_command_line()}\n\n{traceback.format_exc()}")
        typer.echo(f"Error: an unforeseen {type(error).__name__} ({error}); please report it with {log.name}.", err=True)
        sys.exit(1)


def _command_line() -> str:
    return shlex.join(["augment", *sys.argv[1:]])


def _given(context: typer.Context) -> dict[str, str]:
    """The options that stand on the command line, by the names of their parameters."""
    parameters = {parameter.name or "": parameter.opts[0] for parameter in context.command.params}
    sources = {name: context.get_parameter_source(name) for name in parameters}
    return {name: option for name, option in parameters.items() if (source := sources[name]) and source.name == "COMMANDLINE"}


def _preset(name: str) -> "FitSettings":
    from ..datasets.errors import UsageError
    from .fitting import PRESETS

    if name not in PRESETS:
        raise UsageError(f"There is no preset '{name}'; choose one of: {', '.join(PRESETS)}.")
    return PRESETS[name]


def _change(settings: "FitSettings", **changes: Any) -> "FitSettings":
    """The settings with every option that was given; ``None`` means that it was not."""
    changed = {}
    for name, value in changes.items():
        current = getattr(settings, name)
        if isinstance(value, dict):
            given = {key: part for key, part in value.items() if part is not None}
            changed[name] = current | given if isinstance(current, dict) else replace(current, **given)
        elif value is not None:
            changed[name] = value
    return replace(settings, **changed)


def _preparation(size: str | None, plane: str | None, position: str | None, fit: str | None, scaling: str | None) -> dict[str, Any]:
    return {"size": _parse_size(size), "plane": plane, "position": position, "fit": fit, "scaling": scaling}


def _parse_size(text: str | None) -> tuple[int, ...] | None:
    from ..datasets.errors import UsageError

    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        raise UsageError(f"--size is written as 80x96 or 40x48x40, not '{text}'.") from None


def _parts(texts: list[str] | None) -> tuple[str, ...]:
    """What was given again, or with commas."""
    return tuple(part.strip() for text in texts or [] for part in text.split(","))


def _parse_training_size(text: str) -> int:
    from ..datasets.errors import UsageError

    if text != "all" and not text.isdigit():
        raise UsageError(f"--sizes are numbers of training images, or all, not '{text}'.")
    return 0 if text == "all" else int(text)


def _parse_limits(texts: list[str]) -> dict[str, int]:
    from ..datasets.errors import UsageError

    limits = {}
    for text in texts:
        label, _, number = text.partition("=")
        if not label or not number.isdigit():
            raise UsageError(f"--limit is written as AD=22, not '{text}'.")
        limits[label] = int(number)
    return limits
