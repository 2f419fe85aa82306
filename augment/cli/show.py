"""Looking at what there is: models, and images."""

from pathlib import Path
from typing import Annotated

import typer

from .groups import takes_groups
from .options import Classes, Force, PreparationOptions, ReadingOptions
from .reading import require_places

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
@takes_groups
def show_command(
    paths: Annotated[
        list[str], typer.Argument(help="Cohorts, real or synthetic; or one model folder: its loss curve, or the map of its 2-D latents.")
    ],
    reading: ReadingOptions,
    preparation: PreparationOptions,
    out: Annotated[Path, typer.Option("--out", help="The PNG to write.")] = Path("sheet.png"),
    columns: Annotated[int, typer.Option("-n", min=1, max=40, help="Images per class.")] = 8,
    classes: Classes = None,
    force: Force = False,
) -> None:
    """Draw a contact sheet of cohorts, a row per class; slices as radiologists see them: the patient's left is on the right."""
    require_places(*paths)
    from ..commands.show import show_cohorts

    prepared, asked = preparation.preparation(reading.plane), preparation.given(reading.plane)
    show_cohorts(paths, reading.source(""), prepared, out, columns=columns, labels=classes or [], asked=asked, force=force)
