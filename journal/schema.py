"""The database's schema: tables, triggers, and the migrations that lead to them.

`PRAGMA user_version` names the schema; the table `migrations` says the same, so that a rotten header byte is not
mistaken for a newer release. Migrations go forward only, all of them in one transaction.

    records     one row a record, in the order of commit (`n`); UNIQUE (job_id, attempt, seq) is the optimistic lock.
                Two partial indexes name each stream once: its first record, and its last if that ends it
    meta        what the program that last took the journal over has noted, as text: no truth, and may be changed
    sealed      streams that retention has exported; only their records may be deleted
    migrations  when each schema version came, and what the schema then was (rot in a trigger's text is damage too)
"""

import os
import sqlite3
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

from sqlite_utils import Database

from journal.port import JournalError

__all__ = [
    "FINAL_STATES",
    "NEWEST",
    "SchemaTooNew",
    "connect_writer",
    "fsync_folder",
    "migrate",
    "note",
    "schema_version",
    "touch_header",
]


FINAL_STATES = ("DONE", "FAILED")
"""A record with one of these as `dest` is its stream's last: all that this package knows of states."""


class SchemaTooNew(JournalError):
    """The database was written by a later release; nothing was changed."""


def _first(db: Database) -> None:
    """Version 1."""
    text, number = str, int
    db.table("records").create(
        {
            "n": number,
            "job_id": text,
            "attempt": number,
            "seq": number,
            "at_ns": number,
            "boot_id": text,
            "event": text,
            "version": number,
            "source": text,
            "dest": text,
            "data_json": text,
            "prev": bytes,
            "hash": bytes,
        },
        pk="n",
        not_null=_RECORD_COLUMNS,
        strict=True,
    )
    db.table("records").create_index(["job_id", "attempt", "seq"], index_name="records_key", unique=True)
    db.table("sealed").create(
        {
            "job_id": text,
            "attempt": number,
            "last_seq": number,
            "last_hash": bytes,
            "sealed_ns": number,
            "export": text,
        },
        pk=("job_id", "attempt"),
        not_null=_SEALED_COLUMNS,
        strict=True,
    )
    for table in ("records", "sealed"):
        _trigger(db, table, "UPDATE", "")
    _trigger(db, "sealed", "DELETE", "")
    _trigger(
        db,
        "records",
        "DELETE",
        "WHEN NOT EXISTS (SELECT 1 FROM sealed WHERE job_id = OLD.job_id AND attempt = OLD.attempt"
        " AND last_seq >= OLD.seq)",
    )


def _second(db: Database) -> None:
    """Version 2: a start reads what is unfinished, and of the rest one line each."""
    final = ", ".join(f"'{state}'" for state in FINAL_STATES)
    # sqlite-utils makes no partial indexes.
    db.conn.execute("CREATE INDEX records_first ON records (job_id, attempt, seq) WHERE seq = 1")
    db.conn.execute(
        f"CREATE INDEX records_final ON records (job_id, attempt, dest, at_ns) WHERE dest IN ({final})"
    )
    db.table("meta").create({"name": str, "value": str}, pk="name", not_null=("value",), strict=True)


def _trigger(db: Database, table: str, verb: str, condition: str) -> None:
    db.conn.execute(
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} {condition} "
        f"BEGIN SELECT RAISE(ABORT, '{table}: {verb} is not allowed: the journal is append-only'); END"
    )


_RECORD_COLUMNS = (
    "job_id", "attempt", "seq", "at_ns", "boot_id", "event", "version", "source", "dest", "data_json", "prev", "hash",
)  # fmt: skip
_SEALED_COLUMNS = ("job_id", "attempt", "last_seq", "last_hash", "sealed_ns", "export")

_MIGRATIONS: tuple[Callable[[Database], None], ...] = (_first, _second)
NEWEST = len(_MIGRATIONS)


