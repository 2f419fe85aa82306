"""Repeated runs: nothing lost, nothing computed twice, the same scores whatever happens."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from folders import results_of

import tinycohort.datasets
from tinycohort.datasets.common.errors import DataError, UsageError
from tinycohort.experiments.engine.runs import Progress, Shard, Study, _groups, grid, run_study
from tinycohort.experiments.engine.study_folder import all_runs, as_toml, collect_failures, read_config, run_path, seed_of, slug
from tinycohort.experiments.engine.workers import name_of

CELLS = grid(run=range(4))
# Workers import jobs by name, and a test's own module has none.
JOBS = """
import os, signal, time
import numpy as np, torch
from tinycohort.datasets.common.errors import LeakageError


def call(key, folder):
    calls = folder / "calls"
    calls.mkdir(exist_ok=True)
    (calls / f"{key['run']}-{os.getpid()}-{time.time_ns()}").touch()


def score(key, seed, folder):
    call(key, folder)
    np.random.rand(key["run"]), torch.rand(key["run"])  # what a run leaves behind in its worker differs
    return {"score": float(np.random.default_rng(seed).random()), "f1": {"AD": seed % 7, "CN": 1.0}}


def global_score(key, seed, folder):
    first = np.random.rand() + torch.rand(1).item()
    np.random.rand(key["run"]), torch.rand(key["run"])
    return {"score": first}


def blocked(key, seed, folder):
    answer = score(key, seed, folder)
    while key["run"] >= 2 and not (folder / "go").exists():
        time.sleep(0.02)
    return answer


def failing(key, seed, folder):
    if not (folder / "mended").exists():
        if key["run"] == 0:
            raise LeakageError("sub-01 is on two sides")
        if key["run"] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if key["run"] == 2:
            raise SystemExit(7)
    return score(key, seed, folder)


def odd(key, seed, folder):
    return {"nan": float("nan"), "count": np.int64(3), "list": np.array([1.5, np.inf]), "threads": torch.get_num_threads()}


def unwritable(key, seed, folder):
    return {"score": object()} if key["run"] else {"run": 3}


def whoami(key, seed, folder):
    time.sleep(0.1)
    return {"pid": os.getpid()}
"""
ENGINE = """
import signal, sys
from pathlib import Path
from types import SimpleNamespace
from tinycohort.experiments.engine.runs import Study, grid, run_study

if __name__ == "__main__":
    job, folder, n, jobs = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background, which ignores it
    config = SimpleNamespace(seed=7, content=lambda: {"seed": 7})
    try:
        outcome = run_study(Study(Path(folder), job, grid(run=range(int(n))), config), jobs=int(jobs))
    except KeyboardInterrupt:
        sys.exit("stopped")
    sys.exit(len(outcome.failures))
"""


@pytest.fixture(scope="module", autouse=True)
def _jobs(tmp_path_factory):
    home = tmp_path_factory.mktemp("jobs")
    (home / "toy_jobs.py").write_text(JOBS)
    (home / "engine.py").write_text(ENGINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(home)
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(home), os.environ.get("PYTHONPATH")])))
        yield
    sys.modules.pop("toy_jobs", None)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """A study of 4 runs that nothing happened to; what others give must be like it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run_study(study(folder))
    return folder


@pytest.fixture
def finished(undisturbed, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(undisturbed, tmp_path / "finished"))


def settings(seed: int = 7, **others) -> Any:
    """A configuration."""
    return SimpleNamespace(seed=seed, content=lambda: as_toml({"seed": seed, **others}))


def study(folder: Path, job: str = "score", n: int = 4, **others) -> Study:
    return Study(folder, f"toy_jobs:{job}", grid(run=range(n)), settings(**others))


