"""Where log lines go: a file that logrotate may move or truncate, and standard error.

Neither ever raises into the code that logs. When the disk is full or the file may not be written, that is said
once on standard error; lines are dropped and counted until it works again, and then the count is logged.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import TextIO

__all__ = ["Failing", "LogFile", "LogStream", "wants_colour", "writes_to_journal"]

_CHECK_EVERY_S = 1.0

Failing = Callable[[str], None]
"""Told, once for each outage, why lines are being lost."""


class LogFile:
    """A file that lines are appended to, whole, in one write each.

    Opened with O_APPEND, so that `copytruncate` works; opened anew when the path names another file,
    which is looked up at most once a second, or at once after `reopen`. Used by any thread.
    """

    def __init__(self, path: Path, monotonic: Callable[[], float], failing: Failing) -> None:
        self._path = path
        self._monotonic = monotonic
        self._failing = failing
        self._lock = Lock()
        self._fd: int | None = None
        self._checked_s = 0.0
        self._reopen = False
        self._torn = False
        self._outage = 0
        self._closed = False
        self.dropped = 0
        self.trouble: str | None = None
        """Why lines are being lost; None while they are not."""

    def reopen(self) -> None:
        """Open the path anew before the next line. Only sets a flag: safe in a signal handler."""
        self._reopen = True

    def write(self, line: str) -> int:
        """Append a line (without its newline); return how many were lost before this one, if it ended that.

        A lost line returns 0.
        """
        with self._lock:
            if self._closed:
                self.dropped += 1
                return 0
            try:
                self._write_all(self._current(), line)
            except OSError as error:
                self._lose(error)
                return 0
            return self._ended()

    def resume(self, line: Callable[[int], str]) -> int:
        """Try to end an outage with the line for so many lost ones; return how many, 0 if it goes on or is none."""
        with self._lock:
            if self._closed or not self._outage:
                return 0
            try:
                self._write_all(self._current(), line(self._outage))
            except OSError:
                return 0
            return self._ended()

    def _ended(self) -> int:
        lost, self._outage = self._outage, 0
        self.trouble = None
        return lost

    def close(self) -> None:
        """Close the file; later lines are dropped and counted."""
        with self._lock:
            self._closed = True
            self._close_fd()

    def _lose(self, error: OSError) -> None:
        self.dropped += 1
        self._outage += 1
        self.trouble = f"{self._path}: the log can't be written: {error.strerror}: lines are lost; make space"
        if self._outage == 1:
            self._failing(
                f"cannot write the log {self._path}: {error.strerror}; lines are lost until it works"
            )

    def _current(self) -> int:
        now_s = self._monotonic()
        if self._fd is not None and (self._reopen or now_s - self._checked_s >= _CHECK_EVERY_S):
            self._checked_s = now_s
            if self._reopen or self._moved(self._fd):
                self._close_fd()
        self._reopen = False
        if self._fd is None:
            # O_NONBLOCK: a FIFO without a reader is an error here and not an endless wait.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
            self._fd = os.open(self._path, flags, 0o640)
            self._torn = self._ends_in_half_a_line()
        return self._fd

    def _ends_in_half_a_line(self) -> bool:
        """Tell whether the file ends in the middle of a line, as a power cut leaves it. A guess if it can't be read."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            size = os.fstat(fd).st_size
            return size > 0 and os.pread(fd, 1, size - 1) != b"\n"
        except OSError:
            return False  # a pipe has no end to look at
        finally:
            os.close(fd)

    def _moved(self, fd: int) -> bool:
        ours = os.fstat(fd)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return True
        return (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino)

    def _write_all(self, fd: int, line: str) -> None:
        # After half a line (the disk filled up in the middle) the next one still starts on its own.
        left = memoryview((b"\n" if self._torn else b"") + line.encode() + b"\n")
        whole = len(left)
        while left:
            try:
                written = os.write(fd, left)
            except OSError:
                self._take_back(fd, whole - len(left))
                raise
            left = left[written:]
        self._torn = False

    def _take_back(self, fd: int, written: int) -> None:
        """Remove the beginning of a line that could not be finished: nobody else appends to this file."""
        if not written:
            return
        try:
            os.ftruncate(fd, max(os.fstat(fd).st_size - written, 0))
        except OSError:
            self._torn = True

    def _close_fd(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class LogStream:
    """Standard error, or what stands in for it. A line that cannot be written is counted in `dropped`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = Lock()
        self.dropped = 0

    def write(self, line: str) -> None:
        """Write a line (without its newline), which must be ASCII."""
        with self._lock:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                # Closed, or nobody reads it any more; there is no place left to complain to.
                self.dropped += 1


def writes_to_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether systemd's journal reads this stream (systemd.exec(5), JOURNAL_STREAM)."""
    named = environ.get("JOURNAL_STREAM")
    if not named:
        return False
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{status.st_dev}:{status.st_ino}"


def wants_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether a person looks at this stream: a terminal, and nobody said NO_COLOR (no-color.org)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
