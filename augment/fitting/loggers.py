"""Where a fit can be watched: the loggers that labs use, by name. Numbers alone are logged, under the name of the class."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

from ...datasets.common.errors import UsageError
from .training import Record

PROJECT = "tinycohort"
Log: TypeAlias = Callable[[Record, int], None]
"""Takes the numbers of an epoch, and which it was."""
Logger: TypeAlias = Callable[[Path, str], AbstractContextManager[Log]]
"""From the folder of the logs and the class to the log of one fit."""


@contextmanager
def _csv(folder: Path, label: str) -> Iterator[Log]:
    with (_own_folder(folder) / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)

        def log(numbers: Record, epoch: int) -> None:
            if file.tell() == 0:
                writer.writerow(["epoch", *numbers])
            writer.writerow([epoch, *numbers.values()])
            file.flush()  # to be seen while it runs

        yield log


@contextmanager
def _tensorboard(folder: Path, label: str) -> Iterator[Log]:
    from torch.utils.tensorboard import SummaryWriter  # of an extra

    with SummaryWriter(str(_own_folder(folder))) as writer:

        def log(numbers: Record, epoch: int) -> None:
            for name, value in numbers.items():
                writer.add_scalar(name, value, epoch)

        yield log


@contextmanager
def _mlflow(folder: Path, label: str) -> Iterator[Log]:
    from mlflow import MlflowClient  # type: ignore[import-not-found]  # of an extra

    place = folder.absolute()
    place.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    known = client.get_experiment_by_name(PROJECT)
    experiment = known.experiment_id if known else client.create_experiment(PROJECT, (place / "mlruns").as_uri())
    # MLflow would record who runs it, and from which path.
    tags = {"mlflow.user": PROJECT, "mlflow.source.name": PROJECT}
    run = client.create_run(experiment, tags=tags, run_name=label).info.run_id

    def log(numbers: Record, epoch: int) -> None:
        for name, value in numbers.items():
            client.log_metric(run, name, value, step=epoch)

    status = "FAILED"
    try:
        yield log
        status = "FINISHED"
    finally:
        client.set_terminated(run, status)


@contextmanager
def _wandb(folder: Path, label: str) -> Iterator[Log]:
    import wandb  # type: ignore[import-not-found]  # of an extra

    folder.mkdir(parents=True, exist_ok=True)
    # It would record the machine, the command with its paths, and what the terminal shows.
    private = wandb.Settings(x_disable_meta=True, x_disable_stats=True, disable_git=True, disable_code=True, console="off", silent=True)
    with wandb.init(project=PROJECT, name=label, dir=folder, mode="offline", settings=private) as run:
        yield lambda numbers, epoch: run.log(numbers, step=epoch)


LOGGERS: Mapping[str, Logger] = {"csv": _csv, "tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}


def require_loggers(names: Sequence[str]) -> None:
    """Raise a ``UsageError`` for a logger that there is not, or whose package is not installed: before a fit, and not after it."""
    for name in names:
        if name not in LOGGERS:
            raise UsageError(f"There is no logger '{name}'; choose among: {', '.join(LOGGERS)}.")
        if name != "csv" and find_spec(name) is None:
            raise UsageError(f"--logger {name} needs a package that is not installed: pip install 'tinycohort[{name}]'.")


@contextmanager
def logged(names: Sequence[str], folder: Path, label: str) -> Iterator[Callable[[Record], None]]:
    """Log epochs into a folder.

    Parameters
    ----------
    names : sequence of str
        Keys of ``LOGGERS``.
    folder : Path
        Each fit gets a place of its own in it.
    label : str
        The class.

    Yields
    ------
    callable
        Takes a row of the history.

    Raises
    ------
    UsageError
        As ``require_loggers``.
    """
    require_loggers(names)
    with ExitStack() as stack:
        logs = [stack.enter_context(LOGGERS[name](folder, label)) for name in names]

        def log(record: Record) -> None:
            numbers = {name: value for name, value in record.items() if name != "epoch"}
            for of_logger in logs:
                of_logger(numbers, int(record["epoch"]))

        yield log


def _own_folder(folder: Path) -> Path:
    """``version_0`` or the next: made, and of this fit alone."""
    folder.mkdir(parents=True, exist_ok=True)
    place = next(path for number in range(len(list(folder.iterdir())) + 1) if not (path := folder / f"version_{number}").exists())
    place.mkdir()
    return place
