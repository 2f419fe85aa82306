"""A study as a SLURM job array: the script by itself, and on a SLURM of one node."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from folders import results_of

from tinycohort.datasets.common.errors import UsageError
from tinycohort.experiments.engine.runs import Study, grid, run_study
from tinycohort.experiments.engine.slurm import sbatch_script, submit
from tinycohort.experiments.engine.study_folder import all_runs

ONE_NODE = Path(__file__).parent / "slurm/one_node.sh"
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "sinfo")
AUGMENT = Path(sys.executable).with_name("augment")
MISSING = [name for name in NEEDED if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None]

# Stands in for `augment evaluate ... --shard i/n`, which a shard's command is.
SHARD = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
from tinycohort.experiments.engine.runs import Shard, Study, grid, run_study


CONFIG = SimpleNamespace(seed=1, content=lambda: {"seed": 1})


def score(key, seed, folder):
    return {"score": seed % 1000, "task": os.environ.get("SLURM_ARRAY_TASK_ID", "none")}


if __name__ == "__main__":
    folder, option, shard = sys.argv[1:]
    assert option == "--shard"
    outcome = run_study(Study(Path(folder), "shard:score", grid(method=["a", "b"], run=range(3)), CONFIG), shard=Shard.parse(shard))
    print(outcome.computed, "computed")
"""
# What `augment evaluate ... --slurm` does, and then waits as nobody need.
SUBMIT = """
import subprocess, sys, time
from tinycohort.experiments.engine.slurm import sbatch_script, submit

script, folder = sys.argv[1:]
logs = f"{folder}/slurm"
for _ in range(2):  # the second finds everything done
    job = submit(sbatch_script([sys.executable, script, folder], 3, logs=logs, options=["--time=5"]), logs=logs)
    while subprocess.run(["squeue", "--noheader", "--job", job], capture_output=True, text=True, check=True).stdout.strip():
        time.sleep(0.2)
    print(job)
"""


def test_the_script_says_what_each_task_does():
    script = sbatch_script(
        ["augment", "evaluate", "--data", "my data"],
        4,
        logs="studies/a 100%/slurm",
        cpus=2,
        options=["--mem=8G", "--time=02:00:00"],
    )
    assert script.splitlines() == [
        "#!/bin/sh",
        "#SBATCH --job-name=tinycohort",
        "#SBATCH --array=1-4",
        "#SBATCH --cpus-per-task=2",
        '#SBATCH --output="studies/a 100%%/slurm/%A_%a.log"',
        "#SBATCH --mem=8G",
        "#SBATCH --time=02:00:00",
        "",
        "exec augment evaluate --data 'my data' --shard \"$SLURM_ARRAY_TASK_ID/4\"",
    ]


def test_the_script_is_one_that_a_shell_runs():
    words = ["a b", "$HOME", "it's", '"quoted"', "*"]
    command = [sys.executable, "-c", "import sys; print(sys.argv[1:])", *words]
    answer = subprocess.run(
        ["sh"], input=sbatch_script(command, 4, logs="logs"), capture_output=True, text=True, check=True, env={"SLURM_ARRAY_TASK_ID": "3"}
    )
    assert answer.stdout.strip() == str([*words, "--shard", "3/4"])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"shards": 0}, "Shards and cores are 1 or more"),
        ({"shards": 2, "cpus": 0}, "Shards and cores are 1 or more"),
        ({"shards": 2, "options": ["--mem=1G\nrm -rf"]}, "one line such as --gres=gpu:1"),
        ({"shards": 2, "options": ["gpu:1"]}, "one line such as --gres=gpu:1, not 'gpu:1'"),
    ],
)
def test_no_script(wrong, says):
    with pytest.raises(UsageError, match=says):
        sbatch_script(["augment"], **wrong, logs="logs")


def test_the_command_hands_on_what_it_is_told(fakes, augment, tmp_path):
    data, out = fakes.study(tmp_path / "study.npz", counts={"AD": 20, "CN": 20}), tmp_path / "study"
    answer = augment(
        "evaluate", "--data", data, "--slurm", 2, "--jobs", 3, "--sbatch", "--gres=gpu:1", "--sbatch=-t 60", "--device", "gpu", "--out", out
    )
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[2:4] + lines[5:7] == ["#SBATCH --array=1-2", "#SBATCH --cpus-per-task=3", "#SBATCH --gres=gpu:1", "#SBATCH -t 60"]
    assert lines[-1].startswith("exec augment evaluate --config")
    assert " --device gpu --shard " in lines[-1]
    refused = augment("evaluate", "--data", data, "--sbatch", "--gres=gpu:1", "--out", tmp_path / "other")
    assert refused.code == 2
    assert "--sbatch goes with --slurm N" in refused.err


