"""Pulling: asks for a job whenever there is room for one, and for nothing otherwise."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from fsm_miner.clock import Clock, Dice, sleep_unless
from fsm_miner.coordinator.port import (
    Coordinator,
    JobOffer,
    NothingToDo,
    PullAnswer,
    PullRequest,
    Unauthorized,
    Unknown,
)
from fsm_miner.log_port import Log
from fsm_miner.session import Session
from fsm_miner.supervisor import Supervisor
from states.admission import Room
from states.retry import Backoff

__all__ = ["Pull", "TakeOffer"]


class TakeOffer(Protocol):
    """Takes a manifest as it came; returns whether a new job came of it."""

    async def __call__(self, manifest: Any) -> bool:
        """Take it."""
        ...


class Pull:
    """One request at a time; long polls where the coordinator knows them."""

    def __init__(
        self,
        coordinator: Coordinator,
        session: Session,
        supervisor: Supervisor,
        take: TakeOffer,
        request: Callable[[Room], PullRequest],
        why_not: Callable[[], str | None],
        *,
        poll_interval_s: float,
        backoff: Backoff,
        clock: Clock,
        dice: Dice,
        log: Log,
    ) -> None:
        self._coordinator = coordinator
        self._session = session
        self._supervisor = supervisor
        self._take = take
        self._request = request
        self._why_not = why_not
        self._poll_interval_s = poll_interval_s
        self._backoff = backoff
        self._clock = clock
        self._dice = dice
        self._log = log
        self._failures = 0
        self.held_back: str | None = None
        """Why the node does not pull now, in words for `/healthz`; None while it does."""

    async def run(self) -> None:
        """Pull until cancelled."""
        while True:
            await self._session.ready()
            self._supervisor.changed.clear()
            held_back = self._why_not()
            if held_back != self.held_back:
                self._log.info("pull_held_back" if held_back else "pull_goes_on", reason=held_back)
                self.held_back = held_back
            room = self._supervisor.room()
            if held_back is not None or not room.any:
                await self._wait_for_change()
                continue
            pause_s = await self._pull_once(room)
            if pause_s > 0:
                await self._clock.sleep(pause_s)

    async def _pull_once(self, room: Room) -> float:
        """Pull, and return the pause that should follow."""
        started_ns = self._clock.boot_ns()
        answer = await self._ask(room)
        match answer:
            case None:
                return 0.0
            case JobOffer():
                self._failures = 0
                return 0.0 if await self._taken(answer.manifest) else self._poll_interval_s
            case NothingToDo():
                self._failures = 0
                waited_s = (self._clock.boot_ns() - started_ns) / 1e9
                return max(0.0, self._poll_interval_s - waited_s)
            case Unauthorized():
                self._session.invalidate(answer.reason)
                return 0.0
            case Unknown():
                if self._failures == 0:
                    self._log.warning("pull_unanswered", reason=answer.reason)
                self._failures += 1
                return self._backoff.delay_s(self._failures, self._dice.roll(), answer.retry_after_s)

    async def _taken(self, manifest: Any) -> bool:
        """Take an offer; whatever a coordinator sends, it must not end the pulling."""
        try:
            return await self._take(manifest)
        except Exception as error:  # noqa: BLE001 - a defect with one offer is no reason to refuse all others
            self._log.error("offer_failed", problem=repr(error), exc_info=error)
            return False

    async def _ask(self, room: Room) -> PullAnswer | None:
        """Ask for what fits into `room`; None if that was overtaken by events before there was an answer.

        A long poll that was begun while all cards were busy must not keep a card idle that is free again, nor
        bring a job to a node that drains. What was handed out meanwhile goes back: it was never acknowledged.
        """
        asking = asyncio.create_task(self._coordinator.pull(self._request(room)))
        try:
            while not asking.done():
                changed = asyncio.create_task(self._supervisor.changed.wait())
                await asyncio.wait({asking, changed}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                self._supervisor.changed.clear()
                if not asking.done() and (
                    self._why_not() is not None or _more(room, self._supervisor.room())
                ):
                    return None
            return asking.result()
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _wait_for_change(self) -> None:
        """Wait for room; look again from time to time, because a disk or a journal recovers unannounced."""
        await sleep_unless(self._clock, max(self._poll_interval_s, 1.0), self._supervisor.changed)


def _more(before: Room, now: Room) -> bool:
    """Whether there is room for a kind of job that did not fit before."""
    return (now.cpu_slots > 0) > (before.cpu_slots > 0) or max(now.gpus_free_mb, default=-1) > max(
        before.gpus_free_mb, default=-1
    )
