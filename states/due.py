"""`due`: the one thing that a job's state calls for. Recovery has no code of its own: it asks this too."""

from states.instructions import (
    AskAck,
    AwaitSlot,
    Collect,
    Deliver,
    Instruction,
    Launch,
    Prepare,
    Stop,
    Wait,
    Watch,
)
from states.job import Job
from states.table import State

__all__ = ["due"]


def due(job: Job) -> Instruction | None:
    """Return what is to be done now; None in IDLE and in the final states."""
    match job.state:
        case State.PULLING:
            return AskAck()
        case State.ACKED:
            return AwaitSlot()
        case State.PREP:
            if job.intent is None:
                return Prepare(job.run)
            return Launch(job.run, only_look=_to_be_stopped(job))
        case State.RUNNING:
            if job.ended is not None:
                return Collect(job.run)
            if _to_be_stopped(job) or job.limit is not None:
                return Stop(job.run)
            return Watch(job.run)
        case State.UPLOADING:
            return Deliver(job.deliveries + (job.failure is not None))
        case State.RETRY_WAIT:
            assert job.retry is not None
            return Wait(job.retry.due_ns, job.retry.delay_s)
        case State.IDLE | State.DONE | State.FAILED:
            return None


def _to_be_stopped(job: Job) -> bool:
    return job.cancelled_by is not None or job.abandoned is not None
