"""Reading a journal: streams, listings and checks, over a connection that changes nothing (`journal.onlooker`)."""

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from journal import queries as sql
from journal.onlooker import Damaged, connect_reader
from journal.port import ChainBroken, JournalUnavailable, Record, StreamKey
from journal.queries import COLUMNS, INSERT
from journal.record import ChainChecker, Head
from journal.schema import SchemaTooNew, schema_version
from journal.upcast import Upcasters

__all__ = [
    "COLUMNS",
    "INSERT",
    "UNREADABLE",
    "Ended",
    "Reader",
    "in_the_way",
    "open_reader",
    "to_record",
]

_ROWS_AT_ONCE = 512
# SQLite quotes a rotten schema in its message, and the driver fails to decode that.
UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)


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


def in_the_way(error: Damaged) -> bool:
    """Return whether it is not the database: no descriptor or memory left, or somebody else has it for the moment."""
    code = getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF
    return code in {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_PROTOCOL,
    }


class Ended(NamedTuple):
    """A stream that is over: its last record's `dest`, and when (UTC, ns) that was written."""

    key: StreamKey
    dest: str
    at_ns: int


class Reader:
    """A journal that can only be read. A context manager; every query sees what is committed at that moment.

    `schema` is the database's, which may be older than this program's. Errors of the database come as Damaged.
    """

    def __init__(self, conn: sqlite3.Connection, path: Path, upcasters: Upcasters, schema: int) -> None:
        self._conn = conn
        self._path = path
        self._upcasters = upcasters
        self.schema = schema

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
        for record in self._query(sql.STREAM, key):
            checker.check(record)
            found.append(self._upcasters.record(record))
        return found

    def by_stream(self) -> Iterator[Record]:
        """Iterate over all records as stored, stream by stream; neither verified nor upcast."""
        return self._query(sql.BY_STREAM)

    def after(self, key: StreamKey, seq: int, count: int) -> list[Record]:
        """Return as stored, in the same order, the `count` records after that one: one short look at the database."""
        return list(self._query(sql.AFTER, (*key, seq, count)))

    def notes(self) -> dict[str, str]:
        """Return what the program that last took the journal over has noted; {} before schema 2."""
        return {} if self.schema < 2 else dict(self._rows("SELECT name, value FROM meta"))

    def ends(self) -> tuple[list[Ended], list[StreamKey]]:
        """Return the streams that are over, and the keys of the others. Reads two indexes only, and needs schema 2."""
        final = [
            Ended(StreamKey(job_id, attempt), dest, at_ns)
            for job_id, attempt, dest, at_ns in self._rows(sql.FINAL)
        ]
        over = {one.key for one in final}
        return final, [key for row in self._rows(sql.FIRST) if (key := StreamKey(*row)) not in over]

    def interrupt(self) -> None:
        """Let a query that runs in another thread end at once, as Damaged."""
        self._conn.interrupt()

    def stored(self, key: StreamKey) -> list[Record]:
        """Return the stream as stored: neither verified nor upcast."""
        return list(self._query(sql.STREAM, key))

    def streams(self) -> list[StreamKey]:
        """Return the keys of all streams, oldest first."""
        return [StreamKey(*row) for row in self._rows(sql.STREAMS)]

    def records(self) -> Iterator[Record]:
        """Iterate over all records in the order of commit, each verified as stored, then upcast.

        What was committed when the iteration began is seen, nothing later. Raises as `read` does.
        """
        check, upcast = ChainChecker().check, self._upcasters.record
        for record in self._query(sql.ALL):
            check(record)
            yield upcast(record)

    def verify(self) -> dict[StreamKey, Head]:
        """Check the database's structure and every record's chain; return the head of each stream.

        Raises:
            ChainBroken: names the first record that does not hold.
            Damaged: SQLite's integrity_check has found something.

        """
        self.check_structure()
        checker = ChainChecker()
        for record in self._query(sql.ALL):
            checker.check(record)
        return checker.heads()

    def damage(self, *, chains: bool) -> str | None:
        """Say what is wrong, None if nothing is: SQLite's integrity_check, then, with `chains`, every record's hash."""
        try:
            self.check_structure()
            if chains:
                check = ChainChecker().check
                for record in self._query(sql.ALL):
                    check(record)
        except (Damaged, ChainBroken) as error:
            return str(error)
        return None

    def check_structure(self) -> None:
        """Run SQLite's integrity_check.

        Raises:
            Damaged: it has found something, or could not be run; `in_the_way` tells which.

        """
        problems = [str(row[0]) for row in self._rows("PRAGMA integrity_check(10)")]
        if problems != ["ok"]:
            raise Damaged(f"{self._path}: {'; '.join(problems)}")

    def expired(self, before_ns: int, streams_max: int) -> list[StreamKey]:
        """Return the streams that were over before `before_ns`, oldest first. Reads one index, and needs schema 2."""
        return [StreamKey(row[0], row[1]) for row in self._rows(sql.EXPIRED, (before_ns, streams_max))]

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


def open_reader(path: Path, upcasters: Upcasters | None = None, *, live: bool = False) -> Reader:
    """Open the journal at `path` for reading; works while the daemon runs and when it does not.

    `live` as in `connect_reader`.

    Raises:
        FileNotFoundError: there is no such file.
        SchemaTooNew: a later release wrote it.
        Damaged: it can't be read.

    """
    conn = connect_reader(path, live=live)
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
    return Reader(conn, path, upcasters or Upcasters(), version)
