"""The demo on the screen: a table that lives on a terminal, lines elsewhere, and the outcome at the end."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from demo_clip import DURATION_S
from demo_jobs import DemoJob
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from journal import Record

__all__ = ["Row", "Screen", "outcome_table", "plain"]

# Columns from which the running note gets a column of its own.
_WIDE = 110
_STATE_STYLE = {
    "RUNNING": "bold cyan",
    "PREP": "cyan",
    "UPLOADING": "magenta",
    "DONE": "green",
    "FAILED": "yellow",
}
_CLOCK = re.compile(r"frame= *(\d+) fps= *([\d.]+).*time=(\d+):(\d\d):(\d\d(?:\.\d+)?)")
_STEP_PCT = 25


@dataclass(slots=True)
class Row:
    """A job as it is shown."""

    job: DemoJob
    state: str = "queued"
    pct: float | None = None
    note: str = ""
    began_ns: int | None = None
    last_ns: int | None = None
    final: bool = False
    records_seen: int = 0

    def see_records(self, records: Sequence[Record]) -> list[str]:
        """Take in the job's journal; return the states that it entered since."""
        news = [r.dest for r in records[self.records_seen :] if r.dest != r.source]
        self.records_seen = len(records)
        if records:
            self.began_ns, self.last_ns, self.state = records[0].at_ns, records[-1].at_ns, records[-1].dest
        return news

    def see_progress(self, reports: Sequence[dict[str, Any]]) -> None:
        """Take in what the coordinator was told; of ffmpeg's own line, its clock is the progress."""
        if not reports or self.state != "RUNNING":
            return
        last = reports[-1]
        lines = [line for line in str(last["log_tail"] or "").splitlines() if line.strip()]
        self.note, self.pct = plain(lines[-1].strip() if lines else ""), last["pct"]
        if (clock := _CLOCK.search(self.note)) is not None:
            frame, fps, hours, minutes, seconds = clock.groups()
            done_s = 3600 * int(hours) + 60 * int(minutes) + float(seconds)
            self.pct = min(100.0, 100 * done_s / DURATION_S)
            self.note = f"frame {frame}, {float(fps):g} frames/s"

    @property
    def elapsed(self) -> str:
        """Seconds from the offer to the last record, or until now."""
        if self.began_ns is None or self.last_ns is None:
            return ""
        end_ns = self.last_ns if self.final else time.time_ns()
        return f"{max(0, end_ns - self.began_ns) / 1e9:.1f} s"

    @property
    def percent(self) -> str:
        """The progress while it runs."""
        return "" if self.pct is None or self.final else f"{self.pct:.0f} %"


class Screen:
    """Shows rows while they change. A context manager."""

    def __init__(self, console: Console, rows: Sequence[Row], *, live: bool) -> None:
        self._console = console
        self._rows = rows
        self._live = Live(console=console, auto_refresh=False, transient=True) if live else None
        self._began = time.monotonic()
        self._told: dict[str, int] = {}

    def __enter__(self) -> "Screen":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Say something that stays on the screen."""
        since = f"{time.monotonic() - self._began:5.1f} s  "
        self._console.print(since + text, highlight=False, markup=False)

    def update(self, news: Sequence[tuple[Row, list[str]]]) -> None:
        """Show the rows as they are; without a terminal, a line for each state entered and each quarter done."""
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
            return
        for row, states in news:
            if states:
                self.say(f"{row.job.name:<10} {' > '.join(states)}")
            step = 0 if row.pct is None or row.final else int(row.pct // _STEP_PCT)
            if step > self._told.get(row.job.name, 0):
                self._told[row.job.name] = step
                self.say(f"{row.job.name:<10} {row.percent}  {row.note}".rstrip())

    def _table(self) -> Table:
        wide = self._console.width >= _WIDE
        table = Table(box=box.SIMPLE_HEAD, expand=wide, pad_edge=False)
        table.add_column("job", no_wrap=True, style="bold", min_width=10)
        table.add_column("what it shows", no_wrap=True, width=None if wide else 34)
        table.add_column("state", no_wrap=True, width=10)
        table.add_column("done", no_wrap=True, justify="right", width=5)
        if wide:
            table.add_column("note", no_wrap=True, ratio=1)
        table.add_column("time", no_wrap=True, justify="right", width=7)
        for row in self._rows:
            table.add_row(*self._cells(row, wide=wide))
        return table

    def _cells(self, row: Row, *, wide: bool) -> list[Text | str]:
        state = Text(row.state, style=_STATE_STYLE.get(row.state, "dim"))
        note = Text(row.note, style="dim" if not row.final else "")
        shows = [Text(row.job.shows), state, row.percent, note] if wide else [
            note if row.note and not row.final else Text(row.job.shows), state, row.percent
        ]  # fmt: skip
        return [row.job.name, *shows, row.elapsed]


def outcome_table(entries: Sequence[tuple[Row, str, bool, str]]) -> Table:
    """Return the table at the end. An entry: the row, the outcome it got, whether all is well, what was found."""
    table = Table(title="Outcomes", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", "job", "expected", "got"):
        table.add_column(name, no_wrap=True)
    table.add_column("time", no_wrap=True, justify="right")
    table.add_column("what came of it", overflow="fold")
    for row, got, well, found in entries:
        mark = Text("ok", style="green") if well else Text("NO", style="bold red")
        table.add_row(mark, row.job.name, row.job.expected, Text(got), row.elapsed, Text(found))
    return table


def plain(text: str) -> str:
    """Make what came from a job safe for a terminal."""
    return "".join(c if c.isprintable() else "·" for c in text)
