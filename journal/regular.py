"""Regular files only: what else may have a file's name makes its reader wait for ever, or leads it elsewhere.

Whoever may write into the journal's folder may put a named pipe there. SQLite opens it and waits, deaf to Ctrl-C.
"""

import errno
import os
import stat
from pathlib import Path

__all__ = ["kind", "open_regular"]

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def kind(mode: int) -> str | None:
    """Return what a file is by its `st_mode`, in words; None for a regular one."""
    if stat.S_ISREG(mode):
        return None
    return next((words for is_kind, words in _KINDS if is_kind(mode)), "a device")


def open_regular(path: Path) -> int:
    """Open a regular file for reading, following no link in its last component; the descriptor is the caller's.

    Not for a file that this process has open in SQLite: closing any descriptor of it drops all its locks (fcntl(2)).

    Raises:
        OSError: it can't be opened, or is something else.

    """
    try:
        fd = os.open(path, _FLAGS)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "is a symbolic link, not a file", str(path)) from None
        raise
    what = kind(os.fstat(fd).st_mode)
    if what is not None:
        os.close(fd)
        raise OSError(errno.EINVAL, f"is {what}, not a file", str(path))
    return fd
