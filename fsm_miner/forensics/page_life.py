"""What of a case can be drawn: the states it was in, its events, and the times in which something was missing. Pure.

Times are the records' own. Where a record is earlier than the one before it (the clock was set back), the time
between the two is drawn as none, and everything after it is moved along; `Life.notes` says so.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median_low
from typing import cast

from fsm_miner.forensics.case import Case, Sample
from fsm_miner.forensics.page_time import short_span
from fsm_miner.forensics.story import Step
from fsm_miner.forensics.telling import LATE_NS
from fsm_miner.words import NS, counted
from states import events as e
from states.stimuli import How
from states.table import FINAL, State

__all__ = ["Bar", "Break", "Life", "Mark", "number_in", "read_life", "runs_of"]

_QUIET_FACTOR = 4
_QUIET_MIN_NS = 3 * NS
_OPEN_SHARE = 25
_NUMBER_MAX = 1e15
_BAD = (e.LimitExceeded, e.OutcomeRevised)
_CARE = (e.Reattached, e.RetryScheduled, e.CancelRequested, e.AbandonRequested, e.Superseded)


@dataclass(frozen=True, slots=True)
class Bar:
    """A stay in a state, from the record `seq` on. `going_on`: it has not ended yet."""

    state: State
    start_ns: int
    end_ns: int
    seq: int
    going_on: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A record on the line of events: `tone` is "good", "bad", "care" or "plain"."""

    seq: int
    at_ns: int
    tone: str
    step: Step


@dataclass(frozen=True, slots=True)
class Break:
    """A time in which something was missing: `kind` is "daemon", "reboot" or "coordinator".

    `seq` is the record that it ends at, or before; `quiet`: all that is known of it is that nobody looked at a run.
    """

    kind: str
    start_ns: int
    end_ns: int
    words: str
    seq: int = 0
    quiet: bool = False

    @property
    def at_most(self) -> str:
        """What to say before its length: of when it began, the last sign of a daemon is all that is known."""
        return "" if self.kind == "coordinator" else "at most "


@dataclass(frozen=True, slots=True)
class Life:
    """A case in pictures. `start_ns` is before `end_ns`, always."""

    start_ns: int
    end_ns: int
    bars: tuple[Bar, ...]
    marks: tuple[Mark, ...]
    breaks: tuple[Break, ...]
    samples: tuple[Sample, ...]
    notes: tuple[str, ...]

    def count(self, kind: str) -> int:
        """Return how many breaks there are of a kind."""
        return sum(one.kind == kind for one in self.breaks)


def number_in(data: object, name: str = "") -> float:
    """Return a record's number, or that of the given name in its mapping; 0 where it was changed and is none."""
    value = cast("Mapping[str, object]", data).get(name) if name and isinstance(data, Mapping) else data
    return float(value) if isinstance(value, int | float) and 0 < value < _NUMBER_MAX else 0.0


def runs_of(life: Life) -> Iterator[tuple[int, Mark]]:
    """Yield the launches and ends of runs, each with the run's number."""
    run = 0
    for mark in life.marks:
        if isinstance(mark.step.event, e.Launched):
            launched = cast("object", mark.step.event.run)
            run = launched if isinstance(launched, int) else 0
            yield run, mark
        elif isinstance(mark.step.event, e.Ended):
            yield run, mark


