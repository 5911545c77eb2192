"""`fsm-miner backup FILE`: a copy of the journal, beside a running daemon."""

import sqlite3
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from fsm_miner.cli.options import ConfigOption, JournalOption, journal_path
from fsm_miner.cli.outcome import ExitCode, Refused
from fsm_miner.cli.output import progress_console
from fsm_miner.cli.reading import JournalFile
from fsm_miner.cli.verification import Findings, check_records
from fsm_miner.cli.writing import STDOUT, ForceOption, check_free, staged
from fsm_miner.words import clean, counted, size
from journal.backup import copy

HELP = """Copy the journal as it is now into FILE, beside a running daemon too, and check the copy.

Copying journal.db by other means while the daemon works is no backup: what it wrote last is in another file.
The copy is one file, mode 0600, durable when the command returns, and every command reads it with --journal.
Exported records of old jobs lie in journal-archive/, beside the journal, and are not in it.

Don't put an old copy under a node that has worked since: it would know nothing of the jobs that came later.
"""
EXAMPLES = """\
  fsm-miner backup /backup/journal-monday.db
  fsm-miner backup --force /backup/journal.db
  fsm-miner jobs --journal /backup/journal.db"""
EXIT_CODES = """\
  0  copied, and every record of the copy holds
  1  the file is there already, or can't be written; or a record does not hold (the copy is there all the same)
  2  wrong usage or configuration
  3  the journal can't be read, or the file not written, by this user or this release; or FILE is no plain file"""


def command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where the copy goes.", show_default=False, readable=False)
    ],
    force: ForceOption = False,
    config: ConfigOption = None,
    journal: JournalOption = None,
) -> int:
    """Copy and check; return the exit code."""
    if file == STDOUT:
        raise Refused(ExitCode.USAGE, "a database can't be written to standard output; name a file")
    source = journal_path(config, journal)
    check_free(file, force=force)
    with JournalFile(source) as opened:
        if opened.trouble is not None:
            raise Refused(ExitCode.NO, opened.trouble)
    findings = Findings()
    with staged(file, force=force) as target:
        _copy(source, target)
        with JournalFile(target) as copied:
            check_records(copied.records(), findings)
    told = f"{file}: {size(file.stat().st_size)}, {counted(len(findings.heads), 'stream')}"
    print(clean(f"{told}, {counted(findings.records, 'record')}"))  # noqa: T201 - this is the command line
    if findings.bad:
        raise Refused(ExitCode.NO, f"copied as it is, but {findings.bad[0]}: see `fsm-miner verify`")
    return ExitCode.OK


def _copy(source: Path, target: Path) -> None:
    console = progress_console()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=console is None,
    ) as progress:
        task = progress.add_task("pages")
        try:
            copy(source, target, lambda done, total: progress.update(task, completed=done, total=total))
        except sqlite3.Error as error:
            raise Refused(ExitCode.NO, f"{source}: can't be copied to {target.parent}: {error}") from None
