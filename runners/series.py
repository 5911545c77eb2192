"""What a run used over time: one JSON line for each look, beside its status file, for people to look at later.

A picture, not a fact that anything depends on: it is never synced, and a line that the disk refuses is left out.
Bounded: a full file loses every other line, so it covers the whole run, ever more coarsely. It goes on where an
earlier daemon left it.
"""

import contextlib
import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median_low
from typing import Any, cast

__all__ = ["BYTES_MAX", "LINES_MAX", "UsageSeries", "parse_lines", "read_lines"]

LINES_MAX = 512
BYTES_MAX = 128 * 1024
_KEPT = LINES_MAX // 2
_MIB = 1024 * 1024
_FLAGS = os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class UsageSeries:
    """The series of one run. `now_ns`: UTC. Used by one watch at a time; `add` belongs into a thread."""

    def __init__(self, path: Path, run: int, now_ns: Callable[[], int]) -> None:
        self._path = path
        self._run = run
        self._now_ns = now_ns
        self._count: int | None = None
        self._last_ns = 0
        self._gap_ns = 0
        self._torn = False

    def due(self) -> bool:
        """Say whether enough time has passed since the line before. A clock that was set back never ends it."""
        return not 0 <= self._now_ns() - self._last_ns < self._gap_ns

    def add(
        self,
        cpu_s: float,
        memory_bytes: int,
        written_bytes: int,
        pressure: Mapping[str, float] | None = None,
    ) -> None:
        """Write down what is used now. Never raises for the disk: the run matters, not its picture.

        `pressure`: which part of the last 10 seconds, in percent, the run waited for a resource, by its name.
        """
        at_ns = self._now_ns()
        line = {
            "run": self._run,
            "at_ns": at_ns,
            "cpu_s": round(cpu_s, 3),
            "memory_mb": round(memory_bytes / _MIB, 1),
            "disk_mb": round(written_bytes / _MIB, 1),
            **{f"{name}_pressure_pct": round(part, 1) for name, part in (pressure or {}).items()},
        }
        self._last_ns = at_ns
        # Full, read-only, gone with the job's folder: all of it is told elsewhere, and none of it is the run's end.
        with contextlib.suppress(OSError):
            if self._count is None:
                self._resume()
            elif self._count >= LINES_MAX:
                self._thin()
            self._append(json.dumps(line).encode() + b"\n")

    def _resume(self) -> None:
        data = _read(self._path)
        self._torn = bool(data) and not data.endswith(b"\n")  # an earlier daemon may have died within a line
        lines = parse_lines(data)
        self._settle(lines)
        if len(lines) >= LINES_MAX:
            self._thin()

    def _thin(self) -> None:
        """Leave of each two lines the one with more memory, so that peaks stay."""
        lines = parse_lines(_read(self._path))
        kept = [max(lines[at : at + 2], key=_memory) for at in range(0, len(lines), 2)]
        new = self._path.with_suffix(".new")
        fd = os.open(new, os.O_WRONLY | os.O_TRUNC | _FLAGS, 0o600)
        try:
            text = b"".join(json.dumps(line).encode() + b"\n" for line in kept)
            if os.write(fd, text) != len(text):
                return  # the disk is full: the old ones stay, and so does the bound
        finally:
            os.close(fd)
        new.replace(self._path)
        self._torn = False
        self._settle(kept)

    def _settle(self, lines: Sequence[dict[str, Any]]) -> None:
        """Count the lines, and find how far apart they are; while there are few, every look is welcome."""
        self._count = len(lines)
        times = [line["at_ns"] for line in lines]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        self._gap_ns = max(0, median_low(gaps)) if len(lines) >= _KEPT else 0

    def _append(self, line: bytes) -> None:
        assert self._count is not None
        if self._count >= LINES_MAX:
            return
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | _FLAGS, 0o600)
        try:
            whole = b"\n" + line if self._torn else line
            self._torn = True
            self._torn = os.write(fd, whole) != len(whole)
        finally:
            os.close(fd)
        self._count += 1


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a series; none where there is no file, or none that can be read."""
    try:
        return parse_lines(_read(path))
    except OSError:
        return []


def _read(path: Path) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.pread(fd, BYTES_MAX, 0) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    finally:
        os.close(fd)


def parse_lines(data: bytes) -> list[dict[str, Any]]:
    """Return the lines of a series that make sense, at most LINES_MAX: whatever else is there is passed over."""
    found = [_line(line) for line in data[:BYTES_MAX].split(b"\n")]
    return [line for line in found if line is not None][:LINES_MAX]


def _line(text: bytes) -> dict[str, Any] | None:
    if not 0 < len(text) <= 512:
        return None
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    line = cast("dict[str, Any]", value)
    whole = all(type(line.get(name)) is int and 0 <= line[name] < 1 << 63 for name in ("run", "at_ns"))
    known = whole and all(_quantity(line.get(name)) for name in ("cpu_s", "memory_mb", "disk_mb"))
    return line if known else None


def _quantity(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15


def _memory(line: dict[str, Any]) -> float:
    return line["memory_mb"]
