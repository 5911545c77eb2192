"""`decide`: which facts follow from a stimulus. Pure, and it never raises: what makes no sense now is ignored.

Several events may follow at once; they are appended together, so that no crash can part them.
"""

from collections.abc import Callable
from typing import Any

from states import events as e
from states import stimuli as s
from states.codes import ErrorCode, Failure
from states.job import Job
from states.retry import Backoff, Policy
from states.table import State

__all__ = ["decide"]

Events = tuple[e.Event, ...]
_NONE: Events = ()
_NS_PER_S = 1_000_000_000
_SIGXFSZ = 25  # signal(7): a file grew over RLIMIT_FSIZE


def decide(job: Job, stimulus: s.Stimulus, policy: Policy) -> Events:
    """Return the events that `stimulus` calls for, in order; () if it means nothing to the job now."""
    if job.final:
        return _NONE
    return _DECISIONS[type(stimulus)](job, stimulus, policy)


# Taking the job.


def _offer_received(job: Job, offer: s.OfferReceived, _policy: Policy) -> Events:
    if job.state is not State.IDLE:
        return _NONE
    return (
        e.Offered(
            job_id=offer.job_id,
            attempt=offer.attempt,
            manifest=offer.manifest,
            manifest_sha256=offer.manifest_sha256,
            offered_ns=offer.now_ns,
            problem_code=None if offer.problem is None else offer.problem.code,
            problem=None if offer.problem is None else offer.problem.message,
        ),
    )


def _ack_granted(job: Job, stimulus: s.AckGranted, _policy: Policy) -> Events:
    if job.state is not State.PULLING:
        return _NONE
    acked = e.Acked(stimulus.lease_s)
    if job.problem is not None:
        return (acked, e.PrepStarted(), _outcome(job.problem))
    if job.cancelled_by is not None:
        return (acked, e.PrepStarted(), _outcome(_cancelled(job.cancelled_by)))
    return (acked,)


def _ack_refused(job: Job, stimulus: s.AckRefused, _policy: Policy) -> Events:
    if job.state is not State.PULLING:
        return _NONE
    return (e.Superseded("the coordinator gave the job to somebody else, or forgot it", stimulus.status),)


# Slots.


def _slot_granted(job: Job, stimulus: s.SlotGranted, _policy: Policy) -> Events:
    if job.state is State.ACKED:
        return (e.PrepStarted(stimulus.gpus),)
    if job.state is State.RETRY_WAIT and job.back_to_prep:
        return (e.RetryDue(stimulus.gpus),)
    return _NONE


def _slot_impossible(job: Job, stimulus: s.SlotImpossible, _policy: Policy) -> Events:
    if job.state is State.ACKED or (job.state is State.RETRY_WAIT and job.back_to_prep):
        return (*_into_prep(job), _outcome(stimulus.failure))
    return _NONE


# Preparing and starting.


def _prep_done(job: Job, done: s.PrepDone, _policy: Policy) -> Events:
    if job.state is not State.PREP or job.intent is not None:
        return _NONE
    return (
        e.LaunchIntended(
            run=job.run,
            boot_id=done.boot_id,
            lock=done.lock,
            cgroup=done.cgroup,
            program=done.program,
            argv_sha256=done.argv_sha256,
            time_limit_s=done.time_limit_s,
            memory_limit_mb=done.memory_limit_mb,
            output_limit_mb=done.output_limit_mb,
        ),
    )


def _prep_failed(job: Job, stimulus: s.PrepFailed, policy: Policy) -> Events:
    if job.state is not State.PREP or job.intent is not None:
        return _NONE
    return _retry_or_outcome(job, stimulus.failure, stimulus.now_ns, stimulus.chance, policy)


def _launch_succeeded(job: Job, launched: s.LaunchSucceeded, _policy: Policy) -> Events:
    if job.state is not State.PREP or job.intent is None:
        return _NONE
    return (
        e.Launched(job.run, launched.pid, launched.started_ns, launched.started_boot_ns, launched.isolation),
    )


def _launch_failed(job: Job, stimulus: s.LaunchFailed, _policy: Policy) -> Events:
    if job.state is not State.PREP or job.intent is None:
        return _NONE
    return _stopped_or(job, _outcome(stimulus.failure))


# Running.


def _process_found(job: Job, stimulus: s.ProcessFound, _policy: Policy) -> Events:
    if job.state is not State.RUNNING or job.ended is not None:
        return _NONE
    return (e.Reattached(job.run, stimulus.daemon_pid),)


def _limit_hit(job: Job, stimulus: s.LimitHit, _policy: Policy) -> Events:
    if job.state is not State.RUNNING or job.ended is not None or _being_stopped(job):
        return _NONE
    return (e.LimitExceeded(stimulus.failure.code, stimulus.failure.message),)


def _process_gone(job: Job, gone: s.ProcessGone, policy: Policy) -> Events:
    if job.state is not State.RUNNING or job.ended is not None:
        return _NONE
    ended = e.Ended(gone.how, gone.exit_code, gone.signal, gone.finished_ns, gone.usage)
    if _being_stopped(job):
        return (ended, *_stopped_or(job))
    failure = _failure_of(gone)
    if failure is not None:
        return (ended, *_retry_or_outcome(job, failure, gone.now_ns, gone.chance, policy))
    if not _collects(job):
        return (ended, e.OutcomeKnown(None, "exit code 0"))
    return (ended,)


