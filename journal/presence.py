"""The database's names on the disk: whether they still lead to what is open, and putting them back when they don't.

Somebody deletes `journal.db` (or its log, or the whole folder) under a running daemon, or moves another file there.
SQLite goes on writing into files that nobody will ever find again. So the writer compares names and open files around
each commit, and nothing counts as durable that has no name: the open database is copied, whole, to where it belongs,
and only then work goes on. A file that took its place is set aside, not overwritten.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from journal.retention import stamp
from journal.schema import connect_writer, fsync_folder

__all__ = ["Presence"]

_SUFFIXES = ("", "-wal", "-shm")
_Names = tuple[tuple[int, int] | None, ...]


class Presence:
    """Knows which files `path` and its neighbours were when the database was opened. For one thread."""

    def __init__(self, path: Path, *, busy_s: float, now_ns: Callable[[], int]) -> None:
        self._path = path
        self._busy_s = busy_s
        self._now_ns = now_ns
        self._opened = self._names()
        self._placed: tuple[int, int] | None = None

    def problem(self) -> str | None:
        """Say which name no longer leads to what is open; None while all do."""
        for suffix, opened, there in zip(_SUFFIXES, self._opened, self._names(), strict=True):
            if there != opened:
                what = "deleted" if there is None else "replaced"
                return f"{self._path}{suffix} was {what} while the daemon works with it"
        return None

    def put_back(self, conn: sqlite3.Connection) -> sqlite3.Connection:
        """Write what `conn` reads to `path`, durably, open that and close `conn`; return the new connection.

        Raises:
            OSError, sqlite3.Error: it could not be done; `conn` is as it was.

        """
        folder, name = self._path.parent, self._path.name
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        copy = folder / f"{name}.putback"
        copy.unlink(missing_ok=True)
        try:
            os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
            with closing(sqlite3.connect(copy)) as target:
                conn.backup(target)
            _fsync(copy)
            self._clear_the_place()
            copy.rename(self._path)
            self._placed = self._names()[0]  # ours, should it not be opened now
        except BaseException:
            copy.unlink(missing_ok=True)
            raise
        fsync_folder(folder)
        fresh = connect_writer(self._path, busy_s=self._busy_s)
        # After the rename: SQLite sees that its file has moved, and takes no neighbour away with it.
        conn.close()
        self._opened = self._names()
        return fresh

    def _clear_the_place(self) -> None:
        """Set aside what somebody put there; remove a log and an index that would not fit the new file."""
        there = self._names()
        stranger = there[0] not in {None, self._opened[0], self._placed}
        aside = f".stranger-{stamp(self._now_ns())}"
        for suffix, found in zip(_SUFFIXES, there, strict=True):
            path = self._path.with_name(self._path.name + suffix)
            if found is not None and stranger:
                path.rename(path.with_name(self._path.name + aside + suffix))
            elif found is not None and suffix:
                path.unlink()

    def _names(self) -> _Names:
        return tuple(_identity(self._path.with_name(self._path.name + suffix)) for suffix in _SUFFIXES)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat(follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
