"""Watching a run: it says which limit was broken and what was used; it acts on nothing."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from runners import cgroup_counts as counts
from runners.clock import boottime_ns
from runners.lock import LockState, look
from runners.measure import measure_written
from runners.process import init_pidfd
from runners.reserve import DiskReserve
from runners.run import Limits, RunFiles
from runners.series import UsageSeries, read_lines
from runners.status import read_status
from runners.usage import count_processes, exact_memory, sample_tree, tree_of

__all__ = ["Breach", "BreachKind", "Usage", "UsageMeter", "log_breach", "monitor", "processes_breach"]

_MIB = 1024 * 1024
_POLL_MIN_S = 0.02
_POLL_MAX_S = 0.5
_WRITTEN_EVERY_S = 1.0
# Walking a job's files takes at most this part of one processor's time.
_WALK_SHARE = 0.05
# With little left on the disk it may be more: whoever fills it must be found before it is full.
_WALK_SHARE_PRESSING = 0.25


class BreachKind(Enum):
    """The limit that was broken."""

    TIME = "time"
    MEMORY = "memory"
    OUTPUT = "output"
    LOG = "log"
    PROCESSES = "processes"
    DISK = "disk"


@dataclass(frozen=True, slots=True)
class Breach:
    """A broken limit, with a sentence for whoever wrote the job."""

    kind: BreachKind
    message: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What the run used. Exact from a cgroup; else memory is as of the last look, so short runs are underestimated.

    None: nobody saw it. Unknown is not nothing.

    `more` is what only a cgroup tells, each as far as this kernel counts it: `throttled_s` (held back by its CPU
    quota), `processes_max`, `io_read_mb` and `io_written_mb` (disks), `stalled_s` (waiting, by resource).
    """

    cpu_s: float | None
    max_rss_mb: float | None
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def to_json(self) -> dict[str, Any]:
        """Return what is known of it as JSON-ready data, for the journal and the coordinator."""
        known = {"cpu_s": self.cpu_s, "max_rss_mb": self.max_rss_mb}
        return {**{name: value for name, value in known.items() if value is not None}, **self.more}


class UsageMeter:
    """Collects the usage of one run; its figures only ever grow."""

    def __init__(self) -> None:
        self._cpu_s: float | None = None
        self._peak_bytes: int | None = None
        self._memory_bytes = 0
        self._written_bytes = 0
        self._more: dict[str, Any] = {}

    @property
    def usage(self) -> Usage:
        """The usage as it is known now."""
        return Usage(
            None if self._cpu_s is None else round(self._cpu_s, 3),
            None if self._peak_bytes is None else round(self._peak_bytes / _MIB, 1),
            dict(self._more),
        )

    def note(self, cpu_s: float | None, memory_bytes: int | None) -> None:
        """Take one look into account; None is what that look could not tell."""
        if cpu_s is not None:
            self._cpu_s = max(self._cpu_s or 0.0, cpu_s)
        if memory_bytes is not None:
            self._peak_bytes = max(self._peak_bytes or 0, memory_bytes)
        self._memory_bytes = self._memory_bytes if memory_bytes is None else memory_bytes

    def note_written(self, written_bytes: int) -> None:
        """Take what lies below the run's folders now into account."""
        self._written_bytes = written_bytes

    def note_cpu(self, cpu_s: float) -> None:
        """Take the kernel's own count of processor time into account."""
        self.note(cpu_s, None)

    def note_cgroup(self, files: RunFiles) -> None:
        """Take the cgroup's own figures: at each look, and at the end, before it is removed."""
        if files.cgroup is not None:
            counted = counts.usage(files.cgroup)
            peak = counted.memory_peak_bytes
            self.note(counted.cpu_s, counted.memory_bytes if peak is None else peak)
            self._memory_bytes = counted.memory_bytes or 0
            self._more |= _more(counted)

    def note_series(self, files: RunFiles, run: int) -> None:
        """Take what was written down of a run into account, by an earlier daemon too."""
        for line in read_lines(files.usage):
            if line["run"] == run:
                self.note(line["cpu_s"], round(line["memory_mb"] * _MIB))

    def note_in(self, series: UsageSeries, files: RunFiles) -> None:
        """Write what is known now into the run's series."""
        pressure = {} if files.cgroup is None else counts.pressure(files.cgroup)
        series.add(self._cpu_s or 0.0, self._memory_bytes, self._written_bytes, pressure)


def _more(counted: counts.CgroupUsage) -> dict[str, Any]:
    found = {
        "throttled_s": None if counted.throttled_s is None else round(counted.throttled_s, 3),
        "processes_max": counted.processes_max,
        "io_read_mb": None if counted.read_bytes is None else round(counted.read_bytes / _MIB, 1),
        "io_written_mb": None if counted.written_bytes is None else round(counted.written_bytes / _MIB, 1),
        "stalled_s": {name: round(s, 3) for name, s in counted.stalled_s.items()} or None,
    }
    return {name: value for name, value in found.items() if value is not None}


