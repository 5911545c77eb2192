"""The journal's twin in memory: the same promises but durability. For tests and simulations."""

from collections.abc import Callable, Iterator, Sequence

from journal.port import AppendConflict, Entry, JournalUnavailable, Record, StreamKey
from journal.record import EMPTY, Head, chain, check_key, check_name, check_time, prepare, verify_chain
from journal.upcast import Upcasters

__all__ = ["MemoryJournal"]


class MemoryJournal:
    """A `Journal` that forgets everything with the process.

    `now_ns` gives UTC in nanoseconds; `boot_id` goes into every record.
    """

    def __init__(
        self, *, boot_id: str, now_ns: Callable[[], int], upcasters: Upcasters | None = None
    ) -> None:
        self._boot_id = check_name("boot_id", boot_id)
        self._now_ns = now_ns
        self._upcasters = upcasters or Upcasters()
        self._streams: dict[StreamKey, list[Record]] = {}
        self._closed = False

    async def append(self, key: StreamKey, expected_seq: int, entries: Sequence[Entry]) -> tuple[Record, ...]:
        """Append all of `entries` or none; see `Journal.append`. ValueError: an entry can't be stored."""
        if self._closed:
            raise JournalUnavailable("the journal is closed")
        check_key(key)
        for entry in entries:
            self._upcasters.check_writable(entry.event, entry.version)
        drafts = prepare(entries)
        stored = self._streams.get(key, [])
        head = Head(stored[-1].seq, stored[-1].hash) if stored else EMPTY
        if head.seq != expected_seq:
            raise AppendConflict(f"{key} has {head.seq} records, not {expected_seq}: read it again")
        records = chain(key, head, drafts, at_ns=check_time(self._now_ns()), boot_id=self._boot_id)
        self._streams.setdefault(key, stored).extend(records)
        return records

    def read(self, key: StreamKey) -> list[Record]:
        """Return the stream, verified and upcast; see `Journal.read`."""
        stored = self._streams.get(key, [])
        verify_chain(stored)
        return [self._upcasters.record(record) for record in stored]

    def records(self) -> Iterator[Record]:
        """Iterate over all records, upcast, stream after stream."""
        for stored in list(self._streams.values()):
            for record in list(stored):
                yield self._upcasters.record(record)

    def streams(self) -> list[StreamKey]:
        """Return the keys of all streams, oldest first."""
        return list(self._streams)

    async def probe(self) -> None:
        """Tell whether appending is possible; see `Journal.probe`."""
        if self._closed:
            raise JournalUnavailable("the journal is closed")

    async def close(self) -> None:
        """Refuse appends from now on; reading still works."""
        self._closed = True
