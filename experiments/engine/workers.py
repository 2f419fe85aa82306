"""Processes that do jobs one after another: a worker that dies takes nothing but its job along.

A broken ``ProcessPoolExecutor`` loses every job that it holds, so each worker has a pipe of its own here, and a dead one is replaced.
Workers are spawned, live for many jobs (importing torch takes seconds), and end with the process that started them.
"""

import importlib
import json
import math
import multiprocessing
import os
import platform
import random
import re
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...datasets.common.compute import hardware

Key = Mapping[str, str | int | float]
Job = Callable[..., Mapping[str, Any]]
Task = tuple[Key, int]

_RECORDED = ("tinycohort", "torch", "monai", "numpy", "scikit-learn")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_SECONDS_TO_LEAVE = 5
_NONE: Mapping[str, str] = {}


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    task: Task
    group: deque[Task] = field(default_factory=deque)


def do_jobs(
    job: str,
    folder: Path,
    groups: Iterable[Sequence[Task]],
    *,
    jobs: int,
    threads: int,
    options: Mapping[str, str] = _NONE,
    wanted: Callable[[Task], bool] = lambda _: True,
) -> Generator[tuple[Task, dict[str, Any]]]:
    """Do every task of every group, and yield each with its answer as it ends.

    Parameters
    ----------
    job : str
        ``"module:function"``, called as ``job(key, seed, folder, **options)``.
    folder : Path
    groups : iterable of sequences of (key, seed)
        The tasks of a group are done in turn by one worker.
    jobs : int
        Number of workers.
    threads : int
        Of torch and of the linear algebra below NumPy, in each worker.
    options : mapping
        Of every call.
    wanted : callable
        Called with a task that is about to be handed out; where it returns ``False`` the task is left out.

    Yields
    ------
    task : (key, seed)
    answer : dict
        ``record`` (when, where, how long, with what), and either ``result``, plain numbers and texts, or ``error``, with ``type``,
        ``message``, ``traceback`` and the ``exit_code`` that a command would end with.
    """
    waiting = deque(deque(group) for group in groups)
    workers: list[_Worker] = []
    try:
        while True:
            while len(workers) < jobs and (taken := _take(deque(), waiting, wanted)):
                workers.append(_hire(job, folder, threads, options, *taken))
            if not workers:
                return
            wait([source for worker in workers for source in (worker.connection, worker.process.sentinel)])
            for worker in list(workers):
                answer = _hear(worker)
                if answer is None:
                    continue
                yield worker.task, answer
                if not worker.process.is_alive():
                    workers.remove(worker)
                    waiting.appendleft(worker.group)
                elif taken := _take(worker.group, waiting, wanted):
                    worker.task, worker.group = taken
                    _send(worker)
                else:
                    workers.remove(worker)
                    _dismiss(worker)
    finally:
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.process.join()


def name_of(job: Job | str) -> str:
    """``"module:function"``, by which another process finds ``job``.

    Raises
    ------
    ValueError
        If none can: it is a lambda, a method or a function inside another.
    """
    name = job if isinstance(job, str) else f"{job.__module__}:{getattr(job, '__qualname__', '')}"
    if not re.fullmatch(r"[\w.]+:\w+", name):
        raise ValueError(f"{job} is no function at the top of a module.")
    if not callable(_resolve(name)):
        raise ValueError(f"{name} is no function.")
    return name


def _resolve(job: str) -> Job:
    module, _, name = job.partition(":")
    return getattr(importlib.import_module(module), name)


def _take(group: deque[Task], waiting: deque[deque[Task]], wanted: Callable[[Task], bool]) -> tuple[Task, deque[Task]] | None:
    """The next task that is to be done, and what is left of its group."""
    while True:
        while group:
            task = group.popleft()
            if wanted(task):
                return task, group
        if not waiting:
            return None
        group = waiting.popleft()


