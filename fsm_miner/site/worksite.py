"""The worksite of a real machine: `fsm_miner.worksite.Worksite`, put together from its parts."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from pydantic import SecretStr

from fsm_miner.clock import Clock, Dice
from fsm_miner.inputs import FetchSettings, InputUrl, fetch_inputs
from fsm_miner.log_port import Log
from fsm_miner.manifest import Manifest
from fsm_miner.probe.gpu import Gpu
from fsm_miner.site.artifacts import Artifacts
from fsm_miner.site.checks import Checks, Verdict
from fsm_miner.site.egress import Egress
from fsm_miner.site.job_secrets import JobSecrets
from fsm_miner.site.plan import Plan, Planner, run_name
from fsm_miner.site.process import Processes
from fsm_miner.site.watched import Watched
from fsm_miner.snapshot import write_state_json
from fsm_miner.supervisor import key_of
from fsm_miner.upload_files import Uploads
from fsm_miner.worksite import Tell
from fsm_miner.workspace import Workspace, WorkspaceError, free_bytes
from journal.port import StreamKey
from runners.run import RunFiles, files_of
from runners.shortage import is_shortage, refused_by_disk
from runners.wait import NotStarted, observe
from states.codes import ErrorCode, Failure
from states.job import Job
from states.stimuli import (
    ArtifactsCollected,
    ArtifactsRefused,
    LaunchFailed,
    LaunchSucceeded,
    LimitHit,
    OutputDoubted,
    PrepDone,
    PrepFailed,
    ProcessFound,
    ProcessGone,
)

__all__ = ["MachineSite"]

_UNRECORDED = (
    "it was started before, and the journal has lost the records of that: what it left can't be trusted"
)
_WITHHELD = "an artifact is not as declared; which is withheld, as the job's secrets are not known any more"


class _Gpus(Protocol):
    async def read(self) -> Any: ...
    def find(self, card: str) -> Gpu | None: ...


class MachineSite:
    """Does what a job's life needs on this machine. Belongs to one event loop."""

    def __init__(
        self,
        root: Path,
        checks: Checks,
        planner: Planner,
        processes: Processes,
        fetch: FetchSettings,
        gpus: _Gpus,
        egress: Egress,
        *,
        isolation: Callable[[Path | None], tuple[str, ...]],
        boot_id: str,
        clock: Clock,
        dice: Dice,
        log: Log,
    ) -> None:
        self._root = root
        self._checks = checks
        self._planner = planner
        self._processes = processes
        self._fetch = fetch
        self._gpus = gpus
        self._egress = egress
        self._isolation = isolation
        self._boot_id = boot_id
        self._clock = clock
        self._dice = dice
        self._log = log
        self._artifacts = Artifacts(boot_id, clock=clock, dice=dice)
        self._secrets = JobSecrets()

    def workspace(self, job: Job) -> Workspace:
        """Return the job's folder."""
        return Workspace(self._root, job.job_id, job.attempt)

    def keep_secrets(self, key: StreamKey, secrets: Mapping[str, SecretStr]) -> None:
        """Hold a job's secrets, in memory only, until it is over; none lets go of them."""
        self._secrets.keep(key, secrets)

    async def prepare(self, job: Job) -> PrepDone | PrepFailed:
        """Check the job, make its workspace, fetch its inputs."""
        workspace = self.workspace(job)
        try:
            if await self._processes.clear(self._files(workspace, job.run)):
                return self._failed(Failure(ErrorCode.LOST, _UNRECORDED))
            manifest = Manifest.from_journal(job.manifest)
            verdict = self._checks.judge(manifest)
            if isinstance(verdict, Failure):
                return self._failed(verdict)
            if job.gpus:
                await self._gpus.read()  # a card that is gone since it was assigned is noticed here
            # Planned before anything is fetched: what can't be started need not wait for its inputs.
            plan = self._plan(job, manifest, verdict)
            if isinstance(plan, Failure):
                return self._failed(plan)
            await workspace.reset_for_run(job.run)
            failure = await self._inputs(manifest, workspace)
            if failure is not None:
                return self._failed(failure)
        except (OSError, WorkspaceError) as error:
            if is_shortage(error):
                raise
            return self._failed(Failure(ErrorCode.NORESOURCE, f"the workspace can't be made: {error}"))
        cgroup = self._files(workspace, job.run).cgroup
        return PrepDone(
            boot_id=self._boot_id,
            lock=str(plan.spec.lock),
            cgroup=None if cgroup is None else str(cgroup),
            program=verdict.program,
            argv_sha256=plan.argv_sha256,
            time_limit_s=verdict.time_limit_s,
            memory_limit_mb=verdict.memory_limit_mb,
            output_limit_mb=verdict.output_limit_mb,
        )

    async def launch(self, job: Job, *, only_look: bool) -> LaunchSucceeded | LaunchFailed:
        """Start the intended run, unless it was started before."""
        assert job.intent is not None
        watched = self._watched(job)
        # A lock file is no proof across a power cut, which may have taken it: then the run counts as lost, for it
        # may have been started, and a run is never started twice.
        of_this_boot = job.intent.boot_id == self._boot_id
        if not of_this_boot or not isinstance(observe(watched.files), NotStarted):
            return self._processes.started_before(watched.files.status)
        if only_look:
            return LaunchFailed(Failure(ErrorCode.CANCELLED, "stopped before it was started"))
        try:
            plan = self._plan(job, Manifest.from_journal(job.manifest), Verdict.of(job.intent))
            if isinstance(plan, Failure):
                return LaunchFailed(plan)
            if plan.argv_sha256 != job.intent.argv_sha256:
                return LaunchFailed(
                    Failure(ErrorCode.INTERNAL, "the configuration changed between intent and launch")
                )
            if plan.task is not None:
                plan.task.task_file.write_bytes(plan.task.task_json)
        except OSError as error:
            if is_shortage(error):
                raise
            code = ErrorCode.NORESOURCE if refused_by_disk(error) else ErrorCode.INTERNAL
            return LaunchFailed(Failure(code, f"the run can't be described: {error}"))
        cgroup = watched.files.cgroup
        isolation = self._isolation(None if cgroup is None else cgroup.parent)
        return await self._processes.launch(plan.spec, cgroup, isolation, partial(self._egress.let_out, job))

    async def watch(self, job: Job, tell: Tell) -> ProcessFound | LimitHit | ProcessGone:
        """Wait until the process ends or goes over a limit."""
        watched = self._watched(job)
        await self._egress.let_out_again(job, watched.files)
        seen = await self._processes.watch(job, watched, tell)
        return await self._over(job, watched, seen) if isinstance(seen, ProcessGone) else seen

    async def stop(self, job: Job) -> ProcessGone:
        """End the process; return when nothing of it lives."""
        watched = self._watched(job)
        return await self._over(job, watched, await self._processes.stop(job, watched))

    def end_recorded(self, job: Job) -> None:
        """Remove the run's cgroup; what can't be removed now is left for the sweep."""
        if job.intent is None or job.intent.cgroup is None:
            return
        try:
            self._processes.end_recorded(Path(job.intent.cgroup))
        except OSError as error:
            self._log.warning(
                "cgroup_not_removed", job_id=job.job_id, attempt=job.attempt, problem=str(error)
            )

    async def collect(self, job: Job) -> ArtifactsCollected | ArtifactsRefused | OutputDoubted:
        """Check the declared artifacts, make them durable, and hash them."""
        found = await self._artifacts.collect(job, self.workspace(job))
        if isinstance(found, ArtifactsRefused):
            # It lists what is there instead, by names that the job chose.
            message = self._secrets.words(job, found.failure.message) or _WITHHELD
            return ArtifactsRefused(replace(found.failure, message=message))
        return found

    def parcel(self, job: Job) -> AbstractAsyncContextManager[Uploads | Failure]:
        """Open what a success delivers."""
        return self._artifacts.parcel(job, self.workspace(job))

    def snapshot(self, job: Job, extra: dict[str, Any]) -> None:
        """Write `state.json`, where the job has a folder."""
        if job.run > 0:
            write_state_json(self.workspace(job).state_json, extra, self._not_written)

    def forget(self, job: Job) -> None:
        """Let go of what is held in memory for a job that is over."""
        self._secrets.forget(job)
        self._artifacts.forget(key_of(job))
        workspace = self.workspace(job)
        for run in range(1, job.run + 1):
            self._processes.forget(run_name(workspace, run))

    def _not_written(self, problem: str) -> None:
        self._log.warning("snapshot_not_written", problem=problem)

    async def _over(self, job: Job, run: Watched, gone: ProcessGone) -> ProcessGone:
        gone = await self._egress.over(job, run.files, gone)
        if job.limit is not None and job.limit.code is ErrorCode.NORESOURCE:
            # Its neighbours need the disk before it has been delivered. The sweep takes what can't be removed now.
            with suppress(OSError):
                await self.workspace(job).give_back()
        await self._secrets.clean_log(job, self._processes.take_log(run))
        return replace(gone, detail=self._secrets.words(job, gone.detail)) if gone.detail else gone

    def _failed(self, failure: Failure) -> PrepFailed:
        return PrepFailed(failure, self._clock.now_ns(), self._dice.roll())

    def _plan(self, job: Job, manifest: Manifest, verdict: Verdict) -> Plan | Failure:
        gpus = [(card, self._gpus.find(card)) for card in job.gpus]
        for card, gpu in gpus:
            if gpu is None:
                return Failure(ErrorCode.NOGPU, f"the assigned card {card} is gone")
        secrets = self._secrets.of(job)
        if set(manifest.secret_names) - set(secrets):
            return Failure(
                ErrorCode.NORESOURCE,
                "the job's secrets were kept in memory only, and are gone with a restart of the daemon; "
                "hand the job out again",
            )
        try:
            return self._planner.plan(
                manifest,
                verdict,
                self.workspace(job),
                job.run,
                [gpu for _, gpu in gpus if gpu is not None],
                secrets,
            )
        except ValueError as error:
            return Failure(ErrorCode.INVALID, str(error))
        except OSError as error:
            if is_shortage(error):
                raise
            return Failure(
                ErrorCode.INTERNAL, f"runners.python.venv: no interpreter to run tasks with: {error}"
            )

    def _files(self, workspace: Workspace, run: int) -> RunFiles:
        """Return the files of a run that is not intended yet."""
        return files_of(workspace.run_paths, run, self._processes.cgroup_for(run_name(workspace, run)))

    def _watched(self, job: Job) -> Watched:
        assert job.intent is not None
        workspace = self.workspace(job)
        cgroup = None if job.intent.cgroup is None else Path(job.intent.cgroup)
        return Watched(
            run_name(workspace, job.run),
            files_of(workspace.run_paths, job.run, cgroup, workspace.stdout),
            self._planner.limits(Verdict.of(job.intent), job.requirements.get("cpu_threads")),
            self._secrets.log_tail(job),
        )

    async def _inputs(self, manifest: Manifest, workspace: Workspace) -> Failure | None:
        wanted = manifest.input
        if not wanted.urls and not wanted.inline:
            return None
        fetched = await fetch_inputs(
            [InputUrl(item.url, item.name, item.sha256) for item in wanted.urls],
            wanted.inline,
            workspace.input,
            client=self._fetch.client,
            limits=self._fetch.limits,
            free_bytes=free_bytes,
        )
        if isinstance(fetched, Failure):
            return fetched
        folder = PurePosixPath(self._planner.view(workspace).input)
        await workspace.link_inputs({item.name: folder / item.name for item in fetched})
        return None
