"""The files that the daemon holds open, and that somebody may delete under it: looked for, and put back."""

from fsm_miner.instance import Instance
from fsm_miner.log_port import Log
from fsm_miner.offload import offload
from journal.port import JournalUnavailable
from journal.sqlite import SqliteJournal

__all__ = ["OwnFiles"]


class OwnFiles:
    """The lock and the journal; the log looks after itself."""

    def __init__(self, instance: Instance, journal: SqliteJournal, *, log: Log) -> None:
        self._instance = instance
        self._journal = journal
        self._log = log
        # Without the lock the place may be another daemon's, whose journal ours would push aside.
        journal.put_back_unless(instance.restore)

    async def lock(self) -> str | None:
        """See that the lock file is there; say what hinders it."""
        return await offload(self._instance.restore)

    async def journal(self) -> str | None:
        """See that the journal's files are there; say what hinders it."""
        try:
            for problem in await self._journal.restore():
                self._log.error("journal_put_back", problem=problem)
        except JournalUnavailable as error:
            return f"journal: {error}"
        return None
