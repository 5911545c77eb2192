"""The outbox: which outcomes may be on their way to the coordinator now.

Only so many go at once; those that were tried least often go first, and of them the oldest, so that one that the
coordinator never takes holds up nobody. While it does not answer, one at a time is tried, and what was tried before
at growing intervals, however many wait: an outage of days costs the journal no more for a hundred jobs than for one,
and its end is met by one request and not by a crowd.
"""

import asyncio
from bisect import insort
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from typing import NamedTuple

from fsm_miner.clock import Clock, Dice, sleep_unless
from states.job import Job
from states.retry import Backoff

__all__ = ["Outbox", "since_ns"]

_NS_PER_S = 1_000_000_000


def since_ns(job: Job) -> int:
    """Return since when (UTC, ns) an outcome waits: the job's end, or its arrival if it never ran."""
    return job.offered_ns if job.ended is None else job.ended.finished_ns


class _Place(NamedTuple):
    """A place in the queue; the smallest is next."""

    tries: int
    since_ns: int
    number: int


class Outbox:
    """Gives turns to deliveries. Not thread-safe; lives on one event loop."""

    def __init__(self, max_concurrent: int, *, backoff: Backoff, clock: Clock, dice: Dice) -> None:
        self._max_concurrent = max_concurrent
        self._backoff = backoff
        self._clock = clock
        self._dice = dice
        self._numbers = count()
        self._waiting: list[_Place] = []
        self._changed = asyncio.Event()
        self._under_way = 0
        self._unanswered = 0
        self._not_before_ns = 0
        self.trouble: str | None = None
        """Why the last delivery had no answer, in words for `/healthz`; None when it had one."""

    @asynccontextmanager
    async def turn(self, job: Job) -> AsyncGenerator[None]:
        """Wait for the job's turn, and hold it."""
        me = _Place(job.deliveries, since_ns(job), next(self._numbers))
        insort(self._waiting, me)
        try:
            while (pause_s := self._pause_s(me)) != 0:
                await self._change_or(pause_s)
            self._under_way += 1
        finally:
            self._waiting.remove(me)
            self._tell()
        try:
            yield
        finally:
            self._under_way -= 1
            self._tell()

    def answered(self) -> None:
        """Note that the coordinator has said something, be it yes or no."""
        self._unanswered = self._not_before_ns = 0
        self.trouble = None
        self._tell()

    def unanswered(self, reason: str, retry_after_s: float | None) -> None:
        """Note that it has not, and let some time pass before anything is tried again.

        What it asks for (Retry-After) is heeded up to the longest backoff: it may be meant for that job alone, whose
        own wait in the journal heeds all of it.
        """
        self._unanswered += 1
        asked_s = None if retry_after_s is None else min(retry_after_s, self._backoff.max_s)
        pause_s = self._backoff.delay_s(self._unanswered, self._dice.roll(), asked_s)
        self._not_before_ns = self._clock.boot_ns() + int(pause_s * _NS_PER_S)
        self.trouble = reason

    def _pause_s(self, me: _Place) -> float | None:
        """Return for how long to wait before asking again: 0 is now, None is until something changes."""
        if self._waiting[0] != me or self._under_way >= (1 if self._unanswered else self._max_concurrent):
            return None
        if me.tries == 0:
            return 0  # it may be the others, and not the coordinator; each job asks that once
        return max(0, self._not_before_ns - self._clock.boot_ns()) / _NS_PER_S

    async def _change_or(self, pause_s: float | None) -> None:
        changed = self._changed
        if pause_s is None:
            await changed.wait()
            return
        await sleep_unless(self._clock, pause_s, changed)

    def _tell(self) -> None:
        """Wake all who wait, once."""
        self._changed.set()
        self._changed = asyncio.Event()
