"""A job's outcome and the way of it to the coordinator, in sentences: a function for each kind of chapter. Pure.

Each may raise what decoding raises where a record was changed into nonsense; `why` stands above them.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from fsm_miner.forensics.telling import artifacts_text, given_up
from fsm_miner.forensics.why_chapters import Chapter, Teller
from fsm_miner.forensics.why_words import (
    Sentence,
    because,
    lasting,
    mending,
    nanoseconds,
    quoted,
    sentence,
    times,
)
from journal.port import Record
from states import events as e
from states.codes import ErrorCode, Failure

__all__ = ["delivered", "lease_lost", "outage", "outcome", "outcome_words", "revised", "superseded"]

_REASONS_MAX = 3


def outcome_words(event: e.OutcomeKnown) -> str:
    """Return what an outcome is, as a part of a sentence."""
    if event.code is None:
        return f"a success, with {artifacts_text(event.artifacts)}"
    failure = Failure(ErrorCode(event.code), event.message, event.permanent)
    cause = because(event.code, event.message)
    return f"a failure, since {cause} ({event.code}: {quoted(event.message)}); {mending(failure)}"


def outcome(teller: Teller, chapter: Chapter) -> Iterator[Sentence]:
    """Tell what came of the job."""
    event = chapter.events[0]
    assert isinstance(event, e.OutcomeKnown)
    at = teller.at(chapter.records[0].at_ns)
    if event.code is None:
        words = f"What it had promised was there {at}, so it is {outcome_words(event)}"
    else:
        words = f"It was settled {at} as {outcome_words(event)}"
    yield sentence("outcome", (words, chapter.seqs))


def revised(teller: Teller, chapter: Chapter) -> Iterator[Sentence]:
    """Tell why a success became a failure."""
    event = chapter.events[0]
    assert isinstance(event, e.OutcomeRevised)
    at, cause = teller.at(chapter.records[0].at_ns), because(event.code, event.message)
    words = f"The success became a failure {at}, since {cause} ({event.code}: {quoted(event.message)})"
    yield sentence("outcome", (words, chapter.seqs))


def outage(teller: Teller, chapter: Chapter) -> Iterator[Sentence]:
    """Tell of tries to deliver that failed, all of them together, and of the one that did not."""
    tries = [event for event in chapter.events if isinstance(event, e.RetryScheduled)]
    delivered = isinstance(chapter.events[-1], e.Delivered)
    waits = chapter.steps[:-1] if delivered else chapter.steps
    first, last = chapter.records[0], chapter.records[-1]
    known = Counter(quoted(event.reason) for event in tries)
    reasons = [
        reason + (f", {times(count)}" if count > 1 and len(known) > 1 else "")
        for reason, count in known.most_common(_REASONS_MAX)
    ]
    more = [f"{len(known) - _REASONS_MAX} other reasons"] if len(known) > _REASONS_MAX else []
    how_often = "one try" if len(tries) == 1 else f"{len(tries)} tries"
    gap_ns = last.at_ns - first.at_ns
    lasted = f"For {lasting(gap_ns)}, from {_since(teller, first)} on," if gap_ns > 0 else "So far"
    words = f"{lasted} the coordinator did not take the outcome ({'; '.join([*reasons, *more, how_often])})"
    parts: list[tuple[str, Sequence[int]]] = [(words, [step.record.seq for step in waits])]
    if delivered:
        parts.append(
            (f"; it has had it since {_since(teller, last)}{_status(chapter.events[-1])}", (last.seq,))
        )
    yield sentence("delivery", *parts)


def _since(teller: Teller, record: Record) -> str:
    return teller.at(record.at_ns).removeprefix("at ")


def _status(event: e.Event) -> str:
    return f" (HTTP {event.status})" if isinstance(event, e.Delivered) else ""


def delivered(teller: Teller, chapter: Chapter) -> Iterator[Sentence]:
    """Tell since when the coordinator has the outcome."""
    record = chapter.records[0]
    words = f"The coordinator has had it since {_since(teller, record)}{_status(chapter.events[0])}"
    yield sentence("delivery", (words, chapter.seqs))


def superseded(teller: Teller, chapter: Chapter) -> Iterator[Sentence]:
    """Tell that nobody wants the outcome."""
    event = chapter.events[0]
    assert isinstance(event, e.Superseded)
    status = "" if event.status is None else f"; HTTP {event.status}"
    consequence = "its outcome was not delivered" if chapter.before.outcome_known else "nothing was run here"
    since = _since(teller, chapter.records[0])
    words = f"From {since} on the coordinator wanted nothing more of it from this node"
    yield sentence(
        "delivery", (f"{words} ({quoted(given_up(event.reason))}{status}); so {consequence}", chapter.seqs)
    )
    if chapter.before.abandoned is None:
        yield from lease_lost(teller, chapter)


def lease_lost(teller: Teller, chapter: Chapter) -> Iterator[Sentence]:
    """Tell that the lease had probably run out, where the coordinator heard nothing of the node for longer."""
    lease_s, record = chapter.before.lease_s, chapter.records[0]
    silent_ns = teller.longest_ns(1, record.seq)
    if lease_s is not None and silent_ns > nanoseconds(lease_s):
        lease = lasting(nanoseconds(lease_s))
        heard = f"the coordinator may have heard nothing of this node for {lasting(silent_ns)}"
        words = f"Its lease of {lease} had probably run out: {heard}"
        yield sentence("delivery", (words, (record.seq,)))