async def monitor(
    files: RunFiles,
    limits: Limits,
    started_boottime_ns: int,
    meter: UsageMeter,
    *,
    reserve: DiskReserve | None = None,
    series: UsageSeries | None = None,
    boottime: Callable[[], int] = boottime_ns,
) -> Breach | None:
    """Watch until a limit is broken, and return which one, or None when the run has ended by itself.

    Looks often at first and every half second later. May be cancelled and started again at any time. None too
    when the lock has no name any more: somebody has removed the run's folder. What is seen is written into `series`.
    """
    facts = read_status(files.status).launched
    log_offset = 0 if facts is None else facts.log_offset
    end_ns = started_boottime_ns + round(limits.time_s * 1e9)
    next_walk = next_pressing = 0.0
    delay_s = _POLL_MIN_S
    while look(files.lock) is LockState.HELD:
        breach = _time(end_ns, limits, boottime) or _log(files, limits, log_offset)
        breach = breach or await asyncio.to_thread(_processes, files, limits, meter)
        pressing = reserve is not None and reserve.short() is not None
        if breach is None and time.monotonic() >= (next_pressing if pressing else next_walk):
            began = time.monotonic()
            breach = await asyncio.to_thread(_written, files, limits, meter, reserve)
            took_s = time.monotonic() - began
            next_walk = time.monotonic() + max(_WRITTEN_EVERY_S, took_s / _WALK_SHARE)
            next_pressing = time.monotonic() + took_s / _WALK_SHARE_PRESSING
        if series is not None and (breach is not None or series.due()):
            await asyncio.to_thread(meter.note_in, series, files)
        if breach is not None:
            return breach
        left_s = (end_ns - boottime()) / 1e9
        await asyncio.sleep(max(0.0, min(delay_s, left_s)))
        delay_s = min(_POLL_MAX_S, delay_s * 1.5)
    return None


def _time(end_ns: int, limits: Limits, boottime: Callable[[], int]) -> Breach | None:
    if boottime() < end_ns:
        return None
    return Breach(BreachKind.TIME, f"ran longer than {limits.time_s:g} s")


def log_breach(files: RunFiles, limits: Limits) -> Breach | None:
    """Say whether a run that has ended left a larger log than it may: the last look may have come too early."""
    facts = read_status(files.status).launched
    return None if facts is None else _log(files, limits, facts.log_offset)


def _log(files: RunFiles, limits: Limits, offset: int) -> Breach | None:
    try:
        written = files.log.stat(follow_symlinks=False).st_size - offset
    except FileNotFoundError:
        return None  # somebody has removed it
    if written <= limits.log_mb * _MIB:
        return None
    return Breach(BreachKind.LOG, f"printed {written / _MIB:.1f} MiB, more than {limits.log_mb} MiB")


def _written(
    files: RunFiles, limits: Limits, meter: UsageMeter, reserve: DiskReserve | None
) -> Breach | None:
    with init_pidfd(files) as init:
        # Without a process id (it is just starting, or ending) the names are all there is to go by.
        written = measure_written(
            (files.work, files.output),
            () if init is None else tree_of(init[0]),
            files=files.handed,
            entries_max=limits.files,
        )
    meter.note_written(written.size)
    if written.excess is not None:
        return Breach(BreachKind.OUTPUT, f"wrote {written.excess}")
    if files.cgroup is None and written.in_memory > limits.memory_mb * _MIB:
        meter.note(None, written.in_memory)
        return Breach(BreachKind.MEMORY, _over_memory(limits))
    if written.size > limits.output_mb * _MIB:
        return Breach(
            BreachKind.OUTPUT, f"wrote {written.size / _MIB:.1f} MiB, more than {limits.output_mb} MiB"
        )
    too_much = None if reserve is None else reserve.judge(str(files.lock), written)
    return None if too_much is None else Breach(BreachKind.DISK, too_much)


def _processes(files: RunFiles, limits: Limits, meter: UsageMeter) -> Breach | None:
    if files.cgroup is not None:
        # The kernel enforces memory.max and pids.max by itself; this says so in our words, and ends what goes on
        # trying: a job comes to the same end as under the watchdog.
        meter.note_cgroup(files)
        if counts.oom(files.cgroup) is counts.Oom.OWN:
            return Breach(BreachKind.MEMORY, _over_memory(limits))
        return _crowded(limits) if counts.processes_refused(files.cgroup) else None
    with init_pidfd(files) as init:
        if init is None:
            return None
        pid = init[0]

        def crowded() -> bool:
            return count_processes(pid) > limits.processes

        sample = None if crowded() else sample_tree(pid, crowded)
        if sample is None or sample.processes > limits.processes or crowded():
            return _crowded(limits)
        meter.note(sample.cpu_s, sample.anonymous_bytes)
        if sample.memory_bytes <= limits.memory_mb * _MIB:
            return None
        exact = exact_memory(pid, crowded)
        meter.note(None, exact)
        if exact <= limits.memory_mb * _MIB:
            return None  # or cut short, because there are too many by now: the next look says so
        return Breach(BreachKind.MEMORY, _over_memory(limits))


def processes_breach(files: RunFiles, limits: Limits) -> Breach | None:
    """Say whether a run that has ended was ever refused a process: the last look may have come too early."""
    refused = files.cgroup is not None and counts.processes_refused(files.cgroup)
    return _crowded(limits) if refused else None


def _crowded(limits: Limits) -> Breach:
    return Breach(BreachKind.PROCESSES, f"wanted more than {limits.processes} processes and threads")


def _over_memory(limits: Limits) -> str:
    return f"used more than {limits.memory_mb} MiB of memory"
