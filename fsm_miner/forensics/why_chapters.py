"""A story cut into chapters: records that belong together, and what telling them needs besides. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fsm_miner.forensics.case import Case
from fsm_miner.forensics.story import Step
from fsm_miner.forensics.why_words import Calendar
from fsm_miner.words import NS
from journal.port import Record
from states import events as e
from states.job import Job

__all__ = ["LATE_NS", "Chapter", "Teller", "chapters_of"]

LATE_NS = 2 * NS
"""What takes longer than this is worth a word."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """Records that belong together, at least one, the job as it was before them, and when (UTC) it came to be so."""

    before: Job
    since_ns: int
    steps: tuple[Step, ...]

    @property
    def events(self) -> list[e.Event]:
        """Their events."""
        return [step.event for step in self.steps if step.event is not None]

    @property
    def records(self) -> list[Record]:
        """The records themselves."""
        return [step.record for step in self.steps]

    @property
    def seqs(self) -> list[int]:
        """Their numbers."""
        return [step.record.seq for step in self.steps]

    @property
    def after(self) -> Job:
        """The job after the last of them."""
        return self.steps[-1].job or self.before


class Teller:
    """What the chapters share: the calendar, and the signs of life that are no records."""

    def __init__(self, case: Case) -> None:
        self.at = Calendar().at
        self._samples_ns = sorted(sample.at_ns for sample in case.samples or ())

    def silence_ns(self, since_ns: int, until_ns: int) -> int:
        """Return how long before `until_ns` the last sign of a daemon's life was, not longer than `since_ns` ago."""
        signs = [at_ns for at_ns in self._samples_ns if since_ns < at_ns < until_ns]
        return until_ns - max([since_ns, *signs[-1:]])


def chapters_of(steps: Sequence[Step]) -> Iterator[tuple[str, list[Step]]]:
    """Cut a story into chapters: the name of each, and its steps."""
    at = 0
    while at < len(steps):
        name, length = _chapter(steps, at)
        yield name, list(steps[at : at + length])
        at += length


def _chapter(steps: Sequence[Step], at: int) -> tuple[str, int]:
    def follows(offset: int, *kinds: type[e.Event]) -> bool:
        return at + offset < len(steps) and isinstance(steps[at + offset].event, kinds)

    def back(offset: int) -> bool:
        return getattr(steps[at + offset].event, "back_to", None) == "UPLOADING"

    match steps[at].event:
        case e.Offered():
            return "offer", 1 + follows(1, e.Acked)
        case e.PrepStarted() if follows(1, e.OutcomeKnown):
            return "unstarted", 2
        case e.LaunchIntended():
            return "launch", 1 + follows(1, e.Launched)
        case e.Reattached():
            length = 1
            while follows(length, e.Reattached):
                length += 1
            return "reattached", length
        case e.Ended():
            return "end", 1 + follows(1, e.OutcomeKnown)
        case e.RetryScheduled(back_to="UPLOADING"):
            length = 1
            while follows(length, e.RetryDue) or (
                follows(length - 1, e.RetryDue) and follows(length, e.RetryScheduled) and back(length)
            ):
                length += 1
            return "outage", length + follows(length, e.Delivered)
        case event:
            return type(event).__name__, 1