def _hire(job: str, folder: Path, threads: int, options: Mapping[str, str], task: Task, group: deque[Task]) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    # A daemon: at the latest it is ended when this process exits, be it by a second Ctrl-C amid the clearing up.
    process = context.Process(target=_work, args=(theirs, job, str(folder), threads, dict(options)), daemon=True)
    with _inherited(threads):
        process.start()
    # With their end open in this process too, a dead worker would never read as the end of the pipe.
    theirs.close()
    worker = _Worker(process, ours, task, group)
    _send(worker)
    return worker


def _send(worker: _Worker) -> None:
    # Where the pipe is broken, the worker is dead, which `_hear` tells.
    with suppress(OSError):
        worker.connection.send_bytes(json.dumps(worker.task).encode())


def _hear(worker: _Worker) -> dict[str, Any] | None:
    """What a worker answers, or answers by dying; ``None`` while it is at work."""
    try:
        if worker.connection.poll():
            return json.loads(worker.connection.recv_bytes())
        if worker.process.is_alive():
            return None
    except (EOFError, OSError):
        pass
    # Who closed the pipe without ending (a job can do anything) is of no use any more.
    worker.process.join(_SECONDS_TO_LEAVE)
    worker.process.kill()
    worker.process.join()
    return {"record": {}, "error": {"type": "WorkerDied", "message": _cause(worker.process.exitcode), "traceback": "", "exit_code": 1}}


def _dismiss(worker: _Worker) -> None:
    worker.connection.close()
    worker.process.join(_SECONDS_TO_LEAVE)
    worker.process.kill()
    worker.process.join()


def _cause(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"the process that did it exited with code {exit_code}"
    name = signal.Signals(-exit_code).name if -exit_code in set(signal.Signals) else "unknown"
    hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return f"the process that did it was ended by signal {-exit_code} ({name}){hint}"


@contextmanager
def _inherited(threads: int) -> Iterator[None]:
    """A process that is started inside has so many threads, and never hears Ctrl-C, which a terminal sends to all: its starter decides."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))  # read when the libraries are loaded, before any code of ours runs
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(connection: Connection, job: str, folder: str, threads: int, options: Mapping[str, str]) -> None:
    """What a worker does all its life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_starter, daemon=True).start()
    torch.set_num_threads(threads)
    while True:
        try:
            key, seed = json.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        connection.send_bytes(json.dumps(_attempt(job, key, seed, Path(folder), threads, options), allow_nan=False).encode())


def _end_with_starter() -> None:
    """A worker whose starter was killed would go on with a job that nobody waits for, beside the one that a new start begins."""
    starter = multiprocessing.parent_process()
    if starter is not None:
        starter.join()
        os._exit(1)


def _attempt(job: str, key: Key, seed: int, folder: Path, threads: int, options: Mapping[str, str]) -> dict[str, Any]:
    started, clock = datetime.now(UTC), time.perf_counter()
    try:
        # What draws from a global generator must not depend on what this worker did before.
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed)
        result = _resolve(job)(key, seed, folder, **options)
        repeated = sorted(set(result) & set(key))
        if repeated:
            raise ValueError(f"the result of {job} repeats names of the key: {', '.join(repeated)}")
        # What JSON cannot hold is this run's failure, and not the study's.
        answer: dict[str, Any] = {"result": json.loads(json.dumps(_plain(result), allow_nan=False))}
    except Exception as error:
        told = {"type": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
        answer = {"error": told | {"exit_code": getattr(error, "exit_code", 1)}}
    record = {
        "seconds": round(time.perf_counter() - clock, 3),
        "started": started.isoformat(timespec="seconds"),
        "host": platform.node(),
        "platform": platform.platform(),
        "hardware": hardware(),
        "threads": threads,
        "versions": _versions(),
    }
    return answer | {"record": record}


def _plain(value: Any) -> Any:
    """``value`` with NumPy's numbers as Python's, and what is not finite as ``None``, because JSON knows neither."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _RECORDED:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
