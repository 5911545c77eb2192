"""`fsm-miner check`: everything that is wrong with configuration, allowlist and machine, before a job finds out."""

import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from fsm_miner.cli.check_config import check_allowlist, check_config, check_secret
from fsm_miner.cli.check_folders import check_folders, check_python
from fsm_miner.cli.check_host import (
    check_cgroups,
    check_clock,
    check_gpus,
    check_listen,
    check_resources,
    check_sandbox,
)
from fsm_miner.cli.check_journal import check_journal
from fsm_miner.cli.finding import Finding, Level, Lines, ok
from fsm_miner.cli.options import ConfigOption, JsonOption, config_path, journal_path
from fsm_miner.cli.outcome import ExitCode, Refused
from fsm_miner.cli.output import Cell, Screen
from fsm_miner.words import counted

HELP = """Say everything that is wrong here: configuration, allowlist, machine; or, with --journal, the journal.

Checks the configuration file, the token, the CA file, every allowlist file and the programs they name, the
folders (there? writable? enough space?), the Python runner's venv and tasks, the sandbox (bubblewrap, user
namespaces), GPUs and their driver, the health page's address, the journal and the clock. Changes nothing (what
it tries as root beside the journal, it takes away again), and talks to nobody.

With --journal it reads the journal instead, all of it, beside a running daemon too: does this version make of
every record what its writer made of it? A version that does not would refuse to start there. Ask the new version
before an upgrade. FILE is another journal than the configured one; no configuration is needed then.

Run it as the daemon's user and with its environment: what root may write, and a token in your shell, say
little about the daemon.
"""
EXAMPLES = """\
  fsm-miner check
  sudo -u games fsm-miner check
  fsm-miner check --journal            would this version start on the journal?
  fsm-miner check --journal copy.db    or on this one?
  fsm-miner check --json | jq '.[] | select(.level == "problem")'
  ExecStartPre=/usr/local/lib/aitbc/miner/.venv/bin/fsm-miner check      in the unit"""
EXIT_CODES = """\
  0  no problem; there may be warnings
  1  at least one problem; with --journal: it is damaged, or is not there
  2  wrong usage (a wrong configuration is a problem: 1, but with --journal it is in the way: 2)
  3  --journal: it can't be read by this user or this release
  5  --journal: it reads otherwise than was recorded; this version would not start on it"""

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}


def command(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="With --journal: this one. [default: the configured one]",
            show_default=False,
            readable=False,  # whoever opens it says more than that it can't be read
        ),
    ] = None,
    journal: Annotated[
        bool, typer.Option("--journal", help="Check how this version reads the journal.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Check everything, or the journal; return the exit code."""
    if journal:
        return check_journal(journal_path(config, file), Screen(), as_json=as_json)
    if file is not None:
        raise Refused(ExitCode.USAGE, f"{file}: a file is checked with --journal only")
    found = list(findings(config_path(config)))
    problems = sum(one.level is Level.PROBLEM for one in found)
    warnings = sum(one.level is Level.WARNING for one in found)
    screen = Screen()
    if as_json:
        screen.json([one.as_data() for one in found])
    else:
        for one in found:
            screen.say(Cell(str(one.level), _STYLES[one.level]), f": {one}")
        screen.say(Cell(f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}", "bold"))
    return ExitCode.NO if problems else ExitCode.OK


def findings(path: Path) -> Iterator[Finding]:
    """Check everything, most of it even if the configuration can't be read."""
    lines = Lines(path)
    config, found = check_config(path, lines)
    yield from found
    if config is not None:
        yield check_secret(config, lines, os.environ)
        yield from check_allowlist(config, lines)
        yield from check_folders(config, lines)
        yield from check_python(config, lines)
        yield from check_resources(config, lines)
        yield from check_listen(config, lines)
    yield from check_sandbox(config, lines)
    yield from check_cgroups(config, lines)
    yield from check_gpus(config, lines)
    yield check_clock(lines)
    yield ok(f"checked as user {_user()}")


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
