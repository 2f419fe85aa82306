"""One process at a time at an output, by a lock that the system lifts when its holder ends, however it ends: nothing stale ever blocks.

The lock of ``NAME`` is that of the file ``.NAME.lock`` beside it (``flock``), so it holds between the machines of a cluster too, wherever
their common file system has locks. Where it has none, on Windows, and in a folder that we may not write into, nobody is kept out; outputs
are written whole all the same, and who may not write is told by the writing. That a file system has none is said: on others the second
command would be told of the first.
"""

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_BUSY = (errno.EAGAIN, errno.EACCES)
_LACKING = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)
_GONE = (errno.ENOENT, errno.ESTALE)  # ESTALE: of NFS, where another machine has removed it
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)  # folders into which we may not write
_PATIENCE = 60  # seconds that who shares a lock waits for another who clears up, which takes moments
_MOMENT = 0.05


class _NoLocksHere(Exception):
    """None can be had; what is given is a sentence for the user, if there is one to tell."""


def lock_of(path: Path) -> Path:
    """The file that is there while a command is at work on an output, and after a kill."""
    return path.with_name(f".{path.name}.lock")


@contextmanager
def locked(
    path: Path, *, clear: Callable[[], None], tell: Callable[[str], object], shared: bool = False, patience: float = 0
) -> Iterator[bool]:
    """Hold the lock of an output while the block runs.

    Parameters
    ----------
    path : Path
        Folders above it that are missing are made, and removed again if nothing came into them.
    clear : callable
        Called first, while no other process has the lock: what lies about then is nobody's any more.
    tell : callable
        Is given a sentence where the file system has no locks.
    shared : bool
        Let others in that share it too.
    patience : float
        Seconds to wait for another process.

    Yields
    ------
    bool
        Whether others had a share already.

    Raises
    ------
    UsageError
        If another process has it.
    """
    above = [folder for folder in path.parents if not folder.exists()]
    lock = _Lock(lock_of(path))
    try:
        try:
            others = _take(lock, path, clear, shared, patience)
        except _NoLocksHere as lacking:
            others = False
            if lacking.args:
                tell(*lacking.args)
        yield others
    finally:
        lock.release()
        for folder in above:
            with suppress(OSError):  # it is needed, or was never made
                folder.rmdir()


def _take(lock: "_Lock", path: Path, clear: Callable[[], None], shared: bool, patience: float) -> bool:
    """Take the lock, or a share of it; whether others had one."""
    end = time.monotonic() + max(patience, _PATIENCE if shared else 0)
    cleared = False
    while True:
        if not cleared and lock.grants(shared=False):
            lock.sign()
            clear()
            cleared = True
        # From the whole lock to a share there is a moment without any, in which another may take it.
        if lock.grants(shared=True) if shared else cleared:
            return not cleared
        if time.monotonic() >= end:
            raise UsageError(f"Another command is at work on {path}{lock.holder()}; wait until it has ended, or choose another folder.")
        time.sleep(_MOMENT)


class _Lock:
    """The lock of a file, which is there while anybody holds it, and after a kill."""

    def __init__(self, file: Path):
        self.file = file
        self.descriptor: int | None = None

    def grants(self, *, shared: bool) -> bool:
        """Take the lock, or a share of it, if nobody else has it; true if it is ours."""
        if fcntl is None:
            raise _NoLocksHere
        while True:
            if self.descriptor is None:
                self.descriptor = self._open()
            if not self._flock(fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
                return False
            if self._is_there():
                return True
            self._close()  # who had it has removed it in between

    def sign(self) -> None:
        """Say in the file who has the lock, for people."""
        with suppress(OSError):  # the disk may be full
            assert self.descriptor is not None
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)

    def holder(self) -> str:
        """Who has the lock, as it has signed, in brackets."""
        with suppress(OSError):
            assert self.descriptor is not None
            said = os.pread(self.descriptor, 200, 0).decode(errors="replace")
            return f" ({said})" if said else ""
        return ""

    def release(self) -> None:
        """Let go; of those who share it the last removes the file."""
        if self.descriptor is None:
            return
        with suppress(OSError):
            try:
                alone = fcntl is not None and self._flock(fcntl.LOCK_EX)
            except _NoLocksHere:
                alone = True
            if alone and self._is_there():
                self.file.unlink()
        self._close()

    def _open(self) -> int:
        while True:
            with suppress(FileNotFoundError):  # who has ended just now removed the folder that it had made
                if not self._has_folder():
                    continue
                try:
                    # Not through a link: a stranger may have put one into a folder that all may write to.
                    return os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
                except OSError as error:
                    if error.errno in _LACKING:
                        raise self._no_locks() from error
                    if error.errno not in _CLOSED:
                        raise
                    return self._open_closed()

    def _has_folder(self) -> bool:
        """Make the folder; false if it went away meanwhile."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            if os.path.lexists(self.file.parent):
                raise
            return False
        return True

    def _open_closed(self) -> int:
        """In a folder that is closed to us, what another user's killed command has left can be locked all the same."""
        try:
            return os.open(self.file, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError as error:
            raise _NoLocksHere from error

    def _flock(self, kind: int) -> bool:
        assert fcntl is not None
        assert self.descriptor is not None
        try:
            fcntl.flock(self.descriptor, kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _BUSY:
                return False
            if error.errno in _LACKING:
                raise self._no_locks() from error
            raise OSError(error.errno, error.strerror, str(self.file)) from error
        return True

    def _no_locks(self) -> _NoLocksHere:
        return _NoLocksHere(
            f"The file system of {self.file.parent} has no locks: another command on this output would not be told, so start none."
        )

    def _is_there(self) -> bool:
        assert self.descriptor is not None
        try:
            return os.path.samestat(os.fstat(self.descriptor), os.stat(self.file, follow_symlinks=False))  # noqa: PTH116
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return False

    def _close(self) -> None:
        if self.descriptor is not None:
            with suppress(OSError):  # NFS may tell only now that the signature was not written
                os.close(self.descriptor)
        self.descriptor = None
