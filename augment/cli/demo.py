"""What needs no data of the user's."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Force, Seed

app = typer.Typer()


@app.command("demo", epilog="Example: augment demo --out demo-output")
def demo_command(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything the demo makes.")] = Path("demo-output"),
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Optimisation steps of each model. \\[default: until it stops improving]")
    ] = None,
    force: Force = False,
) -> None:
    """Show the whole method on a made-up cohort: check, fit both classes, generate a balanced cohort, look at it, see whether it helps."""
    from ...datasets.common.compute import computing_with
    from ...experiments.demo import run_demo

    with computing_with(None):
        run_demo(out, steps=steps, force=force)


@app.command("toy", epilog="Example: augment toy --out toy")
def toy_command(
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the figure, its tables and the model; a model that is there is used again.")
    ] = Path("toy"),
    steps: Annotated[int, typer.Option("--steps", min=1, help="Optimisation steps.")] = 2000,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Draw Fig. 1: discs and rings in a latent space of two dimensions, distances in it, and curves with what they decode to."""
    from ...datasets.common.compute import computing_with
    from ...experiments.toy import run_toy

    with computing_with(None):
        run_toy(out, steps=steps, seed=seed, force=force)


@app.command("doctor", epilog="Example: augment doctor")
def doctor_command() -> None:
    """Look at this machine: versions of packages, device, memory, disk, caches and extras; exit code 3 if anything is broken."""
    from ..commands.doctor import examine_machine

    if not examine_machine():
        raise typer.Exit(3)
