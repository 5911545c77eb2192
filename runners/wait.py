"""Looking at a run, and waiting for its end; both work for whoever comes, not only for who started it."""

import asyncio
import contextlib
import os
from dataclasses import dataclass

from runners.lock import LockState, look
from runners.process import init_pidfd
from runners.run import RunFiles
from runners.status import read_status

__all__ = ["Alive", "Ended", "NotStarted", "Observation", "observe", "wait_end"]

_POLL_MIN_S = 0.002
_POLL_MAX_S = 0.1


@dataclass(frozen=True, slots=True)
class NotStarted:
    """No launch of this run was even tried."""


@dataclass(frozen=True, slots=True)
class Alive:
    """Something of the run lives. `child_pid` is the sandbox's process 1, once it is known."""

    child_pid: int | None


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing of the run lives. `exit_code` is 128 + n after signal n; None if nobody saw the command end."""

    exit_code: int | None


Observation = NotStarted | Alive | Ended


def observe(files: RunFiles) -> Observation:
    """Look at a run, now. Takes a fraction of a millisecond and changes nothing."""
    match look(files.lock):
        case LockState.ABSENT:
            return NotStarted()
        case LockState.HELD:
            return Alive(read_status(files.status).child_pid)
        case LockState.FREE:
            # Read after the lock was seen free: nobody is left who could write.
            return Ended(read_status(files.status).exit_code)


async def wait_end(files: RunFiles, *, child: int | None = None) -> Ended:
    """Wait until nothing of the run lives, and return how it ended.

    `child` is `Launched.pid` where this process started the run: it is reaped. After a restart of the daemon it
    is None. Cancelling the wait leaves the run alone; waiting again is fine, also for a run that has ended.
    """
    if child is not None:
        await _reap(child)
    delay_s = _POLL_MIN_S
    while look(files.lock) is LockState.HELD:
        with init_pidfd(files) as init:
            if init is not None and await _readable(init[1], _POLL_MAX_S):
                delay_s = _POLL_MIN_S  # the rest of the chain follows within milliseconds
                await asyncio.sleep(delay_s)
                continue
        await asyncio.sleep(delay_s)
        delay_s = min(_POLL_MAX_S, delay_s * 2)
    return Ended(read_status(files.status).exit_code)


async def _reap(child: int) -> None:
    """Wait for a child of this process and take its status, so that no zombie is left."""
    try:
        pidfd = os.pidfd_open(child)  # a child that nobody reaped keeps its number
    except ProcessLookupError:
        return
    try:
        while not await _readable(pidfd, None):
            pass
        with contextlib.suppress(ChildProcessError):  # reaped by an earlier wait, or never ours
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)  # noqa: ASYNC222  (does not wait)
    finally:
        os.close(pidfd)


async def _readable(fd: int, timeout_s: float | None) -> bool:
    """Wait until the descriptor is readable; False after `timeout_s`."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        async with asyncio.timeout(timeout_s):
            await ready.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(fd)
    return True
