"""What the daemon makes of every durable step: a log line, a count, a snapshot, and at the end a goodbye."""

from collections.abc import Callable, Sequence
from typing import Any

from fsm_miner.clock import Clock
from fsm_miner.delivery import timestamp
from fsm_miner.log_port import Log
from fsm_miner.metrics import Metrics
from fsm_miner.supervisor import key_of
from fsm_miner.sweeper import Finished
from fsm_miner.worksite import Worksite
from journal.port import StreamKey
from states.events import Ended, Event, Offered, to_data
from states.job import Job
from states.table import State

__all__ = ["DaemonObserver"]


class DaemonObserver:
    """Watches the supervisor for logs, metrics, `state.json` and the sweeper. Never raises."""

    def __init__(
        self,
        worksite: Worksite,
        metrics: Metrics,
        finished: Callable[[Finished], None],
        *,
        forget: Callable[[StreamKey], None],
        clock: Clock,
        log: Log,
    ) -> None:
        self._worksite = worksite
        self._metrics = metrics
        self._finished = finished
        self._forget = forget
        self._clock = clock
        self._log = log

    def stepped(self, before: Job, after: Job, events: Sequence[Event]) -> None:
        """Log the events; write the snapshot where the state changed."""
        for event in events:
            name = type(event).__name__
            self._metrics.events.labels(name).inc()
            self._log.debug(name, job_id=after.job_id, attempt=after.attempt, **_loggable(event))
            if isinstance(event, Ended):
                self._worksite.end_recorded(after)
        if after.state is before.state:
            return
        self._log.info(
            "job_state",
            job_id=after.job_id,
            attempt=after.attempt,
            source=before.state,
            dest=after.state,
            events=[type(event).__name__ for event in events],
            **(
                {}
                if after.failure is None
                else {"code": after.failure.code, "message": after.failure.message}
            ),
        )
        if after.state is not State.PREP:  # its folder is being made
            self._worksite.snapshot(after, _snapshot(after, self._clock.now_ns()))
        if after.final:
            now_ns = self._clock.now_ns()
            self._metrics.finished(after, now_ns)
            self._finished(Finished(key_of(after), after.state is State.DONE, now_ns))
            self._worksite.forget(after)
            self._forget(key_of(after))

    def trouble(self, event: str, job: Job | None, message: str, error: BaseException | None = None) -> None:
        """Log what should not happen."""
        self._metrics.trouble.labels(event).inc()
        self._log.error(
            event,
            job_id=None if job is None else job.job_id,
            problem=message,
            exc_info=error,
        )


def _loggable(event: Event) -> dict[str, Any]:
    """Return an event's data for the log, without the manifest."""
    data = to_data(event)
    if isinstance(event, Offered):
        data.pop("manifest")
    data.pop("job_id", None)
    data.pop("attempt", None)
    return {"data": data}


def _snapshot(job: Job, now_ns: int) -> dict[str, Any]:
    """Return what `state.json` holds."""
    return {
        "job_id": job.job_id,
        "attempt": job.attempt,
        "state": job.state,
        "seq": job.seq,
        "run": job.run,
        "updated_at": timestamp(now_ns),
        "gpus": list(job.gpus),
        "launched_at": None if job.launch is None else timestamp(job.launch.started_ns),
        "exit_code": None if job.ended is None else job.ended.exit_code,
        "error_code": None if job.failure is None else job.failure.code,
        "error_msg": None if job.failure is None else job.failure.message,
        "superseded": job.superseded,
        "artifacts": [
            {name: artifact.get(name) for name in ("path", "type", "size", "sha256")}
            for artifact in job.artifacts
        ],
    }
