"""What this machine has: its processors, and whether there is memory for what a file claims to hold, asked before any is taken."""

import os


def physical_memory() -> int:
    """Bytes of memory that this machine has; where the system does not tell, what most have."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 8 * 2**30


def is_too_much(n_bytes: int) -> bool:
    """Whether so many bytes are more than half of the memory, the other half of which computing with them takes."""
    return n_bytes > physical_memory() // 2


def available_processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
