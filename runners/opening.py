"""Opening what a run writes to, by descriptors, through no link that a job may have left there; and nameless files."""

import errno
import os
import stat
from pathlib import Path

from runners.handed import open_handed

__all__ = ["open_fresh", "open_log", "open_memory"]

_NOEXEC_SEAL = 8  # MFD_NOEXEC_SEAL of memfd_create(2), Linux 6.3
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT


def open_log(path: Path) -> int:
    """Open the log for appending, mode 0600; the caller closes it."""
    return _regular(open_handed(path, _APPEND), str(path))


def open_fresh(path: Path) -> int:
    """Open a file for appending, empty at first, mode 0600; the caller closes it."""
    fd = _regular(open_handed(path, _APPEND), str(path))
    os.ftruncate(fd, 0)
    return fd


def open_memory(name: str) -> int:
    """Open a file in memory that can be sealed, without a name in any folder; the caller closes it.

    It can't be executed: some systems allow no others (vm.memfd_noexec).
    """
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | _NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return os.memfd_create(name, flags)  # an older kernel


def _regular(fd: int, name: str) -> int:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(fd)
        raise OSError(f"{name}: not a regular file with one name; remove it")
    os.set_blocking(fd, True)
    return fd
