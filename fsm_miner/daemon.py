"""The daemon: all parts put together, from start to an orderly stop.

start   lock, journal, replay ─► recover the jobs found ─► register ─► reconcile ─► admit, pull
stop    (SIGTERM, SIGINT) stop pulling, leave the processes running, flush, exit 0
drain   (SIGUSR1) stop pulling, finish what is there; SIGUSR2 takes it back
"""

import asyncio
import secrets
import signal
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from fsm_miner import __version__
from fsm_miner.addresses import AddressPolicy
from fsm_miner.clock import Clock, Dice
from fsm_miner.config.model import Config
from fsm_miner.config.secret import Secret
from fsm_miner.coordinator.http import HttpCoordinator
from fsm_miner.delivery import Delivery
from fsm_miner.echo import Echo, EchoParts
from fsm_miner.effects import JobEffects
from fsm_miner.egress.gateway import Gateway
from fsm_miner.health import HealthServer
from fsm_miner.heartbeat import Heartbeat
from fsm_miner.housekeeping import Housekeeping
from fsm_miner.input_hosts import input_client
from fsm_miner.inputs import FetchLimits, FetchSettings
from fsm_miner.instance import Instance
from fsm_miner.intake import Intake
from fsm_miner.journal_check import JournalCheck
from fsm_miner.log_port import Log
from fsm_miner.metrics import Metrics
from fsm_miner.node import Node
from fsm_miner.notify import Notices, ServiceManager
from fsm_miner.observer import DaemonObserver
from fsm_miner.offload import ready_threads
from fsm_miner.outbox import Outbox
from fsm_miner.own_files import OwnFiles
from fsm_miner.ports import Ports
from fsm_miner.premises import LogState, Premises
from fsm_miner.progress import ProgressReporter
from fsm_miner.pull import Pull
from fsm_miner.reconcile import Reconciler
from fsm_miner.reload import AllowlistWatch
from fsm_miner.session import Session
from fsm_miner.site.cgroups import RunCgroups
from fsm_miner.site.checks import Checks
from fsm_miner.site.egress import Egress
from fsm_miner.site.gpus import GpuBoard
from fsm_miner.site.plan import Planner
from fsm_miner.site.process import Processes
from fsm_miner.site.worksite import MachineSite
from fsm_miner.status import Status
from fsm_miner.supervisor import Supervisor, key_of
from fsm_miner.sweeper import Finished
from fsm_miner.takeover import take_over
from fsm_miner.workspace import free_bytes
from journal.port import JournalError, StreamKey
from runners.allowlist import Loaded
from runners.clock import boot_id
from runners.host import HostTools
from runners.reserve import FILES_RESERVE, DiskReserve
from runners.shortage import is_shortage
from states.job import Job
from states.retry import Backoff, Policy
from states.stimuli import CancelAsked

__all__ = ["Daemon", "LoopFailed"]

_MIB = 1024 * 1024
_PROGRESS_EVERY_S = 2.0
_AGAIN_S = 2.0
_INPUTS_S = 6 * 3600.0
# So many runs' files are counted at a time; on a slow disk that takes minutes.
_COUNTS_MAX = 64


