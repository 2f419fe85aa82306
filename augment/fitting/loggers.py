"""Where a fit can be watched: the loggers of lightning that labs use, by name. Numbers alone are logged, under the name of the class."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from ...datasets.common.errors import UsageError
from .training import Record

PROJECT = "tinycohort"


def _csv(folder: Path, label: str) -> Logger:
    return CSVLogger(folder, name="")


def _tensorboard(folder: Path, label: str) -> Logger:
    return TensorBoardLogger(folder, name="", default_hp_metric=False)


def _mlflow(folder: Path, label: str) -> Logger:
    # MLflow would record who runs it, and from which path.
    tags = {"mlflow.user": PROJECT, "mlflow.source.name": PROJECT}
    place = folder.absolute()
    place.mkdir(parents=True, exist_ok=True)
    return MLFlowLogger(
        PROJECT, run_name=label, tracking_uri=f"sqlite:///{place / 'mlflow.db'}", artifact_location=(place / "mlruns").as_uri(), tags=tags
    )


def _wandb(folder: Path, label: str) -> Logger:
    import wandb  # type: ignore[import-not-found]  # of an extra

    folder.mkdir(parents=True, exist_ok=True)
    # It would record the machine, the command with its paths, and what the terminal shows.
    private = wandb.Settings(x_disable_meta=True, x_disable_stats=True, disable_git=True, disable_code=True, console="off", silent=True)
    return WandbLogger(label, save_dir=folder, offline=True, project=PROJECT, settings=private)


LOGGERS: Mapping[str, Callable[[Path, str], Logger]] = {"csv": _csv, "tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}


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
    with _quiet_lightning():
        loggers = [LOGGERS[name](folder, label) for name in names]

    def log(record: Record) -> None:
        numbers: dict[str, Any] = {name: value for name, value in record.items() if name != "epoch"}
        for logger in loggers:
            logger.log_metrics(numbers, step=int(record["epoch"]))

    status = "failed"
    try:
        yield log
        status = "success"
    finally:
        for logger in loggers:
            logger.save()
            logger.finalize(status)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Lightning's notes on hardware, workers and logging are not for our users."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
