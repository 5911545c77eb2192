"""How a command ends: its exit codes, and the one place where its errors become a sentence on standard error."""

import functools
import sys
from collections.abc import Callable
from enum import IntEnum

import typer

from fsm_miner.words import clean
from journal.port import JournalError

__all__ = ["BROKEN_PIPE", "INTERRUPTED", "ExitCode", "Refused", "complain", "guarded"]

INTERRUPTED = 130
"""128 + SIGINT, as a shell reports it."""
BROKEN_PIPE = 141
"""128 + SIGPIPE: whoever read our output has seen enough."""


class ExitCode(IntEnum):
    """What every command's exit code means."""

    OK = 0
    NO = 1
    USAGE = 2
    HOST = 3
    ALREADY_RUNNING = 4
    JOURNAL = 5


class Refused(Exception):
    """The command can't do what was asked. The message is one sentence for people."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def guarded(command: Callable[..., int]) -> Callable[..., None]:
    """Make a command out of a function that returns an exit code and may raise `Refused`."""

    @functools.wraps(command)
    def call(*args: object, **named: object) -> None:
        try:
            code = command(*args, **named)
            sys.stdout.flush()
        except (Refused, JournalError) as error:
            complain(error)
            code = error.code if isinstance(error, Refused) else ExitCode.NO
        except KeyboardInterrupt:
            code = INTERRUPTED
        raise typer.Exit(int(code))

    return call


def complain(error: Exception) -> None:
    """Say on standard error what is wrong."""
    # Its words may come from a damaged journal, or from a script that passes on what a coordinator named.
    lines = [clean(line) for line in f"fsm-miner: {error}".split("\n")]
    print("\n".join(lines), file=sys.stderr)  # noqa: T201 - this is the command line
