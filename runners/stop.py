"""Stopping a run: TERM to the command, a grace period, then an end to everything in the sandbox."""

import asyncio
import contextlib
import os
import signal
import time
from enum import Enum
from pathlib import Path

from runners import cgroup as cgroups
from runners.lock import Identity, LockState, look, nameless_holders
from runners.process import in_other_namespace, init_pidfd, send, signal_command
from runners.run import RunFiles
from runners.status import read_status

__all__ = ["StopOutcome", "end_nameless", "end_strays", "stop"]

_POLL_S = 0.02
_OUTER_S = 1.0


class StopOutcome(Enum):
    """How a stop went."""

    NOT_RUNNING = "not running"
    TERMINATED = "ended within the grace period"
    KILLED = "killed"
    STUCK = "a process does not die"


async def stop(files: RunFiles, grace_s: float, *, give_up_s: float = 30.0) -> StopOutcome:
    """Stop the run, however it resists, and return when its lock is free.

    `timeout` and bwrap hand no signal through, so the command itself gets TERM (and CONT, should it be stopped).
    After `grace_s` the cgroup or the sandbox's process 1 is killed, and with it everything inside, whatever it
    forked or detached. STUCK after `give_up_s` more: in the kernel, uninterruptible; stop again later.
    Cancelling this leaves the run as it is; stopping again is fine. Who started the run still waits for it.
    """
    if look(files.lock) is not LockState.HELD:
        return StopOutcome.NOT_RUNNING
    grace_end = time.monotonic() + grace_s
    asked = False
    while time.monotonic() < grace_end:
        asked = asked or _ask(files)  # a sandbox that is being built has no command yet
        await asyncio.sleep(_POLL_S)
        if look(files.lock) is not LockState.HELD:
            return StopOutcome.TERMINATED
    give_up = time.monotonic() + give_up_s
    while time.monotonic() < give_up:
        _kill(files)
        await asyncio.sleep(_POLL_S)
        if look(files.lock) is not LockState.HELD:
            return StopOutcome.KILLED
    return StopOutcome.STUCK


def _ask(files: RunFiles) -> bool:
    with init_pidfd(files) as init:
        if init is None or not signal_command(init[0], signal.SIGTERM):
            return False
        signal_command(init[0], signal.SIGCONT)
        return True


def _kill(files: RunFiles) -> None:
    if files.cgroup is not None:
        cgroups.kill(files.cgroup)
    with init_pidfd(files) as init:
        if init is None:
            return
        pid, pidfd = init
        if read_status(files.status).pid_namespace is None:
            # No sandbox: what is left in the chain's process group, `timeout` too. Who left it, escapes.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(os.getpgid(pid), signal.SIGKILL)
        send(pidfd, signal.SIGKILL)


async def end_strays(files: RunFiles, *, give_up_s: float = 1.0) -> None:
    """End what is still in the cgroup of a run whose lock is free, so that its figures are final and it can go.

    Mostly something that is just ending; without a sandbox also what gave the lock away and went on.
    """
    if files.cgroup is None:
        return
    give_up = time.monotonic() + give_up_s
    while cgroups.populated(files.cgroup) and time.monotonic() < give_up:
        cgroups.kill(files.cgroup)
        await asyncio.sleep(_POLL_S)


async def end_nameless(files: RunFiles, lock: Identity | None) -> bool:
    """End a run whose lock has no name any more, because its folder was removed; return whether anything lived.

    `lock` is which file it was, if that was seen before. Nobody can collect what the run makes, nor watch it. As in
    `stop`, the sandbox's process 1 is killed, and the outer ones follow when all inside is dead; those that don't
    within a second, and all where there is no sandbox, are killed as well. Waits until nothing is left.
    """
    if look(files.lock) is not LockState.ABSENT:
        return False
    outer_end = 0.0
    found = False
    while holders := await asyncio.to_thread(nameless_holders, files.lock, lock):
        found = True
        if files.cgroup is not None:
            cgroups.kill(files.cgroup)
        inner = [pid for pid in holders if in_other_namespace(pid)]
        if inner:
            outer_end = time.monotonic() + _OUTER_S
        for pid in inner or (holders if time.monotonic() >= outer_end else ()):
            await asyncio.to_thread(_kill_holder, pid, files.lock, lock)
        await asyncio.sleep(_POLL_S)
    return found


def _kill_holder(pid: int, path: Path, lock: Identity | None) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if pid in nameless_holders(path, lock):  # looked at again, so that a reused number is left alone
            send(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)
