"""What the kernel counted in a run's cgroup: usage, pressure, and which limits it met (cgroup-v2.rst).

All of it is gone with the cgroup. A file that is not there (any more) counts nothing.
"""

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

__all__ = ["CgroupUsage", "Oom", "oom", "pressure", "processes_refused", "usage"]

_RESOURCES = ("cpu", "memory", "io")
# The file is not there, the cgroup has been removed since it was opened, or the kernel was told not to count.
_UNCOUNTED = frozenset({errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP})


class Oom(Enum):
    """Whether the kernel killed anything in the cgroup to get memory back, and for whose limit."""

    NONE = "none"
    OWN = "its own memory.max"
    OUTSIDE = "the machine's memory, or the limit of a cgroup above"


@dataclass(frozen=True, slots=True)
class CgroupUsage:
    """What the cgroup counted; None for what this kernel does not tell.

    `memory_bytes` is what the machine can't take back now (as `runners.usage` has it): no page cache.
    `throttled_s` is how long the CPU quota held it back, `processes_max` how many processes and threads it had at
    most. `stalled_s` is for how long some of its tasks waited for a resource (cpu, memory, io), by its name.
    """

    cpu_s: float | None = None
    memory_peak_bytes: int | None = None
    memory_bytes: int | None = None
    throttled_s: float | None = None
    processes_max: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    stalled_s: Mapping[str, float] = field(default_factory=dict[str, float])


def usage(group: Path) -> CgroupUsage:
    """Read what the run used so far."""
    cpu = _pairs(group / "cpu.stat")
    held = _pairs(group / "memory.stat")
    disks = _read(group / "io.stat")
    return CgroupUsage(
        cpu_s=_seconds(cpu.get("usage_usec")),
        memory_peak_bytes=_number(group / "memory.peak"),
        memory_bytes=held.get("anon", 0) + held.get("shmem", 0) if held else None,
        throttled_s=_seconds(cpu.get("throttled_usec")),
        processes_max=_number(group / "pids.peak"),
        read_bytes=None if disks is None else _sum(disks, "rbytes"),
        written_bytes=None if disks is None else _sum(disks, "wbytes"),
        stalled_s={name: some["total"] / 1e6 for name, some in _some(group).items() if "total" in some},
    )


def pressure(group: Path) -> dict[str, float]:
    """Return which part of the last 10 seconds, in percent, some task waited for cpu, memory, io; {} if untold."""
    return {name: some["avg10"] for name, some in _some(group).items() if "avg10" in some}


def oom(group: Path) -> Oom:
    """Tell whether the kernel killed anything in the cgroup for memory.

    `oom_kill` counts victims of any out-of-memory, `oom` only how often the cgroup's own limit was met.
    """
    counts = _pairs(group / "memory.events")
    if counts.get("oom_kill", 0) == 0 and counts.get("oom_group_kill", 0) == 0:
        return Oom.NONE
    return Oom.OWN if counts.get("oom", 0) > 0 else Oom.OUTSIDE


def processes_refused(group: Path) -> bool:
    """Tell whether the run ever wanted more processes than pids.max."""
    return _pairs(group / "pids.events").get("max", 0) > 0


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError as error:
        if error.errno in _UNCOUNTED:
            return None
        raise


def _pairs(path: Path) -> dict[str, int]:
    words = [line.split() for line in (_read(path) or "").splitlines()]
    return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdecimal()}


def _number(path: Path) -> int | None:
    text = (_read(path) or "").strip()
    return int(text) if text.isdecimal() else None


def _seconds(us: int | None) -> float | None:
    return None if us is None else us / 1e6


def _sum(text: str, name: str) -> int:
    """Add up one field of io.stat: `8:0 rbytes=1 wbytes=2 ...` for each disk."""
    words = [word.partition("=") for line in text.splitlines() for word in line.split()[1:]]
    return sum(int(value) for key, _, value in words if key == name and value.isdecimal())


def _some(group: Path) -> dict[str, dict[str, float]]:
    """Return the first line of each pressure file: `some avg10=1.53 avg60=0.90 avg300=0.10 total=12345`."""
    found: dict[str, dict[str, float]] = {}
    for name in _RESOURCES:
        words = (_read(group / f"{name}.pressure") or "").split("\n", 1)[0].split()
        if words[:1] == ["some"]:
            fields = (word.partition("=") for word in words[1:])
            found[name] = {key: float(value) for key, _, value in fields if _decimal(value)}
    return found


def _decimal(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()
