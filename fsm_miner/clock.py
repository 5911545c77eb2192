"""Time and dice, passed in: the daemon never asks the machine for either by itself."""

import asyncio
import random
from typing import Protocol

from runners.clock import boottime_ns, utc_ns

__all__ = ["Clock", "Dice", "SystemClock", "SystemDice", "sleep_unless"]


class Clock(Protocol):
    """The port. Wall-clock time may jump; `boot_ns` and `sleep` never do."""

    def now_ns(self) -> int:
        """UTC, in nanoseconds since the epoch."""
        ...

    def boot_ns(self) -> int:
        """CLOCK_BOOTTIME: nanoseconds since the machine's start, suspend included."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Dice(Protocol):
    """The port for chance."""

    def roll(self) -> float:
        """Return a number, uniform in [0, 1)."""
        ...


async def sleep_unless(clock: Clock, seconds: float, event: asyncio.Event) -> None:
    """Wait, but no longer than until `event` is set."""
    timer = asyncio.create_task(clock.sleep(seconds))
    sooner = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({timer, sooner}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
        sooner.cancel()


class SystemClock:
    """The machine's clocks."""

    def now_ns(self) -> int:
        """UTC, in nanoseconds since the epoch."""
        return utc_ns()

    def boot_ns(self) -> int:
        """CLOCK_BOOTTIME (clock_gettime(2))."""
        return boottime_ns()

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop."""
        await asyncio.sleep(seconds)


class SystemDice:
    """Chance for jitter; nothing secret is made of it."""

    def __init__(self) -> None:
        self._random = random.Random()  # noqa: S311 - jitter, not cryptography

    def roll(self) -> float:
        """Return a number, uniform in [0, 1)."""
        return self._random.random()
