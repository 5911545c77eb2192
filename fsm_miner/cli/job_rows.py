"""A job as one row of a list. Pure."""

from dataclasses import dataclass

from fsm_miner.cli.output import Cell
from fsm_miner.cli.reading import Listed
from fsm_miner.cli.timeline import state_cell
from fsm_miner.forensics.story import Story
from fsm_miner.words import NS, span
from journal.port import StreamKey
from states.events import Launched
from states.job import Job
from states.table import State

__all__ = ["HEADERS", "JobRow", "cells", "job_row"]

HEADERS = ("JOB", ">ATTEMPT", "STATE", ">RUNS", "CODE", ">AGE", ">TOOK", ">FILES")
SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class JobRow:
    """What a list says of a job. Times are UTC in nanoseconds. `code` is why it failed, or why it waits.

    `runs` counts the processes that were started: none, where the job was refused before that.
    """

    key: StreamKey
    state: str
    runs: int
    code: str | None
    message: str | None
    offered_ns: int
    updated_ns: int
    age_s: float
    took_s: float | None
    artifacts: int
    records: int
    trouble: tuple[str, ...]


def job_row(listed: Listed, story: Story, now_ns: int) -> JobRow:
    """Return the row of a stream, as far as its story can be told."""
    job = story.job
    code, message = _why(job)
    trouble = story.trouble if story.broken is None else (str(story.broken), *story.trouble)
    return JobRow(
        key=listed.key,
        state=listed.state,
        runs=sum(isinstance(step.event, Launched) for step in story.steps),
        code=code,
        message=message,
        offered_ns=listed.first_ns,
        updated_ns=listed.last_ns,
        age_s=(now_ns - listed.first_ns) / NS,
        took_s=_took_s(job, now_ns),
        artifacts=len(job.artifacts),
        records=listed.records,
        trouble=trouble,
    )


def _why(job: Job) -> tuple[str | None, str | None]:
    if job.superseded is not None:
        return SUPERSEDED, job.superseded
    if job.failure is not None:
        return str(job.failure.code), job.failure.message
    if job.retry is not None:
        return job.retry.code, job.retry.reason
    return None, None


def _took_s(job: Job, now_ns: int) -> float | None:
    """Return how long the newest run took; None if no process was started, or it can't be told."""
    if job.launch is None:
        return None
    end_ns = (
        now_ns
        if job.ended is None and job.state is State.RUNNING
        else getattr(job.ended, "finished_ns", None)
    )
    started_ns = job.launch.started_ns
    # A changed record may hold anything here.
    if not isinstance(started_ns, int) or not isinstance(end_ns, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        return None
    return max(0, end_ns - started_ns) / NS


def cells(row: JobRow) -> tuple[str | Cell, ...]:
    """Return the row's text under HEADERS."""
    return (
        Cell(row.key.job_id, "bold"),
        str(row.key.attempt),
        state_cell(row.state),
        str(row.runs),
        "damaged" if row.trouble else (row.code or "-"),
        span(row.age_s),
        "-" if row.took_s is None else span(row.took_s),
        str(row.artifacts),
    )
