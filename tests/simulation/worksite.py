"""A machine: lock files, status files and processes that outlive the daemon; and the port through which a life
of the daemon works on it. A power cut ends the processes and leaves what was on the disk.
"""

import asyncio
import errno
import os
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fsm_miner.supervisor import key_of
from fsm_miner.upload_files import Uploads
from fsm_miner.worksite import Tell
from states.codes import ErrorCode, Failure
from states.job import Job
from states.stimuli import (
    ArtifactsCollected,
    ArtifactsRefused,
    How,
    LaunchFailed,
    LaunchSucceeded,
    LimitHit,
    PrepDone,
    PrepFailed,
    ProcessFound,
    ProcessGone,
)
from tests.simulation.crash import Life
from tests.simulation.virtual_time import VirtualClock

__all__ = ["Behaviour", "Machine", "Process", "Site"]

RunKey = tuple[str, int, int]
_GRACE_S = 10.0


@dataclass(frozen=True)
class Behaviour:
    """What a job's command does, by its name; each run the same unless `first_runs_fail` says otherwise."""

    duration_s: float = 5.0
    exit_code: int | None = 0
    signal: int | None = None
    hangs: bool = False
    hog_after_s: float | None = None
    stop_takes_s: float = 0.5
    input_failures: int = 0
    input_permanent: bool = False
    artifact_missing: bool = False
    launch_fails: bool = False
    denied: bool = False
    vanishes: bool = False
    """Whether it ends without leaving an exit code, as when its sandbox is killed from outside."""


@dataclass
class Process:
    """A run, as its lock and status files tell: `locked` without a process is a launch that was cut off."""

    key: RunKey
    behaviour: Behaviour
    started_ns: int
    started_boot_ns: int
    boot: int
    alive: bool = False
    exit_code: int | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    timers: list[asyncio.TimerHandle] = field(default_factory=list)


class Machine:
    """What persists on the node while daemons come and go."""

    def __init__(
        self,
        clock: VirtualClock,
        chance: random.Random,
        note: Callable[[str], None],
        holds: Callable[[str, bool, str], None],
    ) -> None:
        self.clock = clock
        self.chance = chance
        self.note = note
        self.holds = holds
        self.boot = 1
        self.behaviours: dict[str, Behaviour] = {}
        self.runs: dict[RunKey, Process] = {}
        self.launches: dict[RunKey, int] = {}
        self.input_tries: dict[str, int] = {}
        self.not_allowed: set[str] = set()
        """Jobs whose command the allowlist does not have now."""
        self.allowed_runs: set[RunKey] = set()
        self.no_descriptors = False
        self.writable: Callable[[], bool] = lambda: True
        self.fair = False

    @property
    def boot_id(self) -> str:
        return f"boot-{self.boot}"

    def alive(self, job_id: str) -> list[Process]:
        return [run for run in self.runs.values() if run.alive and run.key[0] == job_id]

    def lock(self, key: RunKey, behaviour: Behaviour) -> Process:
        run = Process(key, behaviour, self.clock.now_ns(), self.clock.boot_ns(), self.boot)
        self.runs[key] = run
        return run

    def spawn(self, run: Process, time_limit_s: float) -> None:
        key = run.key
        self.launches[key] = self.launches.get(key, 0) + 1
        self.holds("one-launch", self.launches[key] == 1, f"{key} was launched {self.launches[key]} times")
        self.holds("allowed", key in self.allowed_runs, f"{key} starts, and no allowlist ever allowed it")
        others = [other.key for other in self.alive(key[0])]
        self.holds("one-process", not others, f"{key} starts while {others} still lives")
        run.alive = True
        self.note(f"process {key} starts")
        loop = asyncio.get_running_loop()
        how = run.behaviour
        if not how.hangs:
            code = how.exit_code if how.signal is None else 128 + how.signal
            code = None if how.vanishes else code
            run.timers.append(loop.call_later(how.duration_s, self.end, run, code))
        # The sandbox's own timer, a little after the daemon's.
        run.timers.append(loop.call_later(time_limit_s + 5.0, self.end, run, None))

    def end(self, run: Process, exit_code: int | None) -> None:
        if run.alive:
            run.alive = False
            run.exit_code = exit_code
            for timer in run.timers:
                timer.cancel()
            self.note(f"process {run.key} ends with {exit_code}")
        run.ended.set()

    def power_cut(self) -> None:
        """Everything that runs is gone; some lock and status files that were just written, too."""
        for key, run in list(self.runs.items()):
            if run.alive:
                self.end(run, None)
                if self.chance.random() < 0.5:
                    del self.runs[key]
        self.boot += 1
        self.clock.booted_s = self.clock.now_s()


