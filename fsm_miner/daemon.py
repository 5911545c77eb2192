"""The daemon: all parts put together, from start to an orderly stop.

start   lock, journal, replay ─► recover the jobs found ─► register ─► reconcile ─► admit, pull
stop    (SIGTERM, SIGINT) stop pulling, leave the processes running, flush, exit 0
drain   (SIGUSR1) stop pulling, finish what is there; SIGUSR2 takes it back
"""

import asyncio
import secrets
import signal
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fsm_miner import __version__
from fsm_miner.clock import Clock, Dice, boot_id
from fsm_miner.config.model import Config
from fsm_miner.config.secret import Secret
from fsm_miner.coordinator.http import HttpCoordinator
from fsm_miner.coordinator.port import Beat, PullRequest
from fsm_miner.delivery import Delivery
from fsm_miner.effects import JobEffects
from fsm_miner.health import HealthServer
from fsm_miner.heartbeat import Heartbeat
from fsm_miner.input_hosts import AddressPolicy, input_client
from fsm_miner.inputs import FetchLimits
from fsm_miner.instance import Instance
from fsm_miner.intake import Intake
from fsm_miner.metrics import Metrics
from fsm_miner.observer import DaemonObserver
from fsm_miner.probe.descriptor import descriptor
from fsm_miner.probe.host import HostFacts, HostProbe
from fsm_miner.progress import ProgressReporter
from fsm_miner.pull import Pull
from fsm_miner.reconcile import Reconciler
from fsm_miner.recovery import Recovered, replay
from fsm_miner.reload import AllowlistWatch
from fsm_miner.session import Session
from fsm_miner.site.cgroups import find_parent
from fsm_miner.site.checks import Checks
from fsm_miner.site.gpus import GpuBoard
from fsm_miner.site.plan import Planner
from fsm_miner.site.process import Processes
from fsm_miner.site.worksite import FetchSettings, MachineSite
from fsm_miner.status import Status
from fsm_miner.supervisor import Supervisor, key_of
from fsm_miner.sweeper import Finished, Retention, Sweeper, empty_trash
from fsm_miner.workspace import free_bytes
from journal.opening import open_journal
from journal.port import JournalError, Record, StreamKey
from journal.sqlite import SqliteJournal
from runners.host import HostTools
from states.admission import Capacity, Room
from states.job import Job
from states.retry import Backoff, Policy
from states.table import FINAL

__all__ = ["Daemon"]

_MIB = 1024 * 1024
_SWEEP_EVERY_S = 60.0
_GPU_EVERY_S = 10.0
_PROGRESS_EVERY_S = 2.0
_INPUTS_S = 6 * 3600.0


class Log(Protocol):
    """The part of a structlog logger that the daemon uses."""

    def debug(self, event: str, **attrs: Any) -> Any: ...
    def info(self, event: str, **attrs: Any) -> Any: ...
    def warning(self, event: str, **attrs: Any) -> Any: ...
    def error(self, event: str, **attrs: Any) -> Any: ...


@dataclass(slots=True)
class _Registry:
    """What the sweeper needs of jobs that are over, by stream."""

    finished: dict[StreamKey, Finished] = field(default_factory=dict[StreamKey, Finished])

    def add(self, finished: Finished) -> None:
        self.finished[finished.key] = finished


