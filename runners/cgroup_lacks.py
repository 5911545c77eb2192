"""What resource control can't do on this machine: each of the kernel's files that is not there, and what that means."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runners.lack import Lack

__all__ = ["lacks"]


@dataclass(frozen=True, slots=True)
class _Feature:
    """Comes with `controller` (None: with every cgroup), as any of these files."""

    controller: str | None
    files: tuple[str, ...]
    tag: str
    without: str


_SYSFS = Path("/sys")
_IO_WEIGHT = "no-io-weight"
_UNHEEDED = (
    "io.weight/io.bfq.weight: no disk goes by it, as none has the scheduler bfq, nor is io.cost on: "
    "jobs have no I/O weight, only their I/O priority"
)
_FEATURES = (
    _Feature("cpu", ("cpu.max",), "no-cpu-quota", "a job may use more CPU time than its cpu_threads"),
    _Feature("cpu", ("cpu.weight.nice",), "no-cpu-weight", "jobs have no CPU weight, only their niceness"),
    _Feature("cpuset", ("cpuset.cpus",), "no-cpuset", "jobs share all CPUs; their quota holds all the same"),
    _Feature(
        "memory", ("memory.high",), "no-memory-high", "nothing is taken back from a job before its limit"
    ),
    _Feature(
        "memory", ("memory.oom.group",), "no-oom-group", "out of memory, only one process of a job is killed"
    ),
    _Feature(
        "memory",
        ("memory.swap.max",),
        "no-swap-limit",
        "resources.swap_mb can't bind: a job may use all swap",
    ),
    _Feature("memory", ("memory.peak",), "no-memory-peak", "the memory of a short job is underestimated"),
    _Feature("pids", ("pids.peak",), "no-pids-peak", "how many processes a job had at most is not known"),
    _Feature(
        "io",
        ("io.weight", "io.bfq.weight"),
        _IO_WEIGHT,
        "jobs have no I/O weight, only their I/O priority",
    ),
    _Feature("io", ("io.stat",), "no-io-counts", "what a job reads and writes on disks is not counted"),
    _Feature(None, ("cgroup.kill",), "no-cgroup-kill", "a job is ended through its sandbox alone"),
    _Feature(
        None,
        ("cpu.pressure", "memory.pressure", "io.pressure"),
        "no-pressure",
        "how long jobs wait for CPU, memory and disks is not known (psi=1 on the kernel's command line)",
    ),
)


def lacks(parent: Path, sysfs: Path = _SYSFS) -> tuple[Lack, ...]:
    """Return what cgroups below `parent` will not have, for want of a controller or of the kernel's support.

    `parent` itself has the files of each controller that can be enabled in it, so nothing is tried. Whether a weight
    counts for anything is up to the disks, which `sysfs` knows.
    """
    try:
        enabled = frozenset((parent / "cgroup.subtree_control").read_text().split())
        given = frozenset((parent / "cgroup.controllers").read_text().split())
    except OSError as error:
        return (Lack("no-cgroup", f"{parent}: {error.strerror}"),)
    found = tuple(_lacking(parent, enabled, given))
    if all(lack.tag != _IO_WEIGHT for lack in found) and not _heeded(sysfs):
        found = (*found, Lack(_IO_WEIGHT, _UNHEEDED))
    return found


def _heeded(sysfs: Path) -> bool:
    """Tell whether any disk goes by the weights: its scheduler is BFQ, or io.cost is on (cgroup-v2.rst, "IO")."""
    if any("[bfq]" in _text(path) for path in (sysfs / "block").glob("*/queue/scheduler")):
        return True
    return "enable=1" in _text(sysfs / "fs" / "cgroup" / "io.cost.qos").split()


def _lacking(parent: Path, enabled: frozenset[str], given: frozenset[str]) -> Iterator[Lack]:
    for feature in _FEATURES:
        name = feature.controller
        if name is not None and name not in enabled:
            why = "not enabled for jobs" if name in given else "not delegated, or not in this kernel"
            yield Lack(feature.tag, f"{_named(feature)}: controller {name} is {why}: {feature.without}")
        elif not any(_usable(parent / file) for file in feature.files):
            yield Lack(feature.tag, f"{_named(feature)}: not in this kernel: {feature.without}")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # no such file in this kernel, or a disk that has just been taken out


def _named(feature: _Feature) -> str:
    return "/".join(feature.files)


def _usable(path: Path) -> bool:
    if not path.name.endswith(".pressure"):
        return path.exists()
    try:
        return bool(path.read_bytes())  # there, and refused, where it was turned off at boot
    except OSError:
        return False
