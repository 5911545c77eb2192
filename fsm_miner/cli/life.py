"""Writing a job's life: as a table where there is room, else two lines a record."""

from fsm_miner.cli.output import Cell, Screen
from fsm_miner.cli.timeline import (
    Line,
    chain_cells,
    due_text,
    ending_cells,
    headers,
    lines,
    state_cell,
    timeline,
)
from fsm_miner.forensics.story import Story

__all__ = ["TABLE_COLUMNS", "LifeWriter", "write_end", "write_life"]

TABLE_COLUMNS = 120
"""On a narrower terminal a table would leave what mattered a few characters a line."""
_TIME, _GAP, _EVENT, _STATE = 14, 8, 16, 22


def write_life(screen: Screen, story: Story) -> None:
    """Write every record of a story."""
    if screen.columns >= TABLE_COLUMNS:
        screen.table(headers(story), timeline(story))
        return
    writer = LifeWriter(screen, max((len(str(step.record.seq)) for step in story.steps), default=1))
    for line in lines(story):
        writer.write(line)


def write_end(screen: Screen, story: Story, redacted: frozenset[int] = frozenset()) -> None:
    """Write where the job stands, what came of it, and whether the records hold."""
    job = story.job
    screen.say("")
    screen.say("state     ", state_cell(str(job.state)), f"   due: {due_text(job)}")
    screen.say(*ending_cells(job))
    screen.say(*chain_cells(story, redacted))
    for line in story.trouble:
        screen.say(Cell("trouble", "bold red"), f"   {line}")


class LifeWriter:
    """Writes record after record, as they come; the day stands above the first of it."""

    def __init__(self, screen: Screen, seq_columns: int = 2) -> None:
        self._screen = screen
        self._seq = seq_columns
        self._day: str | None = None

    def write(self, line: Line) -> None:
        """Write one record."""
        if self._day is None:
            names = f"{'#':>{self._seq}}  {f'{line.day} UTC':<{_TIME}}  {'after':>{_GAP}}  {'event':<{_EVENT}}  state"
            wide = self._wide
            self._screen.say(Cell(names + (" " * (_STATE - 5) + "  what mattered" if wide else ""), "bold"))
        elif line.day != self._day:
            self._screen.say(" " * (self._seq + 2), Cell(f"{line.day} UTC", "bold"))
        self._day = line.day
        cells = [
            Cell(line.seq.text.rjust(self._seq), line.seq.style),
            f"  {line.time:<{_TIME}}  {line.gap:>{_GAP}}  ",
            Cell(line.event.text.ljust(_EVENT), line.event.style),
            "  ",
        ]
        if self._wide:
            self._screen.say(*cells, Cell(line.state.text.ljust(_STATE), line.state.style), f"  {line.what}")
        else:
            self._screen.say(*cells, line.state)
            self._screen.fold(self._seq + 2, line.what)

    @property
    def _wide(self) -> bool:
        return self._screen.columns >= TABLE_COLUMNS
