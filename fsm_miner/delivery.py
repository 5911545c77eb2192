"""Delivering an outcome: a result with its files, or a failure with its message."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any, Protocol

from fsm_miner.clock import Clock, Dice
from fsm_miner.coordinator.port import (
    Coordinator,
    Delivered,
    DeliveryAnswer,
    FailureReport,
    Gone,
    Rejected,
    ResultReport,
    Unauthorized,
    Unknown,
)
from fsm_miner.session import Session
from fsm_miner.worksite import Worksite
from states import stimuli as s
from states.codes import Failure
from states.job import Job

__all__ = ["Delivery", "Turns"]

_MESSAGE_CHARS_MAX = 4000


class Turns(Protocol):
    """Says when which outcome may be delivered (the outbox), and hears whether anybody answered."""

    def turn(self, job: Job) -> AbstractAsyncContextManager[None]:
        """Wait for the job's turn, and hold it."""
        ...

    def answered(self) -> None:
        """Note that the coordinator has said something."""
        ...

    def unanswered(self, reason: str, retry_after_s: float | None) -> None:
        """Note that it has not."""
        ...


class Delivery:
    """Hands one outcome over, once; whether it arrived is said by the stimulus."""

    def __init__(
        self,
        coordinator: Coordinator,
        session: Session,
        worksite: Worksite,
        outbox: Turns,
        journal_head: Callable[[Job], str],
        *,
        node_id: str,
        clock: Clock,
        dice: Dice,
    ) -> None:
        self._coordinator = coordinator
        self._session = session
        self._worksite = worksite
        self._outbox = outbox
        self._journal_head = journal_head
        self._node_id = node_id
        self._clock = clock
        self._dice = dice

    async def deliver(self, job: Job) -> s.Stimulus:
        """Deliver the job's outcome when it is its turn."""
        async with self._outbox.turn(job):
            await self._session.ready()
            return await self._deliver(job)

    async def _deliver(self, job: Job) -> s.Stimulus:
        if job.failure is not None:
            return self._stimulus(await self._coordinator.fail(self._failure_report(job, job.failure)))
        async with self._worksite.parcel(job) as parcel:
            if isinstance(parcel, Failure):
                return s.ArtifactsRefused(parcel)
            report = ResultReport(job.job_id, job.attempt, self._metadata(job), parcel.artifacts, parcel.log)
            return self._stimulus(await self._coordinator.result(report))

    def _stimulus(self, answer: DeliveryAnswer) -> s.Stimulus:
        if isinstance(answer, Unknown):
            self._outbox.unanswered(answer.reason, answer.retry_after_s)
        elif not isinstance(answer, Unauthorized):
            self._outbox.answered()
        match answer:
            case Delivered():
                return s.DeliveryDone(answer.status)
            case Gone():
                return s.DeliveryRefused(answer.status)
            case Rejected():
                return s.DeliveryRejected(
                    answer.status, answer.reason, self._clock.now_ns(), self._dice.roll()
                )
            case Unauthorized():
                self._session.invalidate(answer.reason)
                return s.DeliveryUnknown(answer.reason, None, self._clock.now_ns(), self._dice.roll())
            case Unknown():
                return s.DeliveryUnknown(
                    answer.reason, answer.retry_after_s, self._clock.now_ns(), self._dice.roll()
                )

    def _failure_report(self, job: Job, failure: Failure) -> FailureReport:
        return FailureReport(
            job.job_id,
            job.attempt,
            failure.code,
            failure.message[:_MESSAGE_CHARS_MAX],
            logs_ref=None if job.run == 0 else f"{self._node_id}:{job.job_id}/{job.attempt}/logs/exec.log",
            retryable=failure.retryable,
        )

    def _metadata(self, job: Job) -> dict[str, Any]:
        ended, launch = job.ended, job.launch
        return {
            "job_id": job.job_id,
            "node_id": self._node_id,
            "attempt": job.attempt,
            "exit_code": None if ended is None else ended.exit_code,
            "started_at": None if launch is None else timestamp(launch.started_ns),
            "finished_at": None if ended is None else timestamp(ended.finished_ns),
            "usage": {} if ended is None else dict(ended.usage),
            "artifacts": [
                {name: artifact[name] for name in ("path", "type", "size", "sha256")}
                for artifact in job.artifacts
            ],
            "journal_head": self._journal_head(job),
        }


def timestamp(at_ns: int) -> str:
    """Return RFC 3339 in UTC, to the microsecond."""
    moment = datetime.fromtimestamp(at_ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ns % 1_000_000_000 // 1000:06d}Z"
