"""How a job came here, and its runs, in sentences: a function for each kind of chapter. Pure.

Each may raise what decoding raises where a record was changed into nonsense; `why` stands above them.
"""

from collections.abc import Iterator, Sequence

from fsm_miner.forensics.telling import LATE_NS, tell
from fsm_miner.forensics.why_chapters import Chapter, Teller
from fsm_miner.forensics.why_outcome import lease_lost, outcome_words
from fsm_miner.forensics.why_words import Sentence, because, lasting, nanoseconds, quoted, sentence, used
from states import events as e
from states.job import Job
from states.stimuli import How

__all__ = [
    "abandon",
    "acked",
    "cancel",
    "end",
    "launch",
    "launched",
    "limit",
    "offer",
    "prep_started",
    "reattached",
    "retry_due",
    "retry_scheduled",
    "unstarted",
]

# How it came here.


def offer(teller: Teller, chapter: Chapter) -> Iterator[Sentence]:
    """Tell how the job came here, and of the coordinator's consent if it came next."""
    event, record = chapter.events[0], chapter.records[0]
    assert isinstance(event, e.Offered)
    parts: list[tuple[str, Sequence[int]]] = [
        (f"The coordinator handed it out {teller.at(record.at_ns)}", (record.seq,))
    ]
    if len(chapter.steps) > 1:
        acked = chapter.records[1]
        gap_ns = acked.at_ns - record.at_ns
        late = f", though only {lasting(gap_ns)} later," if gap_ns > LATE_NS else ""
        parts.append((f" and agreed{late} that it is ours", (acked.seq,)))
    yield sentence("start", *parts)
    if event.problem_code is None:
        yield sentence("start", (f"It is to run: {quoted(tell(event))}", (record.seq,)))
    else:
        cause = because(event.problem_code, event.problem)
        yield sentence(
            "start",
            (f"It can't be run: {cause} ({event.problem_code}: {quoted(event.problem)})", (record.seq,)),
        )


def acked(teller: Teller, chapter: Chapter) -> Iterator[Sentence]:
    """Tell of a consent that something came before."""
    yield sentence(
        "start",
        (f"The coordinator agreed {teller.at(chapter.records[0].at_ns)} that it is ours", chapter.seqs),
    )


def prep_started(teller: Teller, chapter: Chapter) -> Iterator[Sentence]:
    """Tell how long it waited for its slot."""
    event, record = chapter.events[0], chapter.records[0]
    assert isinstance(event, e.PrepStarted)
    what = f"a slot{_with_cards(event.gpus)}"
    waited_ns = record.at_ns - chapter.since_ns
    if waited_ns > LATE_NS:
        words = f"It waited {lasting(waited_ns)} for {what} and got it {teller.at(record.at_ns)}"
    else:
        words = f"It got {what} at once"
    yield sentence("start", (words, chapter.seqs))


def _with_cards(gpus: tuple[str, ...]) -> str:
    return f" and the card{'s' * (len(gpus) > 1)} {quoted(', '.join(gpus))}" if gpus else ""


def unstarted(teller: Teller, chapter: Chapter) -> Iterator[Sentence]:
    """Tell of a job that left the line and was over before anything was started."""
    prepared, settled = chapter.records
    outcome = chapter.events[1]
    assert isinstance(outcome, e.OutcomeKnown)
    if prepared.at_ns == settled.at_ns:
        slot = "It got no slot, since there was nothing more to do for it"
    else:
        slot = f"It got a slot {teller.at(prepared.at_ns)}"
    words = f", and no process was started for it: it is {outcome_words(outcome)}"
    yield sentence("outcome", (slot, (prepared.seq,)), (words, (settled.seq,)))


# Its runs.


def launch(teller: Teller, chapter: Chapter) -> Iterator[Sentence]:
    """Tell of a process that was to be started, and was."""
    intended = chapter.events[0]
    assert isinstance(intended, e.LaunchIntended)
    limits = (
        f"at most {lasting(nanoseconds(intended.time_limit_s))}, {intended.memory_limit_mb} MiB of memory and "
        f"{intended.output_limit_mb} MiB of output"
    )
    if len(chapter.steps) == 1:
        words = f"Run {intended.run} was about to be started, with {limits}"
        yield sentence("run", (words, chapter.seqs))
        return
    launched, record = chapter.events[1], chapter.records[1]
    assert isinstance(launched, e.Launched)
    process = "" if launched.pid is None else f" as process {launched.pid}"
    yield sentence(
        "run",
        (
            f"Run {launched.run} was started {teller.at(launched.started_ns)}{process}, with {limits}",
            chapter.seqs,
        ),
    )
    late_ns = record.at_ns - launched.started_ns
    if late_ns > LATE_NS:
        words = f"That was recorded {lasting(late_ns)} later: the daemon had died in between, and the next one looked "
        yield sentence("run", (f"{words}before it would have started anything again", (record.seq,)))


def launched(teller: Teller, chapter: Chapter) -> Iterator[Sentence]:
    """Tell of a process whose intention stands apart."""
    launched = chapter.events[0]
    assert isinstance(launched, e.Launched)
    yield sentence("run", (f"Run {launched.run} was started {teller.at(launched.started_ns)}", chapter.seqs))


