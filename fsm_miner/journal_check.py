"""The check of the whole journal, beside the work: structure, and every record's place in its chain.

A start reads only what it needs. What it left out is checked here, soon after, and then once a day: in a thread, in
slices of less than a millisecond with a pause after each, so that nothing waits for it. What it finds is told and
noted beside the journal; the next start salvages. A database that refuses an append as damaged can't wait for that:
then the daemon begins anew, at once.
"""

from collections.abc import Callable
from pathlib import Path
from threading import Event

from fsm_miner.clock import Clock
from fsm_miner.log_port import Log
from fsm_miner.offload import offload
from journal.onlooker import Damaged
from journal.port import ChainBroken, JournalError, StreamKey
from journal.reader import in_the_way, open_reader
from journal.record import ChainChecker
from journal.sqlite import SqliteJournal
from journal.suspicion import suspect

__all__ = ["JournalCheck", "check_whole"]

_FIRST_AFTER_S = 3.0
_EVERY_S = 24 * 3600.0
_AGAIN_S = 60.0
_SLICE_RECORDS = 64
_PAUSE_S = 0.002


def check_whole(path: Path, stop: Event) -> str | None:
    """Say what is wrong with the journal at `path`; None if nothing is, or if `stop` was set meanwhile.

    Never holds the database for longer than a slice takes, but for the check of its structure.

    Raises:
        Damaged: its structure is not sound, or it can't be looked at now.
        JournalError, OSError: it can't be opened.

    """
    with open_reader(path, live=True) as reader:
        reader.check_structure()
        key, seq, checker = StreamKey("", -1), 0, ChainChecker()
        while not stop.is_set():
            records = reader.after(key, seq, _SLICE_RECORDS)
            if not records:
                break
            for record in records:
                if record.key != key:
                    key, checker = record.key, ChainChecker()
                try:
                    checker.check(record)
                except ChainBroken as error:
                    return str(error)
            seq = records[-1].seq
            stop.wait(_PAUSE_S)
    return None


class _NotNow(Exception):
    """The journal can't be looked at now, which says nothing of it."""


class JournalCheck:
    """Checks the journal now and then, and watches for an append that finds it damaged.

    `troubles` is for `/healthz`. `begin_anew` is true when the daemon must not go on with this journal; `stop` was
    called then.
    """

    def __init__(
        self, journal: SqliteJournal, stop: Callable[[], None], *, fresh: bool, clock: Clock, log: Log
    ) -> None:
        """Take the journal. `fresh`: it was checked as a whole just now."""
        self._journal = journal
        self._stop = stop
        self._first_s = _EVERY_S if fresh else _FIRST_AFTER_S
        self._clock = clock
        self._log = log
        self.troubles: tuple[str, ...] = ()
        self.begin_anew = False

    async def run(self) -> None:
        """Check until cancelled, or until something is found: then only a start can mend it."""
        await self._clock.sleep(self._first_s)
        while True:
            # Twice, each with its own look: a file that was put back to its place meanwhile is no damage.
            try:
                if await self._look() is not None and (problem := await self._look()) is not None:
                    await self._tell(problem, "the next start of the daemon salvages what holds; jobs go on")
                    return
            except _NotNow:
                await self._clock.sleep(_AGAIN_S)
            else:
                await self._clock.sleep(_EVERY_S)

    async def watch(self) -> None:
        """Wait for an append that finds the database damaged, and begin anew: no append would succeed any more."""
        await self._journal.damaged.wait()
        await self._tell(
            self._journal.damage or "", "the daemon begins anew and salvages what holds; jobs go on"
        )
        self.begin_anew = True
        self._stop()

    async def _look(self) -> str | None:
        stop = Event()
        try:
            return await offload(lambda: check_whole(self._journal.path, stop), stop=stop)
        except Damaged as error:
            if in_the_way(error):
                raise _NotNow from error
            return str(error)
        except (JournalError, OSError) as error:
            raise _NotNow from error  # who looks after the premises says so, and what to do

    async def _tell(self, problem: str, then: str) -> None:
        self.troubles = (f"the journal is damaged: {problem}: {then}",)
        self._log.error("journal_damaged", problem=problem, then=then)
        try:
            await offload(lambda: suspect(self._journal.path, problem))
        except OSError as error:
            # Without the note the next start may trust what it should not; whoever reads the log can make it.
            self._log.error("journal_damage_not_noted", problem=f"{self._journal.path}.suspect: {error}")
