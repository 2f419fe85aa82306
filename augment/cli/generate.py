"""Drawing from fitted models: a cohort, or curves through their latent spaces."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from .groups import takes_groups
from .options import Classes, DataMoved, Device, Force, GateOptions, ReadingOptions, Seed, SkullStripped, Threads
from .reading import command_line, given_source

app = typer.Typer()


@dataclass(frozen=True)
class WantedOptions:
    """How many are drawn."""

    classes: Classes = None
    n: Annotated[
        int | None,
        typer.Option("-n", help="Images per class; with --balance, real and synthetic together. \\[default: 100; the largest class]"),
    ] = None
    balance: Annotated[bool, typer.Option("--balance", help="Only as many as each class lacks beside the real training images.")] = False
    seed: Seed = 0


@dataclass(frozen=True)
class SamplerOptions:
    """The sampler."""

    sampler: Annotated[
        str,
        typer.Option(
            "--sampler",
            help="auto (the law that makes people left out most probable), riemannian, gaussian, mixture, posterior, or another that "
            "`augment models` names.",
        ),
    ] = "auto"
    reach: Annotated[
        str | None,
        typer.Option(
            "--reach",
            help="Of riemannian: auto (people left out are on the manifold), or a multiple of Algorithm 1's rho, as 1: the paper's. "
            "\\[default: auto]",
        ),
    ] = None
    holds: Annotated[
        float | None,
        typer.Option("--holds", help="Share of people left out that riemannian's manifold holds, at the reach auto. \\[default: 0.9]"),
    ] = None
    iterations: Annotated[
        int | None, typer.Option("--iterations", help="Transitions of each chain. \\[default: 100; with a --reach, until they have mixed]")
    ] = None
    leapfrog: Annotated[int | None, typer.Option("--leapfrog", help="Leapfrog steps of a transition. \\[default: 10]")] = None
    step_size: Annotated[float | None, typer.Option("--step-size", help="Leapfrog step of the paper's samplers. \\[default: 0.01]")] = None
    warm_up: Annotated[
        int | None, typer.Option("--warm-up", help="Transitions in which riemannian and own-metric adapt their step. \\[default: 100]")
    ] = None
    target: Annotated[float | None, typer.Option("--target-acceptance", help="What they adapt it to. \\[default: 0.8]")] = None
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold", help="Least omega on the manifold of a --reach, between 0 and 1. \\[default: keeps 99 % near a centroid]"
        ),
    ] = None
    components: Annotated[int | None, typer.Option("--components", help="Of gmm and mixture. \\[default: 10; as many as are best]")] = None
    training_steps: Annotated[int | None, typer.Option("--training-steps", help="Of two-stage. \\[default: 1000]")] = None

    def settings(self) -> dict[str, Any]:
        """Those that were given, by their names in the sampler; raise a ``UsageError`` for one that cannot be."""
        import math

        from ...datasets.common.errors import UsageError

        if self.threshold is not None and not 0 < self.threshold < 1:
            raise UsageError(f"--threshold lies between 0 and 1, not at {self.threshold}.")
        given = {
            "reach": None if self.reach is None else _reach(self.reach),
            "holds": self.holds,
            "n_iterations": self.iterations,
            "n_leapfrog": self.leapfrog,
            "step_size": self.step_size,
            "n_warm_up": self.warm_up,
            "target_acceptance": self.target,
            "log_threshold": None if self.threshold is None else math.log(self.threshold),
            "n_components": self.components,
            "n_training_steps": self.training_steps,
        }
        return {name: value for name, value in given.items() if value is not None}

    def warn(self) -> None:
        """Tell what does something else than it seems to."""
        from .. import console
        from ..samplers.fits import CHAIN

        if self.sampler == "riemannian" and self.reach is None and {*CHAIN, "log_threshold"} & set(self.settings()):
            told = "Settings of chains and their threshold are those of Algorithm 1's metric"
            console.warn(f"{told}: without a --reach it draws at that of the fit, not on the manifold that holds people left out.")


@dataclass(frozen=True)
class WritingOptions:
    """What is written."""

    file_format: Annotated[str | None, typer.Option("--format", help="nifti, png or npz. \\[default: as the source]")] = None
    out: Annotated[Path, typer.Option("--out", help="Folder of the synthetic cohort.")] = Path("synthetic")
    skull_stripped: SkullStripped = None
    force: Force = False


@app.command("generate", epilog="Example: augment generate --models models --balance --out synthetic")
@takes_groups
def generate_command(
    context: typer.Context,
    wanted: WantedOptions,
    sampler: SamplerOptions,
    writing: WritingOptions,
    gate: GateOptions,
    reading: ReadingOptions,
    models: Annotated[Path, typer.Option("--models", help="Folder of models, or one model.")] = Path("models"),
    data: DataMoved = None,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Draw a synthetic cohort from fitted models; images that copy a patient are drawn again."""
    from ...datasets.common.compute import computing_with
    from ...datasets.common.errors import UsageError
    from ..commands.generate import generate_cohort
    from ..release.gate import OF_GENERATION

    if writing.file_format not in (None, "nifti", "png", "npz"):
        raise UsageError(f"--format is nifti, png or npz, not '{writing.file_format}'.")
    settings = sampler.settings()
    sampler.warn()
    context.with_resource(computing_with(threads))
    generate_cohort(
        models,
        wanted.classes or [],
        writing.out,
        n=wanted.n,
        balance=wanted.balance,
        sampler=sampler.sampler,
        sampler_settings=settings,
        seed=wanted.seed,
        file_format=writing.file_format,  # type: ignore[arg-type]
        moved=given_source(context),
        device=device,
        skull_stripped=writing.skull_stripped,
        gate=gate.thresholds(OF_GENERATION),
        force=writing.force,
        command=command_line(),
    )


