"""The command line: a module for each group of commands. Nothing heavy is imported until a command runs, so that --help answers at once."""

import os
import sys
import tempfile
import traceback
from importlib.metadata import version
from typing import Annotated

import typer

from ...datasets.common.errors import TinycohortError, printable
from ...datasets.common.machine import is_out_of_memory
from ...datasets.common.untrusted import require_text
from . import audit, demo, evaluate, fit, generate, prepare, report, show, study
from .ending import end_alike
from .former import Commands
from .overview import OVERVIEW
from .reading import command_line

INTERRUPTED = 130  # what typer exits with at Ctrl-C
SAME = "The same command goes on with it."
GOING_ON = {"fit": "With --resume the same command goes on with it.", "evaluate": SAME, "study": SAME}  # what has done half, and keeps it

app = typer.Typer(
    name="augment",
    cls=Commands,
    help="Synthetic cohorts for small medical-imaging studies: fit one generative model per class, draw from it, see whether it helps.",
    epilog="Example: augment fit --class AD && augment generate --class AD -n 200",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for group in (fit, generate, prepare, show, evaluate, study, audit, report, demo):
    end_alike(group.app)
    app.add_typer(group.app)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"tinycohort {version('tinycohort')}")
        raise typer.Exit


@app.callback()
def _of_all(
    context: typer.Context,
    show_version: Annotated[  # typer reads it by its callback
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="The version, and nothing else.")
    ] = False,
) -> None:
    """Options of the command itself; alone, it says how to begin."""
    if context.invoked_subcommand is None:
        typer.echo(OVERVIEW, nl=False)


def main() -> None:
    """Run a command; what a user can cause is one sentence and an exit code, anything else a traceback in a log file."""
    # OpenMP reads it when torch is imported. By its default threads that wait for each other are busy at it: beside other jobs a fit on two
    # threads took five times as long as with threads that sleep.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        # What is made here records how, in UTF-8: it would be told at the end of a fit.
        for word in sys.argv[1:]:
            require_text(word)
        app()
    except TinycohortError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        told = printable(f"{error.filename}: {error.strerror}" if error.filename else f"{error.strerror or error}")
        typer.echo(f"Error: {told}; mend that and repeat the command. {_going_on()}".rstrip(), err=True)
        sys.exit(3)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            typer.echo(f"Interrupted. {_going_on()}".rstrip(), err=True)
        raise
    except Exception as error:
        if is_out_of_memory(error):
            told = printable(str(error)).splitlines()[0] if str(error) else type(error).__name__
            mend = "bring the images to a smaller --size, ask for fewer, or leave out --device"
            typer.echo(f"Error: there is not enough memory ({told}); {mend}.", err=True)
            sys.exit(3)
        told = printable(f"an unforeseen {type(error).__name__} ({error})")
        typer.echo(f"Error: {told}; please report it with {_log(traceback.format_exc())}.", err=True)
        sys.exit(1)


def _going_on() -> str:
    """How to go on with the command, if it can be gone on with."""
    return next((GOING_ON[word] for word in sys.argv[1:2] if word in GOING_ON), "")


def _log(trace: str) -> str:
    """Where the command and its traceback were written: a file or, where none can be made, the terminal."""
    content = printable(f"{command_line()}\n\n{trace}")
    try:
        with tempfile.NamedTemporaryFile("w", prefix="augment-error-", suffix=".log", delete=False, encoding="utf-8") as log:
            log.write(content)
    except OSError:
        typer.echo(content, err=True)
        return "what stands above, because there is no folder for a log"
    return printable(log.name)
