"""`fsm-miner check --journal`: whether this version reads the journal as it was written; before an upgrade, say."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fsm_miner import __version__
from fsm_miner.cli.outcome import ExitCode
from fsm_miner.cli.output import Cell, Screen, progress_console
from fsm_miner.cli.reading import JournalFile
from fsm_miner.reading import Difference, Survey, fingerprint, survey
from fsm_miner.takeover import foreign
from fsm_miner.upcasters import UPCASTERS
from fsm_miner.words import counted
from journal.onlooker import Damaged
from journal.reader import open_reader
from journal.schema import NEWEST

__all__ = ["check_journal"]

_SHOWN_MAX = 20


@dataclass(slots=True)
class _Report:
    """What there is to say. `foreign`: those of the differences that would keep this version from starting.

    `schema` is None where nothing was read, because the tables are not as they were made.
    """

    path: Path
    schema: int | None = None
    notes: dict[str, str] = field(default_factory=dict[str, str])
    survey: Survey = field(default_factory=Survey)
    foreign: list[Difference] = field(default_factory=list[Difference])
    damage: list[str] = field(default_factory=list[str])

    @property
    def ok(self) -> bool:
        return not self.foreign and not self.damage


def check_journal(path: Path, screen: Screen, *, as_json: bool) -> int:
    """Read everything, write nothing; return the exit code.

    Raises:
        Refused: there is no journal, or this user or this release can't read it.

    """
    report = _look(path)
    if as_json:
        screen.json(_as_data(report))
    else:
        _show(screen, report)
    if report.foreign:
        return ExitCode.JOURNAL
    return ExitCode.OK if report.ok else ExitCode.NO


def _look(path: Path) -> _Report:
    report = _Report(path)
    with JournalFile(path) as file:
        if file.trouble is not None:
            report.damage.append(file.trouble)
            return report
        total = file.count()
    try:
        with open_reader(path, UPCASTERS) as reader, _progress(total) as tick:
            report.schema, report.notes = reader.schema, reader.notes()
            damage = reader.damage(chains=False)
            if damage is not None:
                report.damage.append(damage)
            survey(reader.by_stream(), report.survey, tick=tick)
    except Damaged as error:
        if str(error) not in report.damage:
            report.damage.append(str(error))
    report.damage += map(str, report.survey.broken)
    report.foreign = foreign(report.survey, report.notes, report.schema or 0)
    return report


@contextmanager
def _progress(total: int) -> Generator[Callable[[int], None], None, None]:
    console = progress_console()
    columns = (TextColumn("records"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=console is None) as progress:
        task = progress.add_task("records", total=total)

        def tick(done: int) -> None:
            progress.update(task, completed=done)

        yield tick


def _as_data(report: _Report) -> dict[str, Any]:
    found = report.survey
    against = {one.key for one in report.foreign}
    return {
        "ok": report.ok,
        "journal": str(report.path),
        "schema": report.schema,
        "last_version": report.notes.get("version"),
        "version": __version__,
        "version_schema": NEWEST,
        "same_reading": report.notes.get("reading") == fingerprint(),
        "streams": None if report.schema is None else found.streams,
        "records": None if report.schema is None else found.records,
        "differing": found.differing,
        "differs": [
            {
                "job_id": one.key.job_id,
                "attempt": one.key.attempt,
                "seq": one.seq,
                "event": one.event,
                "reason": one.reason,
                "refused": one.key in against,
            }
            for one in found.differences
        ],
        "damage": report.damage,
    }


def _show(screen: Screen, report: _Report) -> None:
    found = report.survey
    word = Cell("ok", "green") if report.ok else Cell("NOT ok", "bold red")
    last = report.notes.get("version")
    read = f"{counted(found.streams, 'stream')}, {counted(found.records, 'record')}, schema {report.schema}"
    screen.say(
        word,
        f": {report.path}: "
        + (
            "not read, because its tables are not as they were made, or can't be read"
            if report.schema is None
            else read
        )
        + ("" if last is None else f", last taken over by version {last}"),
    )
    for one in found.differences[:_SHOWN_MAX]:
        refused = one in report.foreign
        mark = Cell("differs", "bold red") if refused else Cell("unreadable", "yellow")
        screen.say("  ", mark, f": {one}" + ("" if refused else " (to the last version too)"))
    if found.differing > _SHOWN_MAX:
        screen.say(f"  and {found.differing - _SHOWN_MAX} more; --json has them")
    for one in report.damage[:_SHOWN_MAX]:
        screen.say("  ", Cell("damaged", "bold red"), f": {one}")
    if len(report.damage) > _SHOWN_MAX:
        screen.say(f"  and {len(report.damage) - _SHOWN_MAX} more; --json has them")
    screen.say(_verdict(report))


def _verdict(report: _Report) -> str:
    if report.foreign:
        return (
            f"Version {__version__} reads this journal otherwise than it was written, and would refuse to start on it "
            "(exit code 5): stay with the version that works."
        )
    if report.damage:
        which = (
            f" `fsm-miner verify --journal {report.path}` reads it all the same, and names the records that don't hold."
            if report.schema is None
            else ""
        )
        return (
            f"The journal is damaged; that is no reason against version {__version__}: any version salvages what "
            f"holds at its next start.{which}"
        )
    then = "" if report.schema == NEWEST else f", and brings it to schema {NEWEST} at its first start"
    return f"Version {__version__} reads all of it as it was written{then}."
