"""The echo: what is over here is told again to a coordinator that hands it out again.

A coordinator that was restored from an older database, or changed its mind, may hand out an attempt whose end the
journal has. It must not run again, and saying nothing would have it handed out for ever. So it is acknowledged once
more and its recorded outcome delivered once more, with the same Idempotency-Key and the same content. Nothing is
journaled: the stream is over.

Some coordinators hand out one job with every pull. So the echo comes at the second time, the fourth, the eighth,
and so on, for each attempt.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fsm_miner.clock import Clock, Dice
from fsm_miner.coordinator.port import Acked, Coordinator, Unauthorized
from fsm_miner.delivery import Delivery
from fsm_miner.log_port import Log
from fsm_miner.outbox import Outbox
from fsm_miner.recovery import head_of, replay_stream
from fsm_miner.session import Session
from fsm_miner.worksite import Worksite
from journal.port import JournalError, Record, StreamKey
from states import stimuli as s
from states.codes import ErrorCode, Failure
from states.evolve import IllegalTransition
from states.job import Job

__all__ = ["Echo", "EchoParts"]

_REMEMBERED_MAX = 256


@dataclass(frozen=True, slots=True)
class EchoParts:
    """What an echo works with."""

    coordinator: Coordinator
    session: Session
    worksite: Worksite
    outbox: Outbox
    read: Callable[[StreamKey], Sequence[Record]]
    node_id: str


class Echo:
    """Tells ends again. One at a time; cancelled together with whoever calls it."""

    def __init__(self, parts: EchoParts, *, clock: Clock, dice: Dice, log: Log) -> None:
        self._parts = parts
        self._clock = clock
        self._dice = dice
        self._log = log
        self._times: dict[StreamKey, int] = {}

    async def __call__(self, key: StreamKey) -> None:
        """Hear that an attempt was handed out that is not in hand, and tell its end if it is over here.

        Returns when the coordinator has answered, or does not want it.
        """
        if not self._due(key):
            return
        try:
            steps = replay_stream(self._parts.read(key))
        except (IllegalTransition, JournalError, KeyError, TypeError, ValueError) as error:
            self._log.warning("echo_impossible", job_id=key.job_id, attempt=key.attempt, problem=str(error))
            return
        if not steps or not steps[-1][1].final:
            return
        if await self._ack(key):
            await self._tell(_with_outcome(steps[-1][1]), head_of(steps))

    def _due(self, key: StreamKey) -> bool:
        times = self._times.pop(key, 0) + 1
        self._times[key] = times  # the newest last
        if len(self._times) > _REMEMBERED_MAX:
            del self._times[next(iter(self._times))]
        return times > 1 and times.bit_count() == 1

    async def _ack(self, key: StreamKey) -> bool:
        """Without an answer there is no echo: it will be handed out again."""
        parts = self._parts
        answer = await parts.coordinator.ack(key.job_id, key.attempt)
        if isinstance(answer, Unauthorized):
            parts.session.invalidate(answer.reason)
        return isinstance(answer, Acked)

    async def _tell(self, job: Job, head: str) -> None:
        """Deliver until there is an answer: since the ack, the coordinator counts on this node."""
        parts = self._parts
        delivery = Delivery(
            parts.coordinator,
            parts.session,
            parts.worksite,
            parts.outbox,
            lambda _: head,
            node_id=parts.node_id,
            clock=self._clock,
            dice=self._dice,
        )
        while True:
            said = await delivery.deliver(job)
            match said:
                case s.DeliveryDone() | s.DeliveryRefused():
                    self._log.info(
                        "told_again",
                        job_id=job.job_id,
                        attempt=job.attempt,
                        code=None if job.failure is None else job.failure.code,
                        status=said.status,
                    )
                    return
                case s.ArtifactsRefused():
                    job = job._replace(failure=said.failure)
                case s.DeliveryRejected() if job.failure is None:
                    job = job._replace(
                        failure=Failure(ErrorCode.UPLOAD, f"the result was not taken: {said.reason}")
                    )
                case s.DeliveryRejected():
                    return
                case _:
                    pass  # not known whether it arrived; the outbox sets the pace


def _with_outcome(job: Job) -> Job:
    """Give an attempt an outcome that never had one: the coordinator gave it away before it began."""
    if job.outcome_known:
        return job
    message = f"this attempt is over here and never ran ({job.superseded}); hand the job out as a new attempt"
    return job._replace(failure=Failure(ErrorCode.LOST, message))
