"""What the benchmarks share: times in turns, memory, and tables."""

import multiprocessing
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import TypeVar

T = TypeVar("T")
Row = tuple[str, ...]


def cpu_seconds(task: Callable[[], object]) -> float:
    """Of this process, so that another job on the machine hardly disturbs it."""
    start = time.process_time()
    task()
    return time.process_time() - start


def cpu_medians(tasks: Mapping[str, Callable[[], object]], repeats: int, *, at_least: float = 0.0) -> dict[str, float]:
    """Median CPU seconds of each task, the tasks taking turns; what is quicker than ``at_least`` runs several times a turn."""
    counts = dict.fromkeys(tasks, 1)
    if at_least:
        for name, task in tasks.items():
            task()
            counts[name] = max(1, min(100, int(at_least / max(cpu_seconds(task), 1e-6))))
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            seconds[name].append(sum(cpu_seconds(task) for _ in range(counts[name])) / counts[name])
    return {name: median(values) for name, values in seconds.items()}


def in_own_process(task: Callable[..., T], *arguments: object) -> T:
    """What a task returns in a process of its own, whose peak of memory nobody else has raised."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(task, *arguments).result()


def resident(field: str) -> float:
    """MiB, from the kernel's account of this process (VmRSS, VmHWM): getrusage would count the parent's peak as well."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def command_of(parser: ArgumentParser, given: Namespace, script: str) -> str:
    """The command that made a table: the options that are not the defaults."""
    words = ["python", f"benchmarks/{Path(script).name}"]
    for name, value in vars(given).items():
        if name == "out" or value == parser.get_default(name):
            continue
        words.append(f"--{name.replace('_', '-')}")
        if value is not True:
            words += map(str, value) if isinstance(value, list) else [str(value)]
    return " ".join(words)


def table(rows: list[Row]) -> str:
    """Markdown."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def publish(text: str, out: Path | None) -> None:
    """Print the tables, and write them into a file where one is given."""
    print(text)
    if out:
        out.write_text(text + "\n", encoding="utf-8")
