"""A damaged database: everything readable goes into a fresh one, and the old one is set aside whole.

    <name>                      healthy, or found damaged
    <name>.salvaging            a fresh database, being filled; worth nothing until it is complete
    <name>.salvaged-<stamp>     complete and durable: from here on the swap is finished, if need be by the next start
    <name>.damaged-<stamp>      the old database, with its -wal, -shm and -journal beside it, unchanged

Streams are kept up to the last record whose chain holds. What follows a bad record can't be trusted and is dropped
and reported; it is still in the file that was set aside.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from journal.creation import make_whole
from journal.onlooker import Damaged, connect_reader
from journal.port import ChainBroken, JournalUnavailable, Record, StreamKey
from journal.put_back import finish_put_back
from journal.reader import COLUMNS, INSERT, UNREADABLE, open_reader, to_record
from journal.record import ChainChecker
from journal.schema import connect_writer, fsync_folder

__all__ = ["Salvage", "find_damage", "finish_swap", "lend_index", "salvage"]

# So many places in a row may be unreadable before the rest is given up; each costs some microseconds.
_MISSES_MAX = 50_000
_BROKEN_MAX = 1000
_HOPELESS = ("no such", "not a database", "schema", "prohibited", "not authorized")
_TYPES = (int, str, int, int, int, str, str, int, str, str, str, bytes, bytes)
_FROM = f"SELECT n, {COLUMNS} FROM records NOT INDEXED WHERE n > ? ORDER BY n"  # noqa: S608 - a constant
_SEALED = "SELECT job_id, attempt, last_seq, last_hash, sealed_ns, export FROM sealed"
_SEAL = (
    "INSERT INTO sealed (job_id, attempt, last_seq, last_hash, sealed_ns, export) VALUES (?, ?, ?, ?, ?, ?)"
)
_SEALED_TYPES = (str, int, int, bytes, int, str)


@dataclass(frozen=True, slots=True)
class Salvage:
    """What became of a damaged database.

    `aside` is the old file; `reason` is what was wrong with it. `records` in `streams` were kept. `broken` names
    the first record lost of each stream that lost some (the first thousand streams); `unreadable` counts the
    gaps in the database itself, so records whose stream nobody can name any more may be among the lost.
    """

    aside: Path
    reason: str
    records: int = 0
    streams: int = 0
    broken: tuple[ChainBroken, ...] = ()
    unreadable: int = 0

    def __str__(self) -> str:
        lost = (
            ", ".join(f"{b.key} from record {b.seq} on ({b.reason})" for b in self.broken[:10])
            or "nothing known"
        )
        return (
            f"the journal was damaged ({self.reason}); kept {self.records} records in {self.streams} streams; "
            f"lost: {lost}; unreadable places: {self.unreadable}; the old file is {self.aside}"
        )


def find_damage(path: Path, *, chains: bool = True) -> str | None:
    """Say what is wrong with the database at `path`, None if nothing is. Changes nothing.

    Runs SQLite's integrity_check (quick_check would not notice an index that has lost a record, and the index is
    the lock that keeps streams dense), and, with `chains`, rehashes every record.

    Raises:
        SchemaTooNew: a later release wrote it.

    """
    lend_index(path)
    try:
        with open_reader(path) as reader:
            return reader.damage(chains=chains)
    except Damaged as error:
        return str(error)


def lend_index(path: Path) -> None:
    """Give a log that lost its index (a copied file, a power cut) an empty one, so that it can be read unchanged."""
    log = path.with_name(path.name + "-wal")
    index = path.with_name(path.name + "-shm")
    if log.exists() and not index.exists():
        os.close(os.open(index, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))


def salvage(path: Path, reason: str, now_ns: int, stamp: str) -> Salvage:
    """Put a fresh database with everything readable in the place of the damaged one at `path`.

    Raises:
        JournalUnavailable: the fresh one could not be written; the old one is where it was.

    """
    partial = path.with_name(path.name + ".salvaging")
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    try:
        make_whole(partial, now_ns, busy_s=5.0)
        with closing(connect_writer(partial, busy_s=5.0)) as target:
            report = _copy(path, target, Salvage(aside, reason))
        partial.rename(path.with_name(f"{path.name}.salvaged-{stamp}"))
        fsync_folder(path.parent)
        finish_swap(path)
    except (OSError, sqlite3.Error) as error:
        raise JournalUnavailable(
            f"{path} is damaged ({reason}) and could not be salvaged: {error}: make room in its folder, start again"
        ) from error
    return report


def finish_swap(path: Path) -> Path | None:
    """Finish what a crash has interrupted; return the file to look at: the old database, or half a copy; None if none.

    Call it before the journal is opened. A put-back that can be finished leaves nothing to look at. The log goes
    first: left beside the fresh database, SQLite would replay it into that.

    Raises:
        SchemaTooNew: a later release was putting the journal back; nothing was changed.
        OSError: a file could not be renamed.

    """
    unfinished = finish_put_back(path)
    prefix = f"{path.name}.salvaged-"
    complete = sorted(
        p for p in path.parent.iterdir() if p.name.startswith(prefix) and "-" not in p.name[len(prefix) :]
    )
    if not complete:
        return unfinished
    fresh = complete[-1]
    aside = path.with_name(f"{path.name}.damaged-{fresh.name[len(prefix) :]}")
    for suffix in ("-journal", "-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    fsync_folder(path.parent)
    fresh.rename(path)
    fsync_folder(path.parent)
    return aside


def _copy(path: Path, target: sqlite3.Connection, report: Salvage) -> Salvage:
    """Fill `target` from the damaged database; complete the report."""
    try:
        source = connect_reader(path)
    except (Damaged, FileNotFoundError):
        return report
    source.text_factory = _text
    checker = ChainChecker()
    broken: dict[StreamKey, ChainBroken] = {}
    # A row takes more than 100 bytes, in the database or in its log.
    log = path.with_name(path.name + "-wal")
    rows = _Rows(source, (path.stat().st_size + (log.stat().st_size if log.exists() else 0)) // 50)
    kept = 0
    with closing(source):
        target.execute("BEGIN IMMEDIATE")
        for row, record in rows:
            if record.seq <= checker.head(record.key).seq:
                continue  # came twice
            try:
                checker.check(record)
            except ChainBroken as error:
                if len(broken) < _BROKEN_MAX:
                    broken.setdefault(record.key, error)
                continue
            target.execute(INSERT, row)
            kept += 1
        for sealed in _sealed(source):
            with suppress(sqlite3.IntegrityError):
                target.execute(_SEAL, sealed)
        target.execute("COMMIT")
    # The log must be empty before the file is renamed away from it.
    (busy, _, _) = target.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise sqlite3.OperationalError("the fresh database's log could not be folded in")
    return Salvage(
        report.aside, report.reason, kept, len(checker.heads()), tuple(broken.values()), rows.unreadable
    )


def _text(raw: bytes) -> str:
    """Decode stored text; bytes that rot has made invalid UTF-8 survive, and then fail their hash."""
    return raw.decode("utf-8", "surrogateescape")


class _Rows:
    """The readable rows of `records`; steps over what SQLite refuses to read, place by place.

    Rot may also have changed a row's `n`, or led the tree back: a row may come twice, and out of order.
    """

    def __init__(self, conn: sqlite3.Connection, rows_max: int) -> None:
        self._conn = conn
        self._rows_left = rows_max
        self.unreadable = 0

    def __iter__(self) -> Iterator[tuple[tuple[Any, ...], Record]]:
        last, misses, top = 0, 0, self._top()
        while misses < _MISSES_MAX and self._rows_left > 0:
            try:
                for row in self._conn.execute(_FROM, (last,)):
                    self._rows_left -= 1
                    if type(row[0]) is int and last < row[0] <= top:
                        last, misses = row[0], 0
                    if tuple(map(type, row)) != _TYPES:
                        self.unreadable += 1
                    elif self._rows_left > 0:
                        yield row[1:], to_record(row[1:])
            except UNREADABLE as error:
                self.unreadable += misses == 0
                if not _may_step_over(error):
                    return
                last, misses = last + 1, misses + 1
            else:
                return

    def _top(self) -> int:
        with suppress(*UNREADABLE):
            (top,) = self._conn.execute("SELECT max(n) FROM records").fetchone()
            if type(top) is int:
                return top
        return 2**63 - 1


def _may_step_over(error: Exception) -> bool:
    """Whether another row may still be readable: not so when there is no table (or a view instead), or no database."""
    if isinstance(error, UnicodeDecodeError):
        return False
    return not any(words in str(error) for words in _HOPELESS)


def _sealed(conn: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """Iterate over the notes of sealed streams as far as they can be read."""
    with suppress(*UNREADABLE):
        for row in conn.execute(_SEALED):
            if tuple(map(type, row)) == _SEALED_TYPES:
                yield row
