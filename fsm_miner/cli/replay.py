"""`fsm-miner replay JOB`: the life of a job, record by record."""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from fsm_miner.cli.archive import find_in_archive
from fsm_miner.cli.options import ConfigOption, JournalOption, JsonOption, journal_path
from fsm_miner.cli.outcome import ExitCode, Refused
from fsm_miner.cli.output import Cell, Screen
from fsm_miner.cli.reading import JournalFile
from fsm_miner.cli.timeline import (
    chain_cells,
    due_text,
    ending_cells,
    fields_of,
    headers,
    state_cell,
    timeline,
)
from fsm_miner.forensics.story import Story, due_json, job_json, read_story, record_json
from fsm_miner.words import utc
from journal.port import StreamKey

HELP = """Show the life of a job, record by record.

What happened, when, how long after the record before it, from which state to which, and what mattered; then
where the job stands, what came of it, and whether the records are still what was written. Works while the
daemon runs, when it does not, and as far as possible when the journal is damaged. Jobs that retention has moved
to the archive (journal-archive beside the journal) are found there.

With --at SEQ, show instead the job as it was right after that record: every field that was set, and what
was due then. A restart at that moment would have done exactly that.
"""
EXAMPLES = """\
  fsm-miner replay j-1                    its newest attempt
  fsm-miner replay j-1/1                  its first attempt, the same as --attempt 1
  fsm-miner replay j-1 --at 6             the job as it was after record 6
  fsm-miner replay j-1 --json | jq '.records[] | [.seq, .event, .dest]'"""
EXIT_CODES = """\
  0  shown, and every record holds
  1  there is no such job; or a record does not hold (what can be read is shown all the same)
  2  wrong usage or configuration
  3  the journal can't be read by this user or this release"""

_NEAR_MAX = 5
_NAMES_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Found:
    """A story, where it was read from, and the job's other attempts there."""

    story: Story
    source: Path
    others: tuple[int, ...]


def command(
    job: Annotated[str, typer.Argument(metavar="JOB", help="A job's id, or id/attempt.", show_default=False)],
    attempt: Annotated[
        int | None,
        typer.Option(
            "--attempt", metavar="N", min=0, help="Which attempt. [default: the newest]", show_default=False
        ),
    ] = None,
    at: Annotated[
        int | None,
        typer.Option(
            "--at", metavar="SEQ", min=1, help="Show the job as it was after this record.", show_default=False
        ),
    ] = None,
    config: ConfigOption = None,
    journal: JournalOption = None,
    as_json: JsonOption = False,
) -> int:
    """Show a job's life; return the exit code."""
    job_id, attempt = parse_job(job, attempt)
    with JournalFile(journal_path(config, journal)) as file:
        found = find(file, job_id, attempt)
        trouble = file.trouble
    screen = Screen()
    if at is not None:
        _show_at(screen, found, at, as_json)
    elif as_json:
        screen.json(as_data(found, trouble))
    else:
        _show(screen, found, trouble)
    return ExitCode.OK if found.story.sound and trouble is None else ExitCode.NO


def parse_job(text: str, attempt: int | None) -> tuple[str, int | None]:
    """Read `j-1` or `j-1/2`.

    Raises:
        Refused: it names one attempt, and `attempt` another.

    """
    job_id, slash, number = text.rpartition("/")
    if not slash or not number.isascii() or not number.isdigit():
        return text, attempt
    if attempt is not None and attempt != int(number):
        raise Refused(
            ExitCode.USAGE, f"{text} is attempt {int(number)}, --attempt says {attempt}: use one of them"
        )
    return job_id, int(number)


