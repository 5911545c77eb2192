"""A copy of the journal as it is at one moment, beside a daemon that goes on writing, and without changing anything."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from journal.onlooker import Damaged, connect_reader

__all__ = ["copy"]

_PAGES = 1024  # 4 MiB a step: often enough for a bar

Tick = Callable[[int, int], None]


def copy(source: Path, target: Path, tick: Tick | None = None) -> None:
    """Write what `source` holds now to `target`, an empty file: one file, that needs no log beside it.

    `tick` hears now and then how many of how many pages are copied. Not durable before the caller has synced it.

    Raises:
        Damaged: `source` can't be read as it is.
        FileNotFoundError: there is no journal.
        sqlite3.Error: reading or writing failed.

    """

    def progress(_status: int, left: int, total: int) -> None:
        if tick is not None:
            tick(total - left, total)

    with closing(connect_reader(source)) as conn:
        # One snapshot for all steps; without it a copy begins anew at each commit of the daemon.
        conn.execute("BEGIN")
        try:
            conn.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.DatabaseError as error:
            raise Damaged(f"{source}: {error}") from error
        with closing(sqlite3.connect(target, isolation_level=None)) as copied:
            conn.backup(copied, pages=_PAGES, progress=progress)
            # The copied header says WAL, and a reader of a lone file in that mode wants to make files beside it.
            copied.execute("PRAGMA journal_mode = DELETE")
