"""The supervisor: feeds stimuli to jobs, journals what follows, and has the due instruction done.

    stimulus ─► decide ─► journal.append ─► evolve ─► due ─► effect ─► stimulus

One task for each job's effect, one lock for each job's facts. It never raises into the loop: a defect in an
effect is logged with its trace and becomes a stimulus; a journal that can't write is waited for.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fsm_miner.clock import Clock, Dice
from fsm_miner.scribe import Scribe
from fsm_miner.worksite import NotNow
from journal.port import AppendConflict, Journal, JournalUnavailable, StreamKey, StreamSealed
from states import stimuli as s
from states.admission import Capacity, Grant, Room, admit, room
from states.decide import decide
from states.due import due
from states.events import Event
from states.evolve import IllegalTransition
from states.instructions import AwaitSlot, Instruction, Launch, Wait
from states.job import NEW, Job, newest_attempts
from states.retry import Policy

__all__ = ["Effects", "Observer", "Supervisor", "key_of"]

_PAUSE_AFTER_DEFECT_S = 1.0


def key_of(job: Job) -> StreamKey:
    """Return the name of the job's stream."""
    return StreamKey(job.job_id, job.attempt)


class Effects(Protocol):
    """What does an instruction, and returns what came of it."""

    async def perform(self, job: Job, instruction: Instruction) -> s.Stimulus:
        """Do it. May raise; may be cancelled, except for Launch."""
        ...


class Observer(Protocol):
    """Told of every step, after it is durable: logs, metrics, snapshots."""

    def stepped(self, before: Job, after: Job, events: Sequence[Event]) -> None:
        """See what happened. Must not raise or block."""
        ...

    def trouble(self, event: str, job: Job | None, message: str, error: BaseException | None = None) -> None:
        """Hear of a defect, or of a journal that can't write."""
        ...


@dataclass(slots=True, eq=False)
class _Live:
    """A job in hand: the lock keeps its facts in one line, the task does its due instruction."""

    job: Job
    head: str = ""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    doing: Instruction | None = None
    task: asyncio.Task[None] | None = None
    ripe: bool = False
    conflict: bool = False
    """Whether its stream was found to be another than was believed, and could not be read."""