def _artifacts_collected(job: Job, stimulus: s.ArtifactsCollected, _policy: Policy) -> Events:
    if job.state is not State.RUNNING or job.ended is None:
        return _NONE
    return (e.OutcomeKnown(None, "exit code 0", artifacts=stimulus.artifacts),)


def _artifacts_refused(job: Job, stimulus: s.ArtifactsRefused, _policy: Policy) -> Events:
    if job.state is State.UPLOADING and job.succeeded:
        return (e.OutcomeRevised(stimulus.failure.code, stimulus.failure.message),)
    if job.state is not State.RUNNING or job.ended is None:
        return _NONE
    return (_outcome(stimulus.failure),)


def _output_doubted(job: Job, stimulus: s.OutputDoubted, policy: Policy) -> Events:
    if job.state is not State.RUNNING or job.ended is None:
        return _NONE
    failure = Failure(ErrorCode.LOST, stimulus.reason)
    return _retry_or_outcome(job, failure, stimulus.now_ns, stimulus.chance, policy)


# Stopping.


def _cancel_asked(job: Job, stimulus: s.CancelAsked, _policy: Policy) -> Events:
    if job.cancelled_by is not None or job.state in {State.IDLE, State.UPLOADING}:
        return _NONE
    if job.state is State.RETRY_WAIT and not job.back_to_prep:
        return _NONE
    requested = e.CancelRequested(stimulus.by)
    if job.state is State.PULLING or _may_live(job):
        return (requested,)
    return (requested, *_into_prep(job), _outcome(_cancelled(stimulus.by)))


def _abandon_asked(job: Job, stimulus: s.AbandonAsked, _policy: Policy) -> Events:
    if job.abandoned is not None or job.state is State.IDLE:
        return _NONE
    superseded = e.Superseded(stimulus.reason)
    if job.state in {State.PULLING, State.UPLOADING}:
        return (superseded,)
    requested = e.AbandonRequested(stimulus.reason)
    if job.state is State.RETRY_WAIT and job.back_to_uploading:
        return (requested, e.RetryDue(), superseded)
    if _may_live(job):
        return (requested,)
    return (requested, *_into_prep(job), _outcome(_given_away(stimulus.reason)), superseded)


# Delivering.


def _delivery_done(job: Job, stimulus: s.DeliveryDone, _policy: Policy) -> Events:
    return (e.Delivered(stimulus.status),) if job.state is State.UPLOADING else _NONE


def _delivery_refused(job: Job, stimulus: s.DeliveryRefused, _policy: Policy) -> Events:
    if job.state is not State.UPLOADING:
        return _NONE
    return (e.Superseded("the coordinator handed it out again, or forgot it", stimulus.status),)


def _delivery_rejected(job: Job, stimulus: s.DeliveryRejected, policy: Policy) -> Events:
    if job.state is not State.UPLOADING:
        return _NONE
    reason = f"the coordinator refuses it with {stimulus.status}: {stimulus.reason}"
    if job.succeeded:
        return (e.OutcomeRevised(ErrorCode.UPLOAD, f"the result was not taken: {reason}"),)
    # A failure has nothing smaller to fall back on; the coordinator may be mended meanwhile.
    return (_redeliver(job, reason, None, stimulus.now_ns, stimulus.chance, policy),)


def _delivery_unknown(job: Job, stimulus: s.DeliveryUnknown, policy: Policy) -> Events:
    if job.state is not State.UPLOADING:
        return _NONE
    after = stimulus.retry_after_s
    return (_redeliver(job, stimulus.reason, after, stimulus.now_ns, stimulus.chance, policy),)


def _retry_timer_fired(job: Job, _stimulus: s.RetryTimerFired, _policy: Policy) -> Events:
    if job.state is State.RETRY_WAIT and job.back_to_uploading:
        return (e.RetryDue(),)
    return _NONE


# Defects.


def _effect_failed(job: Job, stimulus: s.EffectFailed, policy: Policy) -> Events:
    """Say E_INTERNAL where nothing can be living; elsewhere the effect is simply due again."""
    if job.state is State.UPLOADING:
        return (_redeliver(job, stimulus.message, None, stimulus.now_ns, stimulus.chance, policy),)
    preparing = job.state is State.PREP and job.intent is None
    collecting = job.state is State.RUNNING and job.ended is not None
    if preparing or collecting:
        return (_outcome(Failure(ErrorCode.INTERNAL, stimulus.message)),)
    return _NONE


# What the decisions share.


def _outcome(failure: Failure) -> e.OutcomeKnown:
    return e.OutcomeKnown(failure.code, failure.message, failure.permanent)


def _cancelled(by: str) -> Failure:
    return Failure(ErrorCode.CANCELLED, f"cancelled by the {by}")


def _given_away(reason: str) -> Failure:
    return Failure(ErrorCode.CANCELLED, f"given up: {reason}")


