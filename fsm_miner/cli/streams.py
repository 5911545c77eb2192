"""Standard streams as a shell may hand them over: closed, on a full disk, or read by somebody who leaves."""

import io
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO

__all__ = ["OutputLost", "open_streams", "writing"]


class OutputLost(Exception):
    """Standard output can't be written. `reader_left`: whoever read it has seen enough, which is no mistake."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output can't be written: {error.strerror}")
        self.reader_left = isinstance(error, BrokenPipeError)


@contextmanager
def writing() -> Generator[None]:
    """Write to standard output. Once that has failed, what is still buffered is dropped.

    Raises:
        OutputLost: it can't be.

    """
    try:
        yield
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
        raise OutputLost(error) from None


class _Output(io.TextIOWrapper):
    """Standard output whose failure is told from any other.

    The layer below stays Python's own: with one of ours, a Ctrl-C between the system's write and our return would have
    the same bytes written twice.
    """

    def write(self, text: str, /) -> int:
        """Write as `writing` has it."""
        with writing():
            return super().write(text)

    def flush(self) -> None:
        """Flush as `writing` has it."""
        with writing():
            super().flush()


def open_streams() -> None:
    """Make the standard streams ones that can be used: writing to standard output ends in `OutputLost`, never else.

    A terminal that is not UTF-8 gets escapes. What is read from a closed standard input is empty, what is written to
    a closed standard error goes nowhere.
    """
    for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
        if stream is None:
            _occupy(number)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    complaints: TextIO = sys.stderr
    if isinstance(complaints, io.TextIOWrapper):
        complaints.reconfigure(errors="backslashreplace")
    sys.stdout = _Output(
        io.BufferedWriter(io.FileIO(1, "w", closefd=False)),
        encoding="utf-8" if sys.stdout is None else sys.stdout.encoding,
        errors="backslashreplace",
        line_buffering=os.isatty(1),
    )


def _occupy(number: int) -> None:
    """Open something that nobody can write to as standard output, so that no file of ours gets its number."""
    mode = os.O_RDONLY if number == 1 else os.O_RDWR
    opened = os.open(os.devnull, mode | os.O_CLOEXEC)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
