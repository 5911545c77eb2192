"""One daemon for each state folder: a lock that dies with its holder, and where to find the holder."""

import fcntl
import json
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

__all__ = ["AlreadyRunning", "Instance", "Running", "find_running"]

_BYTES_MAX = 4096


class AlreadyRunning(Exception):
    """Another daemon holds the state folder. Names it."""


@dataclass(frozen=True, slots=True)
class Running:
    """A daemon that lives: its process id, and where its status page is, if it has one.

    Whoever may write into the state folder may have written that. `user` is whose file says so.
    """

    pid: int
    health_url: str | None
    user: int


class Instance:
    """The lock on a state folder, held until `close` or the end of the process."""

    def __init__(self, state_dir: Path, *, version: str | None = None, started_at: str | None = None) -> None:
        """Take the lock. `version` and `started_at` (RFC 3339) are for who finds it taken.

        Raises:
            AlreadyRunning: another daemon has it.
            OSError: the folder can't be written to.

        """
        state_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        self.path = _path(state_dir)
        self._about = {"pid": os.getpid(), "version": version, "started_at": started_at}
        self._health_url: str | None = None
        self._busy = threading.RLock()
        self._fd = _take(self.path)
        self.publish(None)

    def restore(self) -> str | None:
        """Make the lock file again, should somebody have deleted it; say what hinders that, None if nothing does.

        Without its name the lock keeps nobody out. The old one is held until the new one is taken. From any thread.
        """
        with self._busy:
            return self._restore()

    def _restore(self) -> str | None:
        try:
            if _same(self._fd, self.path):
                return None
            self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            taken = _take(self.path)
        except AlreadyRunning as other:
            return f"{self.path}: was deleted, and {other}"
        except OSError as error:
            return f"{self.path}: was deleted and can't be made again: {error.strerror}"
        lost, self._fd = self._fd, taken
        os.close(lost)
        self.publish(self._health_url)
        return None

    def publish(self, health_url: str | None) -> None:
        """Say where this daemon's status page is."""
        text = json.dumps({**self._about, "health_url": health_url}).encode()
        with self._busy:
            self._health_url = health_url
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, text, 0)

    def close(self) -> None:
        """Let go. What the file says is of no meaning without the lock, so a disk that refuses does not matter."""
        with suppress(OSError):
            os.ftruncate(self._fd, 0)
        os.close(self._fd)


def _take(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    os.fchmod(
        fd, 0o600
    )  # made by an older version: whoever may read it can lock it, and keep every daemon out
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = _named(_read(fd))
        os.close(fd)
        raise AlreadyRunning(
            f"{path.parent}: another daemon ({other}) works in this state folder; "
            "stop it, or give this one a journal.path of its own"
        ) from None
    return fd


def _named(found: dict[str, Any]) -> str:
    """Say who holds the lock, as far as it has said so."""
    words = (("process", "pid"), ("version", "version"), ("since", "started_at"), ("its page:", "health_url"))
    # Whoever may write into the folder wrote this; it is one line, and not a long one.
    known = [f"{word} {str(found[name])[:200]}" for word, name in words if found.get(name) is not None]
    return ", ".join(known) or "process unknown"


def _same(fd: int, path: Path) -> bool:
    held = os.fstat(fd)
    try:
        there = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)


def find_running(state_dir: Path) -> Running | None:
    """Return the daemon that holds the state folder, or None if there is none.

    Raises:
        PermissionError: the folder is not this user's to look into.

    """
    try:
        fd = os.open(_path(state_dir), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            found = _read(fd)
            pid, url = found.get("pid"), found.get("health_url")
            if not isinstance(pid, int):
                return None
            return Running(pid, url if isinstance(url, str) else None, os.fstat(fd).st_uid)
        return None
    finally:
        os.close(fd)


def _path(state_dir: Path) -> Path:
    return state_dir / "daemon.lock"


def _read(fd: int) -> dict[str, Any]:
    try:
        found: object = json.loads(os.pread(fd, _BYTES_MAX, 0) or b"{}")
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
