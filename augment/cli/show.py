"""Looking at what there is: models, and images."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Classes, Fit, Force, Label, Plane, Position, Root, Scaling, Size, Suffix, Table
from .reading import changed, preparation_of

app = typer.Typer()


@app.command("models", epilog="Example: augment models; augment models models/AD")
def models_command(
    folder: Annotated[
        Path | None, typer.Argument(help="A model, or a folder of models: how probable its laws make people left out.")
    ] = None,
) -> None:
    """List the models, what each is, the samplers that it can be used with, and its settings; or the laws of fitted ones."""
    from ..commands.show import show_models

    show_models(folder)


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
    """Draw a contact sheet of cohorts, a row per class; slices as radiologists see them: the patient's left is on the right."""
    from ...datasets.readers import Source
    from ..commands.show import show_cohorts
    from ..fitting.settings import FitSettings

    settings = changed(FitSettings(), preparation=preparation_of(size, plane, position, fit, scaling))
    show_cohorts(
        paths,
        Source("", table, label, plane, suffix, root),
        settings.preparation,
        out,
        columns=columns,
        labels=classes or [],
        force=force,
    )
