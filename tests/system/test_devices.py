"""``on_a_device.py``, in processes of their own: once torch has a device of Python's, it has it until the process ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("fit_is or sampler or scored", "not fit_is and not sampler and not scored")  # of the tests there, by their names


@pytest.mark.parametrize(("part", "marked"), [*((part, "not slow") for part in PARTS), pytest.param("", "slow", marks=pytest.mark.slow)])
def test_all_that_is_computed_on_a_device(part, marked, tmp_path):
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | {"OMP_NUM_THREADS": "1"}
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--basetemp", str(tmp_path / "own"), "-k", part, "-m", marked]
    tests = str(Path(__file__).with_name("on_a_device.py"))
    command = [sys.executable, "-P", "-m", "pytest", *options, tests]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=own, timeout=900)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
