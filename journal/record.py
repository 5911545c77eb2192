"""Records: how a fact becomes canonical bytes, and how each record's hash holds the one before it.

The canonical record is ten fields joined by newlines, in this order: job_id, attempt, seq, at_ns, boot_id,
event, version, source, dest, data_json. No field can hold a newline (`prepare` and `check_name` refuse
anything unprintable, and JSON escapes it), so two different records never have the same bytes.
`hash = SHA-256(prev's 32 bytes + canonical record)`; the first record's prev is 32 zero bytes.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from journal.port import ChainBroken, Entry, Record, StreamKey

__all__ = [
    "DATA_BYTES_MAX",
    "EMPTY",
    "GENESIS",
    "NAME_CHARS_MAX",
    "ChainChecker",
    "Draft",
    "Head",
    "canonical_json",
    "chain",
    "check_key",
    "check_name",
    "check_time",
    "prepare",
    "record_hash",
    "verify_chain",
]

GENESIS = "0" * 64
DATA_BYTES_MAX = 4 * 1024 * 1024
NAME_CHARS_MAX = 512
_INT_MAX = 2**63 - 1

_encode = json.JSONEncoder(
    ensure_ascii=True, allow_nan=False, sort_keys=True, separators=(",", ":"), check_circular=False
).encode


class Head(NamedTuple):
    """Where a stream ends: the last record's `seq` (0 when empty) and its hash in hex."""

    seq: int
    hash: str


EMPTY = Head(0, GENESIS)


class Draft(NamedTuple):
    """An entry that has been checked and encoded, and lacks only its place in the stream."""

    event: str
    version: int
    source: str
    dest: str
    data_json: str


def canonical_json(data: Mapping[str, Any]) -> str:
    """Return the one JSON text of `data`: sorted keys, no blanks, ASCII only (so lone surrogates are safe).

    Raises:
        ValueError: not JSON (NaN, an infinity, an object, mixed keys), too deep, or over DATA_BYTES_MAX.

    """
    try:
        text = _encode(data if type(data) is dict else dict(data))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"journal data is not JSON: {error}") from error
    if len(text) > DATA_BYTES_MAX:
        raise ValueError(f"journal data has {len(text)} bytes; at most {DATA_BYTES_MAX} fit")
    return text


def check_name(what: str, value: str) -> str:
    """Return `value` if it can stand in a record: printable, bounded, so without newline, NUL or surrogate.

    Raises:
        ValueError: it can't; the message says which field and why.

    """
    if not value or len(value) > NAME_CHARS_MAX or not value.isprintable():
        raise ValueError(f"{what} must be 1 to {NAME_CHARS_MAX} printable characters, not {value[:80]!r}")
    return value


def check_key(key: StreamKey) -> None:
    """Check that `key` can name a stream.

    Raises:
        ValueError: it can't.

    """
    check_name("job_id", key.job_id)
    if not 0 <= key.attempt <= _INT_MAX:
        raise ValueError(f"attempt must be from 0 to {_INT_MAX}, not {key.attempt}")


def check_time(at_ns: int) -> int:
    """Return `at_ns` if it can stand in a record.

    Raises:
        ValueError: it can't.

    """
    if not 0 <= at_ns <= _INT_MAX:
        raise ValueError(f"the clock must give nanoseconds from 0 to {_INT_MAX}, not {at_ns}")
    return at_ns


def prepare(entries: Sequence[Entry]) -> tuple[Draft, ...]:
    """Check and encode `entries`, so that whatever happens to their data afterwards changes nothing.

    Raises:
        ValueError: an entry can't be stored.

    """
    if not entries:
        raise ValueError("an append needs at least one entry")
    return tuple([_draft(entry) for entry in entries])


def _draft(entry: Entry) -> Draft:
    event, source, dest = entry.event, entry.source, entry.dest
    check_name("event", event)
    check_name("source", source)
    check_name("dest", dest)
    if not 1 <= entry.version <= _INT_MAX:
        raise ValueError(f"{event}: version must be from 1 to {_INT_MAX}, not {entry.version}")
    return Draft(event, entry.version, source, dest, canonical_json(entry.data))


