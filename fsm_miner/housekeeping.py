"""Housekeeping: folders and cgroups of jobs that are over, streams that are past their retention."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from pathlib import PurePath

from fsm_miner.clock import Clock, sleep_unless
from fsm_miner.config.model import Config
from fsm_miner.early_sweep import EarlySweep
from fsm_miner.log_port import Log
from fsm_miner.site.cgroups import RunCgroups
from fsm_miner.supervisor import Supervisor, key_of
from fsm_miner.sweeper import Finished, Retention, Sweeper, empty_trash
from journal.port import JournalError, StreamKey
from journal.retention import archive_folder
from journal.sqlite import SqliteJournal

__all__ = ["Housekeeping"]

_SWEEP_EVERY_S = 60.0
_SWEEP_AGAIN_S = 5.0


class Housekeeping:
    """Sweeps once a minute, and when space is short; remembers who is over, until the streams are exported."""

    def __init__(
        self,
        config: Config,
        journal: SqliteJournal,
        supervisor: Supervisor,
        finished: Iterable[Finished],
        cgroups: RunCgroups,
        short: Callable[[], str | None],
        *,
        clock: Clock,
        log: Log,
    ) -> None:
        self._root = config.workspace.root
        self._retention_ns = int(config.journal.retention.total_seconds() * 1e9)
        self._archive = archive_folder(config.journal.path)
        self._sweeper = Sweeper(
            self._root,
            Retention(
                config.workspace.keep_success.total_seconds(), config.workspace.keep_failed.total_seconds()
            ),
        )
        self._early = EarlySweep(self._root, short, log=log)
        self._asked = asyncio.Event()
        self._journal = journal
        self._supervisor = supervisor
        self._cgroups = cgroups
        self._finished: dict[StreamKey, Finished] = {one.key: one for one in finished}
        self._clock = clock
        self._log = log
        self._failure: str | None = None

    @property
    def troubles(self) -> tuple[str, ...]:
        """Why the last sweep could not do all of its work, and what finished jobs hold while space is short."""
        failed = () if self._failure is None else (f"housekeeping: {self._failure}",)
        return (*failed, *self._early.troubles())

    def add(self, finished: Finished) -> None:
        """Note that a job is over."""
        self._finished[finished.key] = finished

    def make_room(self) -> None:
        """Have the folders of finished jobs go now, as far as space is short."""
        self._asked.set()

    async def run(self) -> None:
        """Sweep until cancelled. A disk that refuses is tried again at the next turn."""
        while True:
            try:
                await self._sweep()
            except (OSError, JournalError) as error:
                if self._failure is None:
                    self._log.warning("sweep_failed", problem=str(error))
                self._failure = str(error)
            else:
                if self._failure is not None:
                    self._log.info("sweep_goes_on")
                self._failure = None
            await self._rest(_SWEEP_EVERY_S if self._failure is None else _SWEEP_AGAIN_S)

    async def _rest(self, seconds: float) -> None:
        """Wait for the next sweep; make room meanwhile, as often as somebody asks for it."""
        end_ns = self._clock.boot_ns() + int(seconds * 1e9)
        while (left_ns := end_ns - self._clock.boot_ns()) > 0:
            await sleep_unless(self._clock, left_ns / 1e9, self._asked)
            if self._asked.is_set():
                self._asked.clear()
                await self._early.sweep(list(self._finished.values()))

    async def _sweep(self) -> None:
        for problem in await empty_trash(self._root):
            self._log.warning("trash_not_emptied", problem=problem)
        now_ns = self._clock.now_ns()
        # Listed first: what is there now was written down as intended before it was made.
        groups = self._cgroups.groups()
        known = [*self._finished, *(key_of(job) for job in self._supervisor.jobs())]
        removed, odd = self._cgroups.sweep(groups, set(known), self._live_runs())
        for name in odd:
            self._log.warning("cgroup_unknown", cgroup=name)
        swept = await self._sweeper.sweep(list(self._finished.values()), known, now_ns)
        for name in swept.unknown:
            self._log.warning("folder_unknown", folder=str(self._root / name))
        for problem in swept.problems:
            self._log.warning("folder_not_removed", problem=problem)
        if swept.removed or removed:
            self._log.info("swept", removed=len(swept.removed), cgroups=len(removed))
        self._early.try_again()
        await self._early.sweep(list(self._finished.values()))
        expiry = await self._journal.expire(now_ns - self._retention_ns, self._archive)
        for key in expiry.keys:
            self._finished.pop(key, None)
        if expiry.keys:
            self._log.info("journal_exported", streams=len(expiry.keys), file=str(expiry.path))

    def _live_runs(self) -> Collection[str]:
        """Return the names of the cgroups that are, or may still be, in use, or that nobody has read to the end."""
        jobs = self._supervisor.jobs()
        intents = [job.intent for job in jobs if job.intent is not None and job.ended is None]
        return {PurePath(intent.cgroup).name for intent in intents if intent.cgroup is not None}
