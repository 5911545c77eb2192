"""Looking at a run, and waiting for its end; both work for whoever comes, not only for who started it."""

import asyncio
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass

from runners.lock import LockState, look
from runners.process import init_pidfd, parent_of
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


async def wait_end(
    files: RunFiles, *, child: int | None = None, reaped: Callable[[float], None] | None = None
) -> Ended:
    """Wait until nothing of the run lives, and return how it ended.

    `child` is `Launched.pid` where this process started the run: it is reaped, and `reaped` hears the processor
    seconds that the kernel counted for it and all below it. (Not its ru_maxrss: that starts with the launcher's
    own, see execve in getrusage(2).) After a restart of the daemon it is None.
    Cancelling the wait leaves the run alone; waiting again is fine, also for a run that has ended.
    """
    if child is not None:
        cpu_s = await _reap(child)
        if cpu_s is not None and reaped is not None:
            reaped(cpu_s)
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


async def _reap(child: int) -> float | None:
    """Wait for a child of this process and take its status, so that no zombie is left; return its CPU seconds."""
    try:
        pidfd = os.pidfd_open(child)  # a child that nobody reaped keeps its number
    except OSError as error:
        # EINVAL, before Linux 6.10: reaped, but its number still names the session of others that are just ending.
        if error.errno in (errno.ESRCH, errno.EINVAL):
            return None
        raise
    try:
        if parent_of(child) != os.getpid():
            return None  # reaped by an earlier wait, and the number is a stranger's now
        while not await _readable(pidfd, None):
            pass
        _, _, used = os.wait4(child, os.WNOHANG)  # noqa: ASYNC222  (does not wait)
    except ChildProcessError:  # reaped by an earlier wait, or never ours
        return None
    else:
        return used.ru_utime + used.ru_stime
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