def _into_prep(job: Job) -> Events:
    """Return the step from a waiting state into PREP, where an outcome may be known."""
    if job.state is State.ACKED:
        return (e.PrepStarted(),)
    if job.state is State.RETRY_WAIT:
        return (e.RetryDue(),)
    return _NONE


def _may_live(job: Job) -> bool:
    """Whether a process of the job may exist, so that it has to be stopped before anything is said."""
    if job.state is State.PREP:
        return job.intent is not None
    return job.state is State.RUNNING and job.ended is None


def _being_stopped(job: Job) -> bool:
    return job.abandoned is not None or job.cancelled_by is not None or job.limit is not None


def _stopped_or(job: Job, otherwise: e.OutcomeKnown | None = None) -> Events:
    """Return the outcome of a run that was stopped on purpose, or else `otherwise`."""
    if job.abandoned is not None:
        return (_outcome(_given_away(job.abandoned)), e.Superseded(job.abandoned))
    if job.cancelled_by is not None:
        return (_outcome(_cancelled(job.cancelled_by)),)
    if job.limit is not None:
        return (_outcome(job.limit),)
    return _NONE if otherwise is None else (otherwise,)


def _collects(job: Job) -> bool:
    """Whether a success has artifacts to collect."""
    return bool(job.manifest.get("artifacts"))


def _failure_of(gone: s.ProcessGone) -> Failure | None:
    detail = f": {gone.detail}" if gone.detail else ""
    match gone.how:
        case s.How.EXITED if gone.exit_code == 0:
            return None
        case s.How.EXITED:
            return Failure(ErrorCode.EXIT, f"the command ended with exit code {gone.exit_code}{detail}")
        case s.How.SIGNALLED if gone.signal == _SIGXFSZ:
            return Failure(ErrorCode.OUTPUT, f"the command wrote a file larger than it may{detail}")
        case s.How.SIGNALLED:
            return Failure(ErrorCode.SIGNAL, f"the command was killed by signal {gone.signal}{detail}")
        case s.How.TIMED_OUT:
            return Failure(ErrorCode.TIMEOUT, f"the time limit ran out{detail}")
        case s.How.OUT_OF_MEMORY:
            return Failure(ErrorCode.OOM, f"the command went over its memory limit{detail}")
        case s.How.SANDBOX_FAILED:
            return Failure(ErrorCode.INTERNAL, f"the sandbox could not be built{detail}")
        case s.How.LOST:
            return Failure(ErrorCode.LOST, _lost(gone.detail))


def _lost(detail: str) -> str:
    """Return how a process was lost: what is known of it, or else a guess."""
    if detail:
        return f"{detail}; it left no exit code"
    return "the process was lost without an exit code (power cut or reboot?)"


def _retry_or_outcome(job: Job, failure: Failure, now_ns: int, chance: float, policy: Policy) -> Events:
    if not failure.retry_here or job.run >= policy.max_runs:
        if failure.retry_here and policy.max_runs > 1:
            message = f"{failure.message} (run {job.run} of {policy.max_runs})"
            failure = Failure(failure.code, message, failure.permanent)
        return (_outcome(failure),)
    wait = _wait(policy.run_backoff, job.run, None, now_ns, chance)
    return (e.RetryScheduled(State.PREP, failure.code, failure.message, *wait),)


def _redeliver(
    job: Job, reason: str, after_s: float | None, now_ns: int, chance: float, policy: Policy
) -> e.RetryScheduled:
    wait = _wait(policy.delivery_backoff, job.deliveries + 1, after_s, now_ns, chance)
    return e.RetryScheduled(State.UPLOADING, None, reason, *wait)


def _wait(
    backoff: Backoff, failures: int, after_s: float | None, now_ns: int, chance: float
) -> tuple[float, int]:
    delay_s = round(backoff.delay_s(failures, chance, after_s), 3)
    return delay_s, now_ns + int(delay_s * _NS_PER_S)


_DECISIONS: dict[type[s.Stimulus], Callable[[Job, Any, Policy], Events]] = {
    s.OfferReceived: _offer_received,
    s.AckGranted: _ack_granted,
    s.AckRefused: _ack_refused,
    s.SlotGranted: _slot_granted,
    s.SlotImpossible: _slot_impossible,
    s.PrepDone: _prep_done,
    s.PrepFailed: _prep_failed,
    s.LaunchSucceeded: _launch_succeeded,
    s.LaunchFailed: _launch_failed,
    s.ProcessFound: _process_found,
    s.ProcessGone: _process_gone,
    s.LimitHit: _limit_hit,
    s.ArtifactsCollected: _artifacts_collected,
    s.ArtifactsRefused: _artifacts_refused,
    s.OutputDoubted: _output_doubted,
    s.CancelAsked: _cancel_asked,
    s.AbandonAsked: _abandon_asked,
    s.DeliveryDone: _delivery_done,
    s.DeliveryRefused: _delivery_refused,
    s.DeliveryRejected: _delivery_rejected,
    s.DeliveryUnknown: _delivery_unknown,
    s.RetryTimerFired: _retry_timer_fired,
    s.EffectFailed: _effect_failed,
}
