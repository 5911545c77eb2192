"""The one thread that writes: it takes everything that waits, and makes it durable with one commit.

    event loop ── put ──► queue ──► [ writer thread: chain, INSERT, COMMIT ] ── call_soon_threadsafe ──► futures

The slower the disk, the larger the batches: that is all there is to group commit. The connection belongs to the
thread alone. Heads of streams are kept in memory, so that an append reads nothing; when another connection has
changed the database (`PRAGMA data_version`), they are forgotten and read again, inside the transaction. The
UNIQUE key stands behind that.
"""

import sqlite3
import threading
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from journal.port import (
    AppendConflict,
    JournalDamaged,
    JournalError,
    JournalUnavailable,
    Record,
    StreamKey,
    StreamSealed,
)
from journal.presence import Presence
from journal.reader import INSERT
from journal.record import EMPTY, Draft, Head, chain
from journal.room import keep_room

__all__ = ["HEADS_MAX", "Append", "Task", "Writer"]

BATCH_MAX = 1024
HEADS_MAX = 8192
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_HEAD = "SELECT seq, hash FROM records WHERE job_id = ? AND attempt = ? ORDER BY seq DESC LIMIT 1"
_SEALED = "SELECT last_seq, export FROM sealed WHERE job_id = ? AND attempt = ?"


@dataclass(slots=True, eq=False)
class Append:
    """An append on its way."""

    key: StreamKey
    expected_seq: int
    drafts: tuple[Draft, ...]
    at_ns: int
    future: "Future[tuple[Record, ...]]"


@dataclass(slots=True, eq=False)
class Task:
    """Anything else to do in a transaction of its own; `forget` names the streams it removes."""

    run: Callable[[sqlite3.Connection], Any]
    future: "Future[Any]"


class _Nameless(OSError):
    """The open database has no name on the disk, and can't get it back now."""


class _Rotten(sqlite3.DatabaseError):
    """A row has other types than the schema allows."""


_Outcome = tuple["Future[Any]", Any, JournalError | None]


