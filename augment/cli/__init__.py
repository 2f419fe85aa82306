"""The command line: a module for each group of commands. Nothing heavy is imported until a command runs, so that --help answers at once."""

import os
import sys
import tempfile
import traceback
from importlib.metadata import version
from typing import Annotated

import typer

from ...datasets.common.errors import TinycohortError
from . import audit, demo, evaluate, fit, generate, report, show, study
from .former import Commands
from .reading import command_line

INTERRUPTED = 130  # what typer exits with at Ctrl-C

app = typer.Typer(
    name="augment",
    cls=Commands,
    help="Synthetic cohorts for small medical-imaging studies: fit one generative model per class, draw from it, see whether it helps.",
    epilog="Example: augment fit --class AD && augment generate --class AD -n 200",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for group in (fit, generate, show, evaluate, study, audit, report, demo):
    app.add_typer(group.app)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"tinycohort {version('tinycohort')}")
        raise typer.Exit


@app.callback()
def _of_all(
    show_version: Annotated[  # typer reads it by its callback
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="The version, and nothing else.")
    ] = False,
) -> None:
    """Options of the command itself."""


def main() -> None:
    """Run a command; what a user can cause is one sentence and an exit code, anything else a traceback in a log file."""
    # OpenMP reads it when torch is imported. By its default threads that wait for each other are busy at it: beside other jobs a fit on two
    # threads took five times as long as with threads that sleep.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except TinycohortError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        typer.echo(f"Error: {place}{error.strerror or error}; mend that and repeat the command (a fit goes on with --resume).", err=True)
        sys.exit(3)
    except MemoryError as error:
        typer.echo(f"Error: there is not enough memory ({error}); bring the images to a smaller --size.", err=True)
        sys.exit(3)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            typer.echo("Interrupted; a fit goes on with --resume, a study with the same command.", err=True)
        raise
    except Exception as error:
        with tempfile.NamedTemporaryFile("w", prefix="augment-error-", suffix=".log", delete=False, encoding="utf-8") as log:
            log.write(f"{command_line()}\n\n{traceback.format_exc()}")
        typer.echo(f"Error: an unforeseen {type(error).__name__} ({error}); please report it with {log.name}.", err=True)
        sys.exit(1)
