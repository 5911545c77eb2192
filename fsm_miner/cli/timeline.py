"""The timeline of a job's story, and its state after one record, as rows of text. Pure."""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from fsm_miner.cli.output import STYLES, Cell
from fsm_miner.forensics.story import Step, Story, due_json, job_json
from fsm_miner.forensics.telling import artifacts_text, given_up, ranges, tell
from fsm_miner.words import NS, span, utc
from journal.port import Record
from states.job import NEW, Job
from states.table import State

__all__ = [
    "Line",
    "chain_cells",
    "due_text",
    "ending_cells",
    "fields_of",
    "headers",
    "line_of",
    "lines",
    "on_trust",
    "state_cell",
    "timeline",
]

_VALUE_MAX = 1500


class Line(NamedTuple):
    """A record as people read it. `day` and `time` are UTC; `gap` is the time since the record before it."""

    seq: Cell
    day: str
    time: str
    gap: str
    event: Cell
    state: Cell
    what: str


def lines(story: Story) -> Iterator[Line]:
    """Yield a line for each record of a story."""
    before = None
    for step in story.steps:
        doubt = story.broken is not None and step.record.seq == story.broken.seq and not step.holds
        yield line_of(step, before, doubt=doubt)
        before = step.record


def line_of(step: Step, before: Record | None, *, doubt: bool = False) -> Line:
    """Return a record's line, `before` being the record before it; `doubt`: it is the first that does not hold."""
    record = step.record
    day, time = _day_and_time(record.at_ns)
    rebooted = before is not None and record.boot_id != before.boot_id
    return Line(
        Cell(str(record.seq), "" if step.holds else "bold red"),
        day,
        time,
        "" if before is None else _gap((record.at_ns - before.at_ns) / NS),
        Cell(record.event, "bold"),
        _states(record.source, record.dest),
        ("after a reboot: " if rebooted else "")
        + _what(step)
        + ("   <- the first record that does not hold" if doubt else ""),
    )


def _day_and_time(at_ns: int) -> tuple[str, str]:
    text = utc(at_ns)
    # A record that was changed may be of no day.
    return (text[:10], text[11:]) if text[10:11] == " " else ("", text)


def _gap(seconds: float) -> str:
    text = span(seconds)
    return text if text.startswith("-") else f"+{text}"


def headers(story: Story) -> tuple[str, ...]:
    """Return the timeline's headers; that of the times is the day (UTC) of the first record."""
    day = next((line.day for line in lines(story)), None)
    return ">#", "=time" if day is None else f"={day} UTC", ">after", "=event", "=state", "what mattered"


def timeline(story: Story) -> Iterator[tuple[str | Cell, ...]]:
    """Yield a row for each record, under `headers`. Days are named where they change."""
    day = next((line.day for line in lines(story)), "")
    for line in lines(story):
        time = line.time if line.day == day else f"{line.day} {line.time}"
        yield line.seq, time, line.gap, line.event, line.state, line.what
        day = line.day


def _states(source: str, dest: str) -> Cell:
    return Cell(dest if source == dest else f"{source} → {dest}", STYLES.get(dest, ""))


def _what(step: Step) -> str:
    if step.event is None:
        return f"can't be understood: {step.record.data_json}"
    return _told(lambda event=step.event: tell(event)) or f"can't be understood: {step.record.data_json}"


def _told(words: Callable[[], str]) -> str:
    """Return the words; "" where a record was changed so that there are none."""
    try:
        return words()
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return ""


def state_cell(state: str) -> Cell:
    """Return a state in its colour."""
    return Cell(state, STYLES.get(state, ""))


def ending_cells(job: Job) -> list[str | Cell]:
    """Return the line on what came of the job, or on what it waits for."""
    if job.superseded is not None:
        return ["outcome   given up: ", given_up(job.superseded)]
    if job.failure is not None:
        return ["outcome   ", Cell(str(job.failure.code), "red"), ": ", str(job.failure.message)]
    if job.outcome_known:
        return [
            "outcome   ",
            Cell("success", "green"),
            "; ",
            _told(lambda: artifacts_text(job.artifacts)) or "artifacts unknown",
        ]
    return ["outcome   none yet"]


def chain_cells(story: Story, redacted: frozenset[int] = frozenset()) -> list[str | Cell]:
    """Return the line on whether the records are what was written; of those `redacted` nobody can tell."""
    if story.broken is not None:
        return ["chain     ", Cell("does NOT hold", "bold red"), f": {story.broken}"]
    if not story.steps:
        return ["chain     no record could be read"]
    last = story.steps[-1].record
    found = ["chain     ", Cell("holds", "green"), f": {last.seq} records, head {last.hash}"]
    return [*found, f"; {on_trust(redacted)}"] if redacted else found


def on_trust(redacted: frozenset[int]) -> str:
    """Return the sentence on records that were redacted."""
    numbers = ranges(sorted(redacted))
    if len(redacted) == 1:
        return f"record {numbers} was redacted: its hash is taken on trust, all others were computed"
    return f"records {numbers} were redacted: their hashes are taken on trust, all others were computed"


def due_text(job: Job) -> str:
    """Return what is due in words: the instruction with its fields, or "nothing"."""
    found = due_json(job)
    if found is None:
        return "nothing"
    name = found.pop("instruction")
    if "due_ns" in found:
        due_ns = found["due_ns"]
        found["due_ns"] = _told(lambda: utc(due_ns)) or str(due_ns)
    return name + (f" ({', '.join(f'{key} {value}' for key, value in found.items())})" if found else "")


def fields_of(job: Job) -> Iterator[tuple[str, str]]:
    """Yield every field of the job that is set: its name, and its value in one line."""
    empty, values = job_json(NEW), job_json(job)
    always = ("job_id", "attempt", "state", "seq")
    for name, value in values.items():
        if name in always or value != empty[name]:
            yield name, _shown(name, value)


def _shown(name: str, value: Any) -> str:
    if isinstance(value, State):
        return value.value
    if name.endswith("_ns") and isinstance(value, int):
        return f"{utc(value)} UTC"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _VALUE_MAX else text[: _VALUE_MAX - 1] + "…"
