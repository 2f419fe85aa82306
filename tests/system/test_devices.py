"""``on_a_device.py``, in a process of its own: once torch has a device of Python's, it has it until the process ends."""

import subprocess
import sys
from pathlib import Path


def test_all_that_is_computed_on_a_device():
    tests = Path(__file__).with_name("on_a_device.py")
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
