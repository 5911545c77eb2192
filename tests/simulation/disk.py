"""The disk with the journal: what it acknowledged survives every life; and the port of one life to it."""

import asyncio
import random
from collections.abc import Callable, Sequence

from journal.memory import MemoryJournal
from journal.port import Entry, JournalUnavailable, Record, StreamKey
from tests.simulation.crash import Life

__all__ = ["FSYNC_FAILS", "FULL", "READ_ONLY", "Disk", "DiskJournal"]

_COMMIT_S = 0.002
FULL = "No space left on device"
READ_ONLY = "Read-only file system"
FSYNC_FAILS = "fsync: Input/output error"


class Disk:
    """Owns the records. `trouble` makes appends fail; `ambiguous` are appends that are kept but reported as failed.

    Where fsync fails, nobody knows: half of what was written is there afterwards, though reported as failed.
    """

    def __init__(
        self,
        now_ns: Callable[[], int],
        written: Callable[[StreamKey, Sequence[Entry], Sequence[Record]], None],
        chance: random.Random,
        failed: Callable[[str], None],
    ) -> None:
        self.memory = MemoryJournal(boot_id="simulated", now_ns=now_ns)
        self.trouble: str | None = None
        self.slow_s = 0.0
        self.ambiguous: set[int] = set()
        self.appends = 0
        self.kept_though_failed = 0
        self.idle_from_s = 0.0
        self._written = written
        self._chance = chance
        self._failed = failed

    @property
    def writable(self) -> bool:
        """Whether files can be written at all."""
        return self.trouble not in {FULL, READ_ONLY}

    def takes_s(self, now_s: float) -> float:
        """How long from now until the next write is done: one after the other, as they came."""
        needs_s = self._chance.uniform(0.0, self.slow_s) if self.slow_s else _COMMIT_S
        self.idle_from_s = max(now_s, self.idle_from_s) + needs_s
        return self.idle_from_s - now_s

    def commit(self, key: StreamKey, seq: int, entries: Sequence[Entry]) -> tuple[Record, ...]:
        """Write at once: the memory journal never waits."""
        if not self.writable or (self.trouble == FSYNC_FAILS and self._chance.random() < 0.5):
            self._failed(f"append: {self.trouble}")
            raise JournalUnavailable(self.trouble)
        self.appends += 1
        try:
            self.memory.append(key, seq, entries).send(None)
        except StopIteration as done:
            records = done.value
        else:
            raise AssertionError("the memory journal waited")
        self._written(key, entries, records)
        if self.trouble == FSYNC_FAILS or self.appends in self.ambiguous:
            self.kept_though_failed += 1
            self._failed("append: kept, and reported as failed")
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
        loop.call_later(self._disk.takes_s(loop.time()), self._commit, key, expected_seq, entries, done)
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
        await asyncio.sleep(self._disk.takes_s(asyncio.get_running_loop().time()))
        if self._disk.trouble is not None:
            raise JournalUnavailable(self._disk.trouble)

    async def close(self) -> None:
        return