class Daemon:
    """One node. `run` returns when it was asked to stop."""

    def __init__(
        self,
        config: Config,
        token: Secret,
        host: HostTools,
        instance: Instance,
        *,
        clock: Clock,
        dice: Dice,
        log: Log,
    ) -> None:
        self._config = config
        self._clock = clock
        self._dice = dice
        self._log = log
        self._instance = instance
        self._boot_id = boot_id()
        self._draining = False
        self._stop = asyncio.Event()
        self._registry = _Registry()
        self._started_ns = clock.boot_ns()
        config.workspace.root.mkdir(mode=0o750, parents=True, exist_ok=True)

        self._journal, self._recovered = self._open_journal()
        self._probe = HostProbe(config.workspace.root)
        facts = self._last_facts = self._probe.read()
        self._gpus = GpuBoard(log)
        self._allowlist = AllowlistWatch([str(path) for path in config.runners.cli.allowlist_files], log)
        cgroup_parent, no_cgroup = find_parent()
        self._isolation = _isolation(host, cgroup_parent)
        if no_cgroup is not None:
            log.info("cgroup_absent", reason=no_cgroup)

        heartbeat = config.heartbeat
        backoff = Backoff(heartbeat.backoff.min_s, heartbeat.backoff.max_s)
        self._coordinator = HttpCoordinator(
            config.coordinator.base_url,
            config.node_id,
            token.reveal,
            timeout_s=config.coordinator.timeout_s,
            tls_verify=config.coordinator.tls_verify,
            ca_file=config.coordinator.ca_file,
            now_ns=clock.now_ns,
            on_absent=lambda endpoint: log.info("endpoint_absent", endpoint=endpoint),
            boundary_key=secrets.token_bytes(32),
        )
        self._session = Session(
            self._coordinator, self._describe, backoff=backoff, clock=clock, dice=dice, log=log
        )
        self._input_client = input_client(AddressPolicy.for_coordinator(config.coordinator.base_url))
        self._site = MachineSite(
            config.workspace.root,
            Checks(
                config,
                self._allowlist.refresh,
                cores=facts.cores,
                memory_mb=facts.memory_mb,
                free_bytes=free_bytes,
            ),
            Planner(config),
            Processes(host, cgroup_parent, self._boot_id, clock=clock, dice=dice),
            FetchSettings(
                self._input_client,
                FetchLimits(
                    total_bytes=config.resources.input_max_mb * _MIB,
                    reserve_bytes=config.resources.disk_reserve_mb * _MIB,
                    total_s=_INPUTS_S,
                ),
            ),
            self._gpus,
            isolation=self._isolation,
            boot_id=self._boot_id,
            clock=clock,
            dice=dice,
            log=log,
        )
        self._metrics = Metrics(__version__)
        progress = ProgressReporter(
            self._coordinator, self._session, self._feed_soon, interval_s=_PROGRESS_EVERY_S, clock=clock
        )
        delivery = Delivery(
            self._coordinator,
            self._session,
            self._site,
            self._head,
            node_id=config.node_id,
            clock=clock,
            dice=dice,
        )
        self._supervisor = Supervisor(
            self._journal,
            JobEffects(
                self._coordinator,
                self._session,
                self._site,
                delivery,
                progress.tell,
                backoff=backoff,
                clock=clock,
                dice=dice,
            ),
            DaemonObserver(
                self._site, self._metrics, self._registry.add, forget=progress.forget, clock=clock, log=log
            ),
            policy=Policy(
                max_runs=config.retries.max_attempts,
                run_backoff=Backoff(config.retries.base_s, config.retries.max_s),
                delivery_backoff=backoff,
            ),
            capacity=self._capacity,
            clock=clock,
            dice=dice,
        )
        self._reconciler = Reconciler(
            self._coordinator, self._session, self._supervisor, backoff=backoff, clock=clock, dice=dice
        )
        self._heartbeat = Heartbeat(
            self._coordinator,
            self._session,
            self._supervisor,
            self._beat,
            self.drain,
            interval_s=heartbeat.interval_s,
            jitter=heartbeat.jitter_pct / 100.0,
            backoff=backoff,
            clock=clock,
            dice=dice,
            log=log,
        )
        self._pull = Pull(
            self._coordinator,
            self._session,
            self._supervisor,
            Intake(self._supervisor, self._site.keep_secrets, clock=clock, log=log),
            self._pull_request,
            self._why_not_pull,
            poll_interval_s=config.coordinator.poll_interval_s,
            backoff=backoff,
            clock=clock,
            dice=dice,
            log=log,
        )
        self._sweeper = Sweeper(
            config.workspace.root,
            Retention(
                config.workspace.keep_success.total_seconds(), config.workspace.keep_failed.total_seconds()
            ),
        )
        self._status = Status(
            config.node_id,
            self._supervisor,
            self._session,
            self._heartbeat,
            self._pull,
            self._gpus,
            self._allowlist,
            self._facts,
            draining=lambda: self._draining,
            isolation=self._isolation,
            capacity=self._capacity,
            uptime_s=lambda: (clock.boot_ns() - self._started_ns) / 1e9,
        )
        self._status.gauges(self._metrics)

    # Life.

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGUSR1, self.drain, True)
        loop.add_signal_handler(signal.SIGUSR2, self.drain, False)
        health = self._health_server()
        self._instance.publish(None if health is None else health.url)
        self._log.info(
            "started",
            version=__version__,
            health=None if health is None else health.url,
            unfinished=len(self._recovered.unfinished),
            finished=len(self._recovered.finished),
            isolation=self._isolation,
        )
        found = self._recovered.unfinished
        await self._gpus.read()
        self._supervisor.recover((one.job, one.head) for one in found)
        parts = [
            self._session.run(),
            self._heartbeat.run(),
            self._pull.run(),
            self._allowlist.run(),
            self._gpu_loop(),
            self._sweep_loop(),
        ]
        tasks = [asyncio.create_task(self._forever(part)) for part in parts]
        asked = [(one.job, one.since_ns) for one in found]
        tasks.append(asyncio.create_task(self._forever(self._reconciler.run(asked))))
        serving = None if health is None else asyncio.create_task(health.run())
        await self._stop.wait()
        self._log.info("stopping", running=len(self._supervisor.jobs()))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._supervisor.stop()
        await self._coordinator.close()
        await self._input_client.aclose()
        if health is not None and serving is not None:
            health.close()
            await asyncio.gather(serving, return_exceptions=True)
        await self._journal.close()
        self._instance.close()
        self._log.info("stopped")

    def drain(self, on: bool) -> None:
        """Stop pulling and finish what is there, or go on pulling."""
        if on != self._draining:
            self._draining = on
            self._log.info("draining" if on else "drain_revoked", unfinished=len(self._supervisor.jobs()))
            self._supervisor.poke()

    async def _forever(self, part: Coroutine[Any, Any, None]) -> None:
        """Run a loop of the daemon; should it fail for a defect, say so and stop: systemd starts us anew."""
        try:
            await part
        except Exception as error:  # noqa: BLE001 - the last line of defence; nothing is swallowed
            self._log.error("loop_failed", problem=repr(error), exc_info=error)
            self._stop.set()

    # Parts.

    def _health_server(self) -> HealthServer | None:
        """Return the status page, if it is wanted and can be had: jobs matter more than a page about them."""
        listen = self._config.health.listen
        if listen is None:
            return None
        try:
            return HealthServer(listen, self._status.health, self._metrics.page)
        except OSError as error:
            self._log.error(
                "health_unavailable",
                problem=f"health.listen {listen}: {error.strerror}; jobs go on without a status page: free the "
                "address or choose another one, and restart the daemon",
            )
            return None

    def _open_journal(self) -> tuple[SqliteJournal, Recovered]:
        journal, salvage = open_journal(
            self._config.journal.path, boot_id=self._boot_id, now_ns=self._clock.now_ns
        )
        if salvage is not None:
            self._log.error("journal_salvaged", report=str(salvage))
        recovered = replay(journal.records())
        for problem in recovered.unreadable:
            self._log.error("stream_unreadable", problem=problem)
        for finished in recovered.finished:
            self._registry.add(finished)
        return journal, recovered

    def _facts(self) -> HostFacts:
        """Look at the machine; with its workspace gone and not to be made again, as it was at the last look."""
        try:
            self._config.workspace.root.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._last_facts = self._probe.read()
        except OSError as error:
            self._log.warning("host_unreadable", problem=str(error))
        return self._last_facts

    async def _describe(self) -> Mapping[str, Any]:
        runners = self._config.runners
        return descriptor(
            self._config.node_id,
            __version__,
            self._facts(),
            await self._gpus.read(),
            runners=[
                name for name, on in (("cli", runners.cli.enable), ("python", runners.python.enable)) if on
            ],
            tags=self._config.tags,
            facts=self._isolation,
        )

    def _capacity(self) -> Capacity:
        resources = self._config.resources
        return Capacity(resources.max_concurrent_cpu, resources.max_concurrent_gpu, self._gpus.cards())

    def _beat(self) -> Beat:
        facts = self._facts()
        room = self._supervisor.room()
        return Beat(
            load=facts.load,
            free_mb=facts.memory_free_mb,
            gpu_free=len(room.gpus_free_mb),
            state="draining" if self._draining else "active",
            running=[
                {"job_id": job.job_id, "attempt": job.attempt, "state": str(job.state)}
                for job in self._supervisor.jobs()
            ],
            slots={"cpu_free": room.cpu_slots, "gpu_free": len(room.gpus_free_mb)},
        )

    def _pull_request(self, room: Room) -> PullRequest:
        runners = self._config.runners
        return PullRequest(
            runners=tuple(
                name for name, on in (("cli", runners.cli.enable), ("python", runners.python.enable)) if on
            ),
            cpu_slots=room.cpu_slots,
            gpus_vram_free_mb=room.gpus_free_mb,
            tags=self._config.tags,
            wait_s=self._config.coordinator.pull_wait_s or None,
        )

    def _why_not_pull(self) -> str | None:
        """Say why no job should be taken now, because a promise could not be kept."""
        if self._draining:
            return "draining"
        if self._supervisor.journal_trouble is not None:
            return f"the journal can't write: {self._supervisor.journal_trouble}"
        root = self._config.workspace.root
        try:
            root.mkdir(mode=0o750, parents=True, exist_ok=True)
            free_mb = free_bytes(root) // _MIB
        except OSError as error:
            return f"{root}: {error.strerror}"
        if free_mb <= self._config.resources.disk_reserve_mb:
            return f"{root}: {free_mb} MiB free; resources.disk_reserve_mb keeps that much"
        return None

    def _head(self, job: Job) -> str:
        return self._supervisor.head(key_of(job))

    def _feed_soon(self, key: StreamKey, stimulus: Any) -> None:
        self._supervisor.feed_soon(key, stimulus)

    async def _gpu_loop(self) -> None:
        while True:
            await self._clock.sleep(_GPU_EVERY_S)
            before = self._gpus.cards()
            await self._gpus.read()
            if self._gpus.cards() != before:
                self._supervisor.poke()

    async def _sweep_loop(self) -> None:
        """Remove old folders, then old streams. A disk that refuses is tried again at the next turn."""
        while True:
            try:
                await self._sweep()
            except (OSError, JournalError) as error:
                self._log.warning("sweep_failed", problem=str(error))
            await self._clock.sleep(_SWEEP_EVERY_S)

    async def _sweep(self) -> None:
        root, retention = self._config.workspace.root, self._config.journal.retention
        for problem in await empty_trash(root):
            self._log.warning("trash_not_emptied", problem=problem)
        now_ns = self._clock.now_ns()
        finished = self._registry.finished
        known = [*finished, *(key_of(job) for job in self._supervisor.jobs())]
        swept = await self._sweeper.sweep(list(finished.values()), known, now_ns)
        for name in swept.unknown:
            self._log.warning("folder_unknown", folder=str(root / name))
        for problem in swept.problems:
            self._log.warning("folder_not_removed", problem=problem)
        if swept.removed:
            self._log.info("swept", removed=len(swept.removed))
        before_ns = now_ns - int(retention.total_seconds() * 1e9)
        expiry = await self._journal.expire(before_ns, _is_final, self._archive())
        for key in expiry.keys:
            finished.pop(key, None)
        if expiry.keys:
            self._log.info("journal_exported", streams=len(expiry.keys), file=str(expiry.path))

    def _archive(self) -> Path:
        return self._config.state_dir / "journal-archive"


def _is_final(record: Record) -> bool:
    return record.dest in FINAL


def _isolation(host: HostTools, cgroup_parent: Path | None) -> tuple[str, ...]:
    """Name what keeps jobs apart, for the descriptor's tags and for each `Launched` event."""
    sandbox = "sandbox-bubblewrap" if host.backend == "bwrap" else "sandbox-none"
    return (sandbox, "memory-watchdog" if cgroup_parent is None else "cgroup-v2")