class Writer:
    """Owns the connection `conn` and closes it. `settled` is called in the event loop after each batch."""

    def __init__(
        self, conn: sqlite3.Connection, boot_id: str, settled: Callable[[], None], presence: Presence
    ) -> None:
        self._conn = conn
        self._presence = presence
        self.put_back: list[str] = []
        """What was wrong with the names of the database's files, each time that they were put back."""
        self.damage: str | None = None
        """What SQLite said when it found the database damaged; None while it has not."""
        self._boot_id = boot_id
        self._settled = settled
        self._queue: SimpleQueue[Append | Task | Future[None]] = SimpleQueue()
        self._heads: dict[StreamKey, Head] = {}
        self._data_version = -1
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """How many appends wait for the next commit."""
        return self._queue.qsize()

    def put(self, work: "Append | Task | Future[None]") -> None:
        """Queue work. A bare future means: stop after what was queued before, then set it."""
        self._queue.put(work)

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def _run(self) -> None:
        while True:
            batch, last = self._next_batch()
            if batch:
                self._deliver(self._commit(batch))
            if isinstance(last, Task):
                self._deliver([self._do(last)])
            elif last is not None:
                self._stop(last)
                return

    def _next_batch(self) -> "tuple[list[Append], Task | Future[None] | None]":
        """Wait for work, then take all that is there, up to the first thing that is no append."""
        batch: list[Append] = []
        work = self._queue.get()
        with suppress(Empty):
            while isinstance(work, Append):
                batch.append(work)
                if len(batch) == BATCH_MAX:
                    return batch, None
                work = self._queue.get_nowait()
            return batch, work
        return batch, None

    def _commit(self, batch: list[Append]) -> list[_Outcome]:
        """Append the whole batch in one transaction; a conflict hurts its own append only."""
        outcomes: list[_Outcome] = []
        fresh: dict[StreamKey, Head] = {}
        rows: list[tuple[Any, ...]] = []
        try:
            self._see_to_names()
            self._begin()
            for append in batch:
                try:
                    records = self._extend(append, fresh)
                except AppendConflict as conflict:
                    outcomes.append((append.future, None, conflict))
                else:
                    rows.extend(map(_row, records))
                    outcomes.append((append.future, records, None))
            self._conn.executemany(INSERT, rows)
            self._conn.execute("COMMIT")
            self._see_to_names()  # what has no name any more is not durable, whatever SQLite says
        except (sqlite3.Error, OSError) as error:
            self._roll_back()
            return [(append.future, None, self._unavailable(error)) for append in batch]
        self._remember(fresh)
        return outcomes

    def _see_to_names(self) -> None:
        """Put the database back to its place, should somebody have taken it away."""
        problem = self._presence.problem()
        if problem is None:
            self._presence.settle()
            return
        try:
            self._conn = self._presence.put_back(self._conn)
        except (sqlite3.Error, OSError) as error:
            raise _Nameless(
                f"{problem}, and could not be put back: {error}: see that it can; until then don't stop "
                "the daemon, which alone still has what was in it"
            ) from error
        self._data_version = -1
        self.put_back.append(problem)

    def _extend(self, append: Append, fresh: dict[StreamKey, Head]) -> tuple[Record, ...]:
        key = append.key
        head = fresh.get(key) or self._heads.get(key) or self._read_head(key)
        if head.seq != append.expected_seq:
            raise AppendConflict(f"{key} has {head.seq} records, not {append.expected_seq}: read it again")
        records = chain(key, head, append.drafts, at_ns=append.at_ns, boot_id=self._boot_id)
        fresh[key] = Head(records[-1].seq, records[-1].hash)
        return records

    def _read_head(self, key: StreamKey) -> Head:
        found = self._conn.execute(_HEAD, key).fetchone()
        if found:
            if type(found[0]) is not int or type(found[1]) is not bytes:
                raise _Rotten(f"the head of {key} is no record any more")
            return Head(found[0], found[1].hex())
        sealed = self._conn.execute(_SEALED, key).fetchone()
        if sealed:
            raise StreamSealed(f"{key} was closed after {sealed[0]} records and exported to {sealed[1]}")
        return EMPTY

    def _begin(self) -> None:
        self._conn.execute("BEGIN IMMEDIATE")
        keep_room(self._presence.path)
        (version,) = self._conn.execute("PRAGMA data_version").fetchone()
        if version != self._data_version:
            self._heads.clear()
            self._data_version = version

    def _roll_back(self) -> None:
        self._heads.clear()
        # SQLite has rolled back by itself after some errors (disk full); after others it has not.
        if self._conn.in_transaction:
            with suppress(sqlite3.Error):
                self._conn.execute("ROLLBACK")

    def _remember(self, fresh: dict[StreamKey, Head]) -> None:
        heads = self._heads
        if len(heads) + len(fresh) > HEADS_MAX:
            # The longest unused go: an append moves its stream to the end.
            for key in list(heads)[: len(fresh) + HEADS_MAX // 4]:
                del heads[key]
        for key, head in fresh.items():
            heads.pop(key, None)
            heads[key] = head

    def _do(self, task: Task) -> _Outcome:
        try:
            self._see_to_names()
            self._begin()
            result = task.run(self._conn)
            self._conn.execute("COMMIT")
            self._see_to_names()
        except (sqlite3.Error, OSError) as error:
            self._roll_back()
            return task.future, None, self._unavailable(error)
        self._heads.clear()
        return task.future, result, None

    def _stop(self, future: "Future[None]") -> None:
        problem: JournalError | None = None
        try:
            self._see_to_names()
            self._conn.close()
        except (sqlite3.Error, OSError) as error:
            problem = self._unavailable(error)
        self._deliver([(future, None, problem)])

    def _unavailable(self, error: sqlite3.Error | OSError) -> JournalUnavailable:
        if isinstance(error, OSError):
            return JournalUnavailable(str(error))
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        message = f"the journal could not be written ({name}: {error}); nothing of it was kept"
        if isinstance(error, _Rotten) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
            self.damage = message
            return JournalDamaged(message)
        return JournalUnavailable(message)

    def _deliver(self, outcomes: Sequence[_Outcome]) -> None:
        """Hand all outcomes over with one call into the event loop (one each, should there be several)."""
        loops: dict[AbstractEventLoop, list[_Outcome]] = {}
        for outcome in outcomes:
            loops.setdefault(outcome[0].get_loop(), []).append(outcome)
        for loop, mine in loops.items():
            # A loop that was closed meanwhile has nobody left who waits; the records are durable all the same.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._settle, mine)

    def _settle(self, outcomes: Sequence[_Outcome]) -> None:
        for future, result, problem in outcomes:
            if future.done():  # its task was cancelled while the append was in flight
                continue
            if problem is None:
                future.set_result(result)
            else:
                future.set_exception(problem)
        self._settled()


def _row(r: Record) -> tuple[Any, ...]:
    return (
        r.job_id, r.attempt, r.seq, r.at_ns, r.boot_id, r.event, r.version, r.source, r.dest, r.data_json,
        bytes.fromhex(r.prev), bytes.fromhex(r.hash),
    )  # fmt: skip
