"""The status file of a run: who started it when, the sandbox's process id, and the exit code.

The launcher writes the first line; bubblewrap appends its own (`--json-status-fd`, bwrap(1)), also when the
daemon is dead by then. The job cannot reach the file; it is read as if it could: bounded, complete lines only.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from runners.handed import open_handed

__all__ = ["LaunchFacts", "Status", "launch_line", "parse_status", "read_status", "written_ns"]

_BYTES_MAX = 64 * 1024
_PID_MAX = 1 << 22  # proc(5), pid_max: the kernel's upper bound


@dataclass(frozen=True, slots=True)
class LaunchFacts:
    """What the launcher knew.

    `at_ns`: UTC; `boottime_ns`: CLOCK_BOOTTIME; `log_offset`: bytes already in the log.
    """

    at_ns: int
    boottime_ns: int
    boot_id: str
    log_offset: int


@dataclass(frozen=True, slots=True)
class Status:
    """Everything the file tells; None for what it does not (yet).

    `child_pid` is the sandbox's process 1 (without a sandbox: the recording shell), valid only while the lock is
    held. `pid_namespace` is the inode of its process id namespace; None without a sandbox.
    """

    launched: LaunchFacts | None = None
    child_pid: int | None = None
    pid_namespace: int | None = None
    exit_code: int | None = None


def launch_line(facts: LaunchFacts) -> bytes:
    """Return the file's first line."""
    fields = {
        "launched-at-ns": facts.at_ns,
        "boottime-ns": facts.boottime_ns,
        "boot-id": facts.boot_id,
        "log-offset": facts.log_offset,
    }
    return json.dumps(fields).encode() + b"\n"


def read_status(path: Path) -> Status:
    """Read the file; an absent one tells nothing.

    Raises:
        OSError: it is there and cannot be read.

    """
    try:
        fd = open_handed(path, os.O_RDONLY)
    except FileNotFoundError:
        return Status()
    try:
        return parse_status(os.pread(fd, _BYTES_MAX, 0))
    finally:
        os.close(fd)


def written_ns(path: Path) -> int | None:
    """Return when the file was last written to (UTC, ns): once the exit code is in it, when the run ended.

    None if it is absent.

    Raises:
        OSError: it is there and cannot be looked at.

    """
    try:
        return path.stat(follow_symlinks=False).st_mtime_ns
    except FileNotFoundError:
        return None


def parse_status(text: bytes) -> Status:
    """Parse complete lines; no JSON object, or out of range, tells nothing. The first of a kind counts."""
    fields: dict[str, Any] = {}
    for line in text[:_BYTES_MAX].split(b"\n")[:-1]:
        for key, value in _object(line).items():
            fields.setdefault(key, value)
    return Status(
        launched=_launched(fields),
        child_pid=_number(fields.get("child-pid"), 2, _PID_MAX),
        pid_namespace=_number(fields.get("pid-namespace"), 1, 1 << 64),
        exit_code=_number(fields.get("exit-code"), 0, 255),
    )


def _object(line: bytes) -> dict[str, Any]:
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _number(value: object, low: int, high: int) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    return None


def _launched(fields: dict[str, Any]) -> LaunchFacts | None:
    at_ns = _number(fields.get("launched-at-ns"), 0, 1 << 63)
    boottime_ns = _number(fields.get("boottime-ns"), 0, 1 << 63)
    log_offset = _number(fields.get("log-offset"), 0, 1 << 63)
    boot_id: object = fields.get("boot-id")
    if at_ns is None or boottime_ns is None or log_offset is None or not isinstance(boot_id, str):
        return None
    return LaunchFacts(at_ns=at_ns, boottime_ns=boottime_ns, boot_id=boot_id[:64], log_offset=log_offset)
