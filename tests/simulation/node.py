"""One life of the daemon: the real parts, put together as `fsm_miner.daemon` does, over the simulated ports."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fsm_miner.coordinator.port import Beat, PullRequest
from fsm_miner.delivery import Delivery
from fsm_miner.echo import Echo, EchoParts
from fsm_miner.effects import JobEffects
from fsm_miner.heartbeat import Heartbeat
from fsm_miner.intake import Intake
from fsm_miner.outbox import Outbox, since_ns
from fsm_miner.progress import ProgressReporter
from fsm_miner.pull import Pull
from fsm_miner.reconcile import Reconciler
from fsm_miner.recovery import replay
from fsm_miner.session import Session
from fsm_miner.supervisor import Supervisor, key_of
from journal.port import Journal
from states.admission import Capacity, Room
from states.events import Event
from states.job import Job
from states.retry import Backoff, Policy
from tests.simulation.client import Client
from tests.simulation.disk import Disk
from tests.simulation.promises import Promises
from tests.simulation.virtual_time import SeededDice, VirtualClock
from tests.simulation.worksite import Site

__all__ = ["BACKOFF", "HEARTBEAT_S", "OUTBOX_MAX", "RUNS", "Node", "policy"]

BACKOFF = Backoff(5.0, 120.0)
HEARTBEAT_S = 15.0
OUTBOX_MAX = 2
RUNS = 3


def policy(runs: int, backoff_max_s: float | None) -> Policy:
    """Return what the configuration of a life says of retries."""
    longest_s = 60.0 if backoff_max_s is None else backoff_max_s
    return Policy(
        max_runs=runs, run_backoff=Backoff(min(2.0, longest_s), longest_s), delivery_backoff=BACKOFF
    )


class _Log:
    def info(self, event: str, **attrs: Any) -> None:
        """Say nothing."""

    warning = info


class _Observer:
    """What `fsm_miner.observer` does, without logs and metrics; and the promises are checked at every step."""

    def __init__(
        self, node: "Node", promises: Promises, trouble: Callable[[str, str, BaseException | None], None]
    ) -> None:
        self._node = node
        self._promises = promises
        self._trouble = trouble

    def stepped(self, before: Job, after: Job, events: Sequence[Event]) -> None:
        self._promises.stepped(after)
        if after.final:
            self._node.site.forget(after)
            self._node.progress.forget(key_of(after))

    def trouble(self, event: str, job: Job | None, message: str, error: BaseException | None = None) -> None:
        self._trouble(event, message, error)


class _WatchedOutbox:
    """The outbox, with a look at who waits whenever somebody gets a turn."""

    def __init__(self, outbox: Outbox, promises: Promises) -> None:
        self._outbox = outbox
        self._promises = promises
        self._waiting: list[tuple[int, int]] = []
        self.answered = outbox.answered
        self.unanswered = outbox.unanswered

    @asynccontextmanager
    async def turn(self, job: Job) -> AsyncGenerator[None]:
        mine = (job.deliveries, since_ns(job))
        self._waiting.append(mine)
        waits = True
        try:
            async with self._outbox.turn(job):
                self._waiting.remove(mine)
                waits = False
                oldest = min(self._waiting, default=mine)
                self._promises.holds(
                    "oldest-first", mine <= oldest, f"{key_of(job)} has its turn out of order"
                )
                yield
        finally:
            if waits:
                self._waiting.remove(mine)


class Node:
    """Built at the start of a life; dead with it."""

    def __init__(
        self,
        disk: Disk,
        journal: Journal,
        client: Client,
        site: Site,
        promises: Promises,
        trouble: Callable[[str, str, BaseException | None], None],
        *,
        policy: Policy,
        capacity: Callable[[], Capacity],
        clock: VirtualClock,
        chance: random.Random,
        long_poll_s: float,
        parts: Mapping[str, type],
    ) -> None:
        dice, log = SeededDice(chance), _Log()
        self.site = site
        self.draining = False
        self.recovered = replay(disk.memory.records())
        self.session = parts.get("session", Session)(
            client, self._describe, backoff=BACKOFF, clock=clock, dice=dice, log=log
        )
        self.progress = ProgressReporter(client, self.session, self._feed_soon, interval_s=2.0, clock=clock)
        outbox = parts.get("outbox", Outbox)(OUTBOX_MAX, backoff=BACKOFF, clock=clock, dice=dice)
        self.outbox = _WatchedOutbox(outbox, promises)
        delivery = parts.get("delivery", Delivery)(
            client, self.session, site, self.outbox, self._head, node_id="node-1", clock=clock, dice=dice
        )
        echoed = EchoParts(client, self.session, site, journal.read, "node-1")
        self.echo = parts.get("echo", Echo)(echoed, clock=clock, dice=dice, log=log)
        effects = JobEffects(
            client,
            self.session,
            site,
            delivery,
            self.progress.tell,
            backoff=BACKOFF,
            clock=clock,
            dice=dice,
            log=log,
        )
        self.supervisor = parts.get("supervisor", Supervisor)(
            journal,
            effects,
            _Observer(self, promises, trouble),
            policy=policy,
            capacity=capacity,
            clock=clock,
            dice=dice,
        )
        self.reconciler = parts.get("reconciler", Reconciler)(
            client, self.session, self.supervisor, backoff=BACKOFF, clock=clock, dice=dice, log=log
        )
        self.heartbeat = parts.get("heartbeat", Heartbeat)(
            client,
            self.session,
            self.supervisor,
            self._beat,
            self.drain,
            interval_s=HEARTBEAT_S,
            jitter=0.1,
            backoff=BACKOFF,
            clock=clock,
            dice=dice,
            log=log,
        )
        self._long_poll_s = long_poll_s
        self.pull = parts.get("pull", Pull)(
            client,
            self.session,
            self.supervisor,
            Intake(self.supervisor, site.keep_secrets, self.echo, clock=clock, log=log),
            self._request,
            self.why_not,
            poll_interval_s=5.0,
            backoff=BACKOFF,
            clock=clock,
            dice=dice,
            log=log,
        )
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        found = self.recovered.unfinished
        self.supervisor.recover((one.job, one.head) for one in found)
        parts = [self.session.run(), self.heartbeat.run(), self.pull.run(), self.echo.run()]
        parts.append(self.reconciler.run([(one.job, one.since_ns) for one in found]))
        self._tasks = [asyncio.create_task(part) for part in parts]

    def broken_loop(self) -> str | None:
        """Say which loop has ended; the reconciler may."""
        for name, task in zip(("session", "heartbeat", "pull", "echo"), self._tasks, strict=False):
            if task.done():
                return (
                    f"the {name} loop has ended: {task.exception() if not task.cancelled() else 'cancelled'}"
                )
        return None

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.supervisor.stop()

    def drain(self, on: bool) -> None:
        self.draining = on
        self.supervisor.poke()

    async def _describe(self) -> dict[str, Any]:
        return {"node_id": "node-1"}

    def _beat(self) -> Beat:
        running = [
            {"job_id": job.job_id, "attempt": job.attempt, "state": str(job.state)}
            for job in self.supervisor.jobs()
        ]
        return Beat((0.0, 0.0, 0.0), 1000, 0, "draining" if self.draining else "active", running, {})

    def _request(self, room: Room) -> PullRequest:
        return PullRequest(("cli",), room.cpu_slots, room.gpus_free_mb, wait_s=self._long_poll_s or None)

    def why_not(self) -> str | None:
        lack = next(iter(self.supervisor.lacks.values()), None)
        if not self.supervisor.admission_open:
            return "admission waits"
        return "draining" if self.draining else self.supervisor.journal_trouble or lack

    def _head(self, job: Job) -> str:
        return self.supervisor.head(key_of(job))

    def _feed_soon(self, key: Any, stimulus: Any) -> None:
        self.supervisor.feed_soon(key, stimulus)
