"""Taking a journal over at start: look first, refuse or mend, and only then write.

    nothing noted against it    the same reading, the same boot: read what is unfinished, and a line of what is over
    otherwise                   structure, every chain, every fact as this version reads it, read-only
        it reads otherwise      refuse: `ReadingDiffers`; nothing is changed
        it is damaged           salvage, and look again
    then                        migrate, note who reads it and how, open

After a reboot everything is checked: nothing runs that waits for it, and power cuts are what tears databases.
Otherwise the check of what is over comes later, beside the work (`fsm_miner.journal_check`).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from fsm_miner import __version__
from fsm_miner.log_port import Log
from fsm_miner.reading import Difference, Survey, fingerprint, survey
from fsm_miner.recovery import NONSENSE, Recovered, Telling, told
from fsm_miner.sweeper import Finished
from fsm_miner.upcasters import UPCASTERS
from journal.onlooker import Damaged
from journal.port import ChainBroken, JournalError, JournalUnavailable, StreamKey
from journal.reader import Reader, in_the_way, open_reader
from journal.retention import stamp
from journal.salvage import Salvage, finish_swap, lend_index, salvage
from journal.sqlite import SqliteJournal
from journal.suspicion import clear_suspicion, is_suspect
from journal.upcast import VersionUnknown
from states.table import State

__all__ = ["ReadingDiffers", "Taken", "foreign", "take_over"]

_SHOWN_MAX = 10
_UNREADABLE_MAX = 1000


class ReadingDiffers(JournalError):
    """This version would read facts otherwise than their writer recorded them. Nothing was changed.

    `differences` has one for each such stream, up to a thousand.
    """

    def __init__(self, path: Path, found: Survey, differences: list[Difference], last: str | None) -> None:
        more = len(differences) - _SHOWN_MAX
        shown = "; ".join(map(str, differences[:_SHOWN_MAX])) + (f"; and {more} more" if more > 0 else "")
        before = "the version that wrote it" if last is None else f"version {last}, which had it last"
        super().__init__(
            f"{path}: version {__version__} reads {len(differences)} of {found.streams} streams otherwise than was "
            f"recorded, so it leaves the journal as it is: go back to {before}; jobs go on meanwhile. "
            f"`fsm-miner check --journal` shows all: {shown}"
        )
        self.differences = differences


@dataclass(frozen=True, slots=True)
class Taken:
    """A journal that is ours. `whole`: every record was checked, not only what a start needs.

    `troubles` says for `/healthz` what was lost, if it had to be salvaged.
    """

    journal: SqliteJournal
    recovered: Recovered
    whole: bool
    troubles: tuple[str, ...] = ()


@dataclass(slots=True)
class _Look:
    """What is there: how it reads, and what is wrong with it."""

    recovered: Recovered = field(default_factory=Recovered)
    damage: str | None = None
    whole: bool = True
    unreadable: list[Difference] = field(default_factory=list[Difference])


def take_over(path: Path, *, boot_id: str, now_ns: Callable[[], int], log: Log) -> Taken:
    """Open the journal at `path`, or make it; log what was lost or makes no sense. The caller holds its folder's lock.

    Raises:
        ReadingDiffers: this version reads it otherwise; nothing was changed.
        SchemaTooNew: a later release wrote it; nothing was changed.
        JournalUnavailable: the folder can't be read or written, or the disk is full.

    """
    try:
        # Finishing what a salvage has begun changes nothing that any version would read otherwise.
        interrupted = finish_swap(path)
        report = None if interrupted is None else Salvage(interrupted, "found at an earlier start")
        look = _look(path, boot_id)
        if look.damage is not None:
            damage = look.damage if interrupted is None else f"{look.damage}; and {interrupted} before"
            at_ns = now_ns()
            report = replace(salvage(path, look.damage, at_ns, stamp(at_ns)), reason=damage)
            look = _look(path, boot_id)
        journal = SqliteJournal(
            path,
            boot_id=boot_id,
            now_ns=now_ns,
            upcasters=UPCASTERS,
            notes={
                "boot_id": boot_id,
                "reading": fingerprint(),
                "version": __version__,
                "unreadable": json.dumps([one.key for one in look.unreadable[:_UNREADABLE_MAX]]),
            }
            if look.whole
            else None,
        )
        if look.whole:
            clear_suspicion(path)
    except OSError as error:
        raise JournalUnavailable(f"{path}: {error}: check the folder, its rights and free space") from error
    if report is not None:
        log.error("journal_salvaged", report=str(report))
    for problem in look.recovered.unreadable:
        log.error("stream_unreadable", problem=problem)
    troubles = () if report is None else (f"{report}; look at it, then restart the daemon",)
    return Taken(journal, look.recovered, look.whole, troubles)


def _look(path: Path, boot_id: str) -> _Look:
    """Read the journal as far as a start must; changes nothing.

    Raises:
        ReadingDiffers, SchemaTooNew, JournalUnavailable, OSError: as `take_over` says.

    """
    if not path.exists() or path.stat().st_size == 0:
        return _Look()  # empty: its creation was interrupted before anything was in it
    lend_index(path)
    found = Survey()
    notes: dict[str, str] = {}
    schema = 0
    damage: str | None = None
    try:
        with open_reader(path, UPCASTERS) as reader:
            schema, notes = reader.schema, reader.notes()
            known = (notes.get("reading"), notes.get("boot_id")) == (fingerprint(), boot_id)
            if known and not is_suspect(path):
                recovered = _glance(reader)
                if recovered is not None:
                    return _Look(recovered, whole=False)
            damage = reader.damage(chains=False)
            survey(reader.by_stream(), found)
    except Damaged as error:
        if in_the_way(error) and path.is_file():
            raise JournalUnavailable(
                f"{error}: can't be opened now: check who owns it, and who else has it open"
            ) from error
        damage = damage or str(error)
    if damage is None and found.broken:
        damage = str(found.broken[0])
    against = foreign(found, notes, schema)
    if against:
        raise ReadingDiffers(path, found, against, notes.get("version"))
    found.recovered.unreadable += map(str, found.differences)
    return _Look(found.recovered, damage, unreadable=found.differences)


def _glance(reader: Reader) -> Recovered | None:
    """Read what is unfinished, and when and how the rest ended; None if any of that is damaged."""
    recovered = Recovered()
    try:
        over, open_keys = reader.ends()
        recovered.finished = [Finished(one.key, one.dest == State.DONE, one.at_ns) for one in over]
        for key in open_keys:
            telling = Telling(key)
            try:
                for record in reader.read(key):
                    telling.add(record)
            except (VersionUnknown, *NONSENSE) as error:
                recovered.unreadable.append(f"{key}: record {telling.job.seq + 1}: {told(error)}")
            else:
                recovered.take(telling)
    except (Damaged, ChainBroken):
        return None  # whoever looks at everything finds it again, and says what it is
    recovered.sort()
    return recovered


def foreign(found: Survey, notes: dict[str, str], schema: int) -> list[Difference]:
    """Return the differences that speak against this version: not those that no version could read.

    The same reading finds a stream unreadable that it did not write; so did an older one, and noted it. A journal
    that nobody has taken over yet has no reading to differ from, unless it is older than such notes.
    """
    if schema >= 2 and notes.get("reading") in {None, fingerprint()}:
        return []
    known = _keys(notes.get("unreadable", "[]"))
    return [one for one in found.differences if one.key not in known]


def _keys(text: str) -> set[StreamKey]:
    """Return the keys that a note lists; none if it is not what we write."""
    try:
        return {
            StreamKey(*cast("tuple[str, int]", tuple(one))) for one in cast("list[Any]", json.loads(text))
        }
    except (TypeError, ValueError):
        return set()
