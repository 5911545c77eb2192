"""The timeline of a job's story, and its state after one record, as rows of text. Pure."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from fsm_miner.cli.output import STYLES, Cell
from fsm_miner.forensics.story import Step, Story, due_json, job_json
from fsm_miner.forensics.telling import artifacts_text, tell
from fsm_miner.words import NS, span, utc
from states.job import NEW, Job
from states.table import State

__all__ = ["chain_cells", "due_text", "ending_cells", "fields_of", "headers", "state_cell", "timeline"]

_VALUE_MAX = 1500


def headers(story: Story) -> tuple[str, ...]:
    """Return the timeline's headers; that of the times is the day (UTC) of the first record."""
    day = utc(story.steps[0].record.at_ns)[:10] if story.steps else "time"
    return ">#", f"={day} UTC", ">after", "=event", "=state", "what mattered"


def timeline(story: Story) -> Iterator[tuple[str | Cell, ...]]:
    """Yield a row for each record, under `headers`. Days are named where they change."""
    before = None
    day = utc(story.steps[0].record.at_ns)[:10] if story.steps else ""
    for step in story.steps:
        record = step.record
        time = utc(record.at_ns)
        gap = "" if before is None else "+" + span((record.at_ns - before.at_ns) / NS)
        rebooted = before is not None and record.boot_id != before.boot_id
        doubt = story.broken is not None and record.seq == story.broken.seq and not step.holds
        yield (
            Cell(str(record.seq), "" if step.holds else "bold red"),
            time.removeprefix(f"{day} "),
            gap,
            Cell(record.event, "bold"),
            _states(record.source, record.dest),
            ("after a reboot: " if rebooted else "")
            + _what(step)
            + ("   <- the first record that does not hold" if doubt else ""),
        )
        before, day = record, time[:10]


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
        return ["outcome   none of ours: the coordinator has moved on: ", str(job.superseded)]
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


def chain_cells(story: Story) -> list[str | Cell]:
    """Return the line on whether the records are what was written."""
    if story.broken is not None:
        return ["chain     ", Cell("does NOT hold", "bold red"), f": {story.broken}"]
    if not story.steps:
        return ["chain     no record could be read"]
    last = story.steps[-1].record
    return ["chain     ", Cell("holds", "green"), f": {last.seq} records, head {last.hash}"]


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