def test_without_sbatch_or_refused_by_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="sbatch was not found"):
        submit("#!/bin/sh\n", logs=tmp_path / "logs")
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    with pytest.raises(UsageError, match="invalid partition"):
        submit("#!/bin/sh\n", logs=tmp_path / "logs")
    # On a federation sbatch tells the cluster too.
    (tmp_path / "sbatch").write_text("#!/bin/sh\nread line && echo '42;cluster'\n")
    assert submit("#!/bin/sh\n", logs=tmp_path / "logs") == "42"
    assert (tmp_path / "logs").is_dir()


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"needs SLURM (apt-get install slurm-wlm munge): no {', '.join(MISSING)}")
def test_a_study_on_one_node(tmp_path, monkeypatch):
    folder = tmp_path / "a study, 100%"
    script, driver = tmp_path / "shard.py", tmp_path / "submit.py"
    script.write_text(SHARD)
    driver.write_text(SUBMIT)
    answer = subprocess.run([ONE_NODE, sys.executable, driver, script, folder], capture_output=True, text=True, check=False, timeout=300)
    assert answer.returncode == 0, answer.stderr
    first, second = answer.stdout.split()
    logs = {path.name: path.read_text() for path in (folder / "slurm").iterdir()}
    assert set(logs) == {f"{job}_{task}.log" for job in (first, second) for task in (1, 2, 3)}
    assert [logs[f"{first}_{task}.log"].strip() for task in (1, 2, 3)] == ["2 computed"] * 3
    assert [logs[f"{second}_{task}.log"].strip() for task in (1, 2, 3)] == ["0 computed"] * 3
    table = results_of(folder)
    assert sorted(table["task"]) == ["1", "1", "2", "2", "3", "3"]
    assert len(all_runs(folder)) == 6
    # The same study without SLURM has the same scores.
    monkeypatch.syspath_prepend(tmp_path)
    config: Any = SimpleNamespace(seed=1, content=lambda: {"seed": 1})
    run_study(Study(tmp_path / "local", "shard:score", grid(method=["a", "b"], run=range(3)), config))
    names = ["method", "run", "score"]
    assert results_of(tmp_path / "local")[names].equals(table[names])


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"needs SLURM (apt-get install slurm-wlm munge): no {', '.join(MISSING)}")
@pytest.mark.skipif(not AUGMENT.exists(), reason="the job array runs the command `augment`, which is not installed beside this Python")
def test_the_command_on_one_node(fakes, augment, tmp_path, monkeypatch):
    """What `augment evaluate --slurm --submit` hands in computes all of the study, and the same as the command by itself."""
    monkeypatch.setenv("PATH", f"{AUGMENT.parent}:{os.environ['PATH']}")
    data = fakes.study(tmp_path / "study.npz", counts={"AD": 20, "CN": 20})
    words = ("evaluate", "--data", data, "--methods", "original,weighted", "--runs", "3", "--epochs", "1", "--least-steps", "0")
    folder = tmp_path / "a study"
    driver = tmp_path / "submit.sh"
    submitted = shlex.join([str(AUGMENT), *map(str, words), "--slurm", "2", "--submit", "--out", str(folder)])
    driver.write_text(f'{submitted} && while [ -n "$(squeue --noheader)" ]; do sleep 0.5; done\n')
    answer = subprocess.run([ONE_NODE, "sh", driver], capture_output=True, text=True, check=False, timeout=500)
    assert answer.returncode == 0, answer.stderr
    told = re.sub(r"\s", "", answer.stderr + answer.stdout)  # whose lines the terminal breaks
    assert re.sub(r"\s", "", f"augment report {folder}") in told
    assert len(list((folder / "logs").iterdir())) == 2
    assert augment("report", folder).code == 0
    assert augment(*words, "--out", tmp_path / "local").code == 0
    assert (folder / "results.csv").read_bytes() == (tmp_path / "local/results.csv").read_bytes()
