"""After a restart: the coordinator is asked, once, what it still wants of the jobs that were found."""

from collections.abc import Sequence

from fsm_miner.clock import Clock, Dice
from fsm_miner.coordinator.port import (
    Absent,
    Acked,
    Coordinator,
    Gone,
    Reconciled,
    ReconcileJob,
    Unauthorized,
    Unknown,
)
from fsm_miner.log_port import Log
from fsm_miner.session import Session
from fsm_miner.supervisor import Supervisor
from journal.port import StreamKey
from states import stimuli as s
from states.job import Job, newest_attempts
from states.retry import Backoff
from states.table import State

__all__ = ["Reconciler"]


class Reconciler:
    """Asks about the jobs of a replay, then opens admission. Nothing is given up because of silence."""

    def __init__(
        self,
        coordinator: Coordinator,
        session: Session,
        supervisor: Supervisor,
        *,
        backoff: Backoff,
        clock: Clock,
        dice: Dice,
        log: Log,
    ) -> None:
        self._coordinator = coordinator
        self._session = session
        self._supervisor = supervisor
        self._backoff = backoff
        self._clock = clock
        self._dice = dice
        self._log = log
        self.trouble: str | None = None
        """Why admission still waits, in words for `/healthz`; None while the coordinator has not been silent."""

    async def run(self, found: Sequence[tuple[Job, int]]) -> None:
        """Ask about `found`: jobs with the time (UTC, ns) at which each entered its state."""
        # The answer names jobs, not attempts: of a job with several, only the newest is asked about. The others
        # are given up by the supervisor, and an `abandon` that means them must not end the newest.
        newest = newest_attempts(job for job, _ in found)
        # A job in PULLING asks for itself: its ack is still due.
        asked = [
            (job, since)
            for job, since in found
            if job.attempt == newest[job.job_id] and job.state is not State.PULLING
        ]
        if asked and not await self._reconcile(asked):
            await self._ack_again([job for job, _ in asked])
        self._supervisor.open_admission()

    async def _reconcile(self, asked: Sequence[tuple[Job, int]]) -> bool:
        """Return False if this coordinator has no such call."""
        jobs = [ReconcileJob(job.job_id, job.attempt, job.state, since) for job, since in asked]
        failures = 0
        while True:
            await self._session.ready()
            answer = await self._coordinator.reconcile(jobs)
            match answer:
                case Absent():
                    self.trouble = None
                    return False
                case Reconciled():
                    self.trouble = None
                    for job, _ in asked:
                        if job.job_id in answer.abandon:
                            await self._abandon(job, "the coordinator said so after a restart of the daemon")
                    return True
                case Unauthorized():
                    self._session.invalidate(answer.reason)
                    after_s = None
                case Unknown():
                    self._unanswered(answer.reason)
                    after_s = answer.retry_after_s
            failures += 1
            await self._clock.sleep(self._backoff.delay_s(failures, self._dice.roll(), after_s))

    def _unanswered(self, reason: str) -> None:
        if self.trouble is None:
            self._log.warning("reconcile_unanswered", reason=reason)
        self.trouble = f"the coordinator does not answer /jobs/reconcile: admission waits: {reason}"

    async def _ack_again(self, jobs: Sequence[Job]) -> None:
        """Ask by acking: whatever is not refused goes on. A delivery finds out by itself."""
        for job in jobs:
            if job.state is State.UPLOADING or job.back_to_uploading:
                continue
            await self._session.ready()
            match await self._coordinator.ack(job.job_id, job.attempt):
                case Gone(status):
                    await self._abandon(
                        job, f"the coordinator answers {status} to a new ack after a restart of the daemon"
                    )
                case Unauthorized(reason):
                    self._session.invalidate(reason)
                case Acked() | Unknown():
                    pass

    async def _abandon(self, job: Job, reason: str) -> None:
        await self._supervisor.feed(StreamKey(job.job_id, job.attempt), s.AbandonAsked(reason))
