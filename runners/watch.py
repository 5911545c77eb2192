"""Watching a run: it says which limit was broken and what was used; it acts on nothing."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from enum import Enum
from functools import partial

from runners import cgroup_counts as counts
from runners.clock import boottime_ns
from runners.lock import LockState, look
from runners.measure import measure_in_memory, measure_written
from runners.meter import UsageMeter
from runners.process import init_pidfd
from runners.reserve import DiskReserve
from runners.run import Limits, RunFiles
from runners.series import UsageSeries
from runners.status import read_status
from runners.usage import count_processes, exact_memory, sample_tree, tree_of

__all__ = ["Breach", "BreachKind", "log_breach", "monitor", "processes_breach"]

_MIB = 1024 * 1024
_POLL_MIN_S = 0.02
_POLL_MAX_S = 0.5
_WRITTEN_EVERY_S = 1.0
# Walking a job's files takes at most this part of one processor's time.
_WALK_SHARE = 0.05
# With little left on the disk it may be more: whoever fills it must be found before it is full.
_WALK_SHARE_PRESSING = 0.25
# One that takes longer than this goes on beside everything else that is looked at.
_WALK_AWAITED_S = 0.05
# What can't be counted in this time is too much. A slow disk needs minutes for the most files that a job may have.
_WALK_MAX_S = 900.0


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


async def monitor(
    files: RunFiles,
    limits: Limits,
    started_boottime_ns: int,
    meter: UsageMeter,
    *,
    reserve: DiskReserve | None = None,
    series: UsageSeries | None = None,
    counting: Executor | None = None,
    boottime: Callable[[], int] = boottime_ns,
) -> Breach | None:
    """Watch until a limit is broken, and return which one, or None when the run has ended by itself.

    Looks often at first and every half second later. May be cancelled and started again at any time. None too
    when the lock has no name any more: somebody has removed the run's folder. What is seen is written into `series`.
    `counting` has the threads for counting files: on a slow disk that holds one for minutes, and no other look waits.
    """
    facts = read_status(files.status).launched
    log_offset = 0 if facts is None else facts.log_offset
    end_ns = started_boottime_ns + round(limits.time_s * 1e9)
    walks = _Walks(partial(_written, files, limits, meter, reserve), counting)
    in_files = _InFiles()
    delay_s = _POLL_MIN_S
    try:
        while look(files.lock) is LockState.HELD:
            breach = _time(end_ns, limits, boottime) or _log(files, limits, log_offset)
            breach = breach or await asyncio.to_thread(_processes, files, limits, meter, in_files)
            pressing = reserve is not None and reserve.short() is not None
            breach = breach or await walks.look(pressing=pressing)
            if series is not None and (breach is not None or series.due()):
                await asyncio.to_thread(meter.note_in, series, files)
            if breach is not None:
                return breach
            left_s = (end_ns - boottime()) / 1e9
            await asyncio.sleep(max(0.0, min(delay_s, left_s)))
            delay_s = min(_POLL_MAX_S, delay_s * 1.5)
        return None
    finally:
        walks.close()


class _Walks:
    """Walks over what a run has written, one after the other: very many files hold up no other look."""

    def __init__(self, measure: Callable[[], Breach | None], threads: Executor | None) -> None:
        self._measure = measure
        self._threads = threads
        self._walk: asyncio.Future[Breach | None] | None = None
        self._began: float | None = None  # once it has a thread
        self._next = self._next_pressing = 0.0

    async def look(self, *, pressing: bool) -> Breach | None:
        """Begin a walk if one is due, and return what one that has ended found."""
        if self._walk is None:
            if time.monotonic() < (self._next_pressing if pressing else self._next):
                return None
            self._began = None
            self._walk = asyncio.get_running_loop().run_in_executor(self._threads, self._count)
        done, _ = await asyncio.wait({self._walk}, timeout=_WALK_AWAITED_S)
        now = time.monotonic()
        took_s = 0.0 if self._began is None else now - self._began
        if not done:
            if took_s < _WALK_MAX_S:
                return None
            return Breach(BreachKind.OUTPUT, f"wrote what takes longer than {_WALK_MAX_S:g} s to count")
        self._next = now + max(_WRITTEN_EVERY_S, took_s / _WALK_SHARE)
        self._next_pressing = now + took_s / _WALK_SHARE_PRESSING
        walk, self._walk = self._walk, None
        return walk.result()

    def _count(self) -> Breach | None:
        self._began = time.monotonic()
        return self._measure()

    def close(self) -> None:
        """Wait for none any more; it only reads."""
        if self._walk is not None:
            self._walk.cancel()


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
        written = files.log.size() - offset
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
    if written.size > limits.output_mb * _MIB:
        return Breach(
            BreachKind.OUTPUT, f"wrote {written.size / _MIB:.1f} MiB, more than {limits.output_mb} MiB"
        )
    too_much = None if reserve is None else reserve.judge(str(files.lock), written)
    return None if too_much is None else Breach(BreachKind.DISK, too_much)


class _InFiles:
    """Memory in files that have no name: of the last count, for telling whether a closer look is needed."""

    def __init__(self) -> None:
        self.bytes = 0
        self._next = 0.0

    def look(self, init: int, *, now: bool = False) -> int:
        """Count, if that is due or must be as of `now`."""
        began = time.monotonic()
        if now or began >= self._next:
            self.bytes = measure_in_memory(tree_of(init))
            ended = time.monotonic()
            self._next = ended + max(_WRITTEN_EVERY_S, (ended - began) / _WALK_SHARE)
        return self.bytes


def _processes(files: RunFiles, limits: Limits, meter: UsageMeter, in_files: _InFiles) -> Breach | None:
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
        limit = limits.memory_mb * _MIB
        if sample.memory_bytes + in_files.look(pid) <= limit:
            return None
        # Anew: what was in files a moment ago may have been let go of.
        held = in_files.look(pid, now=True)
        exact = exact_memory(pid, crowded, limit_bytes=limit, in_files_bytes=held)
        meter.note(None, exact)
        if exact <= limit:
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
