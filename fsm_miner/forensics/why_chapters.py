"""A story cut into chapters: records that belong together, and what telling them needs besides. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fsm_miner.forensics.case import Case
from fsm_miner.forensics.page_life import Break, read_life
from fsm_miner.forensics.story import Step
from fsm_miner.forensics.why_words import Calendar
from journal.port import Record
from states import events as e
from states.job import Job

__all__ = ["Chapter", "Teller", "chapters_of"]


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
    """What the chapters share: the calendar, and the times in which something was missing, as the page draws them."""

    def __init__(self, case: Case) -> None:
        self.at = Calendar().at
        life = read_life(case)
        self._breaks: tuple[Break, ...] = () if life is None else life.breaks

    def silence_ns(self, seq: int) -> int:
        """Return how long before a record the last sign of a daemon's life was."""
        return max(
            [one.end_ns - one.start_ns for one in self._breaks if one.seq == seq and not one.quiet] or [0]
        )

    def unwatched(self, seq: int) -> list[int]:
        """Return for how long nobody looked at a run before a record, of each time that nothing else is known of."""
        return [one.end_ns - one.start_ns for one in self._breaks if one.seq == seq and one.quiet]

    def longest_ns(self, since_seq: int, until_seq: int) -> int:
        """Return how long the coordinator heard nothing at most, between two records."""
        found = [one for one in self._breaks if since_seq < one.seq <= until_seq]
        return max([one.end_ns - one.start_ns for one in found] or [0])


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
