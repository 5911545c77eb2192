"""Writing for people and for pipes. Whatever a job or a coordinator wrote is made harmless on the way."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TextIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fsm_miner.words import clean

__all__ = ["Cell", "Screen", "clean", "progress_console"]

_PIPE_COLUMNS = 100_000
STYLES = {"DONE": "green", "FAILED": "red", "RUNNING": "cyan", "RETRY_WAIT": "yellow", "UPLOADING": "cyan"}
"""Colours of the states."""


class Cell(NamedTuple):
    """A piece of text with a style of rich's ("bold", "red")."""

    text: str
    style: str = ""


def progress_console() -> Console | None:
    """Return a console for what moves while one waits; None if nobody watches."""
    return Console(stderr=True) if sys.stderr.isatty() else None


class Screen:
    """Standard output: coloured and folded on a terminal, plain and uncut in a pipe."""

    def __init__(self, file: TextIO | None = None, columns: int | None = None) -> None:
        """Write to `file`, by default standard output, folded at `columns`, by default the terminal's width."""
        self._file = sys.stdout if file is None else file
        self._console = Console(
            file=self._file,
            width=columns or (None if self._file.isatty() else _PIPE_COLUMNS),
            highlight=False,
            markup=False,
            emoji=False,
        )

    @property
    def columns(self) -> int:
        """How many characters fit on a line; in a pipe, any number."""
        return self._console.width

    def fold(self, indent: int, *cells: str | Cell) -> None:
        """Write cells one after the other, folded between words, every line indented."""
        self._write(Padding(Text.assemble(*map(_text, cells)), (0, 0, 0, indent)))

    def flush(self) -> None:
        """Make what was written be seen at once."""
        self._file.flush()

    def json_line(self, data: Any) -> None:
        """Write JSON on one line, and make it be seen at once."""
        self._file.write(json.dumps(data, ensure_ascii=True) + "\n")
        self.flush()

    def say(self, *cells: str | Cell) -> None:
        """Write one line, its cells one after the other."""
        self._write(Text.assemble(*map(_text, cells)))

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[str | Cell]]) -> None:
        """Write a table. A header that begins with ">" makes a column of numbers, with "=" one that is never folded."""
        table = Table(
            box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=any(headers)
        )
        for header in headers:
            whole = header[:1] in (">", "=")
            table.add_column(
                header[1:] if whole else header,
                justify="right" if header[:1] == ">" else "left",
                overflow="fold",
                no_wrap=whole,
            )
        for row in rows:
            table.add_row(*map(_text, row))
        self._write(table)

    def json(self, data: Any) -> None:
        """Write JSON: ASCII only, so that nothing in it can steer a terminal."""
        self._file.write(json.dumps(data, indent=2, ensure_ascii=True) + "\n")

    def _write(self, what: Text | Table | Padding) -> None:
        with self._console.capture() as captured:
            self._console.print(what, soft_wrap=isinstance(what, Text))
        # rich fills the last column with blanks, which only make a line harder to compare.
        lines = captured.get().removesuffix("\n").split("\n")
        self._file.write("\n".join(line.rstrip(" ") for line in lines) + "\n")


def _text(cell: str | Cell) -> Text:
    text, style = cell if isinstance(cell, Cell) else (cell, "")
    return Text(clean(text), style=style)
