"""Repeated runs: a grid of independent jobs, each written once, that can be killed and started again at any time.

A cell of the grid is a key, such as ``{"method": "vae:normal", "run": 3}``. Its seed derives from that key and the study's seed alone, so
neither the order of the cells, nor how many processes or machines share them, nor a restart changes a score. What a job needs beside
its key stands in the configuration; what cells share, such as the split of a run, has the seed of the names that
they share (``folder.seed_of``).
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from ...datasets.common.errors import UsageError
from .study_folder import Configuration, Failure, canonical, claim, digest, read_runs, run_path, seed_of, write_failure, write_run
from .workers import Job, Key, Task, do_jobs, name_of

Config = TypeVar("Config", bound=Configuration, covariant=True)


@dataclass(frozen=True)
class Study(Generic[Config]):
    """What is to be computed, and where it is kept.

    Parameters
    ----------
    folder : Path
        Of this study alone: ``config.toml``, ``runs/*.json``, ``failures/*.json``, and what its jobs write.
    job : callable or str
        A function at the top of a module, or its name ``"module:function"``; called as ``job(key, seed, folder, **options)`` in another
        process. It returns a dict of scores: numbers, texts, or lists and dicts of them (a number that is not finite is kept as ``None``).
    cells : sequence of mappings
        The keys: short texts and numbers by name. No two are equal.
    config : Configuration
        What results are bound to.
    options : mapping
        What the job is told by this start alone, and no score shall depend on: the device.
    """

    folder: Path
    job: Job | str
    cells: Sequence[Key]
    config: Config
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Shard:
    """The ``index``-th (from 1) of ``count`` parts of a study."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read ``i/n``; raise a ``UsageError`` if it is none."""
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UsageError(f"A shard is i/n, from 1/n to n/n, not '{text}'.")
        return cls(int(match[1]), int(match[2]))


@dataclass(frozen=True)
class Outcome:
    """What a start did: how many cells it computed, how many it found, and which failed."""

    computed: int
    found: int
    failures: tuple[Failure, ...]


class Progress:
    """What a study tells while it runs. This one is silent: override what is to be heard."""

    def begin(self, total: int, found: int) -> None:
        """Told once: how many cells there are, and how many of them have a result already."""

    def started(self, key: Key) -> None:
        """Told when a cell is handed to a worker."""

    def finished(self, key: Key, seconds: float) -> None:
        """Told when a result was written."""

    def failed(self, failure: Failure) -> None:
        """Told when a cell has failed; the study goes on."""


def grid(**axes: Iterable[str | int | float]) -> list[Key]:
    """Every combination of the axes' values as a key; the last axis varies fastest."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def run_study(
    study: Study[Configuration],
    *,
    jobs: int = 1,
    threads: int = 1,
    shard: Shard | None = None,
    together: Sequence[str] = (),
    progress: Progress | None = None,
) -> Outcome:
    """Compute the cells of a study that have no result yet.

    It may be interrupted or killed at any time: a result is on disk whole or not at all, and the next start computes the rest. Ctrl-C
    (``KeyboardInterrupt``) ends the workers and passes on. Several processes may work on one folder.

    Parameters
    ----------
    study : Study
    jobs : int
        Number of cells computed at a time, each in a process of its own.
    threads : int
        Of torch in each such process. Sums differ in their last digits between numbers of threads, so with the default of 1 scores do
        not depend on ``jobs``.
    shard : Shard, optional
        Compute this part only. The parts are disjoint, and all of them make the study.
    together : sequence of str
        Names of the key: cells that agree in them are computed in turn by one process of one shard, so that what they share is made once.
    progress : Progress, optional
        Silent by default.

    Returns
    -------
    Outcome
        The failures are those of this start; each is kept in ``failures/`` until the cell has a result, and tried again at the next start.

    Raises
    ------
    UsageError
        If the folder belongs to other settings, or an argument cannot be.
    DataError
        If a result that exists is not this study's. Nothing is computed then.
    """
    if min(jobs, threads) < 1:
        raise UsageError(f"Jobs and threads are 1 or more, not {jobs} and {threads}.")
    job, folder, seed = name_of(study.job), study.folder, study.config.seed
    groups = _groups(study.cells, together, shard or Shard())
    configuration = claim(folder, study.config)
    cells = [key for group in groups for key in group]
    found = [path for key in cells if (path := run_path(folder, key)).exists()]
    read_runs(found, configuration, seed)
    progress = progress or Progress()
    progress.begin(len(cells), len(found))

    def wanted(task: Task) -> bool:
        # Looked up at the last moment: another process may have computed it meanwhile.
        if run_path(folder, task[0]).exists():
            return False
        progress.started(task[0])
        return True

    computed, failures = 0, []
    tasks = [[(key, seed_of(seed, key)) for key in group] for group in groups]
    with closing(do_jobs(job, folder, tasks, jobs=jobs, threads=threads, options=study.options, wanted=wanted)) as answers:
        for (key, key_seed), answer in answers:
            if "error" in answer:
                failures.append(write_failure(folder, key, key_seed, answer))
                progress.failed(failures[-1])
            else:
                write_run(folder, configuration, key, key_seed, answer)
                computed += 1
                progress.finished(key, answer["record"]["seconds"])
    return Outcome(computed, len(found), tuple(failures))


def _groups(cells: Sequence[Key], together: Sequence[str], shard: Shard) -> list[list[Key]]:
    """The cells of a shard by what they have in common, in the order of the grid."""
    if len({canonical(key) for key in cells}) < len(cells):
        raise UsageError("The study names a cell twice; name each method, mode, size and network once.")
    groups: dict[str, list[Key]] = {}
    for key in cells:
        shared = {name: key[name] for name in together if name in key} if together else key
        groups.setdefault(canonical(shared), []).append(key)
    # Ordered by digest, which spreads neighbours in the grid (one method, as slow in every run); dealt by place, which makes even parts.
    mine = set(sorted(groups, key=digest)[shard.index - 1 :: shard.count])
    return [group for name, group in groups.items() if name in mine]
