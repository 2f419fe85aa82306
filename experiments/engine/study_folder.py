"""A study's folder: what is in it, and whether it is sound.

    studies/NAME/     config.toml  runs/*.json  failures/*.json  results.csv  table.md

Of a published study (``results_file.py``) runs and failures are no longer there. Nothing in a folder is taken on trust: each result carries
the digest of its configuration and of itself.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import tomli_w

from ...datasets.common.errors import DataError, UsageError
from ...datasets.common.files import whole_file, write_json
from ...datasets.common.seeds import derived_seed
from ...datasets.common.untrusted import read_json, read_toml
from ...datasets.common.words import dotted, listed
from .workers import Key

CONFIG = "config.toml"
# Tables of a configuration that may differ from start to start: which cells there are, by now and at earlier starts, and where the data
# (known by its digest) lies.
UNBOUND = ("grid", "planned", "where")
_SIGNED = ("configuration", "key", "seed", "result")


class Configuration(Protocol):
    """What results are bound to."""

    @property
    def seed(self) -> int:
        """From which the seeds of all cells derive."""
        ...

    def content(self) -> dict[str, Any]:
        """All that a score depends on, as TOML holds it (``as_toml``); in its table ``grid``, if it has one, which cells there are, in
        ``planned`` which there were at earlier starts, and in ``where`` where its data lie: these may differ from start to start."""
        ...


@dataclass(frozen=True)
class Failure:
    """Why a cell has no result: the exception, and the exit code that it would have given a command."""

    key: Key
    type: str
    message: str
    traceback: str = ""
    exit_code: int = 1

    def __str__(self) -> str:
        return f"{', '.join(f'{name} {value}' for name, value in self.key.items())}: {self.type}: {self.message}"


def seed_of(seed: int, key: Key) -> int:
    """The seed that ``key``, whatever the order of its names, has in a study of this ``seed``."""
    return derived_seed(seed, canonical(key))


def slug(key: Key) -> str:
    """A file name for ``key``: readable, and its own even where case does not count."""
    readable = "_".join(f"{name}={value}" for name, value in sorted(key.items()))
    return f"{re.sub(r'[^A-Za-z0-9=+._-]', '-', readable)[:120]}_{digest(key)[:8]}"


def run_path(folder: Path, key: Key) -> Path:
    """Where the result of a cell is."""
    return folder / "runs" / f"{slug(key)}.json"


def collect_failures(folder: str | Path, cells: Iterable[Key]) -> list[Failure]:
    """Those of ``cells`` that failed and have had no result since, of all starts and shards."""
    planned = {canonical(key) for key in cells}
    contents = []
    for path in _json_files(Path(folder) / "failures"):
        try:
            content = read_json(path)
            contents.append(Failure(content["key"], **content["error"]))
        except FileNotFoundError:
            continue  # mended by another process in between
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is no failure that a study noted, or is damaged; delete it.") from error
    return sorted((failure for failure in contents if canonical(failure.key) in planned), key=lambda failure: _order(failure.key))


def is_study(folder: Path) -> bool:
    """Whether a study has been started in ``folder``."""
    return _config_path(folder).is_file()


def read_config(folder: str | Path) -> dict[str, Any]:
    """What the ``config.toml`` of the study in ``folder`` holds, as it stands there; ``StudyConfig.load`` knows what it means.

    Raises
    ------
    DataError
        If there is none, or it is no TOML, or not a study's.
    """
    path = _config_path(Path(folder))
    try:
        config = read_toml(path)
        canonical(config)
        if not isinstance(config.get("seed"), int):
            raise ValueError("it has no seed")
        return config
    except OSError as error:
        raise DataError(f"{folder} holds no study: {path} cannot be read ({error.strerror}).") from error
    except (TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}); restore it, or start the study in another folder.") from error


def claim(folder: Path, config: Configuration) -> str:
    """Write the configuration into a new folder, or compare it with the one that is there.

    Returns
    -------
    str
        The digest of what must not differ: all but ``UNBOUND``.

    Raises
    ------
    UsageError
        If it differs.
    """
    require_claimable(folder, config)
    content = config.content()
    if has_runs(folder) and is_study(folder):
        # Another start may have had results since this one read what was planned.
        plans = [*read_config(folder).get("planned", ()), *content.get("planned", ())]
        content |= {"planned": [plan for place, plan in enumerate(plans) if plan not in plans[:place]]} if plans else {}
    if not is_study(folder) or canonical(read_config(folder)) != canonical(content):
        with whole_file(_config_path(folder)) as temporary:
            temporary.write_text(tomli_w.dumps(content), encoding="utf-8")
    return configuration_digest(content)


def require_claimable(folder: Path, config: Configuration) -> None:
    """Raise a ``UsageError`` if ``folder`` holds a study with other settings."""
    if not is_study(folder):
        return
    ours, theirs = (dict(dotted(_bound(content))) for content in (config.content(), read_config(folder)))
    names = [name for name in theirs | ours if canonical(ours.get(name)) != canonical(theirs.get(name))]
    if names:
        told = [f"{name} was {theirs.get(name, 'not set')}, is {ours.get(name, 'not set')}" for name in names]
        raise UsageError(
            f"{folder} was started with other settings: {listed(told, separator='; ')}; choose another folder, or those settings."
        )


def write_run(folder: Path, configuration: str, key: Key, seed: int, answer: Mapping[str, Any]) -> None:
    """Write the result of a cell, unless it has one; it has not failed any more."""
    content = {"configuration": configuration, "key": dict(key), "seed": seed, "result": answer["result"]}
    if not run_path(folder, key).exists():
        write_json(run_path(folder, key), content | {"digest": digest(content), "record": answer["record"]})
    _failure_path(folder, key).unlink(missing_ok=True)


def write_failure(folder: Path, key: Key, seed: int, answer: Mapping[str, Any]) -> Failure:
    """Note why a cell has no result, unless it has one by now."""
    if not run_path(folder, key).exists():
        write_json(_failure_path(folder, key), {"key": dict(key), "seed": seed, "error": answer["error"], "record": answer["record"]})
    return Failure(key, **answer["error"])


def read_runs(paths: Sequence[Path], configuration: str, seed: int) -> list[dict[str, Any]]:
    """Read results, all of which must be this study's; raise one ``DataError`` that names all that are not."""
    runs, wrong = [], []
    for path in paths:
        try:
            run = read_json(path)
            if run["digest"] != digest({name: run[name] for name in _SIGNED}):
                raise ValueError("changed since it was written")
            ours = run["configuration"] == configuration and run["seed"] == seed_of(seed, run["key"]) and slug(run["key"]) == path.stem
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            wrong.append(f"{path} (damaged, or no result)")
            continue
        if not ours:
            wrong.append(f"{path} (of another cell or of a study with other settings)")
        runs.append(run)
    if wrong:
        raise DataError(
            f"These are not results of this study: {listed(wrong, separator='; ')}; move them away, and start the study again "
            "to compute them."
        )
    return runs


