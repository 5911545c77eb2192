"""The first sentence and the last: what came of a job, and what an unfinished one waits for. Pure."""

from collections.abc import Iterator, Sequence

from fsm_miner.forensics.case import Case
from fsm_miner.forensics.story import Step
from fsm_miner.forensics.why_words import Calendar, Sentence, because, lasting, nanoseconds, quoted, sentence
from states import events as e
from states.job import Job
from states.table import State

__all__ = ["now_of", "verdict_of"]


def verdict_of(case: Case, told: Sequence[Step]) -> Iterator[Sentence]:
    """Yield the sentence that says it all, if anything can be said."""
    if not told:
        return
    job = case.story.job
    last = told[-1].record.seq
    key = f"{case.story.key}{'' if case.story.broken is None else ' (by its records)'}"
    known = _seqs(told, e.OutcomeKnown, e.OutcomeRevised)[-1:]
    if job.superseded is not None:
        yield sentence(
            "verdict", (f"{key} came to nothing here: the coordinator wanted no more of it", (last,))
        )
    elif job.failure is not None:
        words = f"{key} failed, since {because(job.failure.code, job.failure.message)} ({job.failure.code})"
        yield sentence("verdict", (words, known), _delivered(job, last))
    elif job.outcome_known:
        yield sentence("verdict", (f"{key} succeeded", known), _delivered(job, last))
    else:
        yield sentence("verdict", (f"{key} is not over: it is in {job.state}", (last,)))


def _delivered(job: Job, last: int) -> tuple[str, Sequence[int]]:
    if job.final:
        return ", and the coordinator knows", (last,)
    return ", and the coordinator does not know it yet", (last,)


def _seqs(told: Sequence[Step], *kinds: type[e.Event]) -> list[int]:
    return [step.record.seq for step in told if isinstance(step.event, kinds)]


def now_of(job: Job, told: Sequence[Step]) -> Iterator[Sentence]:
    """Yield what an unfinished job waits for, and until when."""
    last = (told[-1].record.seq,)
    yield sentence("now", (f"Now {_waits(job)}", _behind(job, told) or last))
    if job.state is not State.RUNNING and job.cancelled_by is not None:
        yield sentence(
            "now", (f"The {quoted(job.cancelled_by)} wants it stopped", _seqs(told, e.CancelRequested))
        )


def _behind(job: Job, told: Sequence[Step]) -> list[int]:
    """Return the records that what it waits for comes from."""
    match job.state:
        case State.RUNNING if job.ended is not None:
            return _seqs(told, e.Ended)[-1:]
        case State.RUNNING:
            return _seqs(told, e.LaunchIntended, e.Launched)[-2:]
        case _:
            return [told[-1].record.seq]


def _waits(job: Job) -> str:
    match job.state:
        case State.PULLING:
            return "the coordinator is asked again and again whether the job is ours; nothing is run before it says so"
        case State.ACKED:
            card = " and a card that fits" if job.wants_gpu else ""
            return f"it waits for a free slot{card}; there is no time limit on that"
        case State.PREP if job.intent is not None:
            return f"run {job.run} is about to be started"
        case State.PREP:
            return f"run {job.run} is being prepared: checked against the rules, its folder made, its inputs fetched"
        case State.RUNNING:
            return _running(job)
        case State.UPLOADING:
            return f"the outcome is being delivered (try {job.deliveries + 1}), for as long as it takes"
        case State.RETRY_WAIT:
            return _retry_wait(job)
        case _:
            return "nothing has happened yet"


def _running(job: Job) -> str:
    if job.ended is not None:
        return "what it promised is being checked and hashed"
    if job.cancelled_by is not None or job.abandoned is not None or job.limit is not None:
        return f"run {job.run} is being ended: it is asked to, and killed after a period of grace"
    if job.launch is None or job.intent is None:
        return f"run {job.run} goes on"
    limit_ns = nanoseconds(job.intent.time_limit_s)
    until = Calendar().at(job.launch.started_ns + limit_ns).removeprefix("at ")
    return f"run {job.run} goes on, until {until} at the latest (its limit is {lasting(limit_ns)})"


def _retry_wait(job: Job) -> str:
    if job.retry is None:
        return "it waits"
    until = Calendar().at(job.retry.due_ns).removeprefix("at ")
    if job.back_to_prep:
        return f"it waits until {until}, then for a slot, and is run again (run {job.run + 1})"
    return f"it waits until {until}, then the outcome is delivered again (try {job.deliveries + 1})"