def find(file: JournalFile, job_id: str, attempt: int | None) -> Found:
    """Find the job in the journal, else in the archive.

    Raises:
        Refused: it is in neither; the message names ids that are near.

    """
    attempts = file.attempts(job_id)
    wanted = attempt if attempt is not None else max(attempts, default=None)
    if wanted is not None and wanted in attempts:
        key = StreamKey(job_id, wanted)
        others = tuple(one for one in attempts if one != wanted)
        return Found(read_story(key, file.stream(key)), file.path, others)
    sealed = [one for one in file.sealed() if one.key.job_id == job_id]
    archived = find_in_archive(file.archive, job_id, attempt, [one.export for one in sealed])
    if archived is not None:
        key, path, records = archived
        return Found(read_story(key, records), path, tuple(attempts))
    if attempts:
        listed = ", ".join(map(str, attempts))
        raise Refused(ExitCode.NO, f"{job_id} has no attempt {attempt} here; it has {listed}")
    near = nearest(job_id, file.names())
    hint = f"; near it: {', '.join(near)}" if near else "; `fsm-miner jobs` lists those there are"
    raise Refused(ExitCode.NO, f"there is no job {job_id} in {file.path} or its archive{hint}")


def nearest(job_id: str, names: Iterable[str]) -> list[str]:
    """Return ids that somebody who typed `job_id` may have meant."""
    known = list(names)[-_NAMES_MAX:]
    inside = [name for name in known if job_id in name or (name and name in job_id)]
    close = difflib.get_close_matches(job_id, known[-5000:], n=_NEAR_MAX)
    return list(dict.fromkeys([*close, *sorted(inside, key=len)]))[:_NEAR_MAX]


def as_data(found: Found, trouble: str | None) -> dict[str, Any]:
    """Return everything as JSON."""
    story, broken = found.story, found.story.broken
    return {
        "job_id": story.key.job_id,
        "attempt": story.key.attempt,
        "read_from": str(found.source),
        "other_attempts": list(found.others),
        "records": [record_json(step) for step in story.steps],
        "chain": {
            "holds": broken is None,
            "first_bad_seq": None if broken is None else broken.seq,
            "reason": None if broken is None else broken.reason,
        },
        "trouble": [*story.trouble, *([trouble] if trouble else [])],
        "job": job_json(story.job),
        "due": due_json(story.job),
    }


def _show(screen: Screen, found: Found, trouble: str | None) -> None:
    story, job = found.story, found.story.job
    screen.say(Cell(str(story.key), "bold"), f"  from {found.source}")
    screen.say("")
    screen.table(headers(story), timeline(story))
    screen.say("")
    screen.say("state     ", state_cell(str(job.state)), f"   due: {due_text(job)}")
    screen.say(*ending_cells(job))
    screen.say(*chain_cells(story))
    for line in _troubles(story, trouble):
        screen.say(Cell("trouble", "bold red"), f"   {line}")
    if found.others:
        screen.say(
            f"others    attempts {', '.join(map(str, found.others))} of this job: --attempt N shows them"
        )


def _troubles(story: Story, trouble: str | None) -> Iterator[str]:
    yield from story.trouble
    if trouble is not None:
        yield trouble


def _show_at(screen: Screen, found: Found, at: int, as_json: bool) -> None:
    story = found.story
    step = next((one for one in story.steps if one.record.seq == at), None)
    if step is None:
        last = story.steps[-1].record.seq if story.steps else 0
        raise Refused(ExitCode.USAGE, f"{story.key} has no record {at}; its last is {last}")
    if step.job is None:
        why = next(iter(story.trouble), "an earlier record can't be understood")
        raise Refused(ExitCode.NO, f"the job after record {at} can't be told: {why}")
    if as_json:
        screen.json(
            {
                "job_id": story.key.job_id,
                "attempt": story.key.attempt,
                "record": record_json(step),
                "job": job_json(step.job),
                "due": due_json(step.job),
            }
        )
        return
    record = step.record
    screen.say(Cell(str(story.key), "bold"), f" after record {at}: {record.event} at {utc(record.at_ns)} UTC")
    screen.say("")
    screen.table(("=field", "value"), fields_of(step.job))
    screen.say("")
    screen.say("due       ", Cell(due_text(step.job), "bold"))
    if not step.holds:
        screen.say(*chain_cells(story))
