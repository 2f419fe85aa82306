"""Checking a cohort, and fitting models to it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .groups import takes_groups
from .options import (
    Classes,
    DataOptions,
    Device,
    Force,
    PreparationOptions,
    ReadingOptions,
    Seed,
    Size,
    SkullStripped,
    Threads,
    TrainingOptions,
)
from .reading import changed, command_line, parts_of, preset_settings

if TYPE_CHECKING:
    from ..fitting.settings import FitSettings

app = typer.Typer()


@app.command("check", epilog="Example: augment check my-bids-folder")
@takes_groups
def check_command(data: DataOptions, reading: ReadingOptions, size: Size = None) -> None:
    """Examine a whole cohort and list every problem; exit code 3 if there is any. Nothing is written."""
    source = reading.source(data.named())
    from ..commands.check import check_cohort

    if not check_cohort(source, sized=size is not None):
        raise typer.Exit(3)


@dataclass(frozen=True)
class ModelOptions(TrainingOptions):
    """Generative models."""

    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            help="default, paper-oasis (1000 epochs at 208 x 176), paper-mnist, -cifar10, -svhn or -celeba. Options change it.",
        ),
    ] = "default"
    model: Annotated[str | None, typer.Option("--model", help="One of `augment models`. \\[default: vae]")] = None
    model_settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the model, as beta=0.1; may be given again. See `augment models`."),
    ] = None
    likelihood: Annotated[
        str | None, typer.Option("--likelihood", help="calibrated (the decoder's variance at its optimum) or fixed (the paper).")
    ] = None
    bounded_log_var: Annotated[
        bool | None,
        typer.Option("--bounded-log-var/--free-log-var", help="Pass the log-variance through tanh, as the released OASIS model."),
    ] = None
    patience: Annotated[int | None, typer.Option("--patience", help="Epochs without improvement until the learning rate is halved.")] = None
    jitter: Annotated[
        float | None,
        typer.Option(
            "--jitter",
            help="Strength of random changes of the training images; 0 for none. \\[default: from 1 to 1.5, the more the fewer images]",
        ),
    ] = None
    stop_after: Annotated[
        int | None,
        typer.Option(
            "--stop-after",
            min=1,
            help="Epochs without improvement until the fit ends. \\[default: three times --patience; with --epochs or --steps, never]",
        ),
    ] = None
    precision: Annotated[str | None, typer.Option("--precision", help="auto, bf16 or fp32.")] = None
    device: Device = "auto"

    def settings(self) -> "FitSettings":
        """The preset's, with every option that was given."""
        from ..autoencoders import settings_of_model
        from ..settings import read_settings

        preset = preset_settings(self.preset)
        # What a preset says of its own model, another one does not take.
        settings = preset if self.model in (None, preset.model) else replace(preset, model_settings={})
        name = self.model or preset.model
        given = read_settings(settings_of_model(name), self.model_settings or [], f"the model '{name}'")
        training = ("patience", "stop_after", "jitter", "precision", "device")
        return changed(
            self.change(settings),
            model=self.model,
            model_settings={"likelihood": self.likelihood, "bounded_log_var": self.bounded_log_var} | given,
            training={name: getattr(self, name) for name in training},
        )


@dataclass(frozen=True)
class MetricOptions:
    """The metric."""

    n_centroids: Annotated[int | None, typer.Option("--centroids", help="Centroids of the metric. \\[default: all, at most 1000]")] = None
    selection: Annotated[str | None, typer.Option("--selection", help="k-medoids, random or first: which images become centroids.")] = None
    lam: Annotated[float | None, typer.Option("--lambda", help="Value of the metric far from every centroid.")] = None
    tau: Annotated[float | None, typer.Option("--tau", help="Its decay.")] = None
    rho: Annotated[
        float | None, typer.Option("--rho", help="Reach of a centroid. \\[default: largest distance to a nearest neighbour]")
    ] = None
    rho_scale: Annotated[
        float | None,
        typer.Option("--rho-scale", help="Deprecated: --set reach= of augment generate needs no new training. Multiplies the default rho."),
    ] = None

    def warn(self) -> None:
        """Tell what is deprecated."""
        from .. import console

        if self.rho_scale is not None:
            draw = f"`augment generate --sampler riemannian --set reach={self.rho_scale:g}`"
            console.warn(f"--rho-scale is deprecated: {draw} does the same without another training. --sampler auto does not use it.")


@dataclass(frozen=True)
class SplitOptions:
    """Who is fitted on."""

    classes: Classes = None
    split: Annotated[Path | None, typer.Option("--split", help="Use this split. \\[default: the one in --out, or a new one]")] = None
    split_seed: Annotated[
        int | None,
        typer.Option("--split-seed", min=0, help="Seed of a new split (70 % train, 10 % validation, 20 % test). \\[default: 0]"),
    ] = None
    skull_stripped: SkullStripped = None


@dataclass(frozen=True)
class FitRunOptions:
    """How the fit is run."""

    threads: Threads = None
    keep_detail: Annotated[
        bool,
        typer.Option(
            "--keep-detail",
            help="Keep the training images in the model's folder, so that `augment generate` draws detail where the cohort is not. They "
            "are personal data.",
        ),
    ] = False
    loggers: Annotated[
        list[str] | None,
        typer.Option(
            "--logger",
            help="csv, tensorboard, mlflow or wandb: losses of each epoch, in CLASS.logs beside the model; several with commas.",
        ),
    ] = None
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a fit that was interrupted.")] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and do nothing.")] = False
    force: Force = False


@app.command("fit", epilog="Example: augment fit my-bids-folder --class AD --size 80x96 --out models")
@takes_groups
def fit_command(
    context: typer.Context,
    data: DataOptions,
    reading: ReadingOptions,
    fitted_on: SplitOptions,
    preparation: PreparationOptions,
    model: ModelOptions,
    metric: MetricOptions,
    run: FitRunOptions,
    out: Annotated[Path, typer.Option("--out", help="Folder of models; each class gets a folder in it.")] = Path("models"),
    seed: Seed = 0,
) -> None:
    """Fit one generative model per class on its training images."""
    source = reading.source(data.named())
    from ...datasets.common.compute import computing_with
    from ..commands.fit import FitRequest, fit_models

    metric.warn()
    settings = changed(model.settings(), seed=seed, preparation=preparation.changes(reading.plane), metric=vars(metric))
    context.with_resource(computing_with(run.threads))
    fit_models(
        FitRequest(
            source,
            fitted_on.classes or [],
            settings,
            split_file=fitted_on.split,
            split_seed=fitted_on.split_seed,
            skull_stripped=fitted_on.skull_stripped,
            keep_detail=run.keep_detail,
            loggers=parts_of(run.loggers),
            command=command_line(),
        ),
        out,
        resume=run.resume,
        force=run.force,
        dry_run=run.dry_run,
    )
