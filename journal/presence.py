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

from journal.put_back import SUFFIXES, is_stranger, part, remove_part, set_aside, whole
from journal.schema import connect_writer, fsync_folder

__all__ = ["STRANGERS_MAX", "Presence"]

STRANGERS_MAX = 5
"""So many files that took the journal's place are kept; then it is held back, for somebody goes on doing that."""

_Names = tuple[tuple[int, int] | None, ...]


class Presence:
    """Knows which files `path` and its neighbours were when the database was opened. For one thread."""

    def __init__(self, path: Path, *, busy_s: float, now_ns: Callable[[], int]) -> None:
        self.path = path
        self._busy_s = busy_s
        self._now_ns = now_ns
        self._opened = self._names()
        self._placed: tuple[int, int] | None = None
        self._waiting = False  # whether a copy may lie there that did not get to its place
        self.why_not: Callable[[], str | None] = lambda: None
        """Asked before anything is put back: why the place is not ours. In the thread of `put_back`."""

    def problem(self) -> str | None:
        """Say which name no longer leads to what is open; None while all do."""
        for suffix, opened, there in zip(SUFFIXES, self._opened, self._names(), strict=True):
            if there != opened:
                what = "deleted" if there is None else "replaced"
                return f"{self.path}{suffix} was {what} while the daemon works with it"
        return None

    def put_back(self, conn: sqlite3.Connection) -> sqlite3.Connection:
        """Write what `conn` reads to `path`, durably, open that and close `conn`; return the new connection.

        However this ends, `finish_put_back` does the rest at the next start.

        Raises:
            OSError, sqlite3.Error: it could not be done; `conn` is as it was.

        """
        self._check_the_place()
        folder = self.path.parent
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._make_copy(conn)
        self._clear_the_place()
        fsync_folder(folder)  # a log that came back after a power cut would be taken for the copy's
        whole(self.path).rename(self.path)
        self._placed = self._names()[0]  # ours, should it not be opened now
        fsync_folder(folder)
        self._waiting = False
        fresh = connect_writer(self.path, busy_s=self._busy_s)
        # After the rename: SQLite sees that its file has moved, and takes no neighbour away with it.
        conn.close()
        self._opened = self._names()
        return fresh

    def settle(self) -> None:
        """Remove a copy that is not needed any more, as all names are back: appends would make it an old one.

        Raises:
            OSError: it is still there, so nothing may be appended.

        """
        if self._waiting:
            remove_part(self.path)
            whole(self.path).unlink(missing_ok=True)
            fsync_folder(self.path.parent)
            self._waiting = False

    def _make_copy(self, conn: sqlite3.Connection) -> None:
        """Leave a complete, durable copy, and only then call it that."""
        copy = part(self.path)
        remove_part(self.path)
        self._waiting = True
        try:
            os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
            with closing(sqlite3.connect(copy)) as target:
                conn.backup(target)
            _fsync(copy)
            self._check_the_place()  # a copy in another daemon's folder would take that one's place
        except BaseException:
            remove_part(self.path)
            raise
        copy.rename(whole(self.path))
        fsync_folder(self.path.parent)

    def _check_the_place(self) -> None:
        if (reason := self.why_not()) is not None:
            raise PermissionError(reason)
        if not self._is_taken(self._names()[0]):
            return
        kept = sum(is_stranger(self.path, one.name) for one in self.path.parent.iterdir())
        if kept >= STRANGERS_MAX:
            raise PermissionError(
                f"{kept} files that took its place were set aside already ({self.path.name}.stranger-*): "
                "stop who puts them there, then remove them"
            )

    def _is_taken(self, there: tuple[int, int] | None) -> bool:
        return there not in {None, self._opened[0], self._placed}

    def _clear_the_place(self) -> None:
        """Set aside what somebody put there; remove a log and an index that would not fit the new file."""
        if self._is_taken(self._names()[0]):
            set_aside(self.path, self._now_ns())
            return
        for suffix in SUFFIXES[1:]:
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def _names(self) -> _Names:
        return tuple(_identity(self.path.with_name(self.path.name + suffix)) for suffix in SUFFIXES)


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
