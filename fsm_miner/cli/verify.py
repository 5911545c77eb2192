"""`fsm-miner verify [JOB]`: whether every record is what was written."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fsm_miner.cli.archive import archive_files
from fsm_miner.cli.cases import find, parse_job
from fsm_miner.cli.options import ConfigOption, JournalOption, JsonOption, journal_path
from fsm_miner.cli.outcome import ExitCode, Refused
from fsm_miner.cli.output import Cell, Screen, progress_console
from fsm_miner.cli.reading import JournalFile, Unreadable
from fsm_miner.cli.verification import Findings, check_archive, check_records
from fsm_miner.words import counted
from journal.onlooker import Damaged
from journal.reader import open_reader
from journal.schema import SchemaTooNew

HELP = """Check that every record of the journal is what was written.

Each record carries the SHA-256 of its content and of the record before it, so one changed byte breaks the
chain from there on; the first record that does not hold is named, for each job. Without JOB the database's own
structure is checked too. --archives also reads what retention has moved to journal-archive, and compares it
with what the journal noted when it did.

A chain can't tell whether whole jobs, or the last records of one, were removed: compare the head with the
one in the result that the coordinator has.
"""
EXAMPLES = """\
  fsm-miner verify                     the whole journal
  fsm-miner verify --archives          and everything that was moved out of it
  fsm-miner verify j-1                 one job: all its attempts
  fsm-miner verify --journal copy.db   a copy, on any machine"""
EXIT_CODES = """\
  0  every record holds
  1  one does not, or something can't be read, or there is no such job
  2  wrong usage or configuration
  3  the journal can't be read by this user or this release"""

_SHOWN_MAX = 20


def command(
    job: Annotated[
        str | None,
        typer.Argument(metavar="JOB", help="A job's id, or id/attempt. [default: all]", show_default=False),
    ] = None,
    archives: Annotated[bool, typer.Option("--archives", help="Check the archive as well.")] = False,
    config: ConfigOption = None,
    journal: JournalOption = None,
    as_json: JsonOption = False,
) -> int:
    """Check records; return the exit code."""
    if job is not None and archives:
        raise Refused(
            ExitCode.USAGE, "--archives checks everything; leave JOB out, it is found in the archive anyway"
        )
    path = journal_path(config, journal)
    findings = Findings()
    with JournalFile(path) as file:
        if job is None:
            _whole(file, findings)
            if archives:
                _archives(file, findings)
        else:
            _one(file, job, findings)
    screen = Screen()
    if as_json:
        screen.json(as_data(findings))
    else:
        show(screen, findings, path if job is None else job)
    return ExitCode.OK if findings.ok else ExitCode.NO


def _one(file: JournalFile, job: str, findings: Findings) -> None:
    job_id, attempt = parse_job(job, None)
    attempts = file.attempts(job_id) if attempt is None else [attempt]
    for one in attempts or [None]:
        story = find(file, job_id, one).story
        check_records([step.record for step in story.steps], findings)
        findings.trouble.extend(story.trouble)


def _whole(file: JournalFile, findings: Findings) -> None:
    if file.trouble is not None:
        findings.trouble.append(file.trouble)
    else:
        try:
            with open_reader(file.path) as reader:
                damage = reader.damage(chains=False)
        except (Damaged, SchemaTooNew) as error:
            damage = str(error)
        if damage is not None:
            findings.trouble.append(damage)
    try:
        with _progress() as progress:
            task = progress.add_task("records", total=file.count())
            check_records(file.records(), findings, _ticks(progress, task))
    except Unreadable as error:
        if str(error) not in findings.trouble:
            findings.trouble.append(str(error))


def _archives(file: JournalFile, findings: Findings) -> None:
    paths = archive_files(file.archive)
    try:
        sealed = file.sealed()
    except Unreadable as error:
        findings.trouble.append(str(error))
        sealed = []
    with _progress() as progress:
        task = progress.add_task("archive files", total=len(paths))
        for path in paths:
            check_archive(path, [one for one in sealed if one.export == path.name], findings)
            progress.advance(task)
    names = {path.name for path in paths}
    for missing in sorted({one.export for one in sealed} - names):
        streams = sum(1 for one in sealed if one.export == missing)
        findings.trouble.append(
            f"{file.archive / missing}: is not there, and the journal has moved {streams} streams into it"
        )


def _progress() -> Progress:
    console = progress_console()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=console is None,
    )


def _ticks(progress: Progress, task: Any) -> Callable[[int], None]:
    def tick(done: int) -> None:
        progress.update(task, completed=done)

    return tick


def as_data(findings: Findings) -> dict[str, Any]:
    """Return the findings as JSON."""
    return {
        "ok": findings.ok,
        "streams": len(findings.heads),
        "records": findings.records,
        "archive_files": findings.files,
        "archived_streams": findings.archived_streams,
        "archived_records": findings.archived_records,
        "bad": [
            {"job_id": bad.key.job_id, "attempt": bad.key.attempt, "seq": bad.seq, "reason": bad.reason}
            for bad in findings.bad
        ],
        "trouble": findings.trouble,
        "heads": {str(key): {"seq": seq, "hash": digest} for key, (seq, digest) in findings.heads.items()},
    }


def show(screen: Screen, findings: Findings, what: Path | str) -> None:
    """Write the findings for people."""
    word = Cell("ok", "green") if findings.ok else Cell("NOT ok", "bold red")
    screen.say(
        word, f": {what}: {counted(len(findings.heads), 'stream')}, {counted(findings.records, 'record')}"
    )
    if findings.newest is not None:
        newest = findings.newest
        screen.say(f"head: {newest.key} record {newest.seq}, {newest.hash}")
    if findings.files:
        screen.say(
            f"archive: {counted(findings.files, 'file')}, {counted(findings.archived_streams, 'stream')}, "
            f"{counted(findings.archived_records, 'record')}"
        )
    _listed(screen, [f"first bad record: {bad}" for bad in findings.bad])
    _listed(screen, findings.trouble)


def _listed(screen: Screen, lines: Iterable[str]) -> None:
    every = list(lines)
    for line in every[:_SHOWN_MAX]:
        screen.say(Cell(line, "red"))
    if len(every) > _SHOWN_MAX:
        screen.say(f"and {len(every) - _SHOWN_MAX} more: --json has them all")
