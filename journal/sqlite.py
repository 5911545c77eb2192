"""The durable backend: SQLite in WAL mode, `synchronous=FULL`, one writer thread, group commit."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from journal.creation import create
from journal.port import Entry, JournalUnavailable, Record, StreamKey
from journal.presence import Presence
from journal.reader import Reader, open_reader
from journal.record import Head, check_key, check_name, check_time, prepare
from journal.retention import Expiry, export_streams, seal_exported
from journal.schema import connect_writer, touch_header
from journal.upcast import Upcasters
from journal.writer import Append, Task, Writer

__all__ = ["BACKLOG_MAX", "SqliteJournal"]

BACKLOG_MAX = 4096


class SqliteJournal:
    """A `Journal` in one SQLite file; `journal.opening.open_journal` is the way to get one.

    `now_ns` gives UTC in nanoseconds and `boot_id` goes into every record; `busy_s` is how long a commit waits
    for another process that writes to the same file. `notes` go into the database's own, with its migration: what the
    next start may want to know (`Reader.notes`).

    Raises:
        SchemaTooNew: a later release wrote the file.
        JournalUnavailable: the file can't be made or opened for writing.
        Damaged: it can't be read.

    """

    def __init__(
        self,
        path: Path,
        *,
        boot_id: str,
        now_ns: Callable[[], int],
        upcasters: Upcasters | None = None,
        busy_s: float = 5.0,
        notes: Mapping[str, str] | None = None,
    ) -> None:
        check_name("boot_id", boot_id)
        self.path = path
        self._now_ns = now_ns
        self._upcasters = upcasters or Upcasters()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed = False
        self.damaged = asyncio.Event()
        """Set when an append or a probe has found the database damaged (`damage` says how): open it anew."""
        create(path, now_ns(), busy_s=busy_s, notes=notes)
        try:
            conn = connect_writer(path, busy_s=busy_s)
        except sqlite3.Error as error:
            raise JournalUnavailable(f"{path}: can't be opened for writing: {error}") from error
        try:
            self._reader = open_reader(path, self._upcasters, live=True)
        except BaseException:
            conn.close()
            raise
        self._presence = Presence(path, busy_s=busy_s, now_ns=now_ns)
        self._put_back: int = 0
        self._told: int = 0
        self._writer = Writer(conn, boot_id, self._settled, self._presence)

    @property
    def damage(self) -> str | None:
        """What SQLite said when it found the database damaged; None while it has not."""
        return self._writer.damage

    async def append(self, key: StreamKey, expected_seq: int, entries: Sequence[Entry]) -> tuple[Record, ...]:
        """Append all of `entries` durably or none; see `Journal.append`.

        Cancelling the waiting task does not call the append back once it is queued: it is kept or not, as a
        whole, and reading tells. ValueError: an entry can't be stored; nothing was queued.
        """
        check_key(key)
        for entry in entries:
            self._upcasters.check_writable(entry.event, entry.version)
        drafts = prepare(entries)
        while self._writer.backlog >= BACKLOG_MAX and not self._closed:
            await self._room()
        if self._closed:
            raise JournalUnavailable(f"{self.path}: the journal is closed")
        at_ns = check_time(self._now_ns())
        future: asyncio.Future[tuple[Record, ...]] = asyncio.get_running_loop().create_future()
        self._writer.put(Append(key, expected_seq, drafts, at_ns, future))
        return await future

    def read(self, key: StreamKey) -> list[Record]:
        """Return the stream, verified as stored, then upcast; see `Reader.read` for what it raises."""
        return self._reading().read(key)

    def streams(self) -> list[StreamKey]:
        """Return the keys of all streams, oldest first."""
        return self._reading().streams()

    def records(self) -> Iterator[Record]:
        """Iterate over all records in the order of commit; see `Reader.records`."""
        return self._reading().records()

    def verify(self) -> dict[StreamKey, Head]:
        """Check structure and chains; see `Reader.verify`."""
        return self._reading().verify()

    async def expire(self, before_ns: int, folder: Path, *, streams_max: int = 1000) -> Expiry:
        """Export, then drop, the streams that came to their final state before `before_ns` (UTC, ns).

        At most `streams_max` streams a call, oldest first: ask again while `Expiry.keys` is that long. A stream
        whose chain does not hold is never dropped (`Expiry.broken`).

        Raises:
            JournalUnavailable: the export or the deletion could not be made durable; what was not dropped stays.

        """
        due = await asyncio.to_thread(self._due, before_ns, streams_max)
        return await self.seal(due, folder)

    async def seal(self, keys: Sequence[StreamKey], folder: Path) -> Expiry:
        """Export the streams `keys` into a file in `folder`, note them as sealed, then drop them.

        A stream that grows meanwhile stays. Raises as `expire` does.
        """
        if not keys:
            return Expiry()
        now_ns = self._now_ns()
        exported = await asyncio.to_thread(self._export, keys, folder, now_ns)
        if exported.path is None:
            return exported
        if self._closed:
            raise JournalUnavailable(f"{self.path}: the journal is closed")
        future: asyncio.Future[Expiry] = asyncio.get_running_loop().create_future()
        self._writer.put(Task(lambda conn: seal_exported(conn, exported, now_ns), future))
        return await future

    async def probe(self) -> None:
        """Write the header page anew, as it is, durably; see `Journal.probe`."""
        if self._closed:
            raise JournalUnavailable(f"{self.path}: the journal is closed")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writer.put(Task(touch_header, future))
        await future

    async def restore(self) -> list[str]:
        """Look whether the database's files still have their names, and put them back if not.

        Returns what has been put back since the last call: a sentence each time.

        Raises:
            JournalUnavailable: they can't be put back now; nothing is appended until they can.

        """
        if self._presence.problem() is not None:
            await self.probe()
        told, self._told = self._told, len(self._writer.put_back)
        return self._writer.put_back[told:]

    def put_back_unless(self, why_not: Callable[[], str | None]) -> None:
        """Put files back only while `why_not`, asked in the writer's thread, gives no reason against it."""
        self._presence.why_not = why_not

    async def close(self) -> None:
        """Write what is queued, then release the file. Appending and reading end here; closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        self._settled()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # The reader first: the writer's connection must be the last, so that it folds the log into the database.
        self._reader.close()
        self._writer.put(done)
        await done
        self._writer.join()

    def _due(self, before_ns: int, streams_max: int) -> list[StreamKey]:
        with open_reader(self.path, self._upcasters, live=True) as reader:
            return reader.expired(before_ns, streams_max)

    def _export(self, keys: Sequence[StreamKey], folder: Path, now_ns: int) -> Expiry:
        with open_reader(self.path, self._upcasters, live=True) as reader:
            return export_streams(reader, keys, folder, now_ns)

    def _reading(self) -> Reader:
        """Return the reader, opened anew when the database was put back to its place."""
        put_back = len(self._writer.put_back)
        if put_back > self._put_back and not self._closed:
            try:
                fresh = open_reader(self.path, self._upcasters, live=True)
            except OSError as error:
                raise JournalUnavailable(f"{self.path}: can't be opened for reading: {error}") from error
            self._reader.close()
            self._reader = fresh
            self._put_back = put_back
        return self._reader

    async def _room(self) -> None:
        """Wait until a batch has been settled."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    def _settled(self) -> None:
        if self._writer.damage is not None:
            self.damaged.set()
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
