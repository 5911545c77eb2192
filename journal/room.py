"""Room for the journal on a disk that is full: its log is kept larger than it needs to be.

Whoever fills the disk is ended before it is full, if the node is fast enough; and to end him, that has to be written
down first. SQLite appends to the log (`-wal`) and, after a checkpoint, writes it anew from its beginning; what lies
behind its last frame is of no meaning to it. So that part is allocated beforehand, for hundreds of records more than
fit between two checkpoints, which on a full disk may fail.
"""

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["ROOM_BYTES", "keep_room"]

ROOM_BYTES = 12 * 1024 * 1024
"""The size of the log: 8 MiB until a checkpoint (`wal_autocheckpoint` in journal.schema), and 4 for bad times."""


def keep_room(path: Path) -> None:
    """Allocate the log of the database at `path`, unless it is, or there is little left on the disk anyway.

    Only while a transaction for writing is open (BEGIN IMMEDIATE), before it has written anything: nobody else
    appends then. What the disk refuses is tried again the next time. Takes microseconds once it is done.
    """
    log = path.with_name(f"{path.name}-wal")
    with suppress(OSError):
        size = log.stat().st_size
        # An empty one has no beginning yet, by which others see that it is in use.
        if 0 < size < ROOM_BYTES and _free_bytes(path.parent) >= 2 * ROOM_BYTES:
            _allocate(log, size)


def _allocate(log: Path, size: int) -> None:
    fd = os.open(log, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.posix_fallocate(fd, size, ROOM_BYTES - size)
    except OSError:
        os.ftruncate(fd, size)  # what was allocated until then
        raise
    finally:
        os.close(fd)


def _free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
