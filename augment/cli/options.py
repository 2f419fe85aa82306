"""The options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

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
SkullStripped = Annotated[
    bool | None,
    typer.Option(
        "--skull-stripped/--not-skull-stripped",
        help="Whether all but the brain was set to 0 in the images, for the sidecars of BIDS. \\[default: as the source says]",
    ),
]
Classes = Annotated[list[str] | None, typer.Option("--class", help="Class; may be given again. \\[default: every class]")]
Seed = Annotated[int, typer.Option("--seed", help="Same seed, same result, on the same machine.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Reason = Annotated[str, typer.Option("--reason", help="Why a threshold was changed; the cohort's description keeps it.")]
Jobs = Annotated[int, typer.Option("--jobs", min=1, help="Runs computed at a time.")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads of each.")]
Shard = Annotated[str | None, typer.Option("--shard", help="Compute only this part, as 2/8: for several machines on one folder.")]
Slurm = Annotated[int | None, typer.Option("--slurm", help="Print a SLURM job array of so many shards instead.")]
Submit = Annotated[bool, typer.Option("--submit", help="With --slurm: submit it.")]
Sbatch = Annotated[
    list[str] | None,
    typer.Option("--sbatch", help="With --slurm: an option of sbatch, as --sbatch=--gres=gpu:1; may be given again."),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", help="Repeat the study with this config.toml; only where things are, and how to run, is taken from here."),
]
ThreadsOfCommand = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        help="Threads to compute with; the same number, the same result, to the last digit. \\[default: OMP_NUM_THREADS, or 2]",
    ),
]
Device = Annotated[str | None, typer.Option("--device", help="auto (a GPU where there is one), cpu or gpu. \\[default: auto]")]
DeviceOfNetworks = Annotated[str, typer.Option("--device", help="auto (a GPU where there is one), cpu or gpu: where networks compute.")]
