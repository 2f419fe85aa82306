"""What a terminal shows: progress, warnings and tables, on standard error; a machine gets tables as JSON on standard output."""

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from threading import Event, Thread
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ..datasets.common.errors import TinycohortError, printable

_BLOCKS = "▁▂▃▄▅▆▇█"
_KEPT: ContextVar[list[dict[str, Any]] | None] = ContextVar("tables that are kept for a machine", default=None)
MINUTE = 60.0  # seconds between lines that say how far a command is, where it has no terminal
# In a file or a pipe nothing limits a line, and a path that is cut in two is found by no search. Text is no markup: a class may be called
# [/AD], and a file [1].nii.
CONSOLE = Console(stderr=True, width=None if sys.stderr.isatty() else 240, markup=False, emoji=False)


def warn(message: str) -> None:
    """Show a sentence that the user must read."""
    CONSOLE.print(Text.assemble(("Warning:", "bold yellow"), " ", printable(message)), soft_wrap=True)


def say(message: str) -> None:
    """Show a sentence."""
    CONSOLE.print(printable(message), highlight=False, soft_wrap=True)


def plain_column(text: str) -> TextColumn:
    """A column of a progress bar, whose text is no markup."""
    return TextColumn(text, markup=False)


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[..., None]]:
    """Show a bar; yields a function that advances it by one, and takes a text to show beside it."""
    columns = (
        plain_column("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        plain_column("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=CONSOLE) as bars, told_each_minute(bars):
        task = bars.add_task(printable(description), total=total, note="")

        def advance(note: str = "") -> None:
            bars.update(task, advance=1, note=printable(note))

        yield advance


@contextmanager
def told_each_minute(bars: Progress) -> Iterator[None]:
    """Say in a line a minute how far bars are, where they go into a file or a pipe: there a bar is shown once, at its end."""
    if CONSOLE.is_terminal:
        yield
        return
    ended = Event()

    def tell() -> None:
        while not ended.wait(MINUTE):
            for task in bars.tasks:
                note = task.fields.get("note", "")
                say(f"{task.description}: {task.completed:g} of {task.total or 0:g}{f', {note}' if note else ''}, {_minutes(task.elapsed)}")

    # By itself, because a step, as a run of a study, may take longer than a minute.
    teller = Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def _minutes(seconds: float | None) -> str:
    return f"after {(seconds or 0) / 60:.0f} min"


def tracked(description: str) -> Callable[[Sequence[Any]], Iterable[Any]]:
    """A wrapper of sequences that shows a bar while they are gone through."""

    def track(items: Sequence[Any]) -> Iterator[Any]:
        with progress(description, len(items)) as advance:
            for item in items:
                yield item
                advance()

    return track


def show_table(name: str, title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table below its title, which may be wider; ``name`` is what a machine knows it by."""
    kept = _KEPT.get()
    if kept is not None:
        columns = [printable(column) for column in header]
        lines = [dict(zip(columns, map(_plain, row), strict=True)) for row in rows]
        kept.append({"name": name, "title": printable(title), "rows": lines})
        return
    say(title)
    table = Table(highlight=False)
    for name in header:
        table.add_column(printable(name), overflow="fold")
    for row in rows:
        table.add_row(*(printable(str(value)) for value in row))
    CONSOLE.print(table)


def curve(values: Sequence[float], width: int = 8) -> str:
    """A curve of numbers in a line of text, over so many places at most: each shows the mean of its share of them."""
    if len(values) < 2:
        return ""
    edges = [round(place * len(values) / min(width, len(values))) for place in range(min(width, len(values)) + 1)]
    means = [sum(values[start:end]) / (end - start) for start, end in pairwise(edges)]
    low, span = min(means), (max(means) - min(means)) or 1.0
    return "".join(_BLOCKS[round((mean - low) / span * (len(_BLOCKS) - 1))] for mean in means)


@contextmanager
def tables_as_json(command: str) -> Iterator[None]:
    """Keep tables within the block in place of showing them; at its end write them to standard output as JSON, with an error's sentence."""
    kept: list[dict[str, Any]] = []
    told: dict[str, Any] = {"command": command, "tables": kept}
    before = _KEPT.set(kept)
    try:
        yield
    except TinycohortError as error:
        told["error"] = printable(str(error))
        raise
    finally:
        _KEPT.reset(before)
        sys.stdout.write(json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    """A cell of a table as JSON has it: a number as a number, all else as it is shown."""
    value = value.item() if hasattr(value, "item") else value
    if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return printable(str(value))