class Site:
    """The port `Worksite`, for one life of the daemon. `check` is told of every effect before it happens."""

    def __init__(
        self, machine: Machine, life: Life, check: Callable[[str, Job], None], *, defects: float = 0.0
    ) -> None:
        self._machine = machine
        self._life = life
        self._check = check
        self._defects = defects
        self._known: set[RunKey] = set()
        self.secrets: dict[Any, Mapping[str, Any]] = {}

    def keep_secrets(self, key: Any, secrets: Mapping[str, Any]) -> None:
        if secrets:
            self.secrets[key] = secrets
        else:
            self.secrets.pop(key, None)

    async def _begin(self, name: str, job: Job) -> Behaviour:
        await self._life.check()
        self._check(name, job)
        await self._life.point(f"before {name} {job.job_id}/{job.attempt}")
        if self._machine.no_descriptors:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        if not self._machine.fair and self._machine.chance.random() < self._defects:
            raise OSError(5, f"the disk fails during {name}")
        return self._machine.behaviours.get(job.job_id, Behaviour())

    async def _end(self, name: str, job: Job) -> None:
        await self._life.point(f"after {name} {job.job_id}/{job.attempt}")

    def _roll(self) -> tuple[int, float]:
        return self._machine.clock.now_ns(), self._machine.chance.random()

    async def prepare(self, job: Job) -> PrepDone | PrepFailed:
        how = await self._begin("prepare", job)
        await asyncio.sleep(self._machine.chance.uniform(0.01, 0.5))
        await self._end("prepare", job)
        if how.denied or job.job_id in self._machine.not_allowed:
            return PrepFailed(Failure(ErrorCode.DENY, "the command is not allowed"), *self._roll())
        if not self._machine.writable():
            return PrepFailed(Failure(ErrorCode.NORESOURCE, "the workspace can't be made"), *self._roll())
        wanted = job.manifest.get("secret_names") or ()
        if set(wanted) - set(self.secrets.get(key_of(job), {})):
            return PrepFailed(Failure(ErrorCode.NORESOURCE, "the secrets are gone"), *self._roll())
        tries = self._machine.input_tries[job.job_id] = self._machine.input_tries.get(job.job_id, 0) + 1
        if how.input_permanent or tries <= how.input_failures:
            failure = Failure(ErrorCode.INPUT, "input1: not fetched", permanent=how.input_permanent)
            return PrepFailed(failure, *self._roll())
        self._machine.allowed_runs.add((job.job_id, job.attempt, job.run))
        name = f"{job.job_id}@{job.attempt}/run-{job.run}.lock"
        limit_s = float(job.manifest.get("timeout_s") or 3600.0)
        return PrepDone(self._machine.boot_id, name, None, "/usr/bin/true", "0" * 64, limit_s, 1024, 1024)

    async def launch(self, job: Job, *, only_look: bool) -> LaunchSucceeded | LaunchFailed:
        how = await self._begin("look" if only_look else "launch", job)
        key = (job.job_id, job.attempt, job.run)
        run = self._machine.runs.get(key)
        assert job.intent is not None
        if run is not None:
            return LaunchSucceeded(None, run.started_ns, run.started_boot_ns)
        if job.intent.boot_id != self._machine.boot_id:
            return LaunchSucceeded(None, self._machine.clock.now_ns(), self._machine.clock.boot_ns())
        if only_look:
            return LaunchFailed(Failure(ErrorCode.CANCELLED, "stopped before it was started"))
        if how.launch_fails or not self._machine.writable():
            return LaunchFailed(Failure(ErrorCode.INTERNAL, "the run could not be started"))
        run = self._machine.lock(key, how)
        await self._life.point(f"between lock and spawn {job.job_id}/{job.attempt}")
        self._machine.spawn(run, job.intent.time_limit_s)
        self._known.add(key)
        await asyncio.sleep(self._machine.chance.uniform(0.0, 0.02))
        await self._end("launch", job)
        return LaunchSucceeded(4242, run.started_ns, run.started_boot_ns, ("simulated",))

    async def watch(self, job: Job, tell: Tell) -> ProcessFound | LimitHit | ProcessGone:
        await self._begin("watch", job)
        run = self._run(job)
        if run.key not in self._known:
            self._known.add(run.key)
            if run.alive:
                return ProcessFound(1000 + self._life.number)
        telling = asyncio.create_task(self._tell(tell))
        limits = asyncio.create_task(self._limit(job, run))
        ending = asyncio.create_task(self._ended(run))
        try:
            await asyncio.wait({ending, limits}, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                return LimitHit(limits.result())
        finally:
            for task in (telling, limits, ending):
                task.cancel()
            await asyncio.gather(telling, limits, ending, return_exceptions=True)
        await self._end("watch", job)
        return self._gone(job, run)

    async def stop(self, job: Job) -> ProcessGone:
        how = await self._begin("stop", job)
        run = self._run(job)
        if run.alive:
            await asyncio.sleep(min(how.stop_takes_s, _GRACE_S))
            await self._life.check()
            self._machine.end(run, 143 if how.stop_takes_s < _GRACE_S else None)
        await self._end("stop", job)
        return self._gone(job, run)

    async def collect(self, job: Job) -> ArtifactsCollected | ArtifactsRefused:
        how = await self._begin("collect", job)
        await asyncio.sleep(0.05)
        await self._end("collect", job)
        if how.artifact_missing:
            return ArtifactsRefused(Failure(ErrorCode.ARTIFACT, "out.txt is missing"))
        return ArtifactsCollected(
            ({"path": "out.txt", "type": "text/plain", "size": job.run, "sha256": "0" * 64},)
        )

    @asynccontextmanager
    async def parcel(self, job: Job) -> AsyncGenerator[Uploads | Failure]:
        await self._begin("parcel", job)
        yield Uploads((), None)

    def snapshot(self, job: Job, extra: dict[str, Any]) -> None:
        """Write nothing: no promise hangs on it."""

    def end_recorded(self, job: Job) -> None:
        assert job.ended is not None, "the evidence goes before the end is durable"

    def forget(self, job: Job) -> None:
        self.secrets.pop(key_of(job), None)

    # Parts.

    def _run(self, job: Job) -> Process:
        key = (job.job_id, job.attempt, job.run)
        run = self._machine.runs.get(key)
        if run is None:  # a power cut took its files: lost, as one that was cut off before the spawn
            assert job.intent is not None
            assert job.intent.boot_id != self._machine.boot_id, f"{key}: no lock file"
            run = Process(key, Behaviour(), 0, 0, boot=0)
        if not run.alive:
            run.ended.set()  # a launch that was cut off before the spawn
        return run

    async def _ended(self, run: Process) -> None:
        await run.ended.wait()
        await asyncio.sleep(self._machine.chance.uniform(0.0, 0.1))

    async def _limit(self, job: Job, run: Process) -> Failure:
        assert job.intent is not None
        spent_s = (self._machine.clock.boot_ns() - run.started_boot_ns) / 1e9
        hog = run.behaviour.hog_after_s
        time_s = job.intent.time_limit_s
        await asyncio.sleep(max(0.0, min(time_s, time_s if hog is None else hog) - spent_s))
        if hog is not None and hog < time_s:
            return Failure(ErrorCode.OOM, "the command uses too much memory")
        return Failure(ErrorCode.TIMEOUT, "the command ran too long")

    async def _tell(self, tell: Tell) -> None:
        delay_s = 0.5
        while True:
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, 300.0)
            await self._life.check()
            await tell("running", None, None)

    def _gone(self, job: Job, run: Process) -> ProcessGone:
        assert job.intent is not None
        now_ns, chance = self._roll()
        how, code, number = How.LOST, None, None
        elapsed_s = (self._machine.clock.boot_ns() - run.started_boot_ns) / 1e9
        if run.exit_code is not None and run.exit_code > 128:
            how, number = How.SIGNALLED, run.exit_code - 128
        elif run.exit_code is not None:
            how, code = How.EXITED, run.exit_code
        elif run.boot == self._machine.boot and elapsed_s >= job.intent.time_limit_s:
            how = How.TIMED_OUT
        return ProcessGone(how, code, number, now_ns, now_ns, chance, {"cpu_s": 1.0})
