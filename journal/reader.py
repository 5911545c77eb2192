"""Reading the database without touching it, beside a running daemon or without one.

SQLite's plain read-only mode may still create or rewrite the `-shm` file. Two other ways don't:
`readonly_shm` where a write-ahead log is there, `immutable` where there is none (clean shutdown).
"""

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from journal.port import ChainBroken, JournalError, JournalUnavailable, Record, StreamKey
from journal.record import ChainChecker, Head
from journal.schema import SchemaTooNew, schema_version
from journal.upcast import Upcasters

__all__ = [
    "COLUMNS",
    "INSERT",
    "UNREADABLE",
    "Damaged",
    "Reader",
    "connect_reader",
    "open_reader",
    "to_record",
]

COLUMNS = "job_id, attempt, seq, at_ns, boot_id, event, version, source, dest, data_json, prev, hash"
_ALL = f"SELECT {COLUMNS} FROM records ORDER BY n"  # noqa: S608 - a constant
_STREAM = f"SELECT {COLUMNS} FROM records WHERE job_id = ? AND attempt = ? ORDER BY seq"  # noqa: S608 - a constant
_LAST = (
    f"SELECT {COLUMNS} FROM records WHERE n IN "  # noqa: S608 - a constant
    "(SELECT max(n) FROM records GROUP BY job_id, attempt HAVING max(at_ns) < ?) ORDER BY n"
)
INSERT = f"INSERT INTO records ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - a constant
# The oldest first: by the place of each stream's first record.
_STREAMS = "SELECT job_id, attempt FROM records WHERE seq = 1 ORDER BY n"
_ROWS_AT_ONCE = 512
# SQLite quotes a rotten schema in its message, and the driver fails to decode that.
UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)


class Damaged(JournalError):
    """The database can't be read as it is: opening it for writing sets it aside and salvages it."""


def to_record(row: tuple[Any, ...]) -> Record:
    """Return the record that a row of COLUMNS stands for."""
    job_id, attempt, seq, at_ns, boot_id, event, version, source, dest, data_json, prev, digest = row
    return Record(
        job_id,
        attempt,
        seq,
        at_ns,
        boot_id,
        event,
        version,
        source,
        dest,
        data_json,
        prev.hex(),
        digest.hex(),
    )


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open `path` so that neither it nor its neighbours are created or changed.

    Raises:
        Damaged: there is a write-ahead log without its index, or nothing that SQLite can open.
        FileNotFoundError: there is no such file.

    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no journal here")
    log = path.with_name(path.name + "-wal")
    index = path.with_name(path.name + "-shm")
    if not log.exists():
        how = "immutable=1"
    elif index.exists():
        how = "readonly_shm=1"
    elif log.stat().st_size == 0:
        how = "immutable=1"
    else:
        raise Damaged(f"{log} is there and {index.name} is not: start the daemon once, it puts this right")
    uri = f"{path.absolute().as_uri()}?mode=ro&{how}"
    try:
        return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0)
    except sqlite3.Error as error:
        raise Damaged(f"{path}: {error}") from error


class Reader:
    """A journal that can only be read. A context manager; every query sees what is committed at that moment.

    Errors of the database come as Damaged.
    """

    def __init__(self, conn: sqlite3.Connection, path: Path, upcasters: Upcasters) -> None:
        self._conn = conn
        self._path = path
        self._upcasters = upcasters

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._conn.close()

    def read(self, key: StreamKey) -> list[Record]:
        """Return the stream, verified as stored, then upcast; [] if there is none.

        Raises:
            ChainBroken: a record does not hold.
            VersionUnknown: a record is newer than this program.
            Damaged: the database can't be read.

        """
        checker = ChainChecker()
        found: list[Record] = []
        for record in self._query(_STREAM, key):
            checker.check(record)
            found.append(self._upcasters.record(record))
        return found

    def stored(self, key: StreamKey) -> list[Record]:
        """Return the stream as stored: neither verified nor upcast."""
        return list(self._query(_STREAM, key))

    def streams(self) -> list[StreamKey]:
        """Return the keys of all streams, oldest first."""
        return [StreamKey(*row) for row in self._rows(_STREAMS)]

    def records(self) -> Iterator[Record]:
        """Iterate over all records in the order of commit, each verified as stored, then upcast.

        What was committed when the iteration began is seen, nothing later. Raises as `read` does.
        """
        check, upcast = ChainChecker().check, self._upcasters.record
        for record in self._query(_ALL):
            check(record)
            yield upcast(record)

    def verify(self) -> dict[StreamKey, Head]:
        """Check the database's structure and every record's chain; return the head of each stream.

        Raises:
            ChainBroken: names the first record that does not hold.
            Damaged: SQLite's integrity_check has found something.

        """
        self._check("integrity_check")
        checker = ChainChecker()
        for record in self._query(_ALL):
            checker.check(record)
        return checker.heads()

    def damage(self, *, chains: bool) -> str | None:
        """Say what is wrong, None if nothing is: SQLite's integrity_check, then, with `chains`, every record's hash."""
        try:
            self._check("integrity_check")
            if chains:
                check = ChainChecker().check
                for record in self._query(_ALL):
                    check(record)
        except (Damaged, ChainBroken) as error:
            return str(error)
        return None

    def _check(self, pragma: str) -> None:
        problems = [str(row[0]) for row in self._rows(f"PRAGMA {pragma}(10)")]
        if problems != ["ok"]:
            raise Damaged(f"{self._path}: {'; '.join(problems)}")

    def expired(self, before_ns: int) -> list[Record]:
        """Return the last record, upcast, of each stream that got none at or after `before_ns`; oldest first."""
        return [self._upcasters.record(record) for record in self._query(_LAST, (before_ns,))]

    def _query(self, query: str, values: Iterable[Any] = ()) -> Iterator[Record]:
        for row in self._rows(query, values):
            try:
                record = to_record(row)
            except (AttributeError, TypeError) as error:
                raise Damaged(
                    f"{self._path}: a column has another type than the schema says: {error}"
                ) from error
            yield record

    def _rows(self, query: str, values: Iterable[Any] = ()) -> Iterator[tuple[Any, ...]]:
        try:
            cursor = self._conn.execute(query, tuple(values))
            while rows := cursor.fetchmany(_ROWS_AT_ONCE):
                yield from rows
        except sqlite3.ProgrammingError as error:
            raise JournalUnavailable(f"{self._path}: the journal is closed: {error}") from error
        except UNREADABLE as error:
            raise Damaged(f"{self._path}: {error}") from error


def open_reader(path: Path, upcasters: Upcasters | None = None) -> Reader:
    """Open the journal at `path` for reading; works while the daemon runs and when it does not.

    Raises:
        FileNotFoundError: there is no such file.
        SchemaTooNew: a later release wrote it.
        Damaged: it can't be read.

    """
    conn = connect_reader(path)
    try:
        version = schema_version(conn)
    except UNREADABLE as error:
        conn.close()
        raise Damaged(f"{path}: {error}") from error
    except SchemaTooNew:
        conn.close()
        raise
    if version == 0:
        conn.close()
        raise Damaged(f"{path}: holds no journal: its creation was interrupted, or it is another file")
    return Reader(conn, path, upcasters or Upcasters())
