"""The proxies of all jobs: opened before a job's command starts, anew by a new daemon, closed at its end."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from socket import socket

from fsm_miner.addresses import Resolver, resolve
from fsm_miner.config.model import Network
from fsm_miner.egress.grant import grant
from fsm_miner.egress.proxy import JobProxy, ProxyLimits
from fsm_miner.egress.traffic import Traffic
from fsm_miner.log_port import Log
from fsm_miner.offload import offload
from runners.egress import open_listener
from runners.run import RunFiles

__all__ = ["Gateway", "Names"]

_SAVE_EVERY_S = 1.0
_REFUSALS_LOGGED_MAX = 10
_LOOKUPS_MAX = 8


class Names:
    """A resolver for all jobs: a few lookups at a time, and one for each name.

    The system's resolver can't be interrupted, and each lookup is a thread. So one holds its place until it has really
    ended, however early those who waited for it have gone.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._room = asyncio.Semaphore(_LOOKUPS_MAX)
        self._running: dict[tuple[str, int], asyncio.Task[Sequence[str]]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of `host`; see `fsm_miner.addresses.resolve`."""
        key = host, port
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.ensure_future(self._look_up(host, port))
            task.add_done_callback(partial(self._done, key))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Let go of every lookup."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_up(self, host: str, port: int) -> Sequence[str]:
        async with self._room:
            return await self._resolver(host, port)

    def _done(self, key: tuple[str, int], task: "asyncio.Task[Sequence[str]]") -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()  # whoever still waits gets it; maybe nobody does


@dataclass(slots=True)
class _Open:
    proxy: JobProxy
    record: Path
    saving: "asyncio.Task[None]"


class Gateway:
    """Belongs to one event loop."""

    def __init__(
        self,
        network: Network,
        *,
        log: Log,
        limits: ProxyLimits | None = None,
        resolver: Resolver = resolve,
        listen: Callable[[RunFiles], socket] = open_listener,
    ) -> None:
        self._network = network
        self._log = log
        self._limits = limits or ProxyLimits()
        self._names = Names(resolver)
        self._listen = listen
        self._open: dict[Path, _Open] = {}  # by the run's lock

    def is_open(self, files: RunFiles) -> bool:
        """Whether the run has a proxy."""
        return files.lock in self._open

    async def open(self, job_id: str, files: RunFiles, asked: Iterable[str]) -> None:
        """Give the run a proxy, for those of the hosts `asked` for that the configuration allows.

        Raises:
            EgressFailed, OSError: there is no way into the run's network.

        """
        assert files.lock not in self._open
        listener = await offload(partial(self._listen, files))
        record = _record_of(files)
        proxy = JobProxy(
            listener,
            grant(asked, self._network),
            self._names,
            partial(self._refused, job_id, [0]),
            self._limits,
            Traffic.load(record),
        )
        proxy.start()
        self._open[files.lock] = _Open(
            proxy, record, asyncio.ensure_future(self._save(proxy.traffic, record))
        )

    async def close(self, files: RunFiles) -> Traffic:
        """Take the run's proxy away, if it has one; return what it has moved in all its life."""
        found = self._open.pop(files.lock, None)
        if found is None:
            return Traffic.load(_record_of(files))
        await self._close(found)
        return found.proxy.traffic

    async def stop(self) -> None:
        """Close everything: open connections break, a new daemon opens the proxies anew."""
        while self._open:
            await self._close(self._open.popitem()[1])
        await self._names.close()

    async def _close(self, found: _Open) -> None:
        await found.proxy.close()
        found.saving.cancel()
        await asyncio.gather(found.saving, return_exceptions=True)
        self._write(found.proxy.traffic, found.record)

    async def _save(self, traffic: Traffic, record: Path) -> None:
        saved = traffic.as_usage()
        while True:
            await asyncio.sleep(_SAVE_EVERY_S)
            if (now := traffic.as_usage()) != saved and self._write(traffic, record):
                saved = now

    def _write(self, traffic: Traffic, record: Path) -> bool:
        try:
            traffic.save(record)
        except OSError as error:
            self._log.debug("egress_not_recorded", problem=str(error))
            return False
        return True

    def _refused(self, job_id: str, told: list[int], target: str, why: str) -> None:
        told[0] += 1
        if told[0] <= _REFUSALS_LOGGED_MAX:
            last = told[0] == _REFUSALS_LOGGED_MAX
            self._log.warning(
                "egress_refused",
                job_id=job_id,
                target=target,
                problem=why,
                more_of_this_job_are_logged=not last,
            )


def _record_of(files: RunFiles) -> Path:
    return files.status.with_suffix(".network.json")
