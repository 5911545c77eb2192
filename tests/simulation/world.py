"""The world: one coordinator, one machine, one disk, and one life of the daemon after the other."""

import asyncio
import random
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import Any

from states.admission import Capacity, Card
from tests.simulation.acts import ACTS, OLDER
from tests.simulation.client import Client, Post
from tests.simulation.coordinator import Server
from tests.simulation.crash import CrashKind, Life, Points
from tests.simulation.disk import Disk, DiskJournal
from tests.simulation.network import Network
from tests.simulation.node import HEARTBEAT_S, OUTBOX_MAX, RUNS, Node, policy
from tests.simulation.promises import Promises
from tests.simulation.scenario import Act, Scenario, written
from tests.simulation.virtual_time import VirtualClock, run
from tests.simulation.worksite import Machine, Site

__all__ = ["BrokenPromise", "Report", "World", "simulate"]

_SILENCE_S_MAX = 200.0  # the largest backoff, a time-out, a Retry-After
_CALLS_A_MINUTE_MAX = 120
_LOOK_EVERY_S = 15.0
_LINES_TOLD = 200


class BrokenPromise(AssertionError):
    """Something that must always hold did not. `name` is the promise's, in `promises.PROMISES`."""

    def __init__(self, name: str, what: str, scenario: Scenario, history: list[str]) -> None:
        self.name = name
        self.what = what
        self.scenario = scenario
        self.history = history
        lines = [written(scenario), *history[-_LINES_TOLD:]]
        super().__init__("\n".join([*lines, f"BROKEN: {name}: {what}"]))


@dataclass
class Report:
    """What a run did."""

    simulated_s: float = 0.0
    lives: int = 0
    stops: int = 0
    jobs: int = 0
    crashes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    points: list[str] = field(default_factory=list)
    history: list[str] = field(default_factory=list)
    outcomes: dict[Any, Any] = field(default_factory=dict)


