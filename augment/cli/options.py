"""The options that several commands have: by themselves, or as groups that a command takes whole (``groups.takes_groups``)."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .reading import WHERE_THINGS_ARE, changed, counted, data_of, given_options, lasting, parse_size, parts_of

if TYPE_CHECKING:
    from ...datasets.readers import Source
    from ...datasets.transforms import Preparation
    from ...experiments.engine.launch import HowToRun
    from ..fitting.settings import FitSettings
    from ..release.gate import Gate

Classes = Annotated[list[str] | None, typer.Option("--class", help="Class; may be given again. \\[default: every class]")]
Seed = Annotated[int, typer.Option("--seed", help="Same seed, same result, on the same machine.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
SkullStripped = Annotated[
    bool | None,
    typer.Option(
        "--skull-stripped/--not-skull-stripped",
        help="Whether all but the brain was set to 0 in the images, for the sidecars of BIDS. \\[default: as the source says]",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        help="Threads to compute with; the same number, the same result, to the last digit. \\[default: OMP_NUM_THREADS, or 2]",
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto (a GPU where there is one), cpu or gpu: where to compute.")]
Weights = Annotated[Path | None, typer.Option("--weights", help="File with InceptionV3's weights, .pth or .safetensors.")]
Size = Annotated[
    str | None,
    typer.Option(
        "--size",
        help="Voxels of the prepared images: of slices and pictures width and height as seen, as 80x96; of volumes along R, A and S, as "
        "40x48x40. \\[default: their own, at most 96 or 48 a side]",
    ),
]


_A_COHORT = (
    "A BIDS dataset, a folder for each class, a folder of volumes, pictures or DICOM series with a table, a table of paths, an OASIS-1 "
    "download, an .npz, or a name: demo, oasis-vbm, mnist, fashion-mnist, cifar10, svhn, celeba (with --root), rings-and-discs."
)


Data = Annotated[str, typer.Option("--data", help=_A_COHORT)]
Place = Annotated[str | None, typer.Argument(metavar="DATA", show_default=False, help="The cohort; the same as --data.")]


@dataclass(frozen=True)
class DataOptions:
    """The cohort."""

    place: Place = None
    data: Annotated[str | None, typer.Option("--data", help=f"{_A_COHORT} \\[default: demo]")] = None

    def named(self) -> str:
        """The cohort; raise a ``UsageError`` if two are named, and a ``DataError`` if nothing is there."""
        return data_of(self.place, self.data) or "demo"


@dataclass(frozen=True)
class ReadingOptions:
    """How the cohort is read."""

    root: Annotated[str | None, typer.Option("--root", help="Folder of the published files of a benchmark that --data names.")] = None
    table: Annotated[str | None, typer.Option("--table", help="Table of participants, where the data's own is not meant.")] = None
    label: Annotated[
        str | None, typer.Option("--label-column", help="Column with the classes. \\[default: diagnosis, label, group or dx]")
    ] = None
    plane: Annotated[
        str | None,
        typer.Option(
            "--plane", help="axial, coronal or sagittal: cut this slice out of volumes, or take the pictures with this word in their names."
        ),
    ] = None
    suffix: Annotated[str, typer.Option("--suffix", help="Which images of a BIDS dataset.")] = "T1w"
    drop_copies: Annotated[
        bool,
        typer.Option("--drop-copies", help="Leave out images that lie on two official sides of a benchmark, or bear two labels."),
    ] = False

    kept: Annotated[
        list[str] | None, typer.Option("--classes", help="Read these classes alone, as AD,CN: images of others are left out.")
    ] = None

    def source(self, data: str) -> "Source":
        """The cohort ``data``, to be read in this way."""
        from ...datasets.readers import Source

        kept = parts_of(self.kept) or None
        return Source(data, self.table, self.label, self.plane, self.suffix, self.root, self.drop_copies or None, kept)


@dataclass(frozen=True)
class PreparationOptions:
    """How images are prepared."""

    size: Size = None
    position: Annotated[
        str | None, typer.Option("--position", help="Where --plane cuts: a fraction such as 0.5, or a coordinate such as -12mm.")
    ] = None
    resize: Annotated[str | None, typer.Option("--resize", help="stretch or crop: how --size is reached.")] = None
    scaling: Annotated[
        str | None,
        typer.Option(
            "--scaling",
            help="percentile or minmax: what becomes 0 and 1 in each image; or none, to leave images in [0, 1], and pictures, as they are.",
        ),
    ] = None

    def changes(self, plane: str | None) -> dict[str, Any]:
        """What ``reading.changed`` does to a ``Preparation``; raise a ``UsageError`` if the size is none."""
        return {"size": parse_size(self.size), "plane": plane, "position": self.position, "resize": self.resize, "scaling": self.scaling}

    def given(self, plane: str | None) -> dict[str, Any]:
        """Those of ``changes`` that there are."""
        return {name: value for name, value in self.changes(plane).items() if value is not None}

    def preparation(self, plane: str | None) -> "Preparation":
        """These options, and what is usual where there are none."""
        from ...datasets.transforms import Preparation

        return Preparation(**self.given(plane))


@dataclass(frozen=True)
class GeneratorOptions:
    """Generative models."""

    arch: Annotated[
        str | None,
        typer.Option(
            "--arch",
            help="light, conv or resnet (any size); paper (the paper's for 32x32, 64x64 or 208x176), or by name paper-mnist, paper-svhn, "
            "paper-celeba, paper-oasis.",
        ),
    ] = None
    latent_dim: Annotated[int | None, typer.Option("--latent-dim", help="Latent dimensions.")] = None
    channels: Annotated[
        int | None,
        typer.Option(
            "--channels",
            help="Channels of the first convolution, which scale all others; by default 16, and the paper's own in its networks.",
        ),
    ] = None
    beta: Annotated[float | None, typer.Option("--beta", help="Weight of the KL term.")] = None
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", help="Optimisation steps. \\[default: the preset's, or by size, at most 3000; fewer where it stops improving]"
        ),
    ] = None

    def change(self, settings: "FitSettings") -> "FitSettings":
        """The settings with every option that was given."""
        settings = lasting(settings, None, self.steps)
        return changed(settings, arch=self.arch, latent_dim=self.latent_dim, channels=self.channels, model_settings={"beta": self.beta})


@dataclass(frozen=True)
class TrainingOptions(GeneratorOptions):
    """Generative models."""

    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the training images, instead of --steps.")] = None
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="Adam's learning rate.")] = None
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Images per step.")] = None

    def change(self, settings: "FitSettings") -> "FitSettings":
        """The settings with every option that was given; raise a ``UsageError`` for both lengths."""
        settings = super().change(lasting(settings, self.epochs, self.steps))
        return changed(settings, training={"learning_rate": self.learning_rate, "batch_size": self.batch_size})


@dataclass(frozen=True)
class FormOptions:
    """What is written."""

    file_format: Annotated[str | None, typer.Option("--format", help="nifti, png or npz. \\[default: as the source]")] = None
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32, uint8 or int16. \\[default: float32; uint8 in a PNG]")] = None
    white: Annotated[
        float | None,
        typer.Option("--white", help="The number of what is brightest; 0 stays 0. \\[default: 1 of float32, 255 of uint8, 4095 of int16]"),
    ] = None
    skull_stripped: SkullStripped = None

    def form(self) -> dict[str, Any]:
        """Arguments of requests that write images; raise a ``UsageError`` for a format that there is not."""
        from ...datasets.common.errors import UsageError

        if self.file_format not in (None, "nifti", "png", "npz"):
            raise UsageError(f"--format is nifti, png or npz, not '{self.file_format}'.")
        return {"file_format": self.file_format, "dtype": self.dtype, "white": self.white, "skull_stripped": self.skull_stripped}


@dataclass(frozen=True)
class GateOptions:
    """The gate."""

    gate: Annotated[
        list[str] | None,
        typer.Option(
            "--gate",
            help="Change a threshold for copies of patients, with a --reason: level=0.05 (chance that one is seen where there is none), "
            "ratio=0.5 (of a copy's distance to the patient over that to others).",
        ),
    ] = None
    reason: Annotated[str, typer.Option("--reason", help="Why a threshold was changed; the cohort's description keeps it.")] = ""

    def thresholds(self, names: tuple[str, ...] = ()) -> "Gate":
        """The gate; raise a ``UsageError`` if it is changed without a reason, or in other thresholds than ``names``."""
        from ..release.gate import Gate

        return Gate.parse(self.gate or [], self.reason, names)


@dataclass(frozen=True)
class HowToRunOptions:
    """How the study is run."""

    device: Device = "auto"
    jobs: Annotated[str, typer.Option("--jobs", help="Runs computed at a time; auto is one for every processor and its --threads.")] = "1"
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of each.")] = 1
    shard: Annotated[str | None, typer.Option("--shard", help="Compute only this part, as 2/8: for several machines on one folder.")] = None
    slurm: Annotated[int | None, typer.Option("--slurm", help="Print a SLURM job array of so many shards instead.")] = None
    submit: Annotated[bool, typer.Option("--submit", help="With --slurm: submit it.")] = False
    sbatch: Annotated[
        list[str] | None,
        typer.Option("--sbatch", help="With --slurm: an option of sbatch, as --sbatch=--gres=gpu:1; may be given again."),
    ] = None
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Repeat the study with this config.toml; only where things are, and how to run, is taken from here."),
    ] = None

    def how(self) -> "HowToRun":
        """Which machines and processes compute; raise a ``UsageError`` if these do not go together."""
        from ...experiments.engine.launch import HowToRun

        return HowToRun(self._jobs(), self.threads, self.shard, self.slurm, self.submit, tuple(self.sbatch or ()), self.device)  # type: ignore[arg-type]

    def _jobs(self) -> int:
        from ...datasets.common.errors import UsageError
        from ...datasets.common.machine import available_processors

        if self.jobs == "auto" and self.slurm is not None:
            raise UsageError("--jobs auto counts the processors of this machine, and --slurm runs on others: give their number.")
        if self.jobs == "auto":
            return max(1, available_processors() // self.threads)
        jobs = counted(self.jobs)
        if jobs is None:
            raise UsageError(f"--jobs is a number, 1 or more, or auto, not '{self.jobs}'.")
        return jobs

    def require_nothing_else(self, context: typer.Context) -> None:
        """Raise a ``UsageError`` if beside ``--config`` there are options that say what the study is."""
        from ...datasets.common.errors import UsageError

        ignored = [option for name, option in given_options(context).items() if name not in _BESIDE_CONFIG]
        if ignored:
            raise UsageError(f"With --config the study is what {self.config} says: leave out {', '.join(ignored)}, or --config.")


# With a study's configuration; a network is part of it, and is confirmed on the command line. A plan is of the study, and no part of it.
_BESIDE_CONFIG = {field.name for field in fields(HowToRunOptions)} | {"out", "networks", "place", "plan", "spread"} | WHERE_THINGS_ARE
