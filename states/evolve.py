"""`evolve`: what an event makes of a job. Synchronous, total, and the only place where a job changes."""

from collections.abc import Callable, Iterable
from types import MappingProxyType
from typing import Any

from states import events as e
from states.codes import ErrorCode, Failure
from states.job import NEW, Job, Step
from states.table import State, destinations

__all__ = ["IllegalTransition", "evolve", "fold"]

_STORY_STEPS_MAX = 40
_DESTINATIONS = destinations()


class IllegalTransition(Exception):
    """An event that the table does not allow. The job is unchanged; the message tells its story."""

    def __init__(self, job: Job, event: e.Event) -> None:
        steps = " ".join(f"{s.seq}:{s.event}→{s.dest}" for s in job.story) or "(no event yet)"
        name = job.job_id or "(new job)"
        super().__init__(
            f"{name}/{job.attempt}: {type(event).__name__} is illegal in {job.state}; its story: {steps}"
        )
        self.job = job
        self.event = event


def evolve(job: Job, event: e.Event) -> Job:
    """Return the job after `event`.

    Raises:
        IllegalTransition: the table has no such way; `job` is as it was.

    """
    name = type(event).__name__
    for dest, guard in _DESTINATIONS.get((job.state, name), ()):
        if guard is None or getattr(job, guard):
            seq = job.seq + 1
            story = (*job.story[-_STORY_STEPS_MAX + 1 :], Step(seq, name, dest))
            return job._replace(state=dest, seq=seq, story=story, **_CHANGES[name](job, event))
    raise IllegalTransition(job, event)


def fold(events: Iterable[e.Event], job: Job = NEW) -> Job:
    """Apply events in order.

    Raises:
        IllegalTransition: at the first event that the table does not allow.

    """
    for event in events:
        job = evolve(job, event)
    return job


_Change = dict[str, Any]
_NEXT_RUN: _Change = {"intent": None, "launch": None, "ended": None, "limit": None}


def _offered(_job: Job, event: e.Offered) -> _Change:
    problem = None
    if event.problem_code is not None:
        problem = Failure(ErrorCode(event.problem_code), event.problem or "")
    return {
        "job_id": event.job_id,
        "attempt": event.attempt,
        "manifest": MappingProxyType(dict(event.manifest)),
        "manifest_sha256": event.manifest_sha256,
        "offered_ns": event.offered_ns,
        "problem": problem,
    }


def _acked(_job: Job, event: e.Acked) -> _Change:
    return {"lease_s": event.lease_s}


def _prep_started(_job: Job, event: e.PrepStarted) -> _Change:
    return {"run": 1, "gpus": event.gpus}


def _launch_intended(_job: Job, event: e.LaunchIntended) -> _Change:
    return {"intent": event}


def _launched(_job: Job, event: e.Launched) -> _Change:
    return {"launch": event}


def _nothing(_job: Job, _event: e.Event) -> _Change:
    return {}


def _cancel_requested(_job: Job, event: e.CancelRequested) -> _Change:
    return {"cancelled_by": event.by}


def _abandon_requested(_job: Job, event: e.AbandonRequested) -> _Change:
    return {"abandoned": event.reason}


def _limit_exceeded(_job: Job, event: e.LimitExceeded) -> _Change:
    return {"limit": e.failure_of(event)}


def _ended(_job: Job, event: e.Ended) -> _Change:
    return {"ended": event}


def _outcome_known(_job: Job, event: e.OutcomeKnown) -> _Change:
    return {
        "outcome_known": True,
        "failure": e.failure_of(event),
        "artifacts": event.artifacts,
        "retry": None,
    }


def _outcome_revised(_job: Job, event: e.OutcomeRevised) -> _Change:
    return {"failure": e.failure_of(event), "artifacts": ()}


def _retry_scheduled(job: Job, event: e.RetryScheduled) -> _Change:
    failed_deliveries = job.deliveries + (job.state == State.UPLOADING)
    return {"retry": event, "deliveries": failed_deliveries}


def _retry_due(job: Job, event: e.RetryDue) -> _Change:
    if job.back_to_uploading:
        return {"retry": None}
    return {"retry": None, "run": job.run + 1, "gpus": event.gpus, **_NEXT_RUN}


def _superseded(_job: Job, event: e.Superseded) -> _Change:
    return {"superseded": event.reason}


_CHANGES: dict[str, Callable[[Job, Any], _Change]] = {
    "Offered": _offered,
    "Acked": _acked,
    "PrepStarted": _prep_started,
    "LaunchIntended": _launch_intended,
    "Launched": _launched,
    "Reattached": _nothing,
    "CancelRequested": _cancel_requested,
    "AbandonRequested": _abandon_requested,
    "LimitExceeded": _limit_exceeded,
    "Ended": _ended,
    "OutcomeKnown": _outcome_known,
    "OutcomeRevised": _outcome_revised,
    "RetryScheduled": _retry_scheduled,
    "RetryDue": _retry_due,
    "Delivered": _nothing,
    "Superseded": _superseded,
}
assert _CHANGES.keys() == e.EVENTS.keys()
