"""A run's process on this machine: launched at most once, watched by whoever is there, stopped when asked."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fsm_miner.clock import Clock, Dice
from fsm_miner.offload import offload
from fsm_miner.site.cgroups import JOBS_UNIT
from fsm_miner.site.endings import ended_ns, late_breach, read_end
from fsm_miner.site.watched import Watched, keep_telling
from fsm_miner.worksite import NotNow, Tell
from runners import cgroup as cgroups
from runners.egress import EgressFailed
from runners.host import HostTools
from runners.launch import Launched, launch
from runners.launch import LaunchFailed as RunLaunchFailed
from runners.lock import AlreadyStarted, Identity, identity
from runners.log import MemoryFile, RunLog
from runners.meter import UsageMeter
from runners.reserve import DiskReserve
from runners.run import RunFiles, RunSpec
from runners.sandbox import backstop_s
from runners.series import UsageSeries
from runners.shortage import is_shortage, refused_by_disk
from runners.status import read_status
from runners.stop import StopOutcome, end_nameless, end_strays, stop
from runners.wait import Alive, Ended, NotStarted, observe, wait_end
from runners.watch import Breach, BreachKind, monitor
from states.codes import ErrorCode, Failure
from states.job import Job
from states.stimuli import LaunchFailed, LaunchSucceeded, LimitHit, ProcessFound, ProcessGone

__all__ = ["Processes"]

_CODES = {
    BreachKind.TIME: ErrorCode.TIMEOUT,
    BreachKind.MEMORY: ErrorCode.OOM,
    BreachKind.OUTPUT: ErrorCode.OUTPUT,
    BreachKind.LOG: ErrorCode.OUTPUT,
    BreachKind.PROCESSES: ErrorCode.OOM,
    BreachKind.DISK: ErrorCode.NORESOURCE,
}
_QUIET_S = 0.05  # most short commands are over before anybody needs to look at their limits


@dataclass(slots=True)
class _Known:
    """What this daemon process knows of a run beyond its files."""

    child: int | None = None
    lock: Identity | None = None
    log: MemoryFile | None = None
    meter: UsageMeter = field(default_factory=UsageMeter)


class Processes:
    """Launches, watches and stops runs."""

    def __init__(
        self,
        host: HostTools,
        find_cgroup_parent: Callable[[], Path | None],
        boot_id: str,
        reserve: DiskReserve,
        *,
        clock: Clock,
        dice: Dice,
        counting: Executor | None = None,
    ) -> None:
        self._host = host
        self._counting = counting
        self._find_cgroup_parent = find_cgroup_parent
        self._promised = find_cgroup_parent() is not None
        self._boot_id = boot_id
        self._reserve = reserve
        self._clock = clock
        self._dice = dice
        self._known: dict[str, _Known] = {}

    def cgroup_for(self, name: str) -> Path | None:
        """Return where a new run's cgroup is to be made; None on a machine that has none for it.

        Raises:
            NotNow: there were cgroups when the daemon started, and it has told everybody so.

        """
        parent = self._find_cgroup_parent()
        if parent is None and self._promised:
            raise _no_cgroups()
        return None if parent is None else parent / name

    async def launch(
        self,
        spec: RunSpec,
        cgroup: Path | None,
        isolation: Sequence[str],
        let_out: Callable[[RunFiles], Awaitable[None]],
    ) -> LaunchSucceeded | LaunchFailed:
        """Start the run in the cgroup that was intended, or find that it was started before.

        `let_out` opens what a run with egress needs, before its command starts; it raises EgressFailed or OSError.

        Raises:
            NotNow: the cgroup can't be made for now.

        """
        if cgroup is not None and self._find_cgroup_parent() is None:
            raise _no_cgroups()
        try:
            launched = launch(spec, self._host, cgroup_parent=None if cgroup is None else cgroup.parent)
        except AlreadyStarted:
            return self.started_before(spec.status)
        except (RunLaunchFailed, ValueError) as error:
            if is_shortage(error):
                raise
            code = ErrorCode.NORESOURCE if refused_by_disk(error) else ErrorCode.INTERNAL
            return LaunchFailed(Failure(code, f"the run could not be started: {error}"))
        if launched.gate is not None:
            try:
                await let_out(launched.files)
            except (EgressFailed, OSError) as error:
                if not isinstance(observe(launched.files), Ended):  # else its end tells more than this
                    await self._abandon(launched)
                    return LaunchFailed(Failure(ErrorCode.NORESOURCE, f"network.allow: {error}"))
            finally:
                os.close(launched.gate)  # and not before: what is abandoned must never have begun
        files = launched.files
        self._known[spec.name] = _Known(launched.pid, identity(files.lock), files.log.memory)
        return _succeeded(launched, isolation)

    def started_before(self, status: Path) -> LaunchSucceeded:
        """Describe a run that an earlier daemon started (or was about to: then a look finds it lost)."""
        facts = read_status(status).launched
        if facts is None:
            return LaunchSucceeded(None, self._clock.now_ns(), self._clock.boot_ns())
        return LaunchSucceeded(None, facts.at_ns, facts.boottime_ns)

    async def watch(self, job: Job, run: Watched, tell: Tell) -> ProcessFound | LimitHit | ProcessGone:
        """Wait for the end, or for a broken limit."""
        known = self._known.get(run.name)
        if known is None:
            known = self._known[run.name] = _Known(lock=identity(run.files.lock))
            if isinstance(observe(run.files), Alive):
                return ProcessFound(os.getpid())
        run = run.logging_to(known.log)
        waiting = asyncio.create_task(wait_end(run.files, child=known.child, reaped=known.meter.note_cpu))
        others: list[asyncio.Task[Any]] = []
        try:
            await asyncio.wait({waiting}, timeout=_QUIET_S)
            if not waiting.done():
                assert job.launch is not None
                watching = asyncio.create_task(
                    monitor(
                        run.files,
                        run.limits,
                        job.launch.started_boot_ns,
                        known.meter,
                        reserve=self._reserve,
                        counting=self._counting,
                        series=UsageSeries(run.files.usage, job.run, self._clock.now_ns),
                    )
                )
                others = [watching, asyncio.create_task(keep_telling(run, tell))]
                await asyncio.wait({waiting, watching}, return_when=asyncio.FIRST_COMPLETED)
                if watching.done() and not waiting.done() and isinstance(breach := watching.result(), Breach):
                    return LimitHit(Failure(_CODES[breach.kind], f"the command {breach.message}"))
                await end_nameless(run.files, known.lock)
            ended = await waiting
            await end_nameless(run.files, known.lock)  # known from its files alone, it was taken for dead
            await end_strays(run.files)
            known.child = None  # reaped: its number may be another's by now
            if job.limit is None and isinstance(breach := late_breach(run.files, run.limits, ended), Breach):
                return LimitHit(Failure(_CODES[breach.kind], f"the command {breach.message}"))
            return await self._gone(job, run, ended)
        finally:
            await _cancel([waiting, *others])

    async def stop(self, job: Job, run: Watched) -> ProcessGone:
        """End the run: TERM, the grace period, KILL; return when nothing of it lives.

        What went over a limit of the machine gets no grace: it would go on filling the memory, the disk or the
        process table meanwhile.
        """
        known = self._known.setdefault(run.name, _Known())
        run = run.logging_to(known.log)
        greedy = job.limit is not None and job.limit.code is not ErrorCode.TIMEOUT
        await end_nameless(run.files, known.lock)
        while await stop(run.files, 0.0 if greedy else run.limits.grace_s) is StopOutcome.STUCK:
            pass
        ended = await wait_end(run.files, child=known.child, reaped=known.meter.note_cpu)
        await end_strays(run.files)
        return await self._gone(job, run, ended)

    async def clear(self, files: RunFiles) -> bool:
        """End a run that was started, and that the journal knows nothing of; False if there is none."""
        if isinstance(observe(files), NotStarted):
            return False
        while await stop(files, 0.0) is StopOutcome.STUCK:
            pass
        await end_strays(files)
        self.end_recorded(files.cgroup)
        return True

    def end_recorded(self, cgroup: Path | None) -> None:
        """Let go of what the kernel counted about a run, now that its end is durable; again is harmless.

        Not before: whoever comes after a crash reads from it what the run used, and whether it went over its memory.
        One that something still lives in is left for the sweep.
        """
        if cgroup is not None:
            cgroups.remove(cgroup)

    async def _abandon(self, launched: Launched) -> None:
        await self.clear(launched.files)
        await wait_end(launched.files, child=launched.pid)

    def take_log(self, run: Watched) -> RunLog:
        """Return the log of a run that is over, and let go of it, if it is in memory."""
        known = self._known[run.name]
        log = run.logging_to(known.log).files.log
        known.log = None
        return log

    def forget(self, name: str) -> None:
        """Let go of a run."""
        self._known.pop(name, None)

    async def _gone(self, job: Job, run: Watched, ended: Ended) -> ProcessGone:
        assert job.launch is not None
        assert job.intent is not None
        self._reserve.forget(str(run.files.lock))
        known = self._known.setdefault(run.name, _Known())
        known.meter.note_cgroup(run.files)
        known.meter.note_series(run.files, job.run)
        same_boot, now_ns = job.intent.boot_id == self._boot_id, self._clock.now_ns()
        # In a thread: taking long secrets out of a log takes a while.
        end = await offload(
            partial(
                read_end,
                run.files,
                ended,
                run.log_tail,
                same_boot=same_boot,
                elapsed_s=(self._clock.boot_ns() - job.launch.started_boot_ns) / 1e9,
                time_limit_s=job.intent.time_limit_s,
            )
        )
        ended_at = ended_ns(
            run.files,
            ended,
            end.how,
            started_ns=job.launch.started_ns,
            now_ns=now_ns,
            backstop_s=backstop_s(job.intent.time_limit_s, run.limits.grace_s),
        )
        return ProcessGone(
            how=end.how,
            exit_code=end.exit_code,
            signal=end.signal,
            finished_ns=ended_at if same_boot else now_ns,
            now_ns=now_ns,
            chance=self._dice.roll(),
            usage=known.meter.usage.to_json(),
            detail=end.detail,
        )


def _no_cgroups() -> NotNow:
    return NotNow(f"{JOBS_UNIT} holds no cgroups for jobs now: systemctl start {JOBS_UNIT}")


def _succeeded(launched: Launched, isolation: Sequence[str]) -> LaunchSucceeded:
    return LaunchSucceeded(launched.pid, launched.started_ns, launched.started_boottime_ns, tuple(isolation))


async def _cancel(tasks: Sequence["asyncio.Task[Any]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