def engine(folder: Path, job: str, n: int, jobs: int) -> subprocess.Popen:
    """The same, as a process (and a group of processes) of its own."""
    home = os.environ["PYTHONPATH"].split(os.pathsep)[0]
    command = [sys.executable, f"{home}/engine.py", f"toy_jobs:{job}", str(folder), str(n), str(jobs)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def calls(folder: Path) -> list[tuple[int, int]]:
    """Run and process of every time that a job was begun."""
    return [(int(run), int(pid)) for run, pid, _ in (path.name.split("-") for path in sorted((folder / "calls").glob("*")))]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and whose parent has not asked after it does not."""
    try:
        os.kill(pid, 0)
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def scores_of(folder: Path) -> list[dict]:
    return results_of(folder).to_dict("records")


def test_results_are_one_file_and_one_row_a_run(tmp_path):
    outcome = run_study(study(tmp_path, n=2))
    assert (outcome.computed, outcome.found, outcome.failures) == (2, 0, ())
    table = results_of(tmp_path)
    assert list(table.columns) == ["run", "score", "f1.AD", "f1.CN"]
    assert list(table["run"]) == [0, 1]
    content = json.loads(run_path(tmp_path, {"run": 1}).read_text())
    assert content["key"] == {"run": 1}
    assert content["seed"] == seed_of(7, {"run": 1})
    assert "seconds" not in content["result"]
    assert {"seconds", "host", "threads", "versions"} <= set(content["record"])
    assert {run["record"]["threads"] for run in all_runs(tmp_path)} == {1}


def test_only_what_is_missing_is_computed(finished, undisturbed):
    before = {path: path.stat().st_mtime_ns for path in (finished / "runs").iterdir()}
    removed = run_path(finished, {"run": 2})
    removed.unlink()
    outcome = run_study(study(finished))
    assert (outcome.computed, outcome.found) == (1, 3)
    assert sorted(run for run, _ in calls(finished)) == [0, 1, 2, 2, 3]
    assert all(path.stat().st_mtime_ns == time for path, time in before.items() if path != removed)
    assert scores_of(finished) == scores_of(undisturbed)


def test_scores_depend_on_neither_order_nor_jobs(tmp_path):
    forth = Study(tmp_path / "forth", "toy_jobs:global_score", grid(method=["a", "b"], run=range(2)), settings())
    back = Study(tmp_path / "back", "toy_jobs:global_score", [dict(reversed(key.items())) for key in reversed(forth.cells)], settings())
    run_study(forth, jobs=1)
    run_study(back, jobs=2)
    names = ["method", "run", "score"]
    assert results_of(forth.folder)[names].equals(results_of(back.folder)[names])
    assert results_of(forth.folder)["score"].nunique() == 4


def test_seeds_and_file_names_depend_on_key_and_seed_alone():
    key = {"method": "vae:normal", "run": 3}
    assert seed_of(1, key) == seed_of(1, {"run": 3, "method": "vae:normal"}) != seed_of(2, key)
    assert slug(key) == slug(dict(reversed(key.items())))
    keys = [key, {"method": "vae-normal", "run": 3}, {"method": "VAE:normal", "run": 3}, {"method": "vae:normal", "run": "3"}]
    assert len({slug(key).lower() for key in keys}) == len({seed_of(1, key) for key in keys}) == len(keys)
    assert len(slug({"method": "x/" * 500})) < 150
    assert "/" not in slug({"method": "../x"})


def test_parent_killed(tmp_path, undisturbed):
    process = engine(tmp_path, "blocked", 4, jobs=2)
    wait_for(lambda: {run for run, _ in calls(tmp_path)} == {0, 1, 2, 3})
    process.kill()
    process.communicate()
    # Its workers end too: otherwise they would compute beside those of the next start.
    wait_for(lambda: not any(alive(pid) for _, pid in calls(tmp_path)))
    assert [row["run"] for row in scores_of(tmp_path)] == [0, 1]
    (tmp_path / "go").touch()
    outcome = run_study(study(tmp_path, "blocked"), jobs=2)
    assert (outcome.computed, outcome.found) == (2, 2)
    assert scores_of(tmp_path) == scores_of(undisturbed)


def test_half_a_file_of_a_killed_writer_is_no_result(finished, undisturbed):
    (finished / "runs/.writing-abc-run=9.json").write_text("{")
    assert scores_of(finished) == scores_of(undisturbed)


def test_failing_runs_do_not_lose_the_others(tmp_path, undisturbed):
    outcome = run_study(study(tmp_path, "failing"), jobs=2)
    causes = {
        0: ("LeakageError", "sub-01 is on two sides"),
        1: ("WorkerDied", "signal 9 (SIGKILL)"),
        2: ("WorkerDied", "exited with code 7"),
    }
    for failures in (outcome.failures, collect_failures(tmp_path, CELLS)):
        assert {failure.key["run"]: failure.type for failure in failures} == {run: kind for run, (kind, _) in causes.items()}
        assert all(causes[failure.key["run"]][1] in str(failure) for failure in failures)
    assert "in failing" in collect_failures(tmp_path, CELLS)[0].traceback
    assert [failure.exit_code for failure in collect_failures(tmp_path, CELLS)] == [4, 1, 1]
    assert [failure.key for failure in collect_failures(tmp_path, grid(run=range(2, 9)))] == [{"run": 2}]  # of another grid none is told
    assert [row["run"] for row in scores_of(tmp_path)] == [3]
    (tmp_path / "mended").touch()
    again = run_study(study(tmp_path, "failing"), jobs=2)
    assert (again.computed, again.found, again.failures) == (3, 1, ())
    assert collect_failures(tmp_path, CELLS) == []
    assert scores_of(tmp_path) == scores_of(undisturbed)


@pytest.mark.slow
def test_worker_killed_from_outside(tmp_path, undisturbed):
    process = engine(tmp_path, "blocked", 4, jobs=1)
    wait_for(lambda: 2 in {run for run, _ in calls(tmp_path)})
    os.kill(next(pid for run, pid in calls(tmp_path) if run == 2), signal.SIGKILL)
    (tmp_path / "go").touch()
    process.communicate()
    assert process.returncode == 1
    assert [failure.key for failure in collect_failures(tmp_path, CELLS)] == [{"run": 2}]
    assert run_study(study(tmp_path, "blocked")).computed == 1
    assert scores_of(tmp_path) == scores_of(undisturbed)


def test_interrupt_stops_cleanly(tmp_path):
    process = engine(tmp_path, "blocked", 4, jobs=2)
    wait_for(lambda: {run for run, _ in calls(tmp_path)} == {0, 1, 2, 3})
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, told = process.communicate()
    assert told.strip() == "stopped"
    assert not any(alive(pid) for _, pid in calls(tmp_path))
    assert len(scores_of(tmp_path)) == 2


def test_two_engines_on_one_folder(tmp_path, undisturbed):
    both = [engine(tmp_path, "score", 4, jobs=2) for _ in range(2)]
    assert [process.communicate()[1] for process in both] == ["", ""]
    assert [process.returncode for process in both] == [0, 0]
    assert scores_of(tmp_path) == scores_of(undisturbed)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == sorted(f"{slug({'run': run})}.json" for run in range(4))


def test_shards_are_a_partition_and_keep_together_what_belongs():
    cells = grid(method=["a", "b", "c"], run=range(7))
    for count in (1, 2, 3, 5, 30):
        parts = [[key for group in _groups(cells, (), Shard(index, count)) for key in group] for index in range(1, count + 1)]
        assert sorted(str(key) for part in parts for key in part) == sorted(map(str, cells))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        for index in range(1, count + 1):
            for group in _groups(cells, ["run"], Shard(index, count)):
                assert [key["method"] for key in group] == ["a", "b", "c"]
                assert len({key["run"] for key in group}) == 1


def test_shards_make_the_study(tmp_path, undisturbed):
    computed = [run_study(study(tmp_path), shard=Shard(index, 2)).computed for index in (1, 2)]
    assert computed == [2, 2]
    assert scores_of(tmp_path) == scores_of(undisturbed)


def test_cells_that_belong_together_share_a_process(tmp_path):
    run_study(Study(tmp_path, "toy_jobs:whoami", grid(method=["a", "b", "c"], run=range(2)), settings(seed=0)), jobs=2, together=["run"])
    processes = results_of(tmp_path).groupby("run")["pid"].unique()
    assert [len(pids) for pids in processes] == [1, 1]
    assert processes[0][0] != processes[1][0]


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "1/2/3", "-1/2"])
def test_no_shard(text):
    with pytest.raises(UsageError, match="i/n"):
        Shard.parse(text)


def test_a_shard_is_read():
    assert Shard.parse("2/4") == Shard(2, 4)


def test_other_settings_are_refused_by_name(tmp_path):
    given = {"data": "demo", "plane": None, "training": {"epochs": 50, "sizes": (80, 96)}}
    run_study(study(tmp_path, n=1, **given))
    assert read_config(tmp_path) == {"seed": 7, "data": "demo", "training": {"epochs": 50, "sizes": [80, 96]}}
    assert run_study(study(tmp_path, n=1, **given)).found == 1
    other = given | {"plane": "axial", "training": {"epochs": 100, "sizes": (80, 96)}}
    with pytest.raises(UsageError, match=r"training\.epochs was 50, is 100; plane was not set, is axial"):
        run_study(study(tmp_path, n=1, **other))
    assert read_config(tmp_path)["training"]["epochs"] == 50


def test_a_study_can_be_enlarged(finished, undisturbed):
    outcome = run_study(study(finished, n=5, grid={"runs": 5}))
    assert (outcome.computed, outcome.found) == (1, 4)
    assert read_config(finished) == {"seed": 7, "grid": {"runs": 5}}
    assert scores_of(finished)[:4] == scores_of(undisturbed)


@pytest.mark.parametrize("kind", ["truncated", "edited", "foreign", "renamed", "list", "binary"])
def test_a_damaged_result_is_named_and_left_alone(finished, kind):
    path = run_path(finished, {"run": 1})
    content = json.loads(path.read_text())
    if kind == "truncated":
        path.write_text(path.read_text()[:50])
    elif kind == "edited":
        path.write_text(json.dumps(content | {"result": {"score": 1.0}}))
    elif kind == "foreign":
        run_study(Study(finished / "other", "toy_jobs:score", [{"run": 1}], settings(epochs=3)))
        shutil.copy(run_path(finished / "other", {"run": 1}), path)
    elif kind == "renamed":
        shutil.copy(run_path(finished, {"run": 2}), path)
    elif kind == "list":
        path.write_text("[]")
    else:
        path.write_bytes(b"\xff\x00")
    before = path.read_bytes()
    run_path(finished, {"run": 0}).unlink()
    with pytest.raises(DataError, match="results of this study") as caught:
        run_study(study(finished))
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert not run_path(finished, {"run": 0}).exists()
    with pytest.raises(DataError, match="run=1"):
        results_of(finished)


def test_no_study(tmp_path):
    with pytest.raises(DataError, match="holds no study"):
        results_of(tmp_path)
    (tmp_path / "config.toml").write_text("= 3")
    with pytest.raises(DataError, match="damaged"):
        run_study(study(tmp_path))


def test_numbers_that_json_lacks(tmp_path):
    run_study(study(tmp_path, "odd", n=1), threads=2)
    (row,) = scores_of(tmp_path)
    assert row == {"run": 0, "nan": None, "count": 3, "list": [1.5, None], "threads": 2}


def test_a_result_that_cannot_be_kept_is_a_failure(tmp_path):
    outcome = run_study(study(tmp_path, "unwritable", n=2))
    assert [failure.type for failure in outcome.failures] == ["ValueError", "TypeError"]
    assert "repeats names of the key: run" in outcome.failures[0].message


def test_arguments_that_cannot_be(tmp_path):
    with pytest.raises(UsageError, match="1 or more"):
        run_study(study(tmp_path), jobs=0)
    with pytest.raises(UsageError, match="names a cell twice"):
        run_study(Study(tmp_path, "toy_jobs:score", [{"run": 1}, {"run": 1}], settings()))
    with pytest.raises(ValueError, match="no function at the top"):
        name_of(lambda key, seed, folder: {})
    with pytest.raises(ModuleNotFoundError):
        name_of("toy_jobs_that_are_not:score")
    assert name_of(tinycohort.datasets.common.files.write_json) == "tinycohort.datasets.common.files:write_json"
    assert not list(tmp_path.iterdir())


def test_progress_is_told(finished):
    class Told(Progress):
        def __init__(self):
            self.events = []

        def begin(self, total, found):
            self.events.append(("begin", total, found))

        def started(self, key):
            self.events.append(("started", key["run"]))

        def finished(self, key, seconds):
            assert seconds >= 0
            self.events.append(("finished", key["run"]))

        def failed(self, failure):
            self.events.append(("failed", failure.key["run"]))

    told = Told()
    for run in (0, 3):
        run_path(finished, {"run": run}).unlink()
    run_study(study(finished, "failing"), progress=told)
    assert told.events == [("begin", 4, 2), ("started", 0), ("failed", 0), ("started", 3), ("finished", 3)]
