"""The machine itself: CPU, memory, disk, operating system (section 7)."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fsm_miner.probe.cgroup_limits import cgroup_limits
from fsm_miner.probe.gpu import mib
from fsm_miner.probe.sysfile import read_text

__all__ = ["HostFacts", "HostProbe"]

TEXT_MAX = 128


@dataclass(frozen=True, slots=True)
class HostFacts:
    """One look at the machine. Sizes in MiB; `load` over 1, 5 and 15 minutes.

    `cores` are the logical CPUs that jobs can really have (see `HostProbe.cores`).
    `memory_mb` is what the node has or its cgroup allows, `memory_free_mb` what can be had without swapping.
    `disk_free_mb` is what an unprivileged process can still write in the workspace's file system.
    """

    cores: int
    arch: str
    cpu_model: str | None
    memory_mb: int
    memory_free_mb: int
    disk_free_mb: int
    load: tuple[float, float, float]
    os_id: str | None


def _affinity() -> int:
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class HostProbe:
    """Looks at the machine through `proc`, `sysfs` and `etc`; `workspace` names the file system that counts."""

    workspace: Path
    proc: Path = Path("/proc")
    sysfs: Path = Path("/sys")
    etc: Path = Path("/etc")
    affinity: Callable[[], int] = _affinity
    arch: str = field(default_factory=lambda: os.uname().machine)

    def read(self) -> HostFacts:
        """Look once; cheap enough for each heartbeat.

        Raises:
            OSError: the workspace's folder does not exist, or `proc` shows no memory.

        """
        limits = cgroup_limits(self.proc, self.sysfs)
        total, available = self._memory()
        if limits.memory_bytes is not None:
            total = min(total, limits.memory_bytes)
        return HostFacts(
            cores=cores(self.affinity(), limits.cpus),
            arch=self.arch,
            cpu_model=self._cpu_model(),
            memory_mb=mib(total),
            memory_free_mb=mib(min(total, available)),
            disk_free_mb=mib(shutil.disk_usage(self.workspace).free),
            load=self._load(),
            os_id=self._os_id(),
        )

    def _memory(self) -> tuple[int, int]:
        """Total and available memory in bytes (proc_meminfo(5), which says kB and means KiB)."""
        path = self.proc / "meminfo"
        found = dict(line.split(":", 1) for line in (read_text(path) or "").splitlines() if ":" in line)
        try:
            return _kib(found["MemTotal"]), _kib(found["MemAvailable"])
        except (KeyError, ValueError, IndexError) as error:
            raise OSError(f"{path}: no MemTotal and MemAvailable in kB: is /proc mounted?") from error

    def _cpu_model(self) -> str | None:
        for line in (read_text(self.proc / "cpuinfo") or "").splitlines():
            name, colon, value = line.partition(":")
            if colon and name.strip() in ("model name", "Model", "cpu model"):
                return value.strip()[:TEXT_MAX] or None
        return None  # ARM kernels mostly give numbers only

    def _load(self) -> tuple[float, float, float]:
        words = (read_text(self.proc / "loadavg") or "").split()
        one, five, fifteen = (float(word) for word in words[:3]) if len(words) >= 3 else (0.0, 0.0, 0.0)
        return one, five, fifteen

    def _os_id(self) -> str | None:
        for line in (read_text(self.etc / "os-release") or "").splitlines():
            name, equals, value = line.partition("=")
            if equals and name.strip() == "ID":
                return value.strip().strip("\"'")[:TEXT_MAX] or None
        return None


def cores(affinity: int, quota: float | None) -> int:
    """Return the whole CPUs that this process and its children can keep busy; at least 1.

    The smaller of the affinity mask (taskset, systemd's CPUAffinity, cpusets) and the cgroup's quota, a
    partial CPU rounded down: what is advertised must be there.
    """
    return max(1, affinity if quota is None else min(affinity, int(quota)))


def _kib(value: str) -> int:
    number, unit = value.split()
    if unit != "kB":
        raise ValueError(value)
    return int(number) * 1024
