"""A note beside the database that it was found damaged while it was in use: the next start must look at all of it.

It is a file of its own, because what is damaged may not take a note any more.
"""

import os
from pathlib import Path

from journal.schema import fsync_folder

__all__ = ["clear_suspicion", "is_suspect", "suspect"]

_REASON_BYTES_MAX = 4096


def suspect(path: Path, reason: str) -> None:
    """Note durably that the database at `path` is damaged, and why.

    Raises:
        OSError: the note could not be written.

    """
    flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(_note(path), flags, 0o600)
    try:
        os.write(fd, reason.encode("utf-8", "backslashreplace")[:_REASON_BYTES_MAX])
        os.fsync(fd)
    finally:
        os.close(fd)
    fsync_folder(path.parent)


def is_suspect(path: Path) -> bool:
    """Return whether the database at `path` was found damaged since it was last checked as a whole."""
    return os.path.lexists(_note(path))


def clear_suspicion(path: Path) -> None:
    """Take the note away: the database is sound now.

    Raises:
        OSError: it could not be done.

    """
    if is_suspect(path):
        _note(path).unlink()
        fsync_folder(path.parent)


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".suspect")
