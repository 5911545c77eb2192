"""Passing a point: dying or failing there, or writing it down."""

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

from fsm_miner.fault_points.spec import Die, FaultSpecError, ListPoints, Side

__all__ = ["FaultPoints", "PlantedDefect", "kill_self"]

_LISTED_MAX = 1_000_000
_JOB: ContextVar[str | None] = ContextVar("job", default=None)  # follows the work into threads


class PlantedDefect(Exception):
    """What `raise POINT` raises: nothing that any code expects."""


def kill_self() -> None:
    """End this process at once, as `kill -9` does: nothing is flushed, nobody is told."""
    os.kill(os.getpid(), signal.SIGKILL)


class FaultPoints:
    """All points of one process. Passed from the event loop and from threads.

    Raises:
        FaultSpecError: the file for the list can't be written to.

    """

    def __init__(self, spec: Die | ListPoints, die: Callable[[], None] = kill_self) -> None:
        self._spec = spec
        self._die = die
        self._passes = 0
        self._lock = threading.RLock()  # a finaliser may pass a point while a thread passes one
        self._fd = -1
        if isinstance(spec, ListPoints):
            try:
                self._fd = os.open(spec.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise FaultSpecError(
                    f"list {spec.file}: {error.strerror}; name a file in a folder"
                ) from error

    def __str__(self) -> str:
        match self._spec:
            case Die(side, point, nth, job):
                return f"{side} {point}#{nth}" + (f"@{job}" if job is not None else "")
            case ListPoints(file):
                return f"list {file}"

    @contextmanager
    def around(self, point: str, job: str | None = None) -> Generator[None]:
        """Pass the point before the block, and after it unless it raises; what it does is done for `job`."""
        self.reach(Side.BEFORE, point, job)
        token = _JOB.set(job)
        try:
            yield
        finally:
            _JOB.reset(token)
        self.reach(Side.AFTER, point, job)

    def before(self, point: str, job: str | None = None) -> None:
        """Pass a point that has one side; without `job`, for the job that the surrounding work is for."""
        self.reach(Side.BEFORE, point, _JOB.get() if job is None else job)

    def reach(self, side: Side, point: str, job: str | None) -> None:
        """Pass one side of a point."""
        spec = self._spec
        with self._lock:
            if isinstance(spec, ListPoints):
                self._passes += 1
                if self._passes <= _LISTED_MAX:
                    os.write(self._fd, f"{side} {point} {job or '-'}\n".encode())
            elif (side, point) == (_side(spec), spec.point) and spec.job in (None, job):
                self._passes += 1
                if self._passes == spec.nth:
                    if spec.side is Side.RAISE:
                        raise PlantedDefect(str(self))
                    self._die()

    def close(self) -> None:
        """Close the list."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _side(spec: Die) -> Side:
    return Side.BEFORE if spec.side is Side.RAISE else spec.side
