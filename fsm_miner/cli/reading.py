"""Reading a journal as far as it can be read: beside a running daemon, without one, and when it is damaged.

`journal.Reader` stops at the first thing that is wrong, which is right for a daemon. People who look for what
went wrong want everything else too, so this reads row by row, verifies nothing by itself, and says where it
had to stop. It changes nothing on the disk.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from fsm_miner.cli.outcome import ExitCode, Refused
from journal.onlooker import Damaged, NoFile, connect_reader
from journal.port import JournalError, JournalUnavailable, Record, StreamKey
from journal.reader import COLUMNS, UNREADABLE, to_record
from journal.retention import archive_folder
from journal.schema import SchemaTooNew, schema_version

__all__ = ["JournalFile", "Listed", "Sealed", "Unreadable"]

_STREAM = f"SELECT {COLUMNS} FROM records WHERE job_id = ? AND attempt = ? AND seq > ? ORDER BY seq"  # noqa: S608 - a constant
_ALL = f"SELECT {COLUMNS} FROM records ORDER BY n"  # noqa: S608 - a constant
_ATTEMPTS = "SELECT DISTINCT attempt FROM records WHERE job_id = ? ORDER BY attempt"
_LISTING = (
    "SELECT g.job_id, g.attempt, last.dest, first.at_ns, last.at_ns, g.records FROM"
    " (SELECT job_id, attempt, min(n) AS first, max(n) AS last, count(*) AS records FROM records"
    " GROUP BY job_id, attempt) AS g"
    " JOIN records AS first ON first.n = g.first JOIN records AS last ON last.n = g.last ORDER BY g.first DESC"
)
_NAMES = "SELECT DISTINCT job_id FROM records UNION SELECT job_id FROM sealed"
_SEALED = "SELECT job_id, attempt, last_seq, last_hash, export FROM sealed ORDER BY job_id, attempt"
_FIRST = -(2**63)
_TYPES = (str, int, int, int, str, str, int, str, str, str, bytes, bytes)


class Unreadable(JournalError):
    """The rest can't be read; what was read before it stands."""


class Listed(NamedTuple):
    """A stream in short: the state after its last record, and when (UTC, ns) its first and last were written."""

    key: StreamKey
    state: str
    first_ns: int
    last_ns: int
    records: int


class Sealed(NamedTuple):
    """A stream that retention has moved to the file `export` of the archive, and where it ended."""

    key: StreamKey
    last_seq: int
    last_hash: str
    export: str


class JournalFile:
    """A journal's database, opened for looking. A context manager."""

    def __init__(self, path: Path) -> None:
        """Open `path`. `trouble` says what is wrong with the database itself, None if nothing is known to be.

        `schema` is the version of its tables, None if that can't be told.

        Raises:
            Refused: there is nothing that could be read.

        """
        self.path = path
        self.trouble: str | None = None
        self.schema: int | None = None
        _may_read(path)
        try:
            self._conn = connect_reader(path)
        except (NoFile, JournalUnavailable) as error:
            raise Refused(ExitCode.HOST, str(error)) from None
        except (Damaged, OSError) as error:
            raise Refused(ExitCode.NO, str(error)) from None
        # What is no UTF-8 any more fails its hash, not the reading of it.
        self._conn.text_factory = _decode
        try:
            self.schema = schema_version(self._conn)
            if self.schema == 0:
                self._conn.close()
                raise Refused(ExitCode.NO, f"{path}: holds no journal")
        except SchemaTooNew as error:
            self._conn.close()
            raise Refused(ExitCode.HOST, f"{path}: {error}") from None
        except UNREADABLE as error:
            self.trouble = f"{path}: {error}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._conn.close()

    @property
    def archive(self) -> Path:
        """Where retention puts what it exports."""
        return archive_folder(self.path)

    def attempts(self, job_id: str) -> list[int]:
        """Return the attempts of a job, in order; [] if the journal has none."""
        return [attempt for (attempt,) in self._rows(_ATTEMPTS, (job_id,))]

    def stream(self, key: StreamKey, after: int | None = None) -> Iterator[Record]:
        """Iterate over a stream as stored, or what follows record `after`. Unreadable: where a row can't be read."""
        return self._records(_STREAM, (*key, _FIRST if after is None else after))

    def data_version(self) -> int:
        """Return a number that is another one after each commit of somebody else (sqlite.org/pragma.html)."""
        ((version,),) = list(self._rows("PRAGMA data_version"))
        return version

    def records(self) -> Iterator[Record]:
        """Iterate over all records as stored, in the order of commit. Unreadable: as above."""
        return self._records(_ALL)

    def count(self) -> int:
        """Return about how many records there are, at once."""
        ((newest,),) = list(self._rows("SELECT max(n) FROM records"))
        return newest or 0

    def listing(self) -> list[Listed]:
        """Return all streams, the newest first."""
        return [
            Listed(StreamKey(job_id, attempt), state, first_ns, last_ns, records)
            for job_id, attempt, state, first_ns, last_ns, records in self._rows(_LISTING)
        ]

    def names(self) -> list[str]:
        """Return the ids of all jobs, those in the archive too."""
        return [name for (name,) in self._rows(_NAMES)]

    def sealed(self) -> list[Sealed]:
        """Return what was moved to the archive."""
        return [
            Sealed(StreamKey(job_id, attempt), seq, digest.hex(), export)
            for job_id, attempt, seq, digest, export in self._rows(_SEALED)
        ]

    def _records(self, query: str, values: Iterable[Any] = ()) -> Iterator[Record]:
        for row in self._rows(query, values):
            if tuple(map(type, row)) != _TYPES:
                raise Unreadable(f"{self.path}: a row of {row[0]!r:.80} is no record any more")
            yield to_record(row)

    def _rows(self, query: str, values: Iterable[Any] = ()) -> Iterator[tuple[Any, ...]]:
        try:
            # One by one: of a batch, the rows before the bad one would be lost.
            yield from self._conn.execute(query, tuple(values))
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise Unreadable(f"{self.path}: {error}") from error


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _may_read(path: Path) -> None:
    try:
        path.stat(follow_symlinks=False)
        denied = not os.access(path, os.R_OK)
    except FileNotFoundError:
        raise Refused(
            ExitCode.NO, f"{path}: there is no journal; a daemon makes its own at its first start"
        ) from None
    except PermissionError:
        denied = True
    except OSError as error:
        raise Refused(ExitCode.HOST, f"{path}: {error.strerror}") from None
    if denied:
        raise Refused(
            ExitCode.HOST, f"{path}: permission denied: run this as the daemon's user, or with sudo"
        )
