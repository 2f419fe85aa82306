"""What a terminal shows: progress, warnings and tables (on standard error, so that results can be piped)."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from ..datasets.common.errors import printable

# In a file or a pipe nothing limits a line, and a path that is cut in two is found by no search.
CONSOLE = Console(stderr=True, width=None if sys.stderr.isatty() else 240)


def warn(message: str) -> None:
    """Show a sentence that the user must read."""
    CONSOLE.print(f"[bold yellow]Warning:[/] {_literal(message)}", highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """Show a sentence."""
    CONSOLE.print(_literal(message), highlight=False, soft_wrap=True)


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[..., None]]:
    """Show a bar; yields a function that advances it by one, and takes a text to show beside it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=CONSOLE) as bars:
        task = bars.add_task(description, total=total, note="")

        def advance(note: str = "") -> None:
            bars.update(task, advance=1, note=note)

        yield advance


def tracked(description: str) -> Callable[[Sequence[Any]], Iterable[Any]]:
    """A wrapper of sequences that shows a bar while they are gone through."""

    def track(items: Sequence[Any]) -> Iterator[Any]:
        with progress(description, len(items)) as advance:
            for item in items:
                yield item
                advance()

    return track


def show_table(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table below its title, which may be wider."""
    say(title)
    table = Table(highlight=False)
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(_literal(str(value)) for value in row))
    CONSOLE.print(table)


def _literal(text: str) -> str:
    """A path such as ``[1].nii`` is no markup, and nothing is a command to the terminal."""
    return printable(text).replace("[", r"\[")
