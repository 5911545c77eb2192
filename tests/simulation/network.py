"""The network between node and coordinator, and how it fails."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Fate", "Network", "Outage"]


class Fate(StrEnum):
    """What becomes of a call."""

    OK = "ok"
    REQUEST_LOST = "request lost"
    ANSWER_LOST = "answer lost"
    SERVER_ERROR = "5xx"
    BUSY = "429"
    TOKEN_GONE = "401"
    TWICE = "request arrives again later"
    LATE = "request arrives when nobody waits for the answer any more"


@dataclass(frozen=True)
class Outage:
    """Calls whose name is in `calls` (all, if empty) meet `fate` from `start_s` to `end_s`."""

    start_s: float
    end_s: float
    fate: Fate
    calls: frozenset[str] = frozenset()

    def hits(self, call: str, now_s: float) -> bool:
        return self.start_s <= now_s < self.end_s and (not self.calls or call in self.calls)


@dataclass
class Network:
    """Latencies and losses. `script` overrides chance for the n-th call of a name (from 1)."""

    chance: random.Random
    loss: float = 0.0
    latency_s: tuple[float, float] = (0.005, 0.05)
    late_s: float = 0.0
    timeout_s: float = 20.0
    outages: tuple[Outage, ...] = ()
    script: Mapping[tuple[str, int], Fate] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    fair: bool = False

    def fate(self, call: str) -> Fate:
        number = self.calls[call] = self.calls.get(call, 0) + 1
        if self.fair:
            return Fate.OK
        scripted = self.script.get((call, number))
        if scripted is not None:
            return scripted
        now_s = asyncio.get_running_loop().time()
        for outage in self.outages:
            if outage.hits(call, now_s):
                return outage.fate
        if self.chance.random() < self.loss:
            return self.chance.choice(list(Fate)[1:])
        return Fate.OK

    def lateness_s(self) -> float:
        """How long a delayed request takes: minutes mostly, days sometimes."""
        return self.chance.uniform(0.0, 1.0) ** 3 * self.late_s

    async def travel(self) -> None:
        await asyncio.sleep(self.chance.uniform(*self.latency_s))
