"""Options that several commands share, and what they lead to."""

from pathlib import Path
from typing import Annotated

import typer

from fsm_miner.cli.outcome import ExitCode, Refused
from fsm_miner.config import Config, ConfigError, load_config
from fsm_miner.words import clean

__all__ = [
    "CONFIG_DEFAULT",
    "ConfigOption",
    "JournalOption",
    "JsonOption",
    "config_path",
    "journal_path",
    "seconds",
    "settings",
    "whole_number",
]

CONFIG_DEFAULT = Path("/etc/aitbc/miner/config.yaml")

_DIGITS_MAX = 18
_SHOWN_MAX = 80

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="PATH",
        envvar="FSM_MINER_CONFIG",
        help=f"The configuration file. [default: {CONFIG_DEFAULT}]",
        show_default=False,
        readable=False,  # whoever opens it says more than that it can't be read
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
JournalOption = Annotated[
    Path | None,
    typer.Option(
        "--journal",
        metavar="PATH",
        help="Read this journal instead of the configured one: a copy, or one that was set aside as damaged.",
        show_default=False,
        readable=False,  # whoever opens it says more than that it can't be read
    ),
]


def whole_number(given: object) -> int:
    """Read an option that counts something, from 1 on.

    Raises:
        BadParameter: it is none.

    """
    text = str(given)
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX and int(text) >= 1):
        raise typer.BadParameter(f"{clean(text, _SHOWN_MAX)} is not a whole number from 1 on.")
    return int(text)


def seconds(given: object) -> float:
    """Read an option that says how long.

    Raises:
        BadParameter: it is no number, or less than 0.

    """
    text = str(given)
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not number >= 0:
        raise typer.BadParameter(f"{clean(text, _SHOWN_MAX)} is not a number of seconds.")
    return number


def config_path(given: Path | None) -> Path:
    """Return the configuration file to use."""
    return CONFIG_DEFAULT if given is None else given


def settings(given: Path | None) -> Config:
    """Load the configuration.

    Raises:
        Refused: it can't be used; the message has a line for each problem.

    """
    try:
        return load_config(config_path(given))
    except ConfigError as error:
        raise Refused(ExitCode.USAGE, str(error)) from None


def journal_path(config: Path | None, journal: Path | None) -> Path:
    """Return the journal to read; the configuration is not needed if `journal` is given.

    Raises:
        Refused: the configuration can't be used.

    """
    return settings(config).journal.path if journal is None else journal.absolute()
