"""The scribe: writes what was decided into the journal, and knows whether the journal can be written to."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from fsm_miner.clock import Clock
from fsm_miner.recovery import NONSENSE, head_of, replay_stream
from journal.port import AppendConflict, Entry, Journal, JournalError, JournalUnavailable, StreamKey
from states.events import VERSIONS, Event, decode, to_data
from states.evolve import evolve
from states.job import Job

__all__ = ["Scribe"]

_RETRY_S = 1.0


class _Observer(Protocol):
    def trouble(
        self, event: str, job: Job | None, message: str, error: BaseException | None = None
    ) -> None: ...


class Scribe:
    """Appends to one journal, patiently where a fact must not be lost."""

    def __init__(
        self,
        journal: Journal,
        observer: _Observer,
        clock: Clock,
        spawn: Callable[[Coroutine[Any, Any, None]], Any],
        recovered: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._observer = observer
        self._clock = clock
        self._spawn = spawn
        self._recovered = recovered
        self.stopping = False
        self.trouble: str | None = None
        """Why the journal can't write now; None while it can."""

    async def write(
        self, before: Job, events: Sequence[Event], *, patient: bool
    ) -> tuple[Job, str, tuple[Event, ...]]:
        """Append the events; return the job after them, its stream's head, and the events that were kept.

        A patient caller waits until the journal can write again. Where the journal holds more than was believed,
        it is believed: an append that was reported as failed may have been kept.

        Raises:
            IllegalTransition: `decide` and the table do not agree, which is a defect; nothing was written.
            JournalUnavailable: the caller is not patient, or the daemon is stopping.
            AppendConflict: the stream is another than was believed, and can't be read (StreamSealed: it was exported).

        """
        after, entries = _entries(before, events)
        key = StreamKey(after.job_id, after.attempt)
        while True:
            try:
                records = await self._journal.append(key, before.seq, entries)
            except JournalUnavailable as error:
                self._note(key, error)
                if not patient or self.stopping:
                    if not self.stopping:
                        self._spawn(self._until_writable())
                    raise
            except AppendConflict as error:
                read = self._read_again(before, key, error)
                if patient:  # whoever is not, may well ask about what exists
                    self._observer.trouble("append_conflict", before, str(error))
                return read
            else:
                self.trouble = None
                return after, records[-1].hash, tuple(events)
            await self._clock.sleep(_RETRY_S)

    def _note(self, key: StreamKey, error: JournalUnavailable) -> None:
        if self.trouble is None:
            self._observer.trouble("journal_unavailable", None, f"{key}: {error}")
        self.trouble = str(error)

    def _read_again(
        self, before: Job, key: StreamKey, error: AppendConflict
    ) -> tuple[Job, str, tuple[Event, ...]]:
        try:
            steps = replay_stream(self._journal.read(key))
            kept = tuple(decode(record.event, record.data) for record, _ in steps[before.seq :])
        except (JournalError, *NONSENSE) as problem:
            raise error from problem
        if not steps:  # sealed, or gone
            raise error
        if self.trouble is not None:
            self._spawn(self._until_writable())
        return steps[-1][1], head_of(steps), kept

    async def _until_writable(self) -> None:
        """End a trouble that no append will end: nobody need append again while nothing is pulled for it."""
        while self.trouble is not None and not self.stopping:
            await self._clock.sleep(_RETRY_S)
            try:
                await self._journal.probe()
            except JournalUnavailable as error:
                self.trouble = str(error)
            else:
                self.trouble = None
                self._recovered()


def _entries(before: Job, events: Sequence[Event]) -> tuple[Job, list[Entry]]:
    """Return the job after the events, and the events as journal entries."""
    job = before
    entries: list[Entry] = []
    for event in events:
        name = type(event).__name__
        after = evolve(job, event)
        entries.append(Entry(name, VERSIONS[name], job.state, after.state, to_data(event)))
        job = after
    return job, entries
