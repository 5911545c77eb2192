"""The echo: what is over here is told again to a coordinator that hands it out again.

A coordinator that was restored from an older database, or changed its mind, may hand out an attempt whose end the
journal has. It must not run again, and saying nothing would have it handed out for ever. So it is acknowledged once
more and its recorded outcome delivered once more, with the same Idempotency-Key and the same content. What can't be
told again as it was (files swept, a stream exported) is told as lost, so that a new attempt is handed out; never as
another failure. Nothing is journaled: the stream is over.

Some coordinators hand out one job with every pull. So the echo comes at the second time, the fourth, the eighth,
and so on, for each attempt; each is one try, and after one without an answer the next time counts as well.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fsm_miner.clock import Clock, Dice
from fsm_miner.coordinator.port import Acked, Coordinator, Gone, Unauthorized, Unknown
from fsm_miner.delivery import Delivery
from fsm_miner.log_port import Log
from fsm_miner.recovery import head_of, replay_stream
from fsm_miner.session import Session
from fsm_miner.supervisor import key_of
from fsm_miner.worksite import Worksite
from journal.port import Record, StreamKey
from states import stimuli as s
from states.codes import ErrorCode, Failure
from states.job import NEW, Job

__all__ = ["SWEPT", "Echo", "EchoParts"]

SWEPT = Failure(ErrorCode.LOST, "it was done here, and its files are swept: hand it out as a new attempt")
_REMEMBERED_MAX = 256


@dataclass(frozen=True, slots=True)
class EchoParts:
    """What an echo works with."""

    coordinator: Coordinator
    session: Session
    worksite: Worksite
    read: Callable[[StreamKey], Sequence[Record]]
    node_id: str


class _Unqueued:
    """Turns for what is no outcome of this node any more: at once, and nobody else waits for it."""

    def __init__(self) -> None:
        self.problem: str | None = None

    @asynccontextmanager
    async def turn(self, job: Job) -> AsyncGenerator[None]:
        yield

    def answered(self) -> None:
        """Forget nothing: there is one try."""

    def unanswered(self, reason: str, retry_after_s: float | None) -> None:
        """Keep the reason for the log."""
        self.problem = reason


class Echo:
    """Hears of what is handed out again, and tells ends again in a loop of its own: one at a time, each once."""

    def __init__(self, parts: EchoParts, *, clock: Clock, dice: Dice, log: Log) -> None:
        self._parts = parts
        self._clock = clock
        self._dice = dice
        self._log = log
        self._times: dict[StreamKey, int] = {}
        self._again: set[StreamKey] = set()
        self._next: tuple[StreamKey, bool] | None = None
        self._wanted = asyncio.Event()

    def __call__(self, key: StreamKey, *, sealed: bool = False) -> None:
        """Hear that an attempt was handed out that is not in hand; what is due is done by `run`.

        `sealed`: the journal has exported the attempt, so that only its being over is known.
        """
        if not self._due(key):
            return
        if self._next is None:
            self._next = (key, sealed)
            self._wanted.set()
        else:
            self._again.add(key)

    async def run(self) -> None:
        """Tell what is due, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self._next is not None:
                await self._try(*self._next)
            self._next = None

    def _due(self, key: StreamKey) -> bool:
        times = self._times.pop(key, 0) + 1
        self._times[key] = times  # the newest last
        if len(self._times) > _REMEMBERED_MAX:
            forgotten = next(iter(self._times))
            del self._times[forgotten]
            self._again.discard(forgotten)
        due = key in self._again or (times > 1 and times.bit_count() == 1)
        self._again.discard(key)
        return due

    async def _try(self, key: StreamKey, sealed: bool) -> None:
        """Try once. Whatever stands in the way ends it, with one line: it will be handed out again."""
        try:
            problem = await self._tell_end(key, sealed)
        except Exception as error:  # noqa: BLE001 - what was over long ago must not disturb what is not
            problem = repr(error)
        if problem is not None:
            self._again.add(key)
            self._log.warning("echo_failed", job_id=key.job_id, attempt=key.attempt, problem=problem)

    async def _tell_end(self, key: StreamKey, sealed: bool) -> str | None:
        """Return why the coordinator does not have the end; None if it has, does not want it, or there is none."""
        if sealed:
            job, head = _swept(key), ""
        else:
            steps = replay_stream(self._parts.read(key))
            if not steps or not steps[-1][1].final:
                return None
            job, head = _with_outcome(steps[-1][1]), head_of(steps)
        answer = await self._parts.coordinator.ack(key.job_id, key.attempt)
        match answer:
            case Acked():
                return await self._tell(job, head)
            case Gone():
                return None
            case Unauthorized():
                self._parts.session.invalidate(answer.reason)
                return answer.reason
            case Unknown():
                return answer.reason

    async def _tell(self, job: Job, head: str) -> str | None:
        turns = _Unqueued()
        parts = self._parts
        delivery = Delivery(
            parts.coordinator,
            parts.session,
            parts.worksite,
            turns,
            lambda _: head,
            node_id=parts.node_id,
            clock=self._clock,
            dice=self._dice,
        )
        said = await delivery.deliver(job)
        if job.failure is None and isinstance(said, s.ArtifactsRefused | s.DeliveryRejected):
            job = _swept(key_of(job))
            said = await delivery.deliver(job)
        if isinstance(said, s.DeliveryUnknown):
            return turns.problem or said.reason
        self._log.info(
            "told_again",
            job_id=job.job_id,
            attempt=job.attempt,
            code=None if job.failure is None else job.failure.code,
            status=said.status
            if isinstance(said, s.DeliveryDone | s.DeliveryRefused | s.DeliveryRejected)
            else None,
        )
        return None


def _swept(key: StreamKey) -> Job:
    """Return what is told of an attempt that can't be told as it was: always the same, whatever is still known."""
    return NEW._replace(job_id=key.job_id, attempt=key.attempt, failure=SWEPT)


def _with_outcome(job: Job) -> Job:
    """Give an attempt an outcome that never had one: the coordinator gave it away before it began."""
    if job.outcome_known:
        return job
    message = f"this attempt is over here and never ran ({job.superseded}); hand the job out as a new attempt"
    return job._replace(failure=Failure(ErrorCode.LOST, message))
