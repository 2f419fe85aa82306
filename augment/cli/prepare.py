"""Real images in the form of synthetic ones."""

from pathlib import Path
from typing import Annotated

import typer

from .groups import takes_groups
from .options import Classes, Force, FormOptions, ReadingOptions
from .reading import command_line, given_source, require_places

app = typer.Typer()


@app.command("prepare", epilog="Example: augment prepare --like models --out real-prepared")
@takes_groups
def prepare_command(
    context: typer.Context,
    writing: FormOptions,
    reading: ReadingOptions,  # read by the context: what is not given is as the models read theirs
    data: Annotated[str | None, typer.Argument(help="The real cohort. \\[default: the one that the models were fitted on]")] = None,
    like: Annotated[Path, typer.Option("--like", help="A folder of models, one model, or a synthetic cohort.")] = Path("models"),
    classes: Classes = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the prepared cohort, which is personal data.")] = Path("real-prepared"),
    force: Force = False,
) -> None:
    """Write real images on the grid, in the intensities and in the files of synthetic ones, so that one pipeline loads both."""
    require_places(data)
    from ..commands.prepare import PrepareRequest, prepare_cohort

    request = PrepareRequest(like, given_source(context), classes or [], command=command_line(), **writing.form())
    prepare_cohort(request, out, force=force)