def record_hash(record: Record) -> str:
    """Return the hash that `record` should carry, computed from its other fields."""
    # One f-string: this line decides how fast a journal can be verified.
    text = (
        f"{record.job_id}\n{record.attempt}\n{record.seq}\n{record.at_ns}\n{record.boot_id}\n{record.event}\n"
        f"{record.version}\n{record.source}\n{record.dest}\n{record.data_json}"
    )
    # surrogateescape: bytes that rot has made invalid UTF-8 must be hashed as they stand, not raise.
    return sha256(bytes.fromhex(record.prev) + text.encode("utf-8", "surrogateescape")).hexdigest()


def chain(
    key: StreamKey, head: Head, drafts: Iterable[Draft], *, at_ns: int, boot_id: str
) -> tuple[Record, ...]:
    """Return the records that `drafts` become after `head`. `at_ns`: UTC, nanoseconds since the epoch."""
    job_id, attempt = key
    seq, prev = head
    records: list[Record] = []
    for event, version, source, dest, data_json in drafts:
        seq += 1
        text = (
            f"{job_id}\n{attempt}\n{seq}\n{at_ns}\n{boot_id}\n{event}\n"
            f"{version}\n{source}\n{dest}\n{data_json}"
        )
        digest = sha256(bytes.fromhex(prev) + text.encode()).hexdigest()
        records.append(
            Record(
                job_id, attempt, seq, at_ns, boot_id, event, version, source, dest, data_json, prev, digest
            )
        )
        prev = digest
    return tuple(records)


class ChainChecker:
    """Checks records of any number of streams, each stream's in order, as they come by.

    After ChainBroken the broken stream's head stays where it last held. Memory: one head for each stream.
    """

    def __init__(self) -> None:
        self._heads: dict[tuple[str, int], tuple[int, str]] = {}

    def check(self, record: Record) -> None:
        """Accept `record` as its stream's next.

        Raises:
            ChainBroken: it does not follow, or its content is not what its hash covers.

        """
        self._follows(record)
        try:
            expected = record_hash(record)
        except UnicodeEncodeError as error:
            raise ChainBroken(record.key, record.seq, f"its text can't be encoded: {error}") from error
        if record.hash != expected:
            raise ChainBroken(record.key, record.seq, "its content is not what its hash covers")
        self._heads[record.job_id, record.attempt] = (record.seq, expected)

    def trust(self, record: Record) -> None:
        """Accept `record` as its stream's next without its content, which was redacted; its hash is believed.

        Raises:
            ChainBroken: it does not follow.

        """
        self._follows(record)
        self._heads[record.job_id, record.attempt] = (record.seq, record.hash)

    def _follows(self, record: Record) -> None:
        seq, prev = self._heads.get((record.job_id, record.attempt), EMPTY)
        if record.seq != seq + 1:
            raise ChainBroken(record.key, record.seq, f"follows record {seq}, so record {seq + 1} is missing")
        if record.prev != prev:
            raise ChainBroken(record.key, record.seq, "prev is not the hash of the record before it")

    def head(self, key: StreamKey) -> Head:
        """Return the last record of `key` that held."""
        return Head(*self._heads.get(key, EMPTY))

    def heads(self) -> dict[StreamKey, Head]:
        """Return the head of every stream seen."""
        return {StreamKey(*name): Head(*head) for name, head in self._heads.items()}


def verify_chain(records: Iterable[Record]) -> dict[StreamKey, Head]:
    """Check whole streams as stored (before any upcasting); return the head of each.

    Streams may be interleaved; each one's records must be in order, from its first.

    Raises:
        ChainBroken: names the first record that does not hold.

    """
    checker = ChainChecker()
    check = checker.check
    for record in records:
        check(record)
    return checker.heads()
