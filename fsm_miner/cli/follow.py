"""`fsm-miner replay JOB --follow`: a job's records as they are written. Only looks, and changes nothing.

A commit of the daemon is seen by SQLite's `data_version`, which costs some microseconds to ask. When the daemon comes
and goes, the files around the journal do too: then it is opened anew.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fsm_miner.cli.cases import find, parse_job
from fsm_miner.cli.life import LifeWriter, write_end
from fsm_miner.cli.options import journal_path
from fsm_miner.cli.outcome import ExitCode, Refused
from fsm_miner.cli.output import Cell, Screen
from fsm_miner.cli.reading import JournalFile
from fsm_miner.cli.timeline import line_of
from fsm_miner.forensics.story import Step, Story, StoryReader, record_json
from fsm_miner.instance import find_running
from journal.port import JournalError, Record, StreamKey
from states.table import FINAL, State

__all__ = ["follow"]

_POLL_S = 0.2
_AWAY_S = 30.0
_FINAL = frozenset(str(state) for state in FINAL)


def follow(
    screen: Screen,
    job: str,
    attempt: int | None,
    config: Path | None,
    journal: Path | None,
    *,
    as_json: bool,
    pause: Callable[[], None] = lambda: time.sleep(_POLL_S),
) -> int:
    """Write the records of a job until it is over; return the exit code.

    Raises:
        Refused: there is no such job, or the journal can't be read (any more).

    """
    path = journal_path(config, journal)
    with JournalFile(path) as file:
        found = find(file, *parse_job(job, attempt))
    key = found.story.key
    reader = StoryReader(key)
    writer = LifeWriter(screen)
    if not as_json:
        screen.say(Cell(str(key), "bold"), f"  from {found.source}", _absence(path, found.story))
        screen.say("")
    before: Record | None = None
    whole = found.source != path  # what is in the archive is over
    for record in (step.record for step in found.story.steps) if whole else _records(path, key, pause):
        was_sound = reader.broken is None
        step = reader.add(record)
        if as_json:
            screen.json_line(record_json(step))
        else:
            writer.write(line_of(step, before, doubt=was_sound and reader.broken is not None))
            screen.flush()
        before = record
        if _over(step):
            break
    story = reader.story()
    if not as_json:
        write_end(screen, story)
    return ExitCode.OK if story.sound and story.job.state is State.DONE else ExitCode.NO


def _over(step: Step) -> bool:
    """Whether nothing follows. Of a job that can't be told any more, the record itself has to say it."""
    return step.job.final if step.job is not None else step.record.dest in _FINAL


def _absence(path: Path, story: Story) -> str:
    if story.job.final:
        return ""
    try:
        running = find_running(path.parent)
    except OSError:
        return ""  # whoever may read the journal alone hears nothing about the daemon
    return "" if running is not None else " (no daemon runs in this folder now)"


@dataclass(slots=True)
class _Away:
    """How often in a row the journal could not be read: while a daemon starts or salvages it, for a moment."""

    times: int = 0

    def again(self, error: Exception) -> None:
        self.times += 1
        if self.times * _POLL_S > _AWAY_S:
            raise error


def _records(path: Path, key: StreamKey, pause: Callable[[], None]) -> Iterator[Record]:
    """Yield the records of a stream, those to come too, for ever."""
    last: int | None = None
    away = _Away()
    while True:
        try:
            with JournalFile(path) as file:
                files = _files(path)
                version: int | None = None
                while _files(path) == files:
                    if (now := file.data_version()) != version:
                        version = now
                        for record in file.stream(key, last):
                            yield record
                            last = record.seq
                    away.times = 0
                    pause()
        except (Refused, JournalError) as error:
            away.again(error)
            pause()


def _files(path: Path) -> tuple[int, ...]:
    """Return which files the journal consists of: their inodes, 0 for one that can't be seen."""
    found: list[int] = []
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        try:
            found.append(path.with_name(name).stat().st_ino)
        except OSError:
            found.append(0)  # whoever opens it says why
    return tuple(found)
