"""What the cgroups around this process leave of the machine: CPU and memory, version 2 and version 1.

A limit anywhere on the way from the root to this process holds for it, so the smallest one counts. What
cannot be read is no limit: in a container the path in `/proc/self/cgroup` is often the host's and does not
exist below the container's own `/sys/fs/cgroup`, whose root then carries the limit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fsm_miner.probe.sysfile import read_number, read_text

__all__ = ["CgroupLimits", "cgroup_limits"]

DEPTH_MAX = 32
# Version 1 says "no limit" with the largest page-aligned number; no machine has an exbibyte.
UNLIMITED_BYTES = 1 << 60


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """`cpus`: whole and partial CPUs' worth of time; `memory_bytes`. None: no limit."""

    cpus: float | None = None
    memory_bytes: int | None = None


def cgroup_limits(proc: Path, sysfs: Path) -> CgroupLimits:
    """Read the limits of the process that `proc/self` shows, below `sysfs/fs/cgroup`."""
    cpus: list[float] = []
    memory: list[int] = []
    for controllers, path in _memberships(proc):
        for folder in _ancestry(sysfs / "fs/cgroup", controllers, path):
            cpus += _cpu_v1(folder) if "cpu" in controllers else _cpu_v2(folder)
            name = "memory.limit_in_bytes" if "memory" in controllers else "memory.max"
            limit = read_number(folder / name)
            memory += [limit] if limit is not None and 0 < limit < UNLIMITED_BYTES else []
    return CgroupLimits(min(cpus, default=None), min(memory, default=None))


def _memberships(proc: Path) -> Iterator[tuple[frozenset[str], str]]:
    """Yield the controllers (none for version 2) and the path of each hierarchy (cgroups(7))."""
    for line in (read_text(proc / "self/cgroup") or "").splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            yield frozenset(name for name in parts[1].split(",") if name), parts[2]


def _ancestry(root: Path, controllers: frozenset[str], path: str) -> Iterator[Path]:
    """Yield the cgroup's folder and those above it, up to the hierarchy's root."""
    names = [part for part in PurePosixPath(path).parts if part not in ("/", "..")][:DEPTH_MAX]
    if not controllers:
        bases = [root, root / "unified"]
    else:
        bases = [root / name for name in sorted({*controllers, ",".join(sorted(controllers))})]
    for base in bases:
        for depth in range(len(names), -1, -1):
            yield base.joinpath(*names[:depth])


def _cpu_v2(folder: Path) -> list[float]:
    parts = (read_text(folder / "cpu.max") or "").split()
    if len(parts) != 2 or not all(part.isdecimal() for part in parts) or int(parts[1]) == 0:
        return []  # "max 100000", or no such file
    return [int(parts[0]) / int(parts[1])]


def _cpu_v1(folder: Path) -> list[float]:
    quota = read_number(folder / "cpu.cfs_quota_us")  # -1, no limit, is no decimal number
    period = read_number(folder / "cpu.cfs_period_us")
    return [quota / period] if quota and period else []
