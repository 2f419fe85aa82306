"""Drawing from fitted models: a cohort, or curves through their latent spaces."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .groups import takes_groups
from .options import Classes, Device, Force, FormOptions, GateOptions, Place, PreparationOptions, ReadingOptions, Seed, Threads
from .reading import command_line, data_of, given_options, given_source, require_places

if TYPE_CHECKING:
    from ..detail.morph import Morph

app = typer.Typer()
MORPH = "morph"  # detail/morph.py, which is not imported for --help


@dataclass(frozen=True)
class OriginOptions:
    """What images are made of."""

    place: Place = None
    models: Annotated[Path, typer.Option("--models", "--model", help="Folder of models, or one model.")] = Path("models")
    data: Annotated[
        str | None,
        typer.Option("--data", help="The cohort that the models were trained on, if it has moved; or that of --sampler morph."),
    ] = None
    split: Annotated[
        Path | None,
        typer.Option("--split", help="Split whose training side --sampler morph is of. \\[default: the official sides, or everybody]"),
    ] = None


@dataclass(frozen=True)
class MorphedOptions(PreparationOptions):
    """How the images of --sampler morph are prepared."""


@dataclass(frozen=True)
class WantedOptions:
    """How many are drawn."""

    classes: Classes = None
    n: Annotated[
        int | None,
        typer.Option("-n", help="Images per class; with --balance, real and synthetic together. \\[default: 100; the largest class]"),
    ] = None
    balance: Annotated[
        bool,
        typer.Option(
            "--balance", help="Draw only what each class lacks, so that real training images and synthetic ones together are balanced."
        ),
    ] = False
    seed: Seed = 0


@dataclass(frozen=True)
class SamplerOptions:
    """What is drawn, and how."""

    sampler: Annotated[
        str,
        typer.Option(
            "--sampler",
            help="auto (the law that makes people left out most probable), riemannian, gaussian, mixture, posterior, or another that "
            "`augment models` names; or morph (two people of a class, registered and blended), which needs --data and no model.",
        ),
    ] = "auto"
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A setting of the sampler, as reach=1 or n_components=3 (`augment models` lists them); may be given again.",
        ),
    ] = None
    detail: Annotated[
        str,
        typer.Option(
            "--detail",
            help="mosaic: what decoding loses is given back by several training people; settings as in 'mosaic n_donors=6 pieces=8'. none: "
            "as decoded, blurred. auto: mosaic, where these people's images can be read and it passes the gate.",
        ),
    ] = "auto"

    def read(self) -> dict[str, Any]:
        """The settings that were given, by name; raise a ``UsageError`` for one that cannot be."""
        from .. import console
        from ..samplers.fits import CHAIN
        from ..samplers.registry import read_sampler_settings

        found = read_sampler_settings(self.sampler, self.settings or [])
        if self.sampler == "riemannian" and "reach" not in found and {*CHAIN, "log_threshold"} & set(found):
            told = "Settings of chains and their threshold are those of Algorithm 1's metric"
            console.warn(f"{told}: without a reach it draws at that of the fit, not on the manifold that holds people left out.")
        return found

    def morph(self) -> "Morph":
        """The settings of morphs; raise a ``UsageError`` for one that cannot be."""
        from ..detail.morph import Morph
        from ..settings import read_settings, settings_of

        return Morph(**read_settings(settings_of(Morph), self.settings or [], f"the sampler '{MORPH}'"))


@dataclass(frozen=True)
class WritingOptions(FormOptions):
    """What is written."""

    out: Annotated[Path, typer.Option("--out", help="Folder of the synthetic cohort.")] = Path("synthetic")
    force: Force = False


@app.command("generate", epilog="Example: augment generate --models models --balance --out synthetic")
@takes_groups
def generate_command(
    context: typer.Context,
    origin: OriginOptions,
    wanted: WantedOptions,
    sampler: SamplerOptions,
    writing: WritingOptions,
    gate: GateOptions,
    reading: ReadingOptions,
    preparation: MorphedOptions,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Draw a synthetic cohort from fitted models, or as morphs of people; images that copy a patient are drawn again."""
    data = data_of(origin.place, origin.data)
    from ...datasets.common.compute import computing_with
    from ..commands.generate import GenerationRequest, generate_cohort
    from ..commands.morph import MorphRequest, generate_morph_cohort
    from ..release.gate import OF_GENERATION

    common: dict[str, Any] = {
        "labels": wanted.classes or [],
        "n": wanted.n,
        "balance": wanted.balance,
        "seed": wanted.seed,
        "device": device,
        "gate": gate.thresholds(OF_GENERATION),
        "command": command_line(),
        **writing.form(),
    }
    _require_fitting(context, morphs=sampler.sampler == MORPH)
    if sampler.sampler == MORPH:
        assert data is not None
        source, prepared = reading.source(data), preparation.preparation(reading.plane)
        morphs = MorphRequest(source, preparation=prepared, split_file=origin.split, morph=sampler.morph(), **common)
        context.with_resource(computing_with(threads))
        generate_morph_cohort(morphs, writing.out, force=writing.force)
        return
    settings = sampler.read()
    drawn = GenerationRequest(
        origin.models, sampler=sampler.sampler, sampler_settings=settings, detail=sampler.detail, moved=given_source(context), **common
    )
    context.with_resource(computing_with(threads))
    generate_cohort(drawn, writing.out, force=writing.force)


def _require_fitting(context: typer.Context, *, morphs: bool) -> None:
    """Raise a ``UsageError`` for an option that morphs do not take, or that is of morphs alone."""
    from ...datasets.common.errors import UsageError

    given = given_options(context)
    if not morphs:
        of_morphs = [option for name, option in given.items() if name == "split" or name in {f.name for f in fields(MorphedOptions)}]
        if of_morphs:
            raise UsageError(
                f"{', '.join(of_morphs)} is of --sampler {MORPH} alone: a model knows whom it was fitted on, and how their images are "
                "prepared; leave it out."
            )
        return
    if "models" in given:
        raise UsageError(f"--sampler {MORPH} draws from people, and from no model; leave out --models.")
    if "detail" in given:
        raise UsageError(f"A morph has the detail of its two people already; leave out --detail with --sampler {MORPH}.")
    if not given.keys() & {"data", "place"}:
        raise UsageError(f"--sampler {MORPH} draws from the people of a cohort; name it with --data.")


@dataclass(frozen=True)
class EndOptions:
    """What the curves join."""

    start: Annotated[str | None, typer.Option("--from", help="Participant or image to start from. \\[default: random people]")] = None
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
        """The kinds of curves, in the order in which they are shown; raise a ``UsageError`` for one that there is not."""
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
    require_places(ends.data)
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
