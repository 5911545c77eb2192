"""Making the database, so that a crash or a power cut leaves a whole one there, or none.

<name>            whole, with all its tables, or not there
<name>.creating   being made; worth nothing until it is renamed
"""

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

from journal.port import JournalUnavailable
from journal.schema import connect_writer, fsync_folder, migrate, note

__all__ = ["create", "make_whole"]

_SUFFIXES = ("-journal", "-wal", "-shm", "")


def create(path: Path, now_ns: int, *, busy_s: float = 5.0, notes: Mapping[str, str] | None = None) -> None:
    """Make `path` (mode 0600) if it is not there, migrate it, write `notes`. Returns when all of it is durable.

    Raises:
        SchemaTooNew: a later release wrote it.
        JournalUnavailable: it can't be made, opened or migrated.

    """
    try:
        if not path.exists() or path.stat().st_size == 0:
            fresh = path.with_name(path.name + ".creating")
            make_whole(fresh, now_ns, busy_s=busy_s)
            # What lies beside a database without a page is rubbish, and would be taken for the new one's.
            _remove(path)
            fsync_folder(path.parent)
            fresh.rename(path)
            fsync_folder(path.parent)
        with closing(connect_writer(path, busy_s=busy_s)) as conn:
            migrate(conn, now_ns)
            if notes:
                # No truth: without them (the disk is full) the next start looks at everything again, no more.
                with suppress(sqlite3.Error):
                    note(conn, notes)
    except (OSError, sqlite3.Error) as error:
        raise JournalUnavailable(
            f"{path}: can't be opened for writing: {error}: check folder, rights and free space"
        ) from error


def make_whole(path: Path, now_ns: int, *, busy_s: float) -> None:
    """Make an empty journal at `path`, in place of whatever an earlier try has left; its bytes are durable.

    Raises:
        OSError, sqlite3.Error: it can't be made.

    """
    _remove(path)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    with closing(connect_writer(path, busy_s=busy_s)) as conn:
        migrate(conn, now_ns)


def _remove(path: Path) -> None:
    for suffix in _SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
