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

__all__ = ["Found", "Recovered", "head_of", "replay", "replay_stream"]


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


def replay(records: Iterable[Record]) -> Recovered:
    """Fold all records, in the order of commit. One bad stream costs that stream only."""
    jobs: dict[StreamKey, tuple[Job, str, int]] = {}
    bad: dict[StreamKey, str] = {}
    for record in records:
        key = record.key
        if key in bad:
            continue
        job, head, since_ns = jobs.get(key, (NEW, "", 0))
        try:
            after = evolve(job, decode(record.event, record.data))
            _check_names(after, key)
        except (IllegalTransition, ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            bad[key] = f"{key}: record {record.seq}: {type(error).__name__}: {error}"
            jobs.pop(key, None)
            continue
        head = head if job.outcome_known else record.hash
        jobs[key] = (after, head, record.at_ns if after.state is not job.state else since_ns)
    found = Recovered(unreadable=list(bad.values()))
    for key, (job, head, since_ns) in jobs.items():
        if job.final:
            found.finished.append(Finished(key, job.state is State.DONE, since_ns))
        else:
            found.unfinished.append(Found(job, head, since_ns))
    found.unfinished.sort(key=attrgetter("job.offered_ns"))
    return found
