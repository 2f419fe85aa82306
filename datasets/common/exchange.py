"""Two names of a file system that change places in one step, so that at no moment either is missing: ``renameat2`` of Linux."""

import ctypes
import errno
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

_FROM_HERE = -100  # AT_FDCWD: relative paths are those of the working directory
_EXCHANGE = 2  # RENAME_EXCHANGE
# The kernel has no such call, or the file system cannot do it; a sandbox answers a call that it does not know with EPERM.
_LACKING = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)


def exchange(one: Path, other: Path) -> bool:
    """Let two paths of one file system, files or folders, change places.

    Returns
    -------
    bool
        ``False`` if it cannot be done here: on another system than Linux, or on a file system such as NFS. Nothing has changed then.

    Raises
    ------
    OSError
        As ``os.replace``.
    """
    renameat2 = _renameat2()
    if renameat2 is None:
        return False
    if renameat2(_FROM_HERE, os.fsencode(one), _FROM_HERE, os.fsencode(other), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _LACKING:
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))


@cache
def _renameat2() -> Callable[..., int] | None:
    """The call of the C library, if there is one: Python has none."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # TypeError: Windows, which has no library of this process
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return call
