"""What calls take of memory."""

import ctypes
import gc
import platform
from pathlib import Path

import pytest

measured = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the memory of a process is told otherwise there")


def grown_by(function) -> int:
    """Most bytes that a call has had in memory, beside those that were there before."""

    def told(name: str) -> int:
        return next(1024 * int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # or what was freed before would be taken once more, and not be seen
    Path("/proc/self/clear_refs").write_text("5")
    before = told("VmRSS")
    function()
    return told("VmHWM") - before
