"""A stream of records as a story: what each did to the job, how far it can be trusted, how it ended.

Pure functions over records; nothing here reads a clock or a disk.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, is_dataclass, replace
from enum import Enum
from typing import Any, cast

from fsm_miner.upcasters import UPCASTERS
from journal.port import ChainBroken, JournalError, Record, StreamKey
from journal.record import ChainChecker
from journal.upcast import Upcasters
from states.due import due
from states.events import Event, decode
from states.evolve import IllegalTransition, evolve
from states.job import NEW, Job

__all__ = [
    "Step",
    "Story",
    "StoryReader",
    "data_of",
    "due_json",
    "job_json",
    "plain",
    "read_story",
    "record_json",
]

# What a record may raise whose bytes were changed: nothing in it is what it should be.
_NONSENSE = (ArithmeticError, AttributeError, KeyError, LookupError, TypeError, ValueError, JournalError)


@dataclass(frozen=True, slots=True)
class Step:
    """One record. `event` and `job` (as it was after the record) are None where they can't be told any more.

    `holds`: the record and all before it are what was written.
    """

    record: Record
    event: Event | None
    job: Job | None
    holds: bool


@dataclass(frozen=True, slots=True)
class Story:
    """A stream. `broken` is the first record that does not hold; `trouble` says what else is wrong with it."""

    key: StreamKey
    steps: tuple[Step, ...]
    broken: ChainBroken | None = None
    trouble: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether everything is as it was written, and makes sense."""
        return self.broken is None and not self.trouble

    def but(self, broken: ChainBroken | None, trouble: tuple[str, ...]) -> "Story":
        """Return the same story with other findings: no record from `broken` on holds."""
        steps = tuple(
            replace(step, holds=step.holds and (broken is None or step.record.seq < broken.seq))
            for step in self.steps
        )
        return replace(self, steps=steps, broken=broken, trouble=trouble)

    @property
    def job(self) -> Job:
        """The job after the last record that could be followed."""
        return next((step.job for step in reversed(self.steps) if step.job is not None), NEW)


def read_story(
    key: StreamKey,
    records: Iterable[Record],
    upcasters: Upcasters = UPCASTERS,
    *,
    redacted: frozenset[int] = frozenset(),
) -> Story:
    """Tell the story of a stream's records as stored. Whatever is wrong with them ends up in the story.

    The hashes of the records `redacted` (by number) are taken on trust: what they cover is not there any more.
    """
    reader = StoryReader(key, upcasters, redacted=redacted)
    try:
        for record in records:
            reader.add(record)
    except (JournalError, OSError) as error:
        reader.trouble.append(str(error))
    return reader.story()


class StoryReader:
    """Reads a stream's story record by record, as they come. `broken` and `trouble` are as in the story."""

    def __init__(
        self, key: StreamKey, upcasters: Upcasters = UPCASTERS, *, redacted: frozenset[int] = frozenset()
    ) -> None:
        self.broken: ChainBroken | None = None
        self.trouble: list[str] = []
        self._key = key
        self._redacted = redacted
        self._upcast = upcasters.record
        self._checker = ChainChecker()
        self._steps: list[Step] = []
        self._job: Job | None = NEW

    def story(self) -> Story:
        """Return the story as far as it was read."""
        return Story(self._key, tuple(self._steps), self.broken, tuple(self.trouble))

    def add(self, record: Record) -> Step:
        """Take the next record; return what it did."""
        if self.broken is None:
            try:
                (self._checker.trust if record.seq in self._redacted else self._checker.check)(record)
            except ChainBroken as error:
                self.broken = error
        event = None
        try:
            newest = self._upcast(record)
            event = decode(newest.event, newest.data)
            if self._job is not None:
                self._job = evolve(self._job, event)
        except IllegalTransition as error:
            self._lost(record, str(error))
        except _NONSENSE as error:
            self._lost(record, f"can't be understood: {_why(error)}")
        self._steps.append(Step(record, event, self._job, self.broken is None))
        return self._steps[-1]

    def _lost(self, record: Record, why: str) -> None:
        self.trouble.append(f"{self._key}: record {record.seq}: {why}")
        self._job = None


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def data_of(record: Record) -> Any:
    """Return the record's data decoded, or its text where it is no JSON any more."""
    try:
        return record.data
    except (ValueError, RecursionError):
        return record.data_json


def record_json(step: Step) -> dict[str, Any]:
    """Return a record as JSON, and whether it holds."""
    return {**record_fields(step.record, data_of(step.record)), "holds": step.holds}


def record_fields(record: Record, data: Any) -> dict[str, Any]:
    """Return a record's fields as JSON, with `data` for its data."""
    return {
        "seq": record.seq,
        "at_ns": record.at_ns,
        "boot_id": record.boot_id,
        "event": record.event,
        "version": record.version,
        "source": record.source,
        "dest": record.dest,
        "data": data,
        "prev": record.prev,
        "hash": record.hash,
    }


def job_json(job: Job) -> dict[str, Any]:
    """Return every field of a job as JSON, but for its story, which the records tell."""
    return {name: plain(value) for name, value in zip(job._fields, job, strict=True) if name != "story"}


def due_json(job: Job) -> dict[str, Any] | None:
    """Return what is due as JSON: the instruction's name and fields; None if nothing is."""
    instruction = due(job)
    if instruction is None:
        return None
    return {"instruction": type(instruction).__name__, **asdict(instruction)}


def plain(value: Any) -> Any:
    """Return a value of a job as JSON-ready data."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(inner) for name, inner in asdict(value).items()}
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, tuple | list):
        return [plain(inner) for inner in cast("tuple[Any, ...] | list[Any]", value)]
    return value
