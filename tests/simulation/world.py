"""The world: one coordinator, one machine, one disk, and one life of the daemon after the other."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fsm_miner.supervisor import Supervisor
from states.admission import Capacity, Card
from tests.simulation.coordinator import Client, Habits, Server
from tests.simulation.crash import CrashKind, Life, Points
from tests.simulation.disk import Disk, DiskJournal
from tests.simulation.network import Network
from tests.simulation.node import HEARTBEAT_S, Node
from tests.simulation.promises import SECRET, Promises
from tests.simulation.virtual_time import VirtualClock, run
from tests.simulation.worksite import Behaviour, Machine, Site

__all__ = ["Act", "BrokenPromise", "JobSpec", "Report", "Scenario", "World", "simulate"]

_SILENCE_S_MAX = 200.0  # the largest backoff, a time-out, a Retry-After
_CALLS_A_MINUTE_MAX = 120
_LOOK_EVERY_S = 5.0


class BrokenPromise(AssertionError):
    """Something that must always hold did not."""


@dataclass(frozen=True)
class JobSpec:
    """A job, and when it is submitted."""

    job_id: str
    at_s: float
    behaviour: Behaviour
    gpu_mb: int | None = None
    artifacts: bool = False
    secret: bool = False
    timeout_s: float = 3600.0

    def manifest(self) -> dict[str, Any]:
        made: dict[str, Any] = {
            "job_id": self.job_id,
            "runner": "cli",
            "command": "true",
            "timeout_s": self.timeout_s,
        }
        if self.gpu_mb is not None:
            made["requirements"] = {"gpu": True, "vram_mb": self.gpu_mb}
        if self.artifacts:
            made["artifacts"] = [{"path": "out.txt", "type": "text/plain"}]
        if self.secret:
            made["secrets"] = {"TOKEN": SECRET}
        return made


Act = Callable[["World"], None]


@dataclass
class Scenario:
    """Everything that a run depends on. `acts`: (when, what it is called, what happens)."""

    seed: int
    jobs: list[JobSpec]
    habits: Habits = field(default_factory=Habits)
    acts: list[tuple[float, str, Act]] = field(default_factory=list)
    network: Callable[[Network], None] = lambda network: None
    crashes: Mapping[int, CrashKind] = field(default_factory=dict)
    downtime_s: tuple[float, ...] = (2.0,)
    fair_from_s: float = 0.0
    ends_within_s: float = 4 * 3600.0
    cpu: int = 2
    gpu: int = 1
    cards_mb: tuple[int, ...] = (16000,)
    defects: float = 0.0
    ambiguous_appends: frozenset[int] = frozenset()
    supervisor: type[Supervisor] = Supervisor


@dataclass
class Report:
    """What a run did."""

    simulated_s: float = 0.0
    lives: int = 0
    kills: int = 0
    power_cuts: int = 0
    stops: int = 0
    checked: int = 0
    jobs: int = 0
    points: list[str] = field(default_factory=list)
    history: list[str] = field(default_factory=list)
    outcomes: dict[Any, Any] = field(default_factory=dict)


class World:
    """Runs one scenario. Acts may use everything here."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.chance = random.Random(scenario.seed)
        self.report = Report()
        self.clock = VirtualClock()
        self.problems: list[str] = []
        self.failed = asyncio.Event()
        self.stop_asked = asyncio.Event()
        self.capacity = Capacity(
            scenario.cpu,
            scenario.gpu,
            tuple(Card(f"GPU-{n}", mb, mb) for n, mb in enumerate(scenario.cards_mb)),
        )
        self.next_capacity: Capacity | None = None
        self.promises = Promises(lambda: self.capacity, self.wrong)
        self.server = self.promises.server = Server(
            scenario.habits, random.Random(scenario.seed + 1), self.note, self.wrong
        )
        self.machine = self.promises.machine = Machine(
            self.clock, random.Random(scenario.seed + 2), self.note, self.wrong
        )
        self.network = Network(random.Random(scenario.seed + 3))
        scenario.network(self.network)
        self.disk = Disk(self.clock.now_ns, self.promises.written)
        self.disk.ambiguous = set(scenario.ambiguous_appends)
        self.points = Points(scenario.crashes)
        self.life: Life
        self.node: Node
        self.client: Client
        self._calls: dict[str, deque[float]] = {}
        self._alive_since_s = 0.0

    # Telling.

    def note(self, line: str) -> None:
        self.report.history.append(f"{self.clock.now_s():12.3f}  {line}")

    def wrong(self, what: str) -> None:
        self.note(f"BROKEN: {what}")
        self.problems.append(what)
        self.failed.set()

    def _trouble(self, event: str, message: str, error: BaseException | None) -> None:
        self.note(f"trouble: {event}: {message}")
        injected = isinstance(error, OSError) and event == "effect_failed"
        expected = event == "journal_unavailable" or (
            event == "append_conflict" and bool(self.scenario.ambiguous_appends)
        )
        if not injected and not expected:
            self.wrong(f"{event}: {message}")

    def _called(self, name: str, key: tuple[str, int] | None) -> None:
        self.promises.call(name, key)
        now_s = self.clock.now_s()
        recent = self._calls.setdefault(name, deque())
        recent.append(now_s)
        while recent[0] < now_s - 60.0:
            recent.popleft()
        self.promises.holds(
            len(recent) <= _CALLS_A_MINUTE_MAX, f"a storm: {len(recent)} {name} calls within a minute"
        )

    # Living.

    async def run(self) -> Report:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.wrong(f"unhandled: {context}"))
        for spec in self.scenario.jobs:
            self.machine.behaviours[spec.job_id] = spec.behaviour
            loop.call_later(spec.at_s, self.server.submit, spec.manifest())
        for at_s, label, act in self.scenario.acts:
            loop.call_later(at_s, self._act, label, act)
        loop.call_later(self.scenario.fair_from_s, self.make_fair)
        downtimes = iter(self.scenario.downtime_s * 1000)
        try:
            while not await self._live():  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(next(downtimes))
            self.promises.finished(self.disk.memory.read)
            self._leftovers()
        finally:
            await self._bury()
        self.report.simulated_s = self.clock.now_s()
        self.report.checked = self.promises.checked
        self.report.jobs = len(self.scenario.jobs)
        self.report.points = self.points.names
        self.report.outcomes = dict(self.server.outcomes)
        if self.problems:
            raise BrokenPromise(self._story())
        return self.report

    def make_fair(self) -> None:
        """From now on nothing fails any more, and the coordinator hands out each job once."""
        self.network.fair = self.machine.fair = True
        self.server.habits.offer_again = 0.0
        self.disk.full = False
        self.disk.ambiguous.clear()
        self.note("the world is fair")

    def _act(self, label: str, act: Act) -> None:
        self.note(label)
        act(self)

    async def _live(self) -> bool:
        """One life of the daemon. Returns True when everything is over."""
        self.report.lives += 1
        if self.next_capacity is not None:
            self.capacity, self.next_capacity = self.next_capacity, None
        self.note(f"life {self.report.lives} starts")
        life = self.life = Life(self.report.lives, self.points)
        self._alive_since_s = self.clock.now_s()
        client = self.client = Client(self.server, self.network, life, self._called)
        site = Site(self.machine, life, self.promises.effect, defects=self.scenario.defects)
        self.node = Node(
            self.disk,
            DiskJournal(self.disk, life),
            client,
            site,
            self.promises,
            self._trouble,
            capacity=lambda: self.capacity,
            clock=self.clock,
            chance=random.Random(self.scenario.seed + 1000 * life.number),
            long_poll_s=self.scenario.habits.long_poll_s,
            supervisor=self.scenario.supervisor,
        )
        for problem in self.node.recovered.unreadable:
            self.wrong(f"unreadable: {problem}")
        for found in self.node.recovered.unfinished:
            self.promises.stepped(found.job)
        self.node.start()
        self.stop_asked.clear()
        while True:
            await self._until(life.crashed, self.failed, self.stop_asked)
            if self.failed.is_set():
                return True
            if life.crashed.is_set():
                await self._die(life)
                return False
            if self.stop_asked.is_set():
                await self._stop(life)
                return False
            if self._over():
                return True

    @staticmethod
    async def _until(*events: asyncio.Event) -> None:
        waits = [asyncio.create_task(event.wait()) for event in events]
        await asyncio.wait(waits, timeout=_LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def _over(self) -> bool:
        """Look around: whether loops go on, and whether all is over."""
        now_s = self.clock.now_s()
        if (broken := self.node.broken_loop()) is not None:
            self.wrong(broken)
        if self.client.settled and self.server.authorised(self.client.token):
            self._goes_on("heartbeat", now_s)
        allowed_s = self.scenario.fair_from_s + self.scenario.ends_within_s
        if now_s > allowed_s:
            states = [(job.job_id, job.attempt, str(job.state)) for job in self.node.supervisor.jobs()]
            self.wrong(f"not over in time: the node has {states}, waiting are {self.server.waiting}")
        submitted = all(spec.at_s <= now_s for spec in self.scenario.jobs)
        idle = not self.node.supervisor.jobs() and not self.server.waiting
        acted = all(at_s <= now_s for at_s, _, _ in self.scenario.acts)
        return submitted and idle and acted and self.network.fair and now_s > self.scenario.fair_from_s

    def _goes_on(self, name: str, now_s: float) -> None:
        calls = self._calls.get(name)
        last_s = max(self._alive_since_s, calls[-1] if calls else 0.0)
        silent_s = now_s - last_s
        self.promises.holds(
            silent_s <= _SILENCE_S_MAX + HEARTBEAT_S, f"no {name} for {silent_s:.0f} s, though registered"
        )

    async def _die(self, life: Life) -> None:
        self.note(f"{life.crash} after point {self.points.count}")
        if life.crash is CrashKind.POWER_CUT:
            self.report.power_cuts += 1
            self.machine.power_cut()
        else:
            self.report.kills += 1
        await self._bury()

    async def _stop(self, life: Life) -> None:
        self.note("SIGTERM")
        self.report.stops += 1
        stopping = asyncio.create_task(self.node.stop())
        crashed = asyncio.create_task(life.crashed.wait())
        await asyncio.wait({stopping, crashed}, timeout=300.0, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done() and not crashed.done():
            self.wrong("the daemon does not stop")
        elif stopping.done() and not stopping.cancelled() and stopping.exception() is not None:
            self.wrong(f"stop failed: {stopping.exception()!r}")
        if crashed.done():
            await self._die(life)
        life.alive = False
        await self._bury()

    async def _bury(self) -> None:
        """End all tasks of the dead life: its ports are dead, so nothing comes of it."""
        self.life.alive = False
        me = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not me]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _leftovers(self) -> None:
        held = list(self.node.site.secrets)
        self.promises.holds(not held, f"secrets of jobs that are over stay in memory: {held}")

    def _story(self) -> str:
        scenario = self.scenario
        return "\n".join(
            [
                f"seed {scenario.seed}, crashes {dict(scenario.crashes)}, {scenario.habits}",
                *[f"  {spec}" for spec in scenario.jobs],
                *self.report.history[-200:],
                *[f"BROKEN: {problem}" for problem in self.problems],
            ]
        )


def simulate(scenario: Scenario) -> Report:
    """Run a scenario in virtual time.

    Raises:
        BrokenPromise: with the seed, the history and what was broken.

    """

    async def main() -> Report:
        return await World(scenario).run()

    return run(main())
