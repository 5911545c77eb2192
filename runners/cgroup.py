"""A cgroup v2 for each run, where the machine lends us a folder for them (cgroups(7), cgroup-v2.rst).

Thin on purpose: every function is a few reads and writes of the kernel's files below a folder that is passed in.
What the kernel counted there is read by `runners.cgroup_counts`, what it can't do here told by `runners.cgroup_lacks`.
"""

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from runners.cgroup_cpus import choose_cpus
from runners.run import Limits

__all__ = ["create", "groups_below", "kill", "populated", "problem_with", "remove"]

_MIB = 1024 * 1024
_NEEDED = frozenset({"memory", "pids"})
_PERIOD_US = 100_000
# memory.high is this part below memory.max. The kernel makes a cgroup above it take back pages, and beside that sleep,
# by the square of how far above it is: at one hundredth that is less than it bothers with (mm/memcontrol.c), so
# whoever can't give anything back reaches its end at full speed.
_HIGH_BELOW = 128
# The name of a run (`fsm_miner.site.plan.run_name`); the jobs' unit has a cgroup of its own beside them.
_RUN_NAME = re.compile(r".{1,240}\.run-[0-9]{1,6}", re.ASCII)


def problem_with(parent: Path) -> str | None:
    """Return why runs cannot have cgroups below `parent`, or None if they can."""
    try:
        enabled = set((parent / "cgroup.subtree_control").read_text().split())
    except OSError as error:
        return f"{parent}: no usable cgroup v2: {error.strerror}"
    if missing := _NEEDED - enabled:
        names = ", ".join(sorted(missing))
        return (
            f"{parent}: cgroup.subtree_control lacks {names}; write '+memory +pids +cpu' there (Delegate=yes)"
        )
    if os.statvfs(parent).f_flag & os.ST_RDONLY:
        return f"{parent}: cgroup v2 is mounted read-only, as in many a container"
    if not os.access(parent, os.W_OK | os.X_OK):
        return f"{parent}: not writable for this user; delegate it (Delegate=yes) or chown it"
    return None


def create(parent: Path, name: str, limits: Limits) -> Path:
    """Make the run's cgroup with its limits in force; one that a crash left empty is taken over.

    A file that this kernel or this delegation does not have is passed over: `cgroup_lacks` says which those are.

    Raises:
        OSError: it cannot be made, or a limit cannot be set.

    """
    group = parent / name
    group.mkdir(mode=0o755, exist_ok=True)
    for file, value in _settings(limits):
        if file in _ALWAYS or (group / file).exists():
            _write(group, file, value)
    if limits.cpu_threads is not None and (group / "cpuset.cpus").exists():
        cpus = choose_cpus(parent, name, limits.cpu_threads)
        if cpus is not None:
            _write(group, "cpuset.cpus", cpus)
    return group


_ALWAYS = frozenset({"memory.max", "pids.max"})


def _settings(limits: Limits) -> Iterator[tuple[str, str]]:
    memory = limits.memory_mb * _MIB
    yield "memory.max", str(memory)
    yield "memory.high", str(memory - memory // _HIGH_BELOW)
    yield "memory.swap.max", str(limits.swap_mb * _MIB)
    yield "memory.oom.group", "1"
    yield "pids.max", str(limits.processes)
    # Between cgroups, niceness and I/O priority count only as weights.
    yield "cpu.weight.nice", str(max(-20, min(19, limits.nice)))
    if limits.cpu_threads is not None:
        yield "cpu.max", f"{limits.cpu_threads * _PERIOD_US} {_PERIOD_US}"
    weight = _io_weight(limits)
    yield "io.weight", str(weight)
    yield "io.bfq.weight", str(weight)


def _io_weight(limits: Limits) -> int:
    """Return the weight: 100 is anybody's; twice that at level 0, a quarter at 7 (ionice(1)), the least if idle."""
    return 1 if limits.io_class == "idle" else (8 - max(0, min(7, limits.io_level))) * 25


def kill(group: Path) -> None:
    """Kill everything in the cgroup, whatever it forks meanwhile; nothing if the group is gone."""
    try:
        _write(group, "cgroup.kill", "1")
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise


def populated(group: Path) -> bool:
    """Tell whether any process is in the cgroup; zombies don't count."""
    try:
        return "populated 1" in (group / "cgroup.events").read_text().splitlines()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return False
        raise


def groups_below(parent: Path) -> list[Path]:
    """Return the cgroups of runs that are there; none where `parent` is gone."""
    try:
        found = [entry.path for entry in os.scandir(parent) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    return [path for path in map(Path, found) if _RUN_NAME.fullmatch(path.name)]


def remove(group: Path) -> bool:
    """Remove the cgroup and all that it counted; False while a process is still in it: kill, wait, repeat."""
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
