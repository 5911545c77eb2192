"""How this version reads a journal, and whether that is what its writer meant.

Each record carries the states around its event as the writer saw them. So any version can be asked, before it
touches anything, whether it would make of the old facts what the old version made of them: `survey` folds every stream
and compares. `fingerprint` names the reading, so that a start of the same version need not ask again.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import journal.record
import journal.upcast
import states.codes
import states.events
import states.evolve
import states.job
import states.table
from fsm_miner import recovery, upcasters
from fsm_miner.recovery import NONSENSE, Recovered, Telling, told
from journal.port import ChainBroken, Record, StreamKey
from journal.record import ChainChecker
from journal.upcast import Upcasters, VersionUnknown
from states.job import Job

__all__ = ["Difference", "Survey", "fingerprint", "survey"]

_PARTS: tuple[ModuleType, ...] = (
    states.table, states.events, states.codes, states.job, states.evolve,
    journal.record, journal.upcast, recovery, upcasters,
)  # fmt: skip
DIFFERENCES_MAX = 1000
_TICK_RECORDS = 512


@cache
def fingerprint() -> str:
    """Return a hash (hex) of everything that decides how a record is read, down to the source.

    A change of a comment changes it too: that costs the next start one full replay, and a list of what matters, kept
    by hand, would one day cost more.
    """
    digest = sha256(sha256(Path(__file__).read_bytes()).digest())
    for part in _PARTS:
        assert part.__file__ is not None
        digest.update(sha256(Path(part.__file__).read_bytes()).digest())
    # The table is built by a library: what it made of it counts.
    digest.update(repr(sorted(states.table.destinations().items())).encode())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Difference:
    """Where this version first reads a stream otherwise than was recorded: at record `seq`, with event `event`."""

    key: StreamKey
    seq: int
    event: str
    reason: str

    def __str__(self) -> str:
        return f"{self.key}: record {self.seq}: {self.event}: {self.reason}"


@dataclass(slots=True)
class Survey:
    """What a look at every record has found.

    `recovered` is as after `recovery.replay`, but for the streams that differ. `differences` has at most a thousand
    of the `differing` streams; `broken` names the first bad record of each stream whose chain does not hold: that is
    damage, and no other reading.
    """

    recovered: Recovered = field(default_factory=Recovered)
    differences: list[Difference] = field(default_factory=list[Difference])
    differing: int = 0
    broken: list[ChainBroken] = field(default_factory=list[ChainBroken])
    streams: int = 0
    records: int = 0


class _Stream:
    """One stream, as its records come by."""

    def __init__(self, key: StreamKey) -> None:
        self.telling = Telling(key)
        self._chain = ChainChecker()
        self.difference: Difference | None = None
        self.broken: ChainBroken | None = None

    def add(self, record: Record, table: Upcasters) -> None:
        if self.broken is not None:
            return
        try:
            self._chain.check(record)
        except ChainBroken as error:
            self.broken = error
            return
        if self.difference is None:
            reason = self._read(record, table)
            if reason is not None:
                self.difference = Difference(record.key, record.seq, record.event, reason)

    def _read(self, record: Record, table: Upcasters) -> str | None:
        """Take the record in; say how this differs from what was recorded."""
        telling = self.telling
        before: Job = telling.job
        try:
            telling.add(table.record(record))
        except VersionUnknown as error:
            return str(error)
        except NONSENSE as error:
            return told(error)
        after = telling.job
        if (record.source, record.dest) != (before.state, after.state):
            return (
                f"was recorded as {record.source} → {record.dest}, and this version reads it as "
                f"{before.state} → {after.state}"
            )
        if record.seq != after.seq:
            return f"is fact {after.seq} of its job to this version"
        return None


def survey(
    records: Iterable[Record],
    into: Survey | None = None,
    table: Upcasters = upcasters.UPCASTERS,
    tick: Callable[[int], None] = lambda _done: None,
) -> Survey:
    """Check and read all `records` as stored, which come stream by stream, each in order.

    `into` has what was found until then, should reading `records` raise.
    Memory: what is unfinished, and a line for each stream that is over. `tick` hears now and then how many are done.
    Raises what reading `records` raises.
    """
    found = Survey() if into is None else into
    stream: _Stream | None = None
    for record in records:
        if stream is None or record.key != stream.telling.key:
            if stream is not None:
                _close(stream, found)
            stream = _Stream(record.key)
        stream.add(record, table)
        found.records += 1
        if found.records % _TICK_RECORDS == 0:
            tick(found.records)
    if stream is not None:
        _close(stream, found)
    tick(found.records)
    found.recovered.sort()
    return found


def _close(stream: _Stream, found: Survey) -> None:
    found.streams += 1
    if stream.broken is not None:
        found.broken.append(stream.broken)
    if stream.difference is not None:
        found.differing += 1
        if len(found.differences) < DIFFERENCES_MAX:
            found.differences.append(stream.difference)
    elif stream.telling.job.seq:
        found.recovered.take(stream.telling)
