"""An event loop whose time jumps: nothing sleeps, and days pass in milliseconds."""

import asyncio
import random
import selectors
from collections.abc import Coroutine
from typing import Any

__all__ = ["EPOCH_NS", "SeededDice", "VirtualClock", "VirtualLoop", "run"]

EPOCH_NS = 1_790_000_000_000_000_000
_NS_PER_S = 1_000_000_000


class NothingWillHappen(Exception):
    """Every task waits for something that nobody will do: a deadlock."""


class _JumpingSelector(selectors.SelectSelector):
    """Instead of waiting for descriptors, moves the loop's clock to the next timer."""

    now_s = 0.0

    def select(self, timeout=None):
        if timeout is None:
            raise NothingWillHappen("no timer is set and nothing is ready")
        if timeout > 0:
            self.now_s += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` is virtual seconds since the loop was made."""

    def __init__(self) -> None:
        self._jump = _JumpingSelector()
        super().__init__(self._jump)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._jump.now_s


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run to completion on a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class VirtualClock:
    """The port `fsm_miner.clock.Clock`. The wall clock may be wrong by `skew_s`; boot time starts with a boot."""

    def __init__(self) -> None:
        self.skew_s = 0.0
        self.booted_s = 0.0

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def now_ns(self) -> int:
        return EPOCH_NS + int((self.now_s() + self.skew_s) * _NS_PER_S)

    def boot_ns(self) -> int:
        return int((self.now_s() - self.booted_s + 1.0) * _NS_PER_S)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SeededDice:
    """The port `fsm_miner.clock.Dice`."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def roll(self) -> float:
        return self._chance.random()
