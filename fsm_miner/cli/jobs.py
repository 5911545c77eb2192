"""`fsm-miner jobs`: the jobs that the journal knows."""

import time
from typing import Annotated, Any

import typer

from fsm_miner.cli.job_rows import HEADERS, JobRow, cells, job_row
from fsm_miner.cli.options import ConfigOption, JournalOption, JsonOption, journal_path, whole_number
from fsm_miner.cli.outcome import ExitCode, Refused
from fsm_miner.cli.output import Screen
from fsm_miner.cli.reading import JournalFile, Listed
from fsm_miner.forensics.story import read_story
from fsm_miner.words import clean
from states.table import State

HELP = """List the jobs that the journal knows, the newest first.

Works while the daemon runs and when it does not. RUNS counts the runs that were started, CODE is why it failed
or waits, AGE is since it was offered, TOOK is how long its newest run took (or takes, so far), FILES are the
artifacts of its outcome. Jobs older than journal.retention are in the archive: `fsm-miner replay JOB` finds them.
"""
EXAMPLES = """\
  fsm-miner jobs                                  the newest 50
  fsm-miner jobs --state FAILED --limit 5         the last five that failed
  fsm-miner jobs --state RUNNING --state PREP     what holds a slot
  fsm-miner jobs --all --json | jq -r '.[] | select(.code == "E_OOM") | .job_id'"""
EXIT_CODES = """\
  0  listed (also when there is none)
  1  there is no journal, or it is damaged
  2  wrong usage or configuration
  3  the journal can't be read by this user or this release"""


def _state(given: object) -> State:
    text = str(given)
    if text.upper() not in State.__members__:
        raise typer.BadParameter(f"{clean(text, 80)} is none of {', '.join(State)}.")
    return State[text.upper()]


def command(
    state: Annotated[
        list[State] | None,
        typer.Option(
            "--state",
            metavar="STATE",
            parser=_state,
            help=f"Only jobs in this state; may be repeated: {', '.join(State)}.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", parser=whole_number, help="At most so many.")
    ] = 50,
    every: Annotated[bool, typer.Option("--all", help="All of them, whatever --limit says.")] = False,
    config: ConfigOption = None,
    journal: JournalOption = None,
    as_json: JsonOption = False,
) -> int:
    """List jobs; return the exit code."""
    with JournalFile(journal_path(config, journal)) as file:
        found = file.listing()
        chosen = select(found, state, None if every else limit)
        now_ns = time.time_ns()
        rows = [job_row(one, read_story(one.key, file.stream(one.key)), now_ns) for one in chosen]
        trouble = file.trouble
    screen = Screen()
    if as_json:
        screen.json([as_data(row) for row in rows])
    else:
        screen.table(HEADERS, [cells(row) for row in rows])
        matching = sum(1 for one in found if not state or one.state in state)
        if matching > len(rows):
            screen.say(f"{len(rows)} of {matching}: --all shows the rest")
        elif not rows:
            screen.say("no jobs" if not found else "no jobs in this state")
    damage = [*(line for row in rows for line in row.trouble), *([trouble] if trouble else [])]
    if damage:
        raise Refused(ExitCode.NO, f"the journal is damaged: {damage[0]}; see `fsm-miner verify`")
    return ExitCode.OK


def select(listed: list[Listed], states: list[State] | None, limit: int | None) -> list[Listed]:
    """Return the streams that are in one of `states` (any, if there is none), at most `limit`."""
    matching = [one for one in listed if not states or one.state in states]
    return matching if limit is None else matching[:limit]


def as_data(row: JobRow) -> dict[str, Any]:
    """Return a row as JSON. Times are UTC in nanoseconds, lengths of time in seconds."""
    return {
        "job_id": row.key.job_id,
        "attempt": row.key.attempt,
        "state": row.state,
        "runs": row.runs,
        "code": row.code,
        "message": row.message,
        "offered_ns": row.offered_ns,
        "updated_ns": row.updated_ns,
        "age_s": row.age_s,
        "took_s": row.took_s,
        "artifacts": row.artifacts,
        "records": row.records,
        "trouble": list(row.trouble),
    }
