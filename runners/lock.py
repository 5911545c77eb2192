"""Liveness without process ids: a lock that lives exactly as long as the run does.

Process ids are reused, locks are not. The launcher opens the lock file twice and takes a shared flock on
each open file. One goes to the sandbox (`bwrap --sync-fd`): it is held until the last process inside is gone.
The other stays with `timeout`, outside: a job that got at the first one through its process 1 and unlocked
it would still be seen. Held by anybody = alive; free = all dead, the status file is final.
"""

import fcntl
import os
from enum import Enum
from pathlib import Path

from runners.handed import open_handed

__all__ = [
    "AlreadyStarted",
    "Identity",
    "LockState",
    "RunError",
    "create_locked",
    "identity",
    "look",
    "nameless_holders",
]

Identity = tuple[int, int]
"""A file, whatever its name is: device and inode."""


class RunError(Exception):
    """Anything that starting a run raises for the world's state."""


class AlreadyStarted(RunError):
    """A run's lock file exists, so it was started before, or a start was tried: never start it twice."""


class LockState(Enum):
    """What a look at the lock file tells."""

    ABSENT = "absent"
    HELD = "held"
    FREE = "free"


def create_locked(path: Path) -> tuple[int, int]:
    """Create the lock file and return two locked descriptors of it; the caller closes both.

    Raises:
        AlreadyStarted: the file exists.
        OSError: it cannot be created.

    """
    try:
        first = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise AlreadyStarted(
            f"{path}: exists, so this run was started before; look at it, or start a new run"
        ) from None
    try:
        os.pwrite(first, b"\n", 0)  # a byte for whoever blocks on it (`bwrap --block-fd`)
        second = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        os.close(first)
        path.unlink()  # nobody was started
        raise
    # Shared and blocking: somebody who looks holds the lock for microseconds.
    fcntl.flock(first, fcntl.LOCK_SH)
    fcntl.flock(second, fcntl.LOCK_SH)
    return first, second


def look(path: Path) -> LockState:
    """Tell whether anybody holds the lock. Two lookers at the same instant may see each other: look again."""
    try:
        fd = open_handed(path, os.O_RDONLY)
    except FileNotFoundError:
        return LockState.ABSENT
    except PermissionError:
        return LockState.HELD  # it is taken away again and again, which only the living do
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return LockState.HELD
    finally:
        os.close(fd)
    return LockState.FREE


def identity(path: Path) -> Identity | None:
    """Return which file is behind the name; None if none is."""
    try:
        found = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def nameless_holders(path: Path, known: Identity | None) -> list[int]:
    """Return the processes that have a lock file open which `path` led to, and leads to no more (proc(5), "fd").

    Somebody deleted or moved the folder of a run that lives: its lock can't be looked at any more, but the kernel
    still knows who has it open. `known` is which file it was, if that was seen; else only a deleted one is found.
    Reads the descriptors of every process of this user: some ten milliseconds.
    """
    wanted = f"{path} (deleted)"
    names = os.listdir("/proc")  # noqa: PTH208 - names, not paths
    others = [name for name in names if name.isdecimal() and int(name) != os.getpid()]
    return [int(name) for name in others if _has(f"/proc/{name}/fd", wanted, known)]


def _has(fds: str, wanted: str, known: Identity | None) -> bool:
    try:
        names = os.listdir(fds)  # noqa: PTH208 - names, not paths
    except OSError:
        return False  # it has ended, or is another user's
    for name in names:
        try:
            link = os.readlink(f"{fds}/{name}")  # noqa: PTH115 - the text alone
            if link == wanted:
                return True
            if known is not None and link.endswith(".lock"):
                found = os.stat(f"{fds}/{name}")  # noqa: PTH116 - one system call
                if (found.st_dev, found.st_ino) == known:
                    return True
        except OSError:
            continue  # closed meanwhile
    return False
