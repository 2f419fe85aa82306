"""``on_a_device.py``, in a process of its own: once torch has a device of Python's, it has it until the process ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("marked", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_all_that_is_computed_on_a_device(marked, tmp_path):
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | {"OMP_NUM_THREADS": "1"}
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--basetemp", str(tmp_path / "own"), "-m", marked]
    tests = str(Path(__file__).with_name("on_a_device.py"))
    command = [sys.executable, "-P", "-m", "pytest", *options, tests]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=own, timeout=900)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
