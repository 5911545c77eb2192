"""The node's standing with its coordinator: registered, or trying to be. It never gives up and never exits."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fsm_miner.clock import Clock, Dice, sleep_unless
from fsm_miner.coordinator.port import Absent, Coordinator, Refused, Registered, Unknown
from fsm_miner.log_port import Log
from states.retry import Backoff

__all__ = ["Session"]

_RENEW_AT = 0.8  # of the token's life
_LIFE_S_MIN = 5.0


class Session:
    """Keeps the node registered. `ready` is what every other call waits for."""

    def __init__(
        self,
        coordinator: Coordinator,
        describe: Callable[[], Awaitable[Mapping[str, Any]]],
        *,
        backoff: Backoff,
        clock: Clock,
        dice: Dice,
        log: Log,
    ) -> None:
        self._coordinator = coordinator
        self._describe = describe
        self._backoff = backoff
        self._clock = clock
        self._dice = dice
        self._log = log
        self._ready = asyncio.Event()
        self._stale = asyncio.Event()
        self.trouble: str | None = "not registered yet"
        """Why the node is not registered, in words for `/healthz`; None when it is."""
        self.features: frozenset[str] = frozenset()

    @property
    def is_ready(self) -> bool:
        """Whether calls can be made now."""
        return self._ready.is_set()

    async def ready(self) -> None:
        """Wait until the node is registered (or the coordinator is one without registration)."""
        await self._ready.wait()

    def invalidate(self, reason: str) -> None:
        """Register again: a call was answered with 401."""
        if self._ready.is_set():
            self._log.warning("unauthorized", reason=reason)
            self._ready.clear()
            self.trouble = f"registering again: {reason}"
        self._stale.set()

    async def run(self) -> None:
        """Register now, before the token expires, and whenever it was refused. Runs until cancelled."""
        failures = refused = 0
        while True:
            answer = await self._coordinator.register(await self._describe())
            match answer:
                case Registered():
                    failures = 0
                    self.features = answer.features
                    self._settle("registered", features=sorted(answer.features))
                    settled_ns = self._clock.boot_ns()
                    await self._until_stale(answer.expires_in_s)
                    if self.is_ready or self._clock.boot_ns() - settled_ns >= self._backoff.max_s * 1e9:
                        refused = 0
                        continue
                    refused += 1  # at once the first time, but tokens that never hold must not become a storm
                    if refused == 1:
                        continue
                    delay_s = self._backoff.delay_s(refused - 1, self._dice.roll())
                case Absent():
                    failures = 0
                    self._settle("registration_absent")
                    await self._until_stale(None)
                    # A coordinator without registration that answers 401 does not like the bootstrap token.
                    delay_s = self._backoff.max_s
                case Refused():
                    self._fail(f"the coordinator refuses this node ({answer.status}): {answer.reason}")
                    delay_s = self._backoff.max_s
                case Unknown():
                    failures += 1
                    self._fail(f"the coordinator does not answer: {answer.reason}")
                    delay_s = self._backoff.delay_s(failures, self._dice.roll(), answer.retry_after_s)
            await self._clock.sleep(delay_s)

    def _settle(self, event: str, **attrs: Any) -> None:
        if self.trouble is not None:
            self._log.info(event, **attrs)
        self.trouble = None
        self._stale.clear()  # what was answered with 401 until now had the old token
        self._ready.set()

    def _fail(self, trouble: str) -> None:
        """Remember why; a token that could not be renewed goes on until a call is answered with 401."""
        if self.trouble != trouble:
            self._log.warning("register_failed", reason=trouble)
        self.trouble = trouble

    async def _until_stale(self, life_s: float | None) -> None:
        """Return when the token should be renewed or was refused."""
        if life_s is None:
            await self._stale.wait()
            return
        await sleep_unless(self._clock, max(life_s * _RENEW_AT, _LIFE_S_MIN), self._stale)