def reattached(teller: Teller, chapter: Chapter) -> Iterator[Sentence]:
    """Tell of daemons that came and found the process alive."""
    parts: list[tuple[str, Sequence[int]]] = []
    for event, record in zip(chapter.events, chapter.records, strict=True):
        assert isinstance(event, e.Reattached)
        silent = lasting(teller.silence_ns(record.seq))
        first = (
            "A daemon died or was stopped while it ran; the next"
            if not parts
            else "; that one went too, and the next"
        )
        parts.append(
            (
                (
                    f"{first} (process {event.daemon_pid}, at most {silent} later, on the same boot) found it alive "
                    f"{teller.at(record.at_ns)}"
                ),
                (record.seq,),
            )
        )
    yield sentence("run", *parts)


def cancel(teller: Teller, chapter: Chapter) -> Iterator[Sentence]:
    """Tell who wanted it stopped."""
    event = chapter.events[0]
    assert isinstance(event, e.CancelRequested)
    words = f"The {quoted(event.by)} asked {teller.at(chapter.records[0].at_ns)} that it be stopped"
    yield sentence("run", (words, chapter.seqs))


def abandon(teller: Teller, chapter: Chapter) -> Iterator[Sentence]:
    """Tell that the coordinator gave it to another node."""
    event = chapter.events[0]
    assert isinstance(event, e.AbandonRequested)
    words = f"The coordinator took it away from this node {teller.at(chapter.records[0].at_ns)}: {quoted(event.reason)}"
    yield sentence("run", (words, chapter.seqs))
    yield from lease_lost(teller, chapter)


def limit(teller: Teller, chapter: Chapter) -> Iterator[Sentence]:
    """Tell which limit it went over."""
    event = chapter.events[0]
    assert isinstance(event, e.LimitExceeded)
    words = (
        f"It went over a limit {teller.at(chapter.records[0].at_ns)}: {quoted(event.message)} ({event.code})"
    )
    yield sentence("run", (f"{words}; so the node set about ending it", chapter.seqs))


def end(teller: Teller, chapter: Chapter) -> Iterator[Sentence]:
    """Tell how the process ended, and what that makes of the job if it is known."""
    ended, record = chapter.events[0], chapter.records[0]
    assert isinstance(ended, e.Ended)
    parts: list[tuple[str, Sequence[int]]] = [
        (
            (
                f"{_how(chapter.before, ended)} {teller.at(ended.finished_ns)}{_after(chapter.before, ended)}"
                f"{used(ended.usage)}"
            ),
            (record.seq,),
        )
    ]
    if len(chapter.steps) > 1:
        outcome = chapter.events[1]
        assert isinstance(outcome, e.OutcomeKnown)
        parts.append((f", which is {outcome_words(outcome)}", chapter.seqs[1:]))
    yield sentence("run", *parts)
    late_ns = record.at_ns - ended.finished_ns
    if late_ns > LATE_NS and ended.how != How.LOST:
        because = "no daemon was there, or its journal could not be written"
        yield sentence("run", (f"This was written down {lasting(late_ns)} later: {because}", (record.seq,)))


def _how(before: Job, ended: e.Ended) -> str:
    stopped = before.cancelled_by is not None or before.abandoned is not None or before.limit is not None
    match ended.how:
        case How.EXITED:
            # Asked to end, a command may still choose its code.
            return f"It {'was ended, and gave' if stopped else 'ended by itself with'} exit code {ended.exit_code}"
        case How.SIGNALLED if stopped:
            return f"The node ended it (signal {ended.signal})"
        case How.SIGNALLED:
            return f"Signal {ended.signal}, which the node had not sent, ended it"
        case How.TIMED_OUT:
            return "Its time limit ran out, and it was ended"
        case How.OUT_OF_MEMORY:
            return "It wanted more memory than its limit, and was killed for that"
        case How.SANDBOX_FAILED:
            return "The sandbox could not be built, or could not start the command, which never began,"
        case How.LOST:
            return "It was found gone, without an exit code (killed together with its sandbox, or with the machine),"
        case other:
            return f"It ended ({quoted(other)})"


def _after(before: Job, ended: e.Ended) -> str:
    if before.launch is None or ended.finished_ns < before.launch.started_ns:
        return ""
    return f", after {lasting(ended.finished_ns - before.launch.started_ns)}"


def retry_scheduled(teller: Teller, chapter: Chapter) -> Iterator[Sentence]:
    """Tell why another run was put off."""
    event = chapter.events[0]
    assert isinstance(event, e.RetryScheduled)
    if event.code is None:
        cause = quoted(event.reason)
    else:
        cause = f"{because(event.code, event.reason)} ({event.code}: {quoted(event.reason)})"
    until = teller.at(event.due_ns).removeprefix("at ")
    wait = lasting(nanoseconds(event.delay_s))
    words = f"As {cause}, which may go better another time, it was to be run again in {wait}, at {until}"
    yield sentence("run", (words, chapter.seqs))


def retry_due(teller: Teller, chapter: Chapter) -> Iterator[Sentence]:
    """Tell that a wait was over."""
    event, record, before = chapter.events[0], chapter.records[0], chapter.before
    assert isinstance(event, e.RetryDue)
    if before.back_to_uploading:
        yield sentence("delivery", (f"That wait was over {teller.at(record.at_ns)}", chapter.seqs))
        return
    due_ns = record.at_ns if before.retry is None else before.retry.due_ns
    waited = (
        f", after waiting {lasting(record.at_ns - due_ns)} for a slot"
        if record.at_ns - due_ns > LATE_NS
        else ""
    )
    words = f"Run {chapter.after.run} had its turn {teller.at(record.at_ns)}{_with_cards(event.gpus)}{waited}"
    yield sentence("run", (words, chapter.seqs))