class LoopFailed(Exception):
    """A loop of the daemon ended for a defect: the log has it, and only a new process helps."""


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
        log_state: LogState,
        ports: Ports | None = None,
        service: ServiceManager | None = None,
    ) -> None:
        """Open the journal, replay it, and put the parts together; nothing moves before `run`.

        Raises:
            ReadingDiffers, SchemaTooNew: the journal is not this version's to take over; nothing was changed.
            JournalError, OSError: the journal or the workspace can't be had.

        """
        self._config = config
        self._ports = ports or Ports()
        self._service = service or ServiceManager()
        self._clock = clock
        self._dice = dice
        self._log = log
        self._instance = instance
        self._boot_id = boot_id()
        self._stop = asyncio.Event()
        self._defect = False
        self._started_ns = clock.boot_ns()
        self._backoff = Backoff(config.heartbeat.backoff.min_s, config.heartbeat.backoff.max_s)

        taken = take_over(config.journal.path, boot_id=self._boot_id, now_ns=clock.now_ns, log=log)
        self._journal, self._recovered = taken.journal, taken.recovered
        self._check = JournalCheck(self._journal, self._stop.set, fresh=taken.whole, clock=clock, log=log)
        self._gpus = GpuBoard(log)
        self._allowlist = AllowlistWatch([str(path) for path in config.runners.cli.allowlist_files], log)
        self._cgroups = RunCgroups(host)
        own = OwnFiles(instance, self._journal, log=log)
        self._premises = Premises(config, log_state, (own.lock, own.journal), clock=clock, log=log)
        self._node = Node(
            config,
            self._gpus,
            lambda: self._cgroups.look().tags,
            self._premises.why_not_pull,
            lambda: bool(self._allowlist.current.rules),
            clock=clock,
            log=log,
        )
        client = HttpCoordinator(
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
        self._coordinator = self._ports.coordinator(client)
        self._session = Session(
            self._coordinator, self._node.describe, backoff=self._backoff, clock=clock, dice=dice, log=log
        )
        self._input_client = self._ports.inputs(
            input_client(AddressPolicy.for_coordinator(config.coordinator.base_url))
        )
        self._egress = Egress(Gateway(config.network, log=log), log)
        self._machine = self._make_worksite(host)
        self._site = self._ports.worksite(self._machine)
        self._metrics = Metrics(__version__)
        self._outbox = Outbox(config.outbox.max_concurrent, backoff=self._backoff, clock=clock, dice=dice)
        self._effects, self._supervisor = self._make_supervisor()
        self._reconciler = self._make_reconciler()
        # Without a rule, no command is pulled; nor anything while the premises are not fit.
        self._allowlist.on_change = self._rules_changed
        self._premises.on_change = self._supervisor.poke
        finished = self._recovered.finished
        self._housekeeping = Housekeeping(
            config,
            self._journal,
            self._supervisor,
            finished,
            self._cgroups,
            self._premises.short,
            clock=clock,
            log=log,
        )
        self._premises.on_short = self._housekeeping.make_room
        self._heartbeat = self._make_heartbeat()
        self._echo = self._make_echo()
        self._pull = self._make_pull()
        self._status = Status(
            config.node_id,
            self._supervisor,
            self._session,
            self._heartbeat,
            self._pull,
            self._outbox,
            self._gpus,
            self._allowlist,
            self._node.facts,
            draining=lambda: self._node.draining,
            isolation=self._cgroups.look,
            capacity=self._node.capacity,
            uptime_s=lambda: (clock.boot_ns() - self._started_ns) / 1e9,
            more_trouble=lambda: (
                *self._premises.found.all,
                *self._supervisor.lacks.values(),
                *self._supervisor.stuck.values(),
                *filter(None, [self._reconciler.trouble]),
                *self._effects.troubles,
                *self._check.troubles,
                *taken.troubles,
                *self._housekeeping.troubles,
            ),
        )
        self._status.gauges(self._metrics)

    # Life.

    async def run(self) -> bool:
        """Work until SIGTERM or SIGINT; return whether to begin anew, because the journal is to be salvaged.

        The lock on the state folder stays with the caller.

        Raises:
            LoopFailed: it stopped for a defect.

        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGUSR1, self._drain, "operator", True)
        loop.add_signal_handler(signal.SIGUSR2, self._drain, "operator", False)
        health = self._health_server()
        self._instance.publish(None if health is None else health.url)
        self._log.info(
            "started",
            version=__version__,
            health=None if health is None else health.url,
            unfinished=len(self._recovered.unfinished),
            finished=len(self._recovered.finished),
            **self._cgroups.look().told,
        )
        found = self._recovered.unfinished
        await self._gpus.read()
        self._supervisor.recover((one.job, one.head) for one in found)
        endless = [
            self._session.run,
            self._heartbeat.run,
            self._pull.run,
            self._echo.run,
            self._allowlist.run,
            partial(self._node.watch_gpus, self._supervisor),
            self._housekeeping.run,
            self._premises.run,
        ]
        reconcile = partial(self._reconciler.run, [(one.job, one.since_ns) for one in found])
        parts = [*endless, reconcile, self._check.run, self._check.watch]
        tasks = [asyncio.create_task(self._forever(part)) for part in parts]
        serving = None if health is None else asyncio.create_task(health.run())
        notices = Notices(
            self._service,
            self._status.line,
            lambda: not any(task.done() for task in tasks[: len(endless)]),
            clock=self._clock,
        )
        telling = asyncio.create_task(self._forever(notices.run))
        await self._stop.wait()
        notices.anew() if self._check.begin_anew else notices.stopping()
        self._log.info("stopping", running=len(self._supervisor.jobs()))
        for task in (telling, *tasks):
            task.cancel()
        await asyncio.gather(telling, *tasks, return_exceptions=True)
        await self._supervisor.stop()
        await self._egress.stop()
        await self._coordinator.close()
        await self._input_client.aclose()
        if health is not None and serving is not None:
            health.close()
            await asyncio.gather(serving, return_exceptions=True)
        try:
            await self._journal.close()
        except JournalError as error:  # what was acknowledged is durable: the next start finds it in the log
            self._log.error("journal_not_closed", problem=str(error))
        self._log.info("stopped")
        if self._defect:
            raise LoopFailed
        return self._check.begin_anew

    def _drain(self, who: str, on: bool) -> None:
        if self._node.drain(who, on=on):
            self._supervisor.poke()

    def _rules_changed(self, _now: Loaded) -> None:
        self._supervisor.poke()

    async def _forever(self, part: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a loop of the daemon; should it fail for a defect, say so and stop: systemd starts us anew.

        One that the node only lacked something for begins anew, until it has that again.
        """
        try:
            while True:
                try:
                    return await part()
                except OSError as error:
                    if not is_shortage(error):
                        raise
                    self._log.error("loop_interrupted", problem=repr(error))
                    await self._clock.sleep(_AGAIN_S)
        except Exception as error:  # noqa: BLE001 - the last line of defence; nothing is swallowed
            self._log.error("loop_failed", problem=repr(error), exc_info=error)
            self._defect = True
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

    def _make_worksite(self, host: HostTools) -> MachineSite:
        config, facts = self._config, self._node.facts()
        return MachineSite(
            config.workspace.root,
            Checks(
                config,
                self._allowlist.refresh,
                cores=facts.cores,
                memory_mb=facts.memory_mb,
                free_bytes=free_bytes,
            ),
            Planner(config),
            Processes(
                host,
                self._cgroups.parent,
                self._boot_id,
                DiskReserve(config.workspace.root, config.resources.disk_reserve_mb * _MIB, FILES_RESERVE),
                clock=self._clock,
                dice=self._dice,
                counting=ready_threads(_COUNTS_MAX),
            ),
            FetchSettings(
                self._input_client,
                FetchLimits(
                    total_bytes=config.resources.input_max_mb * _MIB,
                    reserve_bytes=config.resources.disk_reserve_mb * _MIB,
                    total_s=_INPUTS_S,
                ),
            ),
            self._gpus,
            self._egress,
            isolation=self._cgroups.tags,
            boot_id=self._boot_id,
            clock=self._clock,
            dice=self._dice,
            log=self._log,
        )

    def _make_supervisor(self) -> tuple[JobEffects, Supervisor]:
        config, clock, dice = self._config, self._clock, self._dice
        progress = ProgressReporter(
            self._coordinator, self._session, self._feed_soon, interval_s=_PROGRESS_EVERY_S, clock=clock
        )
        delivery = Delivery(
            self._coordinator,
            self._session,
            self._site,
            self._outbox,
            self._head,
            node_id=config.node_id,
            clock=clock,
            dice=dice,
        )
        effects = JobEffects(
            self._coordinator,
            self._session,
            self._site,
            delivery,
            progress.tell,
            backoff=self._backoff,
            clock=clock,
            dice=dice,
            log=self._log,
        )
        observer = DaemonObserver(
            self._site, self._metrics, self._finished, forget=progress.forget, clock=clock, log=self._log
        )
        return effects, Supervisor(
            self._ports.journal(self._journal),
            effects,
            observer,
            policy=Policy(
                max_runs=config.retries.max_attempts,
                run_backoff=Backoff(config.retries.base_s, config.retries.max_s),
                delivery_backoff=self._backoff,
            ),
            capacity=self._node.capacity,
            clock=clock,
            dice=dice,
        )

    def _make_heartbeat(self) -> Heartbeat:
        return Heartbeat(
            self._coordinator,
            self._session,
            self._supervisor,
            lambda: self._node.beat(self._supervisor),
            partial(self._drain, "coordinator"),
            interval_s=self._config.heartbeat.interval_s,
            jitter=self._config.heartbeat.jitter_pct / 100.0,
            backoff=self._backoff,
            clock=self._clock,
            dice=self._dice,
            log=self._log,
        )

    def _make_pull(self) -> Pull:
        return Pull(
            self._coordinator,
            self._session,
            self._supervisor,
            Intake(
                self._supervisor, self._machine.keep_secrets, self._echo, clock=self._clock, log=self._log
            ),
            self._node.pull_request,
            lambda: self._node.why_not_pull(self._supervisor),
            poll_interval_s=self._config.coordinator.poll_interval_s,
            backoff=self._backoff,
            clock=self._clock,
            dice=self._dice,
            log=self._log,
        )

    def _make_echo(self) -> Echo:
        parts = EchoParts(
            self._coordinator,
            self._session,
            self._site,
            self._journal.read,
            self._config.node_id,
        )
        return Echo(parts, clock=self._clock, dice=self._dice, log=self._log)

    def _make_reconciler(self) -> Reconciler:
        return Reconciler(
            self._coordinator,
            self._session,
            self._supervisor,
            backoff=self._backoff,
            clock=self._clock,
            dice=self._dice,
            log=self._log,
        )

    def _head(self, job: Job) -> str:
        return self._supervisor.head(key_of(job))

    def _finished(self, finished: Finished) -> None:
        self._housekeeping.add(finished)

    def _feed_soon(self, key: StreamKey, stimulus: CancelAsked) -> None:
        self._supervisor.feed_soon(key, stimulus)
