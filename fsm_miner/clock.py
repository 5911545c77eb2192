"""Time and dice, passed in: the daemon never asks the machine for either by itself."""

import asyncio
import random
import time
from typing import Protocol

__all__ = ["Clock", "Dice", "SystemClock", "SystemDice", "boot_id"]

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


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


class SystemClock:
    """The machine's clocks."""

    def now_ns(self) -> int:
        """UTC, in nanoseconds since the epoch."""
        return time.time_ns()

    def boot_ns(self) -> int:
        """CLOCK_BOOTTIME (clock_gettime(2))."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

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


def boot_id() -> str:
    """Return the kernel's id of this boot (random(4)): a process of another boot can't be alive."""
    with open(_BOOT_ID, encoding="ascii") as file:  # noqa: PTH123 - procfs
        return file.read().strip()
