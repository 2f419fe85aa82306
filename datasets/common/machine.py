"""What this machine has, and what images and weights take of it: asked before any memory is taken."""

import math
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import UsageError

FLOAT = 4  # bytes of a float32, as images and weights are held
KEPT, IN_PASSING = 0.5, 0.8  # parts of the memory


def physical_memory() -> int:
    """Bytes of memory that this machine has; where the system does not tell, what most have."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 8 * 2**30


def free_memory() -> int | None:
    """Bytes of memory that nobody uses, as far as the system tells it: of Linux what could be had at once."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def is_too_much(n_bytes: float, *, part: float = KEPT) -> bool:
    """Whether so many bytes are more than a part of the memory.

    By default half: the other half is taken by computing with what is kept. What is the whole of what a step takes, and only in passing,
    may be ``IN_PASSING``.
    """
    return n_bytes > part * physical_memory()


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory has run out: torch has an exception of its own for GPUs alone, and this module does not import it."""
    told = ("allocate memory", "not enough memory", "out of memory")
    # oneDNN, of what it found no memory for; of what it cannot compute it says a primitive descriptor.
    said = str(error).removesuffix(".")
    by_kernels = said in ("could not create a primitive", "could not create a memory object")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and (by_kernels or any(words in said for words in told)))


def bytes_of(n: int, shape: Sequence[int]) -> int:
    """What ``n`` images of a shape take as float32; in Python's integers, because numpy's overflow in silence."""
    return FLOAT * n * math.prod(map(int, shape))


def require_memory(n: int, shape: Sequence[int], mend: str = "choose a smaller --size") -> None:
    """Raise a ``UsageError`` if ``n`` images of a shape are more than this machine can keep."""
    if is_too_much(bytes_of(n, shape)):
        raise UsageError(f"For {n} images of {' x '.join(map(str, shape))} this machine has no memory; {mend}.")


class SharedMemory:
    """Memory that threads share: one that needs more than the others leave waits for them."""

    def __init__(self) -> None:
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def take(self, n_bytes: int) -> Iterator[None]:
        """Have so many bytes within the block; what is more than the machine has is taken by itself."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken == 0 or not is_too_much(self._taken + n_bytes))
            self._taken += n_bytes
        try:
            yield
        finally:
            with self._changed:
                self._taken -= n_bytes
                self._changed.notify_all()


def available_processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
