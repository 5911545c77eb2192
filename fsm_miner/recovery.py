"""What the journal knows at start: each job as its events make it, with its stream's head."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from fsm_miner.sweeper import Finished
from journal.port import Record, StreamKey
from states.events import decode
from states.evolve import IllegalTransition, evolve
from states.job import NEW, Job
from states.table import State

__all__ = ["NONSENSE", "Found", "Recovered", "Telling", "head_of", "replay", "replay_stream", "told"]

NONSENSE = (IllegalTransition, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What decoding and folding raise for a record whose chain may hold all the same."""


@dataclass(frozen=True, slots=True)
class Found:
    """An unfinished job: its state, its head (see `head_of`), and when (UTC, ns) it entered the state."""

    job: Job
    head: str
    since_ns: int


@dataclass(slots=True)
class Recovered:
    """All streams, replayed. `unreadable` has a sentence for each stream that the table does not follow."""

    unfinished: list[Found] = field(default_factory=list[Found])
    finished: list[Finished] = field(default_factory=list[Finished])
    unreadable: list[str] = field(default_factory=list[str])

    def take(self, telling: "Telling") -> None:
        """Add what became of a stream."""
        job = telling.job
        if job.final:
            self.finished.append(Finished(telling.key, job.state is State.DONE, telling.since_ns))
        else:
            self.unfinished.append(Found(job, telling.head, telling.since_ns))

    def sort(self) -> None:
        """Put the unfinished in the order of their offers."""
        self.unfinished.sort(key=attrgetter("job.offered_ns"))


def replay_stream(records: Iterable[Record]) -> list[tuple[Record, Job]]:
    """Return each record with the job as it was after it.

    Raises:
        IllegalTransition: the table does not allow what the stream tells.
        KeyError, TypeError: an event is none of ours.

    """
    job = NEW
    steps: list[tuple[Record, Job]] = []
    for record in records:
        job = evolve(job, decode(record.event, record.data))
        steps.append((record, job))
    return steps


def head_of(steps: Sequence[tuple[Record, Job]]) -> str:
    """Return the hash of the record that made the outcome known, or of the newest while it is not.

    The result names it, and must read the same however often it is delivered: one key, one content.
    """
    return next((record.hash for record, job in steps if job.outcome_known), steps[-1][0].hash)


def _check_names(job: Job, key: StreamKey) -> None:
    """Refuse a job that is not the stream's, or can't be put in order: its chain may hold and its words be nonsense."""
    if (job.job_id, job.attempt) != key:
        raise ValueError("tells of another job than its stream")
    if type(job.offered_ns) is not int:
        raise TypeError("offered_ns is no whole number")


def told(error: Exception) -> str:
    """Return one of NONSENSE as a sentence."""
    return f"{type(error).__name__}: {error}"


class Telling:
    """One stream, folded record by record: its job so far, the head (see `head_of`), and since when it is so."""

    def __init__(self, key: StreamKey) -> None:
        self.key = key
        self.job = NEW
        self.head = ""
        self.since_ns = 0

    def add(self, record: Record) -> None:
        """Fold one more record, upcast.

        Raises:
            One of NONSENSE: the table does not follow; all is as it was.

        """
        job = self.job
        after = evolve(job, decode(record.event, record.data))
        _check_names(after, self.key)
        if not job.outcome_known:
            self.head = record.hash
        if after.state is not job.state:
            self.since_ns = record.at_ns
        self.job = after


def replay(records: Iterable[Record]) -> Recovered:
    """Fold records, upcast, each stream's in order. One bad stream costs that stream only."""
    tellings: dict[StreamKey, Telling] = {}
    bad: set[StreamKey] = set()
    found = Recovered()
    for record in records:
        key = record.key
        if key in bad:
            continue
        telling = tellings.get(key)
        if telling is None:
            telling = tellings[key] = Telling(key)
        try:
            telling.add(record)
        except NONSENSE as error:
            bad.add(key)
            del tellings[key]
            found.unreadable.append(f"{key}: record {record.seq}: {told(error)}")
    for telling in tellings.values():
        found.take(telling)
    found.sort()
    return found
