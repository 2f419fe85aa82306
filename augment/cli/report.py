"""What is done to the folder of an earlier command, whatever it holds: its report drawn anew, its digests checked."""

from pathlib import Path
from typing import Annotated

import typer

from .reading import require_places

app = typer.Typer()


@app.command("report", epilog="Example: augment report studies/mine")
def report_command(study: Annotated[Path, typer.Argument(help="Folder of a study.")]) -> None:
    """Draw a study's table and report anew, from the runs that are finished; of a published study its table alone."""
    from ...experiments.augmentation_study import command as evaluate
    from ...experiments.fidelity_study import command as studies
    from ...experiments.fidelity_study.config import FidelityConfig
    from ...experiments.studies import config_of

    (studies if isinstance(config_of(study), FidelityConfig) else evaluate).report(study)


@app.command("publish", epilog="Example: augment publish studies/mine --out docs/results/mine")
def publish_command(
    study: Annotated[Path, typer.Argument(help="Folder of a study.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for what is published.")],
    force: Annotated[bool, typer.Option("--force", help="Replace what was published before.")] = False,
) -> None:
    """Write what of a study can be shown to everybody: configuration, scores by run, tables; nothing in it names a participant."""
    from ...experiments.publish import publish

    publish(study, out, force=force)


@app.command("verify", epilog="Example: augment verify models --data my-bids-folder")
def verify_command(
    path: Annotated[Path, typer.Argument(help="A model, a folder of models, a synthetic or a prepared cohort, or a study.")],
    models: Annotated[
        Path | None, typer.Option("--models", "--model", help="The models that a synthetic cohort is said to be drawn from.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="The cohort that models, or a study, are said to be of; it is read.")] = None,
) -> None:
    """Compute digests again and say what does not match; exit code 3 if anything does not. It finds accidents and is no signature."""
    require_places(data)
    from ...experiments.verify import verify

    if not verify(path, models=models, data=data):
        raise typer.Exit(3)
