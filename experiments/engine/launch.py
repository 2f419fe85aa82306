"""Starting a study from the command line, or taking it up again: what is missing is computed, here or on SLURM, and then reported."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from ...augment import console
from ...datasets.common.compute import Device, choose_device
from ...datasets.common.errors import GateError, LeakageError, TinycohortError, UsageError, printable
from ...datasets.output import shared_output
from .data_config import DataConfig
from .results_file import is_published
from .runs import Progress, Shard, Study, run_study
from .slurm import sbatch_script, submit
from .study_config import StudyConfig
from .study_folder import CONFIG, Failure, claim, is_study, read_config, require_claimable, run_path


@dataclass(frozen=True)
class HowToRun:
    """Which machines and processes compute a study.

    Parameters
    ----------
    jobs, threads : int
        Processes, and threads of each.
    shard : str, optional
        ``i/n``: only this part, and no report.
    slurm : int, optional
        Print a SLURM job array of so many shards instead.
    submit : bool
        Submit it.
    sbatch : tuple of str
        Options of sbatch for it, such as ``"--gres=gpu:1"``.
    device : {"auto", "cpu", "gpu"}
        Where networks compute.

    Raises
    ------
    UsageError
        If these do not go together.
    """

    jobs: int = 1
    threads: int = 1
    shard: str | None = None
    slurm: int | None = None
    submit: bool = False
    sbatch: tuple[str, ...] = ()
    device: Device = "auto"

    def __post_init__(self) -> None:
        if self.slurm is None and (self.submit or self.sbatch):
            raise UsageError(f"{'--submit' if self.submit else '--sbatch'} goes with --slurm N, the number of shards.")
        if self.slurm is not None and self.shard is not None:
            raise UsageError("--slurm makes the shards itself; leave out --shard.")
        if self.slurm is None:
            choose_device(self.device)  # of SLURM's nodes, these know what they have


NOWHERE_ELSE: Mapping[str, str] = {}
HERE = HowToRun()  # one run after the other


def start(
    study: Study[StudyConfig],
    how: HowToRun,
    *,
    command: Sequence[str],
    report: Callable[[Path], None],
    together: Sequence[str],
    prepare: Callable[[], object] = lambda: None,
) -> None:
    """Run what is missing of a study, and write its report.

    Parameters
    ----------
    study : Study
    how : HowToRun
    command : sequence of str
        What starts it, before ``--config``: ``augment evaluate``.
    report : callable
        Called with the study's folder.
    together : sequence of str
        As for ``run_study``.
    prepare : callable
        Called before the workers start, where a cell has no result yet.

    Raises
    ------
    GateError
        If runs failed; the others are kept.
    LeakageError
        If one of them failed because a generator had seen a participant that is tested.
    UsageError
        If there can be no such shard or job array, or the folder holds another study, or one that is published, or is being written by
        another command than such a study.
    """
    if is_published(study.folder):
        raise UsageError(f"{study.folder} is published: its runs are not in it, and would be computed again; choose another --out.")
    if is_study(study.folder):
        _require_same_data(study)
    read = [known.source.data for known in (study.config.data.cohort, study.config.data.tests) if known is not None]
    with shared_output(study.folder, console.say, data=read):
        if how.slurm is not None:
            _to_slurm(study, command, how, how.slurm)
        else:
            _compute(study, how, report, together, prepare)


def _compute(
    study: Study[StudyConfig], how: HowToRun, report: Callable[[Path], None], together: Sequence[str], prepare: Callable[[], object]
) -> None:
    """Compute what is missing, beside whoever else does, and report."""
    part = Shard.parse(how.shard) if how.shard else None
    require_claimable(study.folder, study.config)
    if not all(run_path(study.folder, key).exists() for key in study.cells):
        prepare()  # before anything is written of where the data lie: they may not be there
    with _Bar() as progress:
        outcome = run_study(study, jobs=how.jobs, threads=how.threads, shard=part, together=together, progress=progress)
    for failure in outcome.failures:
        console.warn(str(failure))
    if part is None and outcome.computed + outcome.found:
        try:
            report(study.folder)
        except TinycohortError as error:
            if not outcome.failures:
                raise
            console.warn(f"There is no report: {error}")
    leaks = [failure for failure in outcome.failures if failure.exit_code == LeakageError.exit_code]
    if leaks:
        raise LeakageError(leaks[0].message)
    if outcome.failures:
        raise GateError(
            f"{len(outcome.failures)} runs failed (listed above, and in {study.folder / 'failures'}); the same command tries them again."
        )


def _require_same_data(study: Study[StudyConfig]) -> None:
    """Raise a ``DataError`` if the folder's study was begun with other data: ``claim`` would tell it by two digests."""
    try:
        began = DataConfig.of(read_config(study.folder))
    except (KeyError, TypeError, ValueError, AttributeError):
        return  # that it is another study, ``claim`` tells
    began.require_same(study.config.data)


def _to_slurm(study: Study[StudyConfig], command: Sequence[str], how: HowToRun, shards: int) -> None:
    """The shards take up the configuration that is written here, so the folder is on a disk that all nodes see."""
    out = study.folder
    words = [*command, "--config", str(out / CONFIG), "--out", str(out), "--jobs", str(how.jobs), "--threads", str(how.threads)]
    words += ["--device", how.device] if how.device != HERE.device else []
    script = sbatch_script(words, shards, logs=out / "logs", cpus=how.jobs * how.threads, options=how.sbatch)
    claim(out, study.config)
    if how.submit:
        console.say(f"Submitted as job {submit(script, logs=out / 'logs')}; when it is done: augment report {out}")
    else:
        (out / "logs").mkdir(exist_ok=True)
        sys.stdout.write(script)


class _Bar(Progress):
    """A bar of the runs on the terminal."""

    def __init__(self) -> None:
        columns = (
            console.plain_column("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console.plain_column("left"),
            TimeRemainingColumn(),
        )
        self.bars = Bars(*columns, console=console.CONSOLE)

    def __enter__(self) -> "_Bar":
        self.shown = ExitStack()
        self.shown.enter_context(self.bars)
        self.shown.enter_context(console.told_each_minute(self.bars))
        return self

    def __exit__(self, *error: object) -> None:
        self.shown.close()

    def begin(self, total: int, found: int) -> None:
        self.task = self.bars.add_task("runs", total=total, completed=found)

    def started(self, key: Mapping[str, Any]) -> None:
        self.bars.update(self.task, description=printable(", ".join(f"{name} {value}" for name, value in key.items())))

    def finished(self, key: Mapping[str, Any], seconds: float) -> None:
        self.bars.advance(self.task)

    def failed(self, failure: Failure) -> None:
        self.bars.advance(self.task)