class World:
    """Runs one scenario. Acts may use everything here."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.report = Report()
        self.clock = VirtualClock()
        self.broken: BrokenPromise | None = None
        self.failed = asyncio.Event()
        self.stop_asked = asyncio.Event()
        self.acting: Act | None = None
        cards = tuple(Card(f"GPU-{n}", mb, mb) for n, mb in enumerate(scenario.cards_mb))
        self.capacity = Capacity(scenario.cpu, scenario.gpu, cards)
        # What the operator wrote into the configuration, and the next start reads.
        self.next_capacity: Capacity | None = None
        self.next_runs = RUNS
        self.next_backoff_s: float | None = None

        self.promises = Promises(lambda: self.capacity, self.wrong)
        holds = self.promises.holds
        seed = scenario.seed
        self.server = self.promises.server = Server(
            scenario.habits, random.Random(seed + 1), self.note, self.fault, holds
        )
        self.machine = self.promises.machine = Machine(self.clock, random.Random(seed + 2), self.note, holds)
        self.network = Network(
            random.Random(seed + 3),
            scenario.loss,
            scenario.latency_s,
            scenario.late_s,
            outages=scenario.outages,
            script=scenario.fates,
        )
        self.post = Post(self.server)
        self.disk = Disk(self.clock.now_ns, self.promises.written, random.Random(seed + 4), self._disk_failed)
        self.disk.ambiguous = set(scenario.ambiguous_appends)
        self.machine.writable = lambda: self.disk.writable
        self.points = Points(scenario.crashes)
        self.life: Life
        self.node: Node
        self.client: Client
        self._calls: dict[str, deque[float]] = {}
        self._alive_since_s = 0.0

    # Telling.

    def note(self, line: str) -> None:
        self.report.history.append(f"{self.clock.now_s():12.3f}  {line}")

    def fault(self, kind: str) -> None:
        self.report.faults[kind] += 1

    def _disk_failed(self, what: str) -> None:
        self.fault(f"disk: {what}")

    def wrong(self, name: str, what: str) -> None:
        if self.broken is None:
            self.broken = BrokenPromise(name, what, self.scenario, self.report.history)
            self.failed.set()

    def _trouble(self, event: str, message: str, error: BaseException | None) -> None:
        self.note(f"trouble: {event}: {message}")
        injected = isinstance(error, OSError) and event == "effect_failed"
        expected = event in {"journal_unavailable", "not_now"} or (
            event == "append_conflict" and self.disk.kept_though_failed > 0
        )
        if injected:
            self.fault("machine: an I/O error in an effect")
        self.promises.holds("no-defect", injected or expected, f"{event}: {message}")

    def _called(self, name: str, key: tuple[str, int] | None) -> None:
        self.promises.call(name, key)
        now_s = self.clock.now_s()
        recent = self._calls.setdefault(name, deque())
        recent.append(now_s)
        while recent[0] < now_s - 60.0:
            recent.popleft()
        few = len(recent) <= _CALLS_A_MINUTE_MAX
        self.promises.holds("no-storm", few, f"{len(recent)} {name} calls within a minute")
        under_way = self.client.delivering
        if name in {"result", "fail"}:
            few = len(under_way) <= OUTBOX_MAX + 1  # one may be of an attempt that was handed out again
            self.promises.holds("few-deliveries", few, f"{len(under_way)} deliveries at once: {under_way}")
        if name == "pull":
            why_not = self.node.why_not()
            self.promises.holds("held-back", why_not is None, f"a pull, though {why_not}")

    # Living.

    async def run(self) -> Report:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.wrong("no-defect", f"unhandled: {context}"))
        for spec in self.scenario.jobs:
            self.machine.behaviours[spec.job_id] = spec.behaviour
            loop.call_later(spec.at_s, self.server.submit, spec.manifest())
        for act in self.scenario.acts:
            if act.what == OLDER:
                loop.call_later(max(0.0, act.at_s - 60.0 * act.about), self.server.back_up, act)
            loop.call_later(act.at_s, self._act, act)
        loop.call_later(self.scenario.fair_from_s + 0.001, self.make_fair)  # after any act of that time
        downtimes = iter(self.scenario.downtime_s * 1000)
        try:
            while not await self._live():  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(next(downtimes))
            self._finish()
        finally:
            await self._bury()
        self._sum_up()
        if self.broken is not None:
            raise self.broken
        return self.report

    def _finish(self) -> None:
        """Look at the end: what is still under way arrives, and changes nothing."""
        if self.broken is not None:
            return
        self.promises.finished(self.disk.memory.read, doubtful=self.disk.kept_though_failed > 0)
        # Those of one that is just being handed out once more go when the journal has said that it is over.
        held = [key for key in self.node.site.secrets if self.node.supervisor.job(key) is None]
        self.promises.holds("secrets", not held, f"secrets of jobs that are over stay in memory: {held}")
        outcomes = dict(self.server.memory.outcomes)
        self.post.all_arrives()
        after = self.server.memory.outcomes
        self.promises.holds("late-mail", outcomes == after, f"{outcomes} have become {after}")

    def _sum_up(self) -> None:
        self.report.simulated_s = self.clock.now_s()
        self.report.checked = self.promises.checked
        self.report.jobs = len(self.scenario.jobs)
        self.report.points = self.points.names
        self.report.outcomes = dict(self.server.memory.outcomes)

    def make_fair(self) -> None:
        """From now on nothing fails any more, all cards are there, and coordinator and operator mean well."""
        self.network.fair = self.machine.fair = True
        self.server.habits = replace(
            self.server.habits, offer_again=0.0, fickle=0.0, garbage=0.0, token_lies=False
        )
        self.disk.trouble, self.disk.slow_s = None, 0.0
        self.disk.ambiguous.clear()
        self.machine.no_descriptors = False
        ACTS["cards"](self, self.scenario.cards_mb)
        ACTS["go on"](self, None)
        self.note("the world is fair")

    def _act(self, act: Act) -> None:
        self.note(str(act))
        self.fault(f"act: {act.what}")
        self.acting = act
        ACTS[act.what](self, act.about)

    async def _live(self) -> bool:
        """One life of the daemon. Returns True when everything is over."""
        self.report.lives += 1
        if self.next_capacity is not None:
            self.capacity, self.next_capacity = self.next_capacity, None
        self.note(f"life {self.report.lives} starts")
        life = self.life = Life(self.report.lives, self.points)
        self._alive_since_s = self.clock.now_s()
        client = self.client = Client(
            self.server, self.network, self.post, life, self._called, self.fault, self.promises.failing
        )
        self.promises.runs_max = max(self.promises.runs_max, self.next_runs)
        self.node = Node(
            self.disk,
            DiskJournal(self.disk, life),
            client,
            Site(self.machine, life, self.promises.effect, defects=self.scenario.defects),
            self.promises,
            self._trouble,
            policy=policy(self.next_runs, self.next_backoff_s),
            capacity=lambda: self.capacity,
            clock=self.clock,
            chance=random.Random(self.scenario.seed + 1000 * life.number),
            long_poll_s=self.scenario.habits.long_poll_s,
            parts=self.scenario.parts,
        )
        unreadable = self.node.recovered.unreadable
        self.promises.holds("starts", not unreadable, f"unreadable: {unreadable}")
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
        broken = self.node.broken_loop()
        self.promises.holds("loops", broken is None, str(broken))
        if self.client.settled and self.server.authorised(self.client.token):
            self._goes_on("heartbeat", now_s)
        scenario = self.scenario
        states = [(job.job_id, job.attempt, str(job.state)) for job in self.node.supervisor.jobs()]
        waiting = self.server.waiting
        late = now_s > scenario.fair_from_s + scenario.ends_within_s
        self.promises.holds(
            "ends", not late, f"not over in time: the node has {states}, waiting are {waiting}"
        )
        submitted = all(spec.at_s <= now_s for spec in scenario.jobs)
        acted = all(act.at_s <= now_s for act in scenario.acts)
        fair = self.network.fair and now_s > scenario.fair_from_s
        return late or (submitted and acted and fair and not states and not waiting)

    def _goes_on(self, name: str, now_s: float) -> None:
        calls = self._calls.get(name)
        last_s = max(self._alive_since_s, calls[-1] if calls else 0.0)
        silent_s = now_s - last_s
        heard = silent_s <= _SILENCE_S_MAX + HEARTBEAT_S
        self.promises.holds("loops", heard, f"no {name} for {silent_s:.0f} s, though registered")

    async def _die(self, life: Life) -> None:
        self.note(f"{life.crash} after point {self.points.count}")
        assert life.crash is not None
        self.report.crashes[life.crash] += 1
        if life.crash is CrashKind.POWER_CUT:
            self.machine.power_cut()
        await self._bury()

    async def _stop(self, life: Life) -> None:
        self.note("SIGTERM")
        self.report.stops += 1
        stopping = asyncio.create_task(self.node.stop())
        crashed = asyncio.create_task(life.crashed.wait())
        await asyncio.wait({stopping, crashed}, timeout=300.0, return_when=asyncio.FIRST_COMPLETED)
        ended = stopping.done() or crashed.done()
        self.promises.holds("stops", ended, "the daemon does not stop")
        if stopping.done() and not stopping.cancelled():
            error = stopping.exception()
            self.promises.holds("stops", error is None, f"stop failed: {error!r}")
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


def simulate(scenario: Scenario) -> Report:
    """Run a scenario in virtual time.

    Raises:
        BrokenPromise: with the scenario as data, the history, and what was broken.

    """

    async def main() -> Report:
        return await World(scenario).run()

    return run(main())