class Supervisor:
    """All unfinished jobs of this node. Not thread-safe; lives on one event loop."""

    def __init__(
        self,
        journal: Journal,
        effects: Effects,
        observer: Observer,
        *,
        policy: Policy,
        capacity: Callable[[], Capacity],
        clock: Clock,
        dice: Dice,
    ) -> None:
        self._effects = effects
        self._observer = observer
        self._policy = policy
        self._capacity = capacity
        self._clock = clock
        self._dice = dice
        self._live: dict[StreamKey, _Live] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._words: set[tuple[StreamKey, s.CancelAsked | s.AbandonAsked]] = set()
        self._admission_wanted = asyncio.Event()
        self._stopping = False
        self.admission_open = False
        """Whether slots are granted: not before the coordinator was asked about the jobs found at the start."""
        self.lacks: dict[StreamKey, str] = {}
        """What the node lacks at the moment to go on with a job, by the job (`worksite.NotNow`)."""
        self.stuck: dict[StreamKey, str] = {}  # the same for what fails again and again by a defect
        self.changed = asyncio.Event()
        """Set whenever room may have become free or a job ended; whoever waits for it clears it."""
        self._scribe = Scribe(journal, observer, clock, self._spawn, self.changed.set)

    # Asking.

    def jobs(self) -> list[Job]:
        """Return the unfinished jobs; one whose offer is just being written down is none yet."""
        return [live.job for live in self._live.values() if live.job is not NEW]

    def job(self, key: StreamKey) -> Job | None:
        """Return one unfinished job."""
        live = self._live.get(key)
        return None if live is None else live.job

    def head(self, key: StreamKey) -> str:
        """Return what `recovery.head_of` says of an unfinished job; "" if it is not in hand."""
        live = self._live.get(key)
        return "" if live is None else live.head

    @property
    def journal_trouble(self) -> str | None:
        """Why the journal can't write now; None while it can."""
        return self._scribe.trouble

    def room(self) -> Room:
        """Return what may be pulled for now."""
        return room(self.jobs(), self._capacity())

    # Running.

    def recover(self, found: Iterable[tuple[Job, str]]) -> None:
        """Take over unfinished jobs (with their streams' heads) and do what is due. No slot before `open_admission`.

        A crash between the record of an offer and the end of the attempts before it is made good here.
        """
        for job, head in found:
            live = self._live[key_of(job)] = _Live(job, head)
            self._act(live)
        newest = newest_attempts(self.jobs())
        for job in self.jobs():
            if job.attempt < newest[job.job_id]:
                self._give_up(job, newest[job.job_id])

    def open_admission(self) -> None:
        """Start granting slots: after a restart, only when the coordinator was asked about the jobs found."""
        self.admission_open = True
        self.changed.set()
        self._spawn(self._admission())

    async def offer(self, stimulus: s.OfferReceived) -> bool:
        """Take up a new job, and give up earlier attempts of it: the coordinator has counted them as over.

        Returns False if it was not taken up: known already, or the journal can't write now.

        Raises:
            StreamSealed: that attempt is over, and the journal has exported what it knew of it.

        """
        key = StreamKey(stimulus.job_id, stimulus.attempt)
        if key in self._live or self._stopping:
            return False
        live = self._live[key] = _Live(NEW)
        try:
            taken = await self._step(live, stimulus, patient=False)
        except StreamSealed:
            del self._live[key]
            raise
        except (AppendConflict, JournalUnavailable):
            taken = False  # not to be written down now, or not to be read
        if not taken or live.job.final:
            self._live.pop(key, None)
            return False
        self._act(live)
        for other in self.jobs():
            if other.job_id == stimulus.job_id and other.attempt < stimulus.attempt:
                self._give_up(other, stimulus.attempt)
        return True

    def _give_up(self, job: Job, for_attempt: int) -> None:
        self.feed_soon(key_of(job), s.AbandonAsked(f"attempt {for_attempt} was handed out"))

    async def feed(self, key: StreamKey, stimulus: s.Stimulus) -> None:
        """Let a stimulus happen to a job; nothing, if the job is not in hand."""
        live = self._live.get(key)
        if live is not None and await self._step_or_stop(live, stimulus):
            self._act(live)

    def feed_soon(self, key: StreamKey, word: s.CancelAsked | s.AbandonAsked) -> None:
        """Do the same without waiting for it. The same word again, while the journal can't write, is one word."""
        if (key, word) not in self._words:
            self._words.add((key, word))
            self._spawn(self._feed_word(key, word))

    async def _feed_word(self, key: StreamKey, word: s.CancelAsked | s.AbandonAsked) -> None:
        try:
            await self.feed(key, word)
        finally:
            self._words.discard((key, word))

    def poke(self) -> None:
        """Look at the slots again: the capacity may have changed."""
        self._admission_wanted.set()
        self.changed.set()

    async def stop(self) -> None:
        """Let go of everything, leave the processes running; what is being written is written first."""
        self._stopping = self._scribe.stopping = True
        self._admission_wanted.set()
        for live in self._live.values():
            if live.task is not None and not isinstance(live.doing, Launch):
                live.task.cancel()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # The way through the house.

    async def _step(self, live: _Live, stimulus: s.Stimulus, *, patient: bool) -> bool:
        """Decide, append, evolve. Return whether anything came of it."""
        async with live.lock:
            before = live.job
            events = decide(before, stimulus, self._policy)
            if not events:
                return False
            try:
                after, head, kept = await self._scribe.write(before, events, patient=patient)
            except IllegalTransition as error:
                self._observer.trouble("illegal_transition", before, str(error), error)
                return False
            live.job = after
            if not before.outcome_known:
                live.head = head
            if patient or not after.final:  # an offer of what is over is no step
                self._observer.stepped(before, after, kept)
        if after.final:
            del self._live[key_of(after)]
            self.lacks.pop(key_of(after), None)
            self.stuck.pop(key_of(after), None)
            self.changed.set()
        if before.holds_slot and not after.holds_slot:
            self.poke()
        return True

    def _act(self, live: _Live) -> None:
        """See that the due instruction, and nothing else, is being done."""
        instruction = due(live.job)
        if live.task is not None:
            if live.doing == instruction:
                return
            if isinstance(live.doing, Launch):
                return  # it finishes by itself, and then this is asked again
            live.task.cancel()
            live.task = None
        live.doing = instruction
        live.ripe = False
        if instruction is None or self._stopping:
            return
        if isinstance(instruction, AwaitSlot):
            self._admission_wanted.set()
            return
        live.task = self._spawn(self._perform(live, instruction))

    async def _perform(self, live: _Live, instruction: Instruction) -> None:
        job = live.job
        defect: str | None = None
        try:
            stimulus = await self._effects.perform(job, instruction)
        except NotNow as lack:
            await self._not_now(live, str(lack))
            return
        except Exception as error:  # noqa: BLE001 - a defect of an effect must not take the daemon with it
            self._observer.trouble("effect_failed", job, f"{type(instruction).__name__}: {error!r}", error)
            defect = f"a defect of the node in {type(instruction).__name__}; its log has the trace"
            stimulus = s.EffectFailed(defect, self._clock.now_ns(), self._dice.roll())
        self.lacks.pop(key_of(job), None)
        if live.task is not asyncio.current_task():
            return  # cancelled too late to be stopped: something else is due by now
        live.task = None  # from here on nobody cancels this: facts are being written
        if isinstance(instruction, Wait) and job.back_to_prep:
            live.ripe = True
            self._admission_wanted.set()
            return
        moved = await self._step_or_stop(live, stimulus)
        self.stuck.pop(key_of(job), None)
        if defect is not None and due(live.job) == instruction:
            self.stuck[key_of(job)] = f"{job.job_id} does not go on: {defect}; it is tried again and again"
        if defect is not None or (not moved and due(live.job) == instruction):
            await self._clock.sleep(_PAUSE_AFTER_DEFECT_S)
        self._act(live)

    async def _not_now(self, live: _Live, lack: str) -> None:
        """Leave the job as it is, and do the same again a little later."""
        if key_of(live.job) not in self.lacks:
            self._observer.trouble("not_now", live.job, lack)
        self.lacks[key_of(live.job)] = lack
        await self._clock.sleep(_PAUSE_AFTER_DEFECT_S)
        if live.task is asyncio.current_task():
            live.task = None
            self._act(live)

    async def _step_or_stop(self, live: _Live, stimulus: s.Stimulus) -> bool:
        try:
            moved = await self._step(live, stimulus, patient=True)
        except JournalUnavailable:
            return False  # stopping: the next start looks again
        except AppendConflict as error:  # unreadable, else it would have been believed: perhaps not for long
            if not live.conflict:
                self._observer.trouble(
                    "append_conflict", live.job, f"{error}; and it can't be read now", error
                )
            live.conflict = True
            self.lacks[key_of(live.job)] = str(error)
            return False
        if live.conflict:
            live.conflict = False
            self.lacks.pop(key_of(live.job), None)
        return moved

    async def _admission(self) -> None:
        while not self._stopping:
            await self._admission_wanted.wait()
            self._admission_wanted.clear()
            waiting = [
                live.job for live in self._live.values() if live.ripe or isinstance(live.doing, AwaitSlot)
            ]
            if not waiting:
                continue
            for answer in admit(waiting, self.jobs(), self._capacity()):
                if isinstance(answer, Grant):
                    stimulus: s.Stimulus = s.SlotGranted(answer.gpus)
                else:
                    stimulus = s.SlotImpossible(answer.failure)
                live = self._live.get(key_of(answer.job))
                if live is None:
                    continue
                if await self._step_or_stop(live, stimulus):
                    self._act(live)
                elif live.conflict:
                    self._spawn(self._admit_later())

    async def _admit_later(self) -> None:
        await self._clock.sleep(_PAUSE_AFTER_DEFECT_S)
        self._admission_wanted.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._observer.trouble("task_failed", None, repr(error), error)