def _reach(text: str) -> float | str:
    from ...datasets.common.errors import UsageError
    from ..samplers.registry import SAMPLERS

    try:
        return SAMPLERS["riemannian"].settings["reach"].read(text)
    except ValueError:
        raise UsageError(f"--reach is auto, or a number above 0, not '{text}'.") from None


@dataclass(frozen=True)
class EndOptions:
    """What the curves join."""

    start: Annotated[str | None, typer.Option("--from", help="Participant or image to start from. \\[default: random training images]")] = (
        None
    )
    end: Annotated[str | None, typer.Option("--to", help="And to go to.")] = None
    pairs: Annotated[int, typer.Option("--pairs", help="Random pairs, without --from and --to.")] = 3
    data: Annotated[str | None, typer.Option("--data", help="The cohort of --from and --to. \\[default: what the model learnt from]")] = (
        None
    )

    def named(self) -> tuple[str, str] | None:
        """The two ends that have names; raise a ``UsageError`` if one of them has none."""
        from ...datasets.common.errors import UsageError

        if (self.start is None) != (self.end is None):
            raise UsageError("--from and --to go together.")
        return None if self.start is None or self.end is None else (self.start, self.end)


@dataclass(frozen=True)
class CurveOptions:
    """The curves."""

    steps: Annotated[int, typer.Option("--steps", help="Images on a curve, ends included.")] = 10
    curves: Annotated[
        list[str] | None,
        typer.Option(
            "--curve",
            help="affine (straight), geodesic (shortest in the metric, Eq. 4) or eq12 (keeps to the data); may be given again. "
            "\\[default: all]",
        ),
    ] = None

    def kinds(self) -> list[str]:
        """Of the curves, in the order in which they are shown; raise a ``UsageError`` for one that there is not."""
        from ...datasets.common.errors import UsageError
        from ..geometry.interpolation import KINDS

        unknown = [curve for curve in self.curves or [] if curve not in KINDS]
        if unknown:
            raise UsageError(f"There is no curve '{unknown[0]}'; choose among: {', '.join(KINDS)}.")
        return [kind for kind in KINDS if kind in (self.curves or KINDS)]


@app.command("interpolate", epilog="Example: augment interpolate models/AD --pairs 3 --out paths")
@takes_groups
def interpolate_command(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(help="A model, or a folder of models and --class.")],
    ends: EndOptions,
    curves: CurveOptions,
    reading: ReadingOptions,
    label_of_model: Annotated[str | None, typer.Option("--class", help="Class, where MODEL holds several.")] = None,
    seed: Seed = 0,
    file_format: Annotated[str | None, typer.Option("--format", help="nifti or png. \\[default: as the source]")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the figure, the table and the images.")] = Path("paths"),
    force: Force = False,
) -> None:
    """Decode along curves between two people's codes: straight, geodesic, and through the data."""
    from ...datasets.common.errors import UsageError
    from ..commands.interpolate import interpolate_class
    from ..fitting.model_folders import load_models

    named, kinds = ends.named(), curves.kinds()
    if file_format not in (None, "nifti", "png"):
        raise UsageError(f"--format is nifti or png, not '{file_format}'.")
    models = load_models(model, [] if label_of_model is None else [label_of_model])
    if len(models) > 1:
        raise UsageError(f"{model} holds models of the classes {', '.join(models)}; choose one with --class.")
    interpolate_class(
        next(iter(models.values())),
        out,
        named=named,
        n_pairs=ends.pairs,
        n_steps=curves.steps,
        kinds=kinds,
        seed=seed,
        moved=given_source(context),
        file_format=file_format,  # type: ignore[arg-type]
        force=force,
        command=command_line(),
    )
