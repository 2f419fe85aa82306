"""A study as a SLURM job array: every task of the array computes one shard, and SLURM does the scheduling."""

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ...datasets.common.errors import UsageError


def sbatch_script(
    command: Sequence[str],
    shards: int,
    *,
    logs: str | Path,
    cpus: int = 1,
    options: Sequence[str] = (),
) -> str:
    """The text of a job array that runs ``command --shard i/shards`` for every i.

    A task that is preempted or killed loses the runs that it was at and no other: submit the script again, and it computes what is missing.

    Parameters
    ----------
    command : sequence of str
        Program and arguments, unquoted. Relative paths are those of the folder that the script is submitted from.
    shards : int
        Number of tasks.
    logs : str or Path
        Folder that the tasks' output goes to. ``submit`` makes it: where it is missing, SLURM ends a job without a word.
    cpus : int
        Cores a task: jobs times threads.
    options : sequence of str
        Other options of sbatch, each as one text: ``"--time=02:00:00"``, ``"--gres=gpu:1"``.

    Raises
    ------
    UsageError
        If ``shards`` or ``cpus`` is below 1, or an option would not stay on its line.
    """
    if min(shards, cpus) < 1:
        raise UsageError(f"Shards and cores are 1 or more, not {shards} and {cpus}.")
    # In a file's name SLURM replaces what follows a %: its own patterns are meant, those in the folder's name are not.
    output = f"{str(logs).replace('%', '%%')}/%A_%a.log"
    directives = ["--job-name=tinycohort", f"--array=1-{shards}", f"--cpus-per-task={cpus}", f"--output={_quoted(output)}"]
    directives += options
    if any("\n" in option or not option.startswith("-") for option in options):
        raise UsageError(f"An option of sbatch is one line such as --gres=gpu:1, not '{' '.join(options)}'.")
    # exec: a signal for the job is one for the command. The number of shards is fixed here: of a part of the array that is submitted
    # again (--array=3), SLURM would count that part.
    run = f'exec {shlex.join(command)} --shard "$SLURM_ARRAY_TASK_ID/{shards}"'
    return "\n".join(["#!/bin/sh", *(f"#SBATCH {directive}" for directive in directives), "", run]) + "\n"


def submit(script: str, *, logs: str | Path) -> str:
    """Hand a script to sbatch, and return the job's number; ``logs`` as for ``sbatch_script``.

    Raises
    ------
    UsageError
        If there is no sbatch, or it refuses.
    """
    Path(logs).mkdir(parents=True, exist_ok=True)
    try:
        answer = subprocess.run(["sbatch", "--parsable"], input=script, capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise UsageError("sbatch was not found; run this where SLURM is, or print the script and submit it there.") from error
    except subprocess.CalledProcessError as error:
        raise UsageError(f"sbatch refused the job: {error.stderr.strip()}") from error
    return answer.stdout.strip().partition(";")[0]


def _quoted(text: str) -> str:
    """As sbatch reads a directive: by the shell's rules of double quotes and backslashes, without its variables."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
