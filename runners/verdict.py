"""What a run's end means: a pure reading of what was found."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from runners.run import RunFiles
from runners.status import LaunchFacts

__all__ = [
    "Exited",
    "Lost",
    "OutOfMemory",
    "SandboxFailed",
    "Signalled",
    "TimedOut",
    "Verdict",
    "chain_failure",
    "verdict",
]

_SIGNALS = range(1, 65)
_MESSAGE_BYTES_MAX = 1000
# How the chain's programs start a complaint; `sh` and coreutils by the path they were called by.
_COMPLAINT = re.compile(rb"(?:/[\w./+-]*/)?(?:sh|choom|nice|ionice|prlimit|timeout|bwrap): [^\n]+")


@dataclass(frozen=True, slots=True)
class Exited:
    """The command ended with this code."""

    code: int


@dataclass(frozen=True, slots=True)
class Signalled:
    """The command was killed by this signal, or says so as shells do, by 128 + n: bwrap does not tell which."""

    number: int


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The time limit ended it while no daemon was there."""


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """The kernel killed it for its memory limit."""


@dataclass(frozen=True, slots=True)
class SandboxFailed:
    """The command never ran: the chain or the sandbox could not be built. `message` is the program's own."""

    message: str


@dataclass(frozen=True, slots=True)
class Lost:
    """Nobody saw it end: a power cut, a reboot, or somebody killed the chain."""


Verdict = Exited | Signalled | TimedOut | OutOfMemory | SandboxFailed | Lost


def verdict(
    exit_code: int | None,
    *,
    oom_killed: bool,
    same_boot: bool,
    elapsed_s: float,
    time_limit_s: float,
    failure: str | None = None,
) -> Verdict:
    """Read the end of a run that nobody here stopped.

    `elapsed_s` is from the launch until the end was noticed (CLOCK_BOOTTIME), of no meaning after a reboot.
    `failure` is what `chain_failure` found. Whoever stopped the run knows better why it ended.
    """
    if oom_killed:
        return OutOfMemory()
    if exit_code is not None:
        number = exit_code - 128
        return Signalled(number) if number in _SIGNALS else Exited(exit_code)
    if failure is not None:
        return SandboxFailed(failure)
    if same_boot and elapsed_s >= time_limit_s:
        return TimedOut()
    return Lost()


def chain_failure(files: RunFiles, facts: LaunchFacts | None) -> str | None:
    """Return why the command never ran, or None. Only for a run that ended without an exit code.

    A program of the chain that fails says so in the log before the command could write to it. A job that writes
    such a line first, and whose chain is then killed by somebody, is taken for one; it wins nothing by that.
    """
    if facts is None:
        return None
    try:
        log = files.log.open()
    except FileNotFoundError:
        return None
    try:
        found = _COMPLAINT.match(os.pread(log, _MESSAGE_BYTES_MAX, facts.log_offset))
    finally:
        os.close(log)
    if found is None or (files.cgroup is not None and _taken_away(files.cgroup, found[0])):
        return None
    return found[0].decode(errors="replace")


def _taken_away(cgroup: Path, complaint: bytes) -> bool:
    """Tell whether the run's cgroup went as it was to be entered: its unit was stopped, and takes every run along."""
    return os.fsencode(cgroup) in complaint and complaint.endswith(
        (b"nonexistent", b"No such file or directory")
    )
