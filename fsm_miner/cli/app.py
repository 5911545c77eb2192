"""Putting the commands together. Only the one that is called is imported: `run` must start fast."""

import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Annotated, cast

import typer

from fsm_miner import __version__
from fsm_miner.cli.outcome import BROKEN_PIPE, INTERRUPTED, ExitCode, complain, guarded
from fsm_miner.cli.streams import OutputLost, open_streams

__all__ = ["COMMANDS", "build", "main"]

COMMANDS = (
    "run",
    "probe",
    "check",
    "judge",
    "jobs",
    "why",
    "replay",
    "export",
    "backup",
    "verify",
    "drain",
    "status",
)
"""Each is a module of this package with `HELP`, `EXAMPLES`, `EXIT_CODES` and the function `command`."""

_HELP = """A worker node that runs jobs without Docker. Every job is a journaled state machine.

\b
First steps:
  fsm-miner check              is everything in place?
  fsm-miner run                run the daemon (systemd does this)
  fsm-miner status             how is it doing?
  fsm-miner jobs               which jobs did it have?
  fsm-miner why j-1            why did this one end as it did?
  fsm-miner replay j-1         what happened to it, step by step?

\b
Exit codes:
  0    yes, done
  1    no: a problem was found, a record does not hold, nothing runs, ...
  2    wrong usage or configuration
  3    this machine or this user can't; or standard output can't be written
  4    another daemon works in the same state folder
  5    the journal is not this version's to take over
  130  interrupted (Ctrl-C)
  141  whoever read the output has left (| head)

The configuration is --config PATH, after the command; else $FSM_MINER_CONFIG, else /etc/aitbc/miner/config.yaml.
Colour is for terminals only, and NO_COLOR turns it off.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit. `arguments` are by default those of this process."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    open_streams()
    try:
        wanted = words[:1] if words and words[0] in COMMANDS else COMMANDS
        try:
            build(wanted)(args=words, prog_name="fsm-miner")
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except OutputLost as lost:
        if lost.reader_left:
            sys.exit(BROKEN_PIPE)
        complain(lost)
        sys.exit(ExitCode.HOST)


def build(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """Return the application with these commands."""
    app = typer.Typer(
        help=_HELP,
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        # Plain help: it can be copied, piped and read aloud, and needs no import of rich.
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_top)
    for name in names:
        module = import_module(f"fsm_miner.cli.{name}")
        text = f"{module.HELP.strip()}\n\n\b\nExamples:\n{module.EXAMPLES}\n\n\b\nExit codes:\n{module.EXIT_CODES}"
        command = cast("Callable[..., int]", module.command)
        app.command(name, help=text, short_help=module.HELP.strip().splitlines()[0])(guarded(command))
    return app


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fsm-miner {__version__}")
        raise typer.Exit


def _top(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    del version  # its callback has done the work