def read_life(case: Case) -> Life | None:
    """Read a case; None where not one record could be read."""
    steps = case.story.steps
    if not steps:
        return None
    times = _Times(steps)
    samples = tuple(times.moved(sample, steps) for sample in case.samples or ())
    last_ns = max([times.at[-1], *(sample.at_ns for sample in samples)])
    final = steps[-1].record.dest in FINAL
    start_ns = times.at[0]
    end_ns = last_ns if final else last_ns + max((last_ns - start_ns) // _OPEN_SHARE, 1)
    end_ns = max(end_ns, start_ns + 1)
    marks = tuple(
        Mark(step.record.seq, at_ns, _tone(step), step) for step, at_ns in zip(steps, times.at, strict=True)
    )
    bars = tuple(_bars(steps, times.at, end_ns))
    breaks = sorted(
        [*_without_daemon(steps, times.at, samples), *_without_coordinator(steps, times.at, end_ns)],
        key=lambda one: (one.start_ns, one.end_ns),
    )
    return Life(start_ns, end_ns, bars, marks, tuple(breaks), samples, tuple(times.notes))


class _Times:
    """The records' times, made to run forward."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.at: list[int] = []
        self.notes: list[str] = []
        self._offsets: list[int] = []
        offset, before = 0, steps[0].record.at_ns
        for step in steps:
            now = step.record.at_ns
            if now < before:
                self.notes.append(
                    f"Between records {step.record.seq - 1} and {step.record.seq} the clock was set back by "
                    f"{short_span(before - now)}: that time is drawn as none."
                )
                offset += before - now
            self.at.append(now + offset)
            self._offsets.append(offset)
            before = now

    def moved(self, sample: Sample, steps: Sequence[Step]) -> Sample:
        """Return a sample on the records' time: moved as the records of its run that it lies between."""
        if not self._offsets[-1]:
            return sample
        at_ns = self._moved(sample.at_ns, _first_of(sample.run, steps), steps)
        return replace(sample, at_ns=at_ns)

    def _moved(self, at_ns: int, first: int, steps: Sequence[Step]) -> int:
        for index in range(first, len(steps) - 1):
            before_ns, after_ns = steps[index].record.at_ns, steps[index + 1].record.at_ns
            if before_ns <= at_ns and (at_ns < after_ns or after_ns < before_ns):
                return at_ns + self._offsets[index]
            if at_ns < after_ns < before_ns:
                return max(at_ns + self._offsets[index + 1], self.at[index])
        return max(at_ns + self._offsets[-1], self.at[first])


def _first_of(run: int, steps: Sequence[Step]) -> int:
    """Return where a run's records begin."""
    launches = (
        index
        for index, step in enumerate(steps)
        if isinstance(step.event, e.Launched) and step.event.run == run
    )
    return next(launches, 0)


def _bars(steps: Sequence[Step], at: Sequence[int], end_ns: int) -> Iterator[Bar]:
    state, start_ns, seq = None, at[0], steps[0].record.seq
    for step, now in zip(steps, at, strict=True):
        dest = _state(step.record.dest)
        if dest == state:
            continue
        if state is not None:
            yield Bar(state, start_ns, now, seq)
        state, start_ns, seq = dest, now, step.record.seq
    if state is not None:
        yield Bar(state, start_ns, end_ns, seq, going_on=state not in FINAL)


def _state(name: str) -> State | None:
    try:
        return State(name)
    except ValueError:
        return None  # the record was changed: its words can't be drawn


def _tone(step: Step) -> str:
    if not step.holds or step.job is None:
        return "bad"
    match step.event:
        case e.OutcomeKnown(code=code):
            return "good" if code is None else "bad"
        case e.Delivered():
            return "good" if step.job.state is State.DONE else "plain"
        case event if isinstance(event, _BAD):
            return "bad"
        case event if isinstance(event, _CARE):
            return "care"
        case _:
            return "plain"


def _without_daemon(steps: Sequence[Step], at: Sequence[int], samples: Sequence[Sample]) -> Iterator[Break]:
    """Find reboots, daemons that were followed by others, and runs that nobody watched.

    Of when it began, the last record or the last look at the run is what is known.
    """
    all_looks = sorted(sample.at_ns for sample in samples)
    for (before, step), (start_ns, end_ns) in zip(pairwise(steps), pairwise(at), strict=True):
        looks = all_looks[bisect_left(all_looks, start_ns) : bisect_left(all_looks, end_ns)]
        seen_ns, seq = max([start_ns, *looks]), step.record.seq
        if step.record.boot_id != before.record.boot_id:
            yield Break("reboot", seen_ns, end_ns, "The machine was started anew", seq)
        elif isinstance(step.event, e.Reattached):
            words = f"A new one found run {step.event.run} alive"
            yield Break("daemon", seen_ns, end_ns, words, seq)
        elif isinstance(step.event, e.Launched) and (late_ns := _late(step.event.started_ns, step)):
            words = f"A new one found that run {step.event.run} had been started"
            yield Break("daemon", max(start_ns, end_ns - late_ns), end_ns, words, seq)
        elif _ended_late(step):
            yield from _quiet(looks, seq)
            words = "The end of the run was written down late: none was there, or its journal could not be written"
            yield Break("daemon", seen_ns, end_ns, words, seq)
        elif before.record.dest == State.RUNNING:
            yield from _quiet([*looks, end_ns], seq)


def _quiet(looks: Sequence[int], seq: int) -> Iterator[Break]:
    """Find where nobody looked at a run for long, as looks at it go."""
    if len(looks) <= _QUIET_FACTOR:
        return
    gaps = [later - earlier for earlier, later in pairwise(looks)]
    quiet_ns = max(_QUIET_FACTOR * median_low(gaps), _QUIET_MIN_NS)
    for earlier, later in pairwise(looks):
        if later - earlier > quiet_ns:
            yield Break("daemon", earlier, later, "Nobody watched the run", seq, quiet=True)


def _late(happened_ns: object, step: Step) -> int:
    """Return how long after it happened something was recorded, if that is long; else 0."""
    late_ns = (
        step.record.at_ns - happened_ns if isinstance(happened_ns, int) else 0
    )  # it may have been changed
    return late_ns if late_ns > LATE_NS else 0


def _ended_late(step: Step) -> bool:
    """Say whether a run had ended long before that was recorded. Of a lost one, nobody knows."""
    event = step.event
    return isinstance(event, e.Ended) and event.how != How.LOST and _late(event.finished_ns, step) > 0


def _without_coordinator(steps: Sequence[Step], at: Sequence[int], end_ns: int) -> Iterator[Break]:
    """Find the times in which the outcome could not be handed over: from the first try to the one that got through."""
    began_ns: int | None = None
    until_ns = at[0]
    tries, reason = 0, ""
    for index, (step, now) in enumerate(zip(steps, at, strict=True)):
        match step.event:
            case e.RetryScheduled(back_to=State.UPLOADING, reason=why):
                began_ns = at[max(index - 1, 0)] if began_ns is None else began_ns
                tries, reason = tries + 1, str(why)
                until_ns = end_ns
            case e.RetryDue():
                until_ns = now if began_ns is not None else until_ns
            case e.Delivered() | e.Superseded() if began_ns is not None:
                yield Break("coordinator", began_ns, until_ns, _undelivered(tries, reason))
                began_ns, tries = None, 0
            case _:
                pass
    if began_ns is not None:
        yield Break("coordinator", began_ns, end_ns, _undelivered(tries, reason))


def _undelivered(tries: int, reason: str) -> str:
    return f"The outcome could not be delivered: {counted(tries, 'try').replace('trys', 'tries')}, the last: {reason}"