def schema_version(conn: sqlite3.Connection) -> int:
    """Return the database's schema version, 0 for an empty one.

    Raises:
        SchemaTooNew: a later release wrote it.
        sqlite3.DatabaseError: it can't be read, or its header and its tables disagree (damage).

    """
    (stated,) = conn.execute("PRAGMA user_version").fetchone()
    (objects,) = conn.execute("SELECT count(*) FROM sqlite_master").fetchone()
    known = 0
    if objects:
        (known,) = conn.execute("SELECT max(version) FROM migrations").fetchone()
    if stated != known:
        raise sqlite3.DatabaseError(f"header says schema {stated}, table migrations says {known}")
    if known:
        (noted,) = conn.execute("SELECT schema_sha256 FROM migrations WHERE version = ?", (known,)).fetchone()
        if noted != _fingerprint(conn):
            raise sqlite3.DatabaseError("the schema is not what its migration has left")
    if stated > NEWEST:
        raise SchemaTooNew(
            f"the journal has schema {stated}, this program knows {NEWEST}: install the release that wrote it, "
            "or a later one; nothing was changed"
        )
    return int(stated)


def _fingerprint(conn: sqlite3.Connection) -> bytes:
    """Return a hash of all tables, indexes and triggers, but for SQLite's own statistics."""
    objects = conn.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_stat%' ORDER BY type, name"
    )
    return sha256(repr(objects.fetchall()).encode("utf-8", "surrogateescape")).digest()


def migrate(conn: sqlite3.Connection, now_ns: int) -> None:
    """Bring the database to the newest schema, or leave it as it was.

    Raises:
        SchemaTooNew: a later release wrote it.
        sqlite3.Error: it could not be done.

    """
    if schema_version(conn) == NEWEST:
        return
    db = Database(conn)
    conn.execute("BEGIN IMMEDIATE")
    try:
        # Again, inside: another process may have migrated meanwhile.
        for number in range(schema_version(conn) + 1, NEWEST + 1):
            if number == 1:
                columns = {"version": int, "applied_ns": int, "schema_sha256": bytes}
                db.table("migrations").create(columns, pk="version", strict=True)
            _MIGRATIONS[number - 1](db)
            conn.execute(
                "INSERT INTO migrations (version, applied_ns, schema_sha256) VALUES (?, ?, ?)",
                (number, now_ns, _fingerprint(conn)),
            )
            conn.execute(f"PRAGMA user_version = {number}")
        conn.execute("COMMIT")
    except BaseException:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise


def connect_writer(path: Path, *, busy_s: float) -> sqlite3.Connection:
    """Open `path` for appending: WAL, and an fsync at every commit. May be handed to another thread.

    Raises:
        sqlite3.Error: it can't be opened.

    """
    uri = f"{path.absolute().as_uri()}?mode=rw"
    conn = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, timeout=busy_s, cached_statements=64
    )
    try:
        conn.execute("PRAGMA journal_mode = WAL")
        conn.execute("PRAGMA synchronous = FULL")
        conn.execute("PRAGMA trusted_schema = OFF")
        conn.execute("PRAGMA cache_size = -16384")
        # Twice the default: fewer checkpoints, each an fsync of the database itself. 8 MiB of log at most stays small.
        conn.execute("PRAGMA wal_autocheckpoint = 2000")
        conn.execute("PRAGMA journal_size_limit = 67108864")
        # The first read makes the log and its index; readers go by their presence.
        conn.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        conn.close()
        raise
    return conn


def note(conn: sqlite3.Connection, notes: Mapping[str, str]) -> None:
    """Write `notes` into `meta`, all in one transaction.

    Raises:
        sqlite3.Error: it could not be done; all is as it was.

    """
    conn.execute("BEGIN IMMEDIATE")
    try:
        conn.executemany("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", notes.items())
        conn.execute("COMMIT")
    except BaseException:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise


def touch_header(conn: sqlite3.Connection) -> None:
    """Write the file's first page as it is: SQLite writes it whatever the value was."""
    conn.execute(f"PRAGMA user_version = {NEWEST}")


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` durable (fsync(2) on a directory).

    Raises:
        OSError: it could not be done.

    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
