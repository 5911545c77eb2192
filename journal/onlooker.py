"""Opening the database without touching it, beside a running daemon or without one.

SQLite's plain read-only mode may still create or rewrite the `-shm` file. Two other ways don't:
`readonly_shm` where a write-ahead log is there, `immutable` where there is none (clean shutdown).
"""

import os
import sqlite3
from pathlib import Path
from threading import Event
from typing import Any

from journal.guard import restrict
from journal.port import JournalError, JournalUnavailable
from journal.regular import kind
from journal.wal import holds_commit

__all__ = ["Damaged", "NoFile", "connect_reader"]

_GLIMPSES_MAX = 1000
_MOMENTS_MAX = 30
_MOMENT_S = 0.01


class Damaged(JournalError):
    """The database can't be read as it is: opening it for writing sets it aside and salvages it."""


class NoFile(Damaged):
    """Something else than a regular file has the database's name, or its neighbour's. Says what."""


class _Onlooker(sqlite3.Connection):
    """A connection that may not write to the log's index.

    Where it meets the index in the middle of a commit, SQLite takes that for one that nobody looks after, and asks
    for a recovery that an onlooker may not make. A moment later the index is whole.
    """

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        for _ in range(_GLIMPSES_MAX):
            try:
                return super().execute(sql, parameters)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_RECOVERY:
                    raise
                os.sched_yield()
        return super().execute(sql, parameters)


def connect_reader(path: Path, *, live: bool = False) -> sqlite3.Connection:
    """Open `path` so that neither it nor its neighbours are created or changed.

    `live`: this process has it open for writing as well, so SQLite looks after the log, whatever is in it.

    Raises:
        Damaged: there is a write-ahead log without its index, or nothing that SQLite can open.
        NoFile: one of the three is a folder, a named pipe, a device or a socket.
        JournalUnavailable: one of the three is a symbolic link; nobody would find the others beside it.
        FileNotFoundError: there is no such file.

    """
    if not os.path.lexists(path):
        raise FileNotFoundError(f"{path}: there is no journal here")
    log = path.with_name(path.name + "-wal")
    index = path.with_name(path.name + "-shm")
    # Whoever closes the database takes the index away, and then the log: also between a look and the opening.
    moment = Event()
    how: str | None = None
    for _ in range(_MOMENTS_MAX):
        for one in (path, log, index):
            _check_kind(one)
        how = _how(log, index, live)
        if how is not None:
            conn = _connect(path, how)
            if not _is_gone(conn):
                return conn
            conn.close()
        moment.wait(_MOMENT_S)
    if how is None:
        raise Damaged(f"{log} is there and {index.name} is not: start the daemon once, it puts this right")
    return _connect(path, how)


def _connect(path: Path, how: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro&{how}"
    try:
        conn = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0, factory=_Onlooker
        )
        restrict(conn)
    except sqlite3.Error as error:
        raise Damaged(f"{path}: {error}") from error
    return conn


def _check_kind(path: Path) -> None:
    # Looked at, not opened: closing it would drop the locks of a writer in this process (fcntl(2)).
    try:
        what = kind(path.stat(follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return
    if what == "a symbolic link":
        raise JournalUnavailable(f"{path}: is {what}: name the journal by its own path")
    if what is not None:
        raise NoFile(f"{path}: is {what}, not a file; stop who puts it there, and remove it")


def _is_gone(conn: sqlite3.Connection) -> bool:
    """Whether a file that was there is not to be opened any more; what else is wrong, the first reader hears."""
    try:
        conn.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CANTOPEN
    except UnicodeDecodeError:
        return False
    return False


def _how(log: Path, index: Path, live: bool) -> str | None:
    """Return how to open what is there now; None if it can't be read as it is."""
    try:
        if not log.exists():
            return "immutable=1"
        if index.exists() and (live or log.stat().st_size == 0 or holds_commit(log)):
            return "readonly_shm=1"
        return None if holds_commit(log) else "immutable=1"
    except FileNotFoundError:
        return None  # it went between two looks
