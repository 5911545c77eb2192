"""Crash points: every append and every effect is one before it and one after it, numbered as they come.

A point is where the daemon's process may end (kill -9), or the whole machine (power cut). What comes after
the point in that daemon's code never happens: the call does not return, and every port of that life is dead.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NoReturn

__all__ = ["CrashKind", "Life", "Points"]


class CrashKind(StrEnum):
    """What ends."""

    KILL = "kill"
    POWER_CUT = "power cut"


@dataclass
class Points:
    """Counts points, and crashes at the numbers in `plan`."""

    plan: Mapping[int, CrashKind] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    count: int = 0


class Life:
    """One process of the daemon. Dead means: no port of it does anything, ever."""

    def __init__(self, number: int, points: Points) -> None:
        self.number = number
        self.alive = True
        self.crash: CrashKind | None = None
        self.crashed = asyncio.Event()
        self._points = points

    def kill(self, kind: CrashKind) -> None:
        """End the process, now."""
        if self.alive:
            self.alive = False
            self.crash = kind
            self.crashed.set()

    async def point(self, name: str) -> None:
        """Pass a crash point, or die here."""
        if not self.alive:
            await self.nothing()
        points = self._points
        points.count += 1
        points.names.append(name)
        kind = points.plan.get(points.count)
        if kind is not None:
            self.kill(kind)
            await self.nothing()

    async def check(self) -> None:
        """Go on only if this life does."""
        if not self.alive:
            await self.nothing()

    async def nothing(self) -> NoReturn:
        """Never return: only the end of the task ends it."""
        await asyncio.get_running_loop().create_future()
        raise AssertionError("a dead life went on")
