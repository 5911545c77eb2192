"""A cgroup v2 for each run, where the machine lends us a folder for them (cgroups(7), cgroup-v2.rst).

Thin on purpose: every function is a few reads and writes of the kernel's files below a folder that is passed in.
"""

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from runners.run import Limits

__all__ = ["CgroupUsage", "create", "kill", "oom_killed", "problem_with", "remove", "usage"]

_MIB = 1024 * 1024
_NEEDED = frozenset({"memory", "pids"})
_PERIOD_US = 100_000


@dataclass(frozen=True, slots=True)
class CgroupUsage:
    """What the cgroup counted; None for what this kernel does not tell.

    `memory_bytes` is what the machine can't take back now (as `runners.usage` has it): no page cache.
    """

    cpu_s: float | None
    memory_peak_bytes: int | None
    memory_bytes: int | None = None


def problem_with(parent: Path) -> str | None:
    """Return why runs cannot have cgroups below `parent`, or None if they can."""
    try:
        enabled = set((parent / "cgroup.subtree_control").read_text().split())
    except OSError as error:
        return f"{parent}: no usable cgroup v2: {error.strerror}; runs are limited by the watchdog"
    if missing := _NEEDED - enabled:
        names = ", ".join(sorted(missing))
        return (
            f"{parent}: cgroup.subtree_control lacks {names}; write '+memory +pids +cpu' there (Delegate=yes)"
        )
    if not os.access(parent, os.W_OK | os.X_OK):
        return f"{parent}: not writable for this user; delegate it (Delegate=yes) or chown it"
    return None


def create(parent: Path, name: str, limits: Limits) -> Path:
    """Make the run's cgroup with its limits in force; one that a crash left empty is taken over.

    Raises:
        OSError: it cannot be made, or a needed limit cannot be set.

    """
    group = parent / name
    group.mkdir(mode=0o755, exist_ok=True)
    _write(group, "memory.max", str(limits.memory_mb * _MIB))
    _write(group, "memory.oom.group", "1")
    _write(group, "pids.max", str(limits.processes))
    if (group / "memory.swap.max").exists():  # absent where the kernel counts no swap
        _write(group, "memory.swap.max", "0")
    if (group / "cpu.max").exists():  # absent where the cpu controller is not delegated
        # Between cgroups niceness counts only as a weight.
        _write(group, "cpu.weight.nice", str(max(-20, min(19, limits.nice))))
        if limits.cpu_threads is not None:
            _write(group, "cpu.max", f"{limits.cpu_threads * _PERIOD_US} {_PERIOD_US}")
    return group


def kill(group: Path) -> None:
    """Kill everything in the cgroup, whatever it forks meanwhile; nothing if the group is gone."""
    try:
        _write(group, "cgroup.kill", "1")
    except FileNotFoundError:
        return


def oom_killed(group: Path) -> bool:
    """Tell whether the kernel killed anything in the cgroup for its memory.max."""
    counts = _pairs(group / "memory.events")
    return counts.get("oom_kill", 0) > 0 or counts.get("oom_group_kill", 0) > 0


def usage(group: Path) -> CgroupUsage:
    """Read what the run used so far."""
    cpu_us = _pairs(group / "cpu.stat").get("usage_usec")
    try:
        peak = int((group / "memory.peak").read_text())
    except (FileNotFoundError, ValueError):
        peak = None
    held = _pairs(group / "memory.stat")
    return CgroupUsage(
        cpu_s=None if cpu_us is None else cpu_us / 1e6,
        memory_peak_bytes=peak,
        memory_bytes=held.get("anon", 0) + held.get("shmem", 0) if held else None,
    )


def remove(group: Path) -> bool:
    """Remove the cgroup; False while a process is still in it: kill, wait, repeat."""
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
            return False
        raise
    return True


def _write(group: Path, name: str, value: str) -> None:
    # Without O_CREAT: these files are the kernel's.
    fd = os.open(group / name, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def _pairs(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return {}
    words = [line.split() for line in lines]
    return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdecimal()}
