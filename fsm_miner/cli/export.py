"""`fsm-miner export JOB`: all that is known of a job, in one file that may be given away."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from fsm_miner.cli.cases import AttemptOption, load_case
from fsm_miner.cli.options import ConfigOption, JournalOption
from fsm_miner.cli.outcome import ExitCode, Refused
from fsm_miner.cli.writing import STDOUT, ForceOption, check_free, write_file
from fsm_miner.forensics.bundle import BundleBroken, Written, write_bundle
from fsm_miner.forensics.case import Case
from fsm_miner.forensics.collect import bwrap_version
from fsm_miner.forensics.telling import ranges
from fsm_miner.words import clean, counted, size
from journal.port import StreamKey

HELP = """Write a job's case into one file that can be read on any machine.

It has the records, the manifest, the end of the log, what the runs used, and the versions of the programs.
`fsm-miner why --bundle FILE` and `fsm-miner replay --bundle FILE` read it. The default name is
JOB-ATTEMPT.case.json, here.

What may open a door is replaced by [redacted]: the values of `env`, user names and queries in addresses, and
whatever looks like a token, in the records and in the log. (What the manifest calls a secret is in neither.)
Redaction is done on suspicion and knows no meaning: look through the file before you give it away. A record
that was changed so keeps its hash, and whoever reads the file is told that it is taken on trust.
"""
EXAMPLES = """\
  fsm-miner export j-1                     writes j-1-1.case.json
  fsm-miner export j-1/2 -o /tmp/j.json    its second attempt
  fsm-miner export j-1 -o - | gzip > j-1.gz
  fsm-miner export j-1 --no-redact         everything, for your own eyes"""
EXIT_CODES = """\
  0  written (also when a record does not hold: the file says so)
  1  there is no such job; or the file is there already; or the case is too large
  2  wrong usage or configuration
  3  the journal can't be read, or the file not written, by this user or this release; or FILE is no plain file"""


def command(
    job: Annotated[str, typer.Argument(metavar="JOB", help="A job's id, or id/attempt.", show_default=False)],
    attempt: AttemptOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to write; - is standard output. [default: JOB-ATTEMPT.case.json]",
            show_default=False,
        ),
    ] = None,
    no_redact: Annotated[bool, typer.Option("--no-redact", help="Leave everything as it is.")] = False,
    force: ForceOption = False,
    config: ConfigOption = None,
    journal: JournalOption = None,
) -> int:
    """Write a bundle; return the exit code."""
    if output is not None:
        check_free(output, force=force)
    case = load_case(job, attempt, None, config, journal)
    path = default_name(case.story.key) if output is None else output
    version = bwrap_version()
    if version is not None:
        case = replace(case, versions={**case.versions, "bwrap": version})
    try:
        written = write_bundle(case, exported_ns=time.time_ns(), redact=not no_redact)
    except BundleBroken as error:
        raise Refused(ExitCode.NO, str(error)) from None
    write_file(path, written.data, force=force)
    if path != STDOUT:
        for line in (f"{path}: {size(len(written.data))}, {contents(case)}", told(written), *case.notes):
            print(clean(line))  # noqa: T201 - this is the command line
    return ExitCode.OK


def default_name(key: StreamKey) -> Path:
    """Return the file's name for a job; whatever its id, it names a file in this folder."""
    plain = "".join(
        char if char.isascii() and (char.isalnum() or char in "._-") else "_" for char in key.job_id
    )
    return Path(f"{plain.lstrip('.')[:128] or 'job'}-{key.attempt}.case.json")


def contents(case: Case) -> str:
    """Return in words what a bundle holds."""
    parts = [counted(len(case.story.steps), "record")]
    if case.log_tail:
        parts.append(f"{size(len(case.log_tail.encode('utf-8', 'replace')))} of the log")
    if case.samples:
        parts.append(counted(len(case.samples), "sample") + " of usage")
    return ", ".join(parts)


def told(written: Written) -> str:
    """Return in words what was redacted."""
    parts = [f"record {ranges(written.redacted)}"] if written.redacted else []
    parts += ["the log"] if written.log_redacted else []
    return f"redacted: {', '.join(parts) or 'nothing'}"
