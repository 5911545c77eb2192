"""The disk with the journal: what it acknowledged survives every life; and the port of one life to it."""

import asyncio
from collections.abc import Callable, Sequence

from journal.memory import MemoryJournal
from journal.port import Entry, JournalUnavailable, Record, StreamKey
from tests.simulation.crash import Life

__all__ = ["Disk", "DiskJournal"]

_COMMIT_S = 0.002


class Disk:
    """Owns the records. `full` makes appends fail; `ambiguous` are appends that are kept but reported as failed."""

    def __init__(
        self,
        now_ns: Callable[[], int],
        written: Callable[[StreamKey, Sequence[Entry], Sequence[Record]], None],
    ) -> None:
        self.memory = MemoryJournal(boot_id="simulated", now_ns=now_ns)
        self.full = False
        self.ambiguous: set[int] = set()
        self.appends = 0
        self._written = written

    def commit(self, key: StreamKey, seq: int, entries: Sequence[Entry]) -> tuple[Record, ...]:
        """Write at once: the memory journal never waits."""
        if self.full:
            raise JournalUnavailable("the disk is full")
        self.appends += 1
        try:
            self.memory.append(key, seq, entries).send(None)
        except StopIteration as done:
            records = done.value
        else:
            raise AssertionError("the memory journal waited")
        self._written(key, entries, records)
        if self.appends in self.ambiguous:
            raise JournalUnavailable("an error while reporting a commit")
        return records


class DiskJournal:
    """The port `Journal`, for one life. A write that was begun goes on when its caller is cancelled."""

    def __init__(self, disk: Disk, life: Life) -> None:
        self._disk = disk
        self._life = life

    async def append(self, key: StreamKey, expected_seq: int, entries: Sequence[Entry]) -> tuple[Record, ...]:
        events = "+".join(entry.event for entry in entries)
        await self._life.point(f"before append {key} {events}")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[tuple[Record, ...]] = loop.create_future()
        loop.call_later(_COMMIT_S, self._commit, key, expected_seq, entries, done)
        records = await done
        await self._life.point(f"after append {key} {events}")
        return records

    def _commit(self, key, seq, entries, done) -> None:
        if not self._life.alive:
            return
        try:
            records = self._disk.commit(key, seq, entries)
        except Exception as error:  # noqa: BLE001 - handed to whoever appended
            if not done.done():
                done.set_exception(error)
        else:
            if not done.done():
                done.set_result(records)

    def read(self, key: StreamKey) -> list[Record]:
        return self._disk.memory.read(key)

    def streams(self) -> list[StreamKey]:
        return self._disk.memory.streams()

    async def probe(self) -> None:
        await self._life.check()
        await asyncio.sleep(_COMMIT_S)
        if self._disk.full:
            raise JournalUnavailable("the disk is full")

    async def close(self) -> None:
        return