def as_toml(value: Any) -> Any:
    """``value`` as TOML can hold it and gives it back: it knows no null and no tuples, and writes tables last."""
    if isinstance(value, Mapping):
        items = [(str(name), as_toml(inner)) for name, inner in value.items() if inner is not None]
        return dict(sorted(items, key=lambda item: isinstance(item[1], dict)))
    return [as_toml(inner) for inner in value] if isinstance(value, list | tuple) else value


def canonical(content: Any) -> str:
    """JSON that is the same for equal contents."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(content: Any) -> str:
    """SHA-256 of ``content`` as canonical JSON."""
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def configuration_digest(content: Mapping[str, Any]) -> str:
    """What binds results to a configuration of this content: the digest of all but ``UNBOUND``."""
    return digest(_bound(content))


def plan_digest(content: Mapping[str, Any]) -> str:
    """What binds a table to a configuration of this content: the digest of all but where the data lie, with the cells that were planned."""
    return digest({name: value for name, value in content.items() if name != "where"})


def has_runs(folder: Path) -> bool:
    """Whether a study's folder holds any result of a cell."""
    return bool(_json_files(folder / "runs"))


def _config_path(folder: Path) -> Path:
    return folder / CONFIG


def _failure_path(folder: Path, key: Key) -> Path:
    return folder / "failures" / f"{slug(key)}.json"


def _json_files(folder: Path) -> list[Path]:
    """Without those that are being written, or were when their writer was killed."""
    return sorted(folder.glob("[!.]*.json"))


def all_runs(folder: Path) -> list[dict[str, Any]]:
    """The results of a study so far as they are on disk, in the order of their keys.

    Returns
    -------
    list of dict
        A run's ``key``, ``seed``, ``result``, and ``record``: when, where, how long and with what it was computed.

    Raises
    ------
    DataError
        If the folder holds no study, or a file in it is damaged or another study's.
    """
    content = read_config(folder)
    runs = read_runs(_json_files(folder / "runs"), configuration_digest(content), content["seed"])
    return sorted(runs, key=lambda run: _order(run["key"]))


def planned_runs(runs: Sequence[dict[str, Any]], cells: Iterable[Key]) -> tuple[list[dict[str, Any]], list[str]]:
    """Of ``all_runs`` those of ``cells``; and a sentence for the reader where there are others: a grid may have been larger before."""
    planned = {canonical(key) for key in cells}
    kept = [run for run in runs if canonical(run["key"]) in planned]
    others = len(runs) - len(kept)
    return kept, [f"Left out: {others} finished cells of an earlier start, which are not of this grid."] if others else []


def _order(key: Key) -> list[tuple[str, bool, Any]]:
    """Numbers by size and before texts, so that run 10 comes after run 2."""
    return [(name, isinstance(value, str), value) for name, value in sorted(key.items())]


def _bound(content: Mapping[str, Any]) -> dict[str, Any]:
    """What every cell depends on: a study can be enlarged, and its data moved."""
    return {name: value for name, value in content.items() if name not in UNBOUND}
