"""What a journal is: streams of hash-chained records, one stream for each attempt of a job.

Two backends keep this promise, `journal.memory` and `journal.sqlite`; both pass the one
contract suite in `tests/unit/journal`. Nothing here knows what an event means.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

__all__ = [
    "AppendConflict",
    "ChainBroken",
    "Entry",
    "Journal",
    "JournalDamaged",
    "JournalError",
    "JournalUnavailable",
    "Record",
    "StreamKey",
    "StreamSealed",
]


class StreamKey(NamedTuple):
    """Names one stream: one attempt of one job (the coordinator counts the attempts)."""

    job_id: str
    attempt: int

    def __str__(self) -> str:
        return f"{self.job_id}/{self.attempt}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A fact to append. `data` must be JSON; `source` and `dest` name the states around it."""

    event: str
    version: int
    source: str
    dest: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """A fact as it stands in the journal.

    `seq` counts from 1 within the stream. `at_ns` is UTC in nanoseconds since the epoch.
    `data_json` is the canonical JSON text that the hash covers, byte for byte.
    `prev` and `hash` are lower-case hex SHA-256; the first record's `prev` is 64 zeros.
    """

    job_id: str
    attempt: int
    seq: int
    at_ns: int
    boot_id: str
    event: str
    version: int
    source: str
    dest: str
    data_json: str
    prev: str
    hash: str

    @property
    def key(self) -> StreamKey:
        """The stream this record belongs to."""
        return StreamKey(self.job_id, self.attempt)

    @property
    def data(self) -> dict[str, Any]:
        """The event's data, decoded anew at each call.

        Raises:
            ValueError: the record was changed, and holds no JSON, or JSON too deep to be read.

        """
        try:
            return json.loads(self.data_json)
        except RecursionError:
            raise ValueError("is nested too deeply") from None


class JournalError(Exception):
    """Anything that a journal raises."""


class AppendConflict(JournalError):
    """The stream is longer than the appender believed: somebody else wrote to it."""


class StreamSealed(AppendConflict):
    """The stream was closed, exported and dropped: it is over, and can't be read here any more."""


class JournalUnavailable(JournalError):
    """The append is not durable (disk full, read-only, closed). Nothing of it was kept."""


class JournalDamaged(JournalUnavailable):
    """The append is not durable because the database is damaged: waiting won't help, opening it anew will."""


class ChainBroken(JournalError):
    """A record does not follow from the one before it. Names the first bad one.

    `seq` is the sequence number of the first bad record, `reason` a sentence for people.
    """

    def __init__(self, key: StreamKey, seq: int, reason: str) -> None:
        super().__init__(f"{key}: record {seq}: {reason}")
        self.key = key
        self.seq = seq
        self.reason = reason


class Journal(Protocol):
    """The port. Reading is synchronous (start-up and tools); appending never blocks the event loop."""

    async def append(self, key: StreamKey, expected_seq: int, entries: Sequence[Entry]) -> tuple[Record, ...]:
        """Append `entries` durably, all or none, to a stream that now has `expected_seq` records.

        Returns when they would survive a power cut.

        Raises:
            AppendConflict: the stream has another length.
            JournalUnavailable: it could not be made durable; nothing was kept.

        """
        ...

    def read(self, key: StreamKey) -> list[Record]:
        """Return the stream's records in order, upcast to the newest event versions; [] if there is none."""
        ...

    def streams(self) -> list[StreamKey]:
        """Return the keys of all streams, oldest first."""
        ...

    async def probe(self) -> None:
        """Make a durable write that leaves no trace, to learn whether appending is possible.

        Raises:
            JournalUnavailable: it is not.

        """
        ...

    async def close(self) -> None:
        """Flush and release. Appending afterwards raises JournalUnavailable."""
        ...
