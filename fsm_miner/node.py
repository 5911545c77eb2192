"""This node, as its coordinator should see it: what it has, what it has room for, and why it takes nothing now."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fsm_miner import __version__
from fsm_miner.clock import Clock
from fsm_miner.config.model import Config
from fsm_miner.coordinator.port import Beat, PullRequest
from fsm_miner.log_port import Log
from fsm_miner.probe.descriptor import descriptor
from fsm_miner.probe.host import HostFacts, HostProbe
from fsm_miner.site.gpus import GpuBoard
from fsm_miner.supervisor import Supervisor
from fsm_miner.words import counted
from states.admission import Capacity, Room

__all__ = ["Node"]

_GPU_EVERY_S = 10.0


class Node:
    """Reads the machine and the configuration; holds nothing but who asked for a drain."""

    def __init__(
        self,
        config: Config,
        gpus: GpuBoard,
        isolation: Callable[[], Sequence[str]],
        premises: Callable[[], str | None],
        any_rule: Callable[[], bool],
        *,
        clock: Clock,
        log: Log,
    ) -> None:
        """Look once.

        `premises` says why the machine is not fit to take a job now, `any_rule` whether any command may run at all.

        Raises:
            OSError: there is no workspace, and none can be made.

        """
        self._config = config
        self._gpus = gpus
        self._isolation = isolation
        self._premises = premises
        self._any_rule = any_rule
        self._unreadable: str | None = None
        self._clock = clock
        self._log = log
        self._draining_for: set[str] = set()
        self._probe = HostProbe(config.workspace.root)
        config.workspace.root.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._facts = self._probe.read()
        runners = config.runners
        enabled = (("cli", runners.cli.enable), ("python", runners.python.enable))
        self._runners = tuple(name for name, on in enabled if on)

    def facts(self) -> HostFacts:
        """Look at the machine; with its workspace gone and not to be made again, as it was at the last look."""
        try:
            self._config.workspace.root.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._facts = self._probe.read()
            self._unreadable = None
        except OSError as error:
            if self._unreadable != str(error):  # asked many times a minute
                self._log.warning("host_unreadable", problem=str(error))
            self._unreadable = str(error)
        return self._facts

    def capacity(self) -> Capacity:
        """Return the slots and cards."""
        resources = self._config.resources
        return Capacity(resources.max_concurrent_cpu, resources.max_concurrent_gpu, self._gpus.cards())

    async def describe(self) -> Mapping[str, Any]:
        """Return the capability descriptor."""
        return descriptor(
            self._config.node_id,
            __version__,
            self.facts(),
            await self._gpus.read(),
            runners=self._runners,
            tags=self._config.tags,
            facts=self._isolation(),
        )

    def beat(self, supervisor: Supervisor) -> Beat:
        """Return the heartbeat of this moment."""
        facts, room = self.facts(), supervisor.room()
        return Beat(
            load=facts.load,
            free_mb=facts.memory_free_mb,
            gpu_free=len(room.gpus_free_mb),
            state="draining" if self.draining else "active",
            running=[
                {"job_id": job.job_id, "attempt": job.attempt, "state": str(job.state)}
                for job in supervisor.jobs()
            ],
            slots={"cpu_free": room.cpu_slots, "gpu_free": len(room.gpus_free_mb)},
        )

    def pull_request(self, room: Room) -> PullRequest:
        """Return what to ask for, given the room."""
        return PullRequest(
            runners=self._ready_runners(),
            cpu_slots=room.cpu_slots,
            gpus_vram_free_mb=room.gpus_free_mb,
            tags=self._config.tags,
            wait_s=self._config.coordinator.pull_wait_s or None,
        )

    # Reasons to take nothing.

    @property
    def draining(self) -> bool:
        """Whether the operator or the coordinator wants no new job taken."""
        return bool(self._draining_for)

    def drain(self, who: str, *, on: bool) -> bool:
        """Note that somebody wants a drain, or takes it back; return whether that changed anything.

        It ends when everybody who asked for it has taken it back.
        """
        if on == (who in self._draining_for):
            return False
        (self._draining_for.add if on else self._draining_for.discard)(who)
        self._log.info("draining" if self.draining else "drain_revoked", by=who)
        return True

    def why_not_pull(self, supervisor: Supervisor) -> str | None:
        """Say why no job should be taken now, because a promise could not be kept."""
        journal_trouble = supervisor.journal_trouble
        if self.draining:
            return f"draining, as the {' and the '.join(sorted(self._draining_for))} asked"
        if journal_trouble is not None:
            return f"the journal can't write: {journal_trouble}"
        if not supervisor.admission_open:
            return "the coordinator has not said yet what it wants of the jobs found at the start (/jobs/reconcile)"
        waiting = sum(job.outcome_known for job in supervisor.jobs())
        watermark = self._config.outbox.pause_pull_at
        if watermark is not None and waiting >= watermark:
            words = f"{counted(waiting, 'outcome')} {'waits' if waiting == 1 else 'wait'} for the coordinator to take "
            return f"{words}{'it' if waiting == 1 else 'them'}; outbox.pause_pull_at is {watermark}"
        unfit = self._premises()
        if unfit is not None:
            return unfit
        lack = next(iter(supervisor.lacks.values()), None)
        if lack is not None:
            return f"the node lacks something to go on with a job: {lack}"
        if not self._ready_runners():
            return "no allowlist rule is in force, so no command may run: see runners.cli.allowlist_files"
        return None

    def _ready_runners(self) -> tuple[str, ...]:
        """Return the runners that could run something now: without a rule, every command would only be refused."""
        return tuple(name for name in self._runners if name != "cli" or self._any_rule())

    async def watch_gpus(self, supervisor: Supervisor) -> None:
        """Look at the cards from time to time, and at the slots when they changed. Runs until cancelled."""
        while True:
            await self._clock.sleep(_GPU_EVERY_S)
            before = self._gpus.cards()
            await self._gpus.read()
            if self._gpus.cards() != before:
                supervisor.poke()
