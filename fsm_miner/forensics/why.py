"""Why a job came to its end, or is where it is: sentences, each with the records behind it. Pure.

A story is cut into chapters (one or a few records that belong together), and each chapter is told by a function of
`why_runs` or `why_outcome`. A chapter whose data was changed into nonsense is named and passed over: nothing here
raises.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

from fsm_miner.forensics import why_outcome as outcome
from fsm_miner.forensics import why_runs as runs
from fsm_miner.forensics.case import Case
from fsm_miner.forensics.story import Step
from fsm_miner.forensics.why_chapters import Chapter, Teller, chapters_of
from fsm_miner.forensics.why_now import now_of, verdict_of
from fsm_miner.forensics.why_words import Sentence, lasting, quoted, sentence
from states.job import NEW

__all__ = ["Sentence", "why"]

# What telling may raise where a record was changed.
_NONSENSE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
_TROUBLE_MAX = 20
_CHAPTERS: Mapping[str, Callable[[Teller, Chapter], Iterator[Sentence]]] = MappingProxyType(
    {
        "offer": runs.offer,
        "Acked": runs.acked,
        "PrepStarted": runs.prep_started,
        "unstarted": runs.unstarted,
        "launch": runs.launch,
        "Launched": runs.launched,
        "reattached": runs.reattached,
        "CancelRequested": runs.cancel,
        "AbandonRequested": runs.abandon,
        "LimitExceeded": runs.limit,
        "end": runs.end,
        "OutcomeKnown": outcome.outcome,
        "OutcomeRevised": outcome.revised,
        "RetryScheduled": runs.retry_scheduled,
        "RetryDue": runs.retry_due,
        "outage": outcome.outage,
        "Delivered": outcome.delivered,
        "Superseded": outcome.superseded,
    }
)


def why(case: Case) -> tuple[Sentence, ...]:
    """Return the sentences: on damage if there is any, the verdict, the story, and what an unfinished job waits for.

    Every record is behind at least one of them.
    """
    steps = case.story.steps
    told = [step for step in steps if step.job is not None]
    lost = steps[len(told) :]
    found = [*_damage(case, lost), *_guarded(lambda: verdict_of(case, told), told[-1:])]
    teller = Teller(case)
    before = NEW
    last: Step | None = None
    for name, part in chapters_of(told):
        since_ns = (last or part[0]).record.at_ns
        tell, chapter = _CHAPTERS[name], Chapter(before, since_ns, tuple(part))
        found += _breaks([*([last] if last else []), part[0]])
        found += _unwatched(teller, part)
        found += _guarded(lambda tell=tell, chapter=chapter: tell(teller, chapter), part)
        found += _breaks(part)
        last = part[-1]
        before = last.job or before
    if told and not lost and not before.final:
        found += _guarded(lambda before=before: now_of(before, told), told[-1:])
    if case.redacted:
        found.append(_redacted(case))
    return tuple(found)


def _guarded(tell: Callable[[], Iterator[Sentence]], part: Sequence[Step]) -> list[Sentence]:
    """Return the sentences of a chapter; of one that makes no sense, that."""
    try:
        return list(tell())
    except _NONSENSE as error:
        names = ", ".join(dict.fromkeys(quoted(step.record.event) for step in part))
        what = f"What {names} holds makes no sense, so it can't be told ({type(error).__name__})"
        return [sentence("damage", (what, [step.record.seq for step in part]))]


def _damage(case: Case, lost: Sequence[Step]) -> Iterator[Sentence]:
    broken = case.story.broken
    if not case.story.steps:
        yield sentence("damage", ("Not one record of this job could be read", ()))
    if broken is not None:
        doubtful = [step.record.seq for step in case.story.steps if not step.holds]
        yield sentence(
            "damage",
            (f"Record {broken.seq} is not what was written: {quoted(broken.reason)}", (broken.seq,)),
            (
                "; from there on, all of this is what the records say now, and may not be what happened",
                doubtful,
            ),
        )
    if lost:
        yield sentence(
            "damage",
            (
                "These records can't be followed any more, so that the story below ends before them",
                [step.record.seq for step in lost],
            ),
        )
    for line in case.story.trouble[:_TROUBLE_MAX]:
        yield sentence("damage", (f"Trouble: {quoted(line)}", ()))


def _unwatched(teller: Teller, steps: Sequence[Step]) -> Iterator[Sentence]:
    """Tell of the times in which nobody looked at a run, and of which nothing else is known."""
    for seq in (step.record.seq for step in steps):
        for gap_ns in teller.unwatched(seq):
            yield sentence("run", (f"For at most {lasting(gap_ns)} nobody watched the run", (seq,)))


def _breaks(steps: Sequence[Step]) -> Iterator[Sentence]:
    """Tell what lies between two records: a reboot, a clock that was set back."""
    for one, other in pairwise(step.record for step in steps):
        gap_ns = other.at_ns - one.at_ns
        seqs = (one.seq, other.seq)
        if one.boot_id != other.boot_id:
            away = f"the last record before it and the first after it are {lasting(gap_ns)} apart"
            yield sentence("run", (f"Then the machine was rebooted: {away}", seqs))
        if gap_ns < 0:
            words = f"The node's clock was set back meanwhile, by more than {lasting(gap_ns)}"
            yield sentence("run", (words, seqs))


def _redacted(case: Case) -> Sentence:
    one = len(case.redacted) == 1
    return sentence(
        "note",
        (
            "This record was redacted: its hash is taken on trust"
            if one
            else "These records were redacted: their hashes are taken on trust",
            sorted(case.redacted),
        ),
    )
