"""`fsm-miner replay JOB`: the life of a job, record by record."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from fsm_miner.cli.cases import AttemptOption, BundleOption, JobArgument, load_case
from fsm_miner.cli.follow import follow
from fsm_miner.cli.life import write_end, write_life
from fsm_miner.cli.options import ConfigOption, JournalOption, JsonOption, whole_number
from fsm_miner.cli.outcome import ExitCode, Refused
from fsm_miner.cli.output import Cell, Screen
from fsm_miner.cli.timeline import chain_cells, due_text, fields_of
from fsm_miner.cli.writing import STDOUT, ForceOption, check_free, write_file
from fsm_miner.forensics.case import Case
from fsm_miner.forensics.page import render
from fsm_miner.forensics.story import due_json, job_json, record_json
from fsm_miner.words import counted, size, utc

HELP = """Show the life of a job, record by record.

What happened, when, how long after the record before it, from which state to which, and what mattered; then
where the job stands, what came of it, and whether the records are still what was written. Works while the
daemon runs, when it does not, and as far as possible when the journal is damaged. Jobs that retention has moved
to the archive (journal-archive beside the journal) are found there. `fsm-miner why` tells the same in sentences.

With --at SEQ, show instead the job as it was right after that record: every field that was set, and what
was due then. A restart at that moment would have done exactly that.

With --follow, show the records there are, then each as it is written, until the job is over (or Ctrl-C).

With --html FILE, write a page that needs nothing else: the timeline drawn to scale, what the runs used, the
records, the manifest, the end of the log. With --bundle FILE, read a file of `fsm-miner export`, on any machine.
"""
EXAMPLES = """\
  fsm-miner replay j-1                      its newest attempt
  fsm-miner replay j-1/1                    its first attempt, the same as --attempt 1
  fsm-miner replay j-1 --at 6               the job as it was after record 6
  fsm-miner replay j-1 --follow             watch it live
  fsm-miner replay j-1 --html j-1.html      a page for the browser
  fsm-miner replay --bundle j-1-1.case.json
  ssh node fsm-miner export j-1 -o - | fsm-miner replay --bundle -
  fsm-miner replay j-1 --json | jq '.records[] | [.seq, .event, .dest]'"""
EXIT_CODES = """\
  0    shown, and every record holds
  1    there is no such job; or a record does not hold (what can be read is shown all the same); or the
       bundle is none; or FILE is there already (--force replaces it)
  2    wrong usage or configuration
  3    the journal or FILE can't be read or written by this user, or not by this release; or FILE is there and
       no plain file
  130  --follow was ended by Ctrl-C"""


def command(
    job: JobArgument = None,
    attempt: AttemptOption = None,
    at: Annotated[
        int | None,
        typer.Option(
            "--at",
            metavar="SEQ",
            parser=whole_number,
            help="Show the job as it was after this record.",
            show_default=False,
        ),
    ] = None,
    following: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on, with each record as it is written.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", help="Write a page to FILE; - is standard output.", show_default=False
        ),
    ] = None,
    force: ForceOption = False,
    bundle: BundleOption = None,
    config: ConfigOption = None,
    journal: JournalOption = None,
    as_json: JsonOption = False,
) -> int:
    """Show a job's life; return the exit code."""
    _check_usage(at=at, following=following, html=html, as_json=as_json, force=force)
    screen = Screen()
    if following:
        if bundle is not None or job is None:
            raise Refused(ExitCode.USAGE, "--follow watches a JOB of the journal")
        return follow(screen, job, attempt, config, journal, as_json=as_json)
    if html is not None:
        check_free(html, force=force)
    case = load_case(job, attempt, bundle, config, journal)
    if html is not None:
        # A half character of a damaged record would not be UTF-8.
        page = render(case).encode("utf-8", "backslashreplace")
        write_file(html, page, force=force)
        if html != STDOUT:
            screen.say(f"{html}: {size(len(page))}, {counted(len(case.story.steps), 'record')}")
    elif at is not None:
        _show_at(screen, case, at, as_json)
    elif as_json:
        screen.json(as_data(case))
    else:
        _show(screen, case)
    return ExitCode.OK if case.story.sound else ExitCode.NO


def _check_usage(*, at: int | None, following: bool, html: Path | None, as_json: bool, force: bool) -> None:
    ways = [name for name, on in (("--at", at is not None), ("--follow", following), ("--html", html)) if on]
    if len(ways) > 1:
        raise Refused(
            ExitCode.USAGE, f"{' and '.join(ways)} are different ways to show a job: use one of them"
        )
    if html is not None and as_json:
        raise Refused(ExitCode.USAGE, "a page is no JSON: use either --html or --json")
    if force and html is None:
        raise Refused(ExitCode.USAGE, "--force is about the FILE of --html")


def as_data(case: Case) -> dict[str, Any]:
    """Return everything as JSON."""
    story, broken = case.story, case.story.broken
    return {
        "job_id": story.key.job_id,
        "attempt": story.key.attempt,
        "read_from": case.source,
        "other_attempts": list(case.others),
        "records": [record_json(step) for step in story.steps],
        "chain": {
            "holds": broken is None,
            "first_bad_seq": None if broken is None else broken.seq,
            "reason": None if broken is None else broken.reason,
        },
        "redacted": sorted(case.redacted),
        "trouble": list(story.trouble),
        "job": job_json(story.job),
        "due": due_json(story.job),
    }


def _show(screen: Screen, case: Case) -> None:
    story = case.story
    screen.say(Cell(str(story.key), "bold"), f"  from {case.source}", *_origin(case))
    screen.say("")
    write_life(screen, story)
    write_end(screen, story, case.redacted)
    if case.others:
        # A bundle holds only one.
        how = "" if case.exported_ns is not None else " (--attempt N shows them)"
        screen.say(f"other attempts: {', '.join(map(str, case.others))}{how}")


def _origin(case: Case) -> Iterator[str]:
    if case.exported_ns is not None:
        yield f", exported at {utc(case.exported_ns)} UTC"
        if case.node_id is not None:
            yield f" on {case.node_id}"


def _show_at(screen: Screen, case: Case, at: int, as_json: bool) -> None:
    story = case.story
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
        screen.say(*chain_cells(story, case.redacted))
