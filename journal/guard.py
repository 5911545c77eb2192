"""What a connection that only reads may do: no more than this package's own queries need.

The database may have been written by somebody who wishes its reader ill: its schema can hold views, triggers, virtual
tables and expressions, and its rows can be as large as the disk. https://www.sqlite.org/security.html
"""

import sqlite3

from journal.record import DATA_BYTES_MAX

__all__ = ["restrict"]

_ROW_BYTES_MAX = (
    2 * DATA_BYTES_MAX + 65536
)  # no record that was ever written is larger; twice, for other tables
_TICK_STEPS = 1_000_000

_TABLES = frozenset({"records", "sealed", "migrations", "meta", "sqlite_master"})
_FUNCTIONS = frozenset({"count", "max", "min", "like"})
_PRAGMAS = frozenset({"user_version", "schema_version", "data_version", "integrity_check"})
_PLAIN = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_TRANSACTION})


def restrict(conn: sqlite3.Connection) -> None:
    """Let `conn` do nothing but read the journal's tables; anything else fails as sqlite3.DatabaseError.

    Ctrl-C ends a query that goes on and on. To be called before the first query, which reads the schema.

    Raises:
        sqlite3.Error: it can't be had.

    """
    conn.execute("PRAGMA trusted_schema = OFF")
    conn.execute("PRAGMA query_only = ON")
    conn.execute("PRAGMA cell_size_check = ON")
    conn.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _ROW_BYTES_MAX)
    # Python looks for signals only while it runs, and so it must, now and then.
    conn.set_progress_handler(lambda: 0, _TICK_STEPS)
    conn.set_authorizer(_authorize)


def _authorize(
    action: int, first: str | None, second: str | None, _database: str | None, within: str | None
) -> int:
    # `within` is the view or trigger that wants it; the journal has no views, and reading fires no trigger.
    if within is None and (
        action in _PLAIN
        or (action == sqlite3.SQLITE_READ and first in _TABLES)
        or (action == sqlite3.SQLITE_FUNCTION and second in _FUNCTIONS)
        or (action == sqlite3.SQLITE_PRAGMA and first in _PRAGMAS)
    ):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY
