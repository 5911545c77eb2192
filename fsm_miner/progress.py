"""Progress: throttled, never retried, and never a reason to wait for."""

from collections.abc import Callable

from fsm_miner.clock import Clock
from fsm_miner.coordinator.port import (
    Absent,
    Coordinator,
    ProgressReport,
    ProgressTaken,
    Unauthorized,
    Unknown,
)
from fsm_miner.session import Session
from fsm_miner.supervisor import key_of
from journal.port import StreamKey
from states import stimuli as s
from states.job import Job

__all__ = ["ProgressReporter"]

_NS_PER_S = 1_000_000_000


class ProgressReporter:
    """Tells the coordinator how far jobs are, at most once in `interval_s` for each job."""

    def __init__(
        self,
        coordinator: Coordinator,
        session: Session,
        feed: Callable[[StreamKey, s.CancelAsked], None],
        *,
        interval_s: float,
        clock: Clock,
    ) -> None:
        self._coordinator = coordinator
        self._session = session
        self._feed = feed
        self._interval_ns = int(interval_s * _NS_PER_S)
        self._clock = clock
        self._last_ns: dict[StreamKey, int] = {}

    async def tell(self, job: Job, note: str, log_tail: str | None, pct: float | None) -> None:
        """Send it, unless it is too soon, or nobody would hear it."""
        key = key_of(job)
        now_ns = self._clock.boot_ns()
        last_ns = self._last_ns.get(key)
        if not self._session.is_ready or (last_ns is not None and now_ns - last_ns < self._interval_ns):
            return
        self._last_ns[key] = now_ns
        answer = await self._coordinator.progress(
            ProgressReport(job.job_id, job.attempt, pct, note, log_tail)
        )
        match answer:
            case ProgressTaken(cancel=True):
                self._feed(key, s.CancelAsked("coordinator"))
            case Unauthorized():
                self._session.invalidate(answer.reason)
            case ProgressTaken() | Absent() | Unknown():
                pass

    def forget(self, key: StreamKey) -> None:
        """Let go of a job that is over."""
        self._last_ns.pop(key, None)
