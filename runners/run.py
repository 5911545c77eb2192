"""A run: one execution of one job's command, described by data before anything happens."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runners.log import MemoryFile, RunLog

__all__ = [
    "JOB_VIEW",
    "SECRETS",
    "Bind",
    "JobView",
    "Limits",
    "RunFiles",
    "RunPaths",
    "RunSpec",
    "files_of",
    "host_view",
]


@dataclass(frozen=True, slots=True)
class Bind:
    """A host path made visible inside the sandbox, read-only unless `writable`."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use. Sizes in MiB, times in seconds.

    `memory_mb` bounds the memory in use (cgroup or watchdog); the address-space backstop is derived
    from it and is never set for GPU runs. `output_mb` bounds what the run writes below its writable
    folders together, and to its standard output where that is an artifact; `files` how many files and
    folders it makes there; `log_mb` bounds its log; a single file is bounded a little above the larger of
    the two (RLIMIT_FSIZE). `nice` is the niceness that the command gets, not an increment.
    `cpu_threads` (how many CPUs' worth of time it gets) and `swap_mb` (what may be swapped out of it beside its
    memory) bind where there is a cgroup.
    """

    time_s: float
    grace_s: float
    memory_mb: int
    output_mb: int
    log_mb: int
    files: int = 200_000
    processes: int = 1024
    open_files: int = 4096
    nice: int = 10
    io_class: str = "best-effort"
    io_level: int = 6
    cpu_threads: int | None = None
    swap_mb: int = 0


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Where a run lives on the host. All absolute; all but `control` belong to the job's workspace.

    `log` is the file `exec.log`. `control` is a folder with what the job must never see:
    `run-<n>.lock`, `run-<n>.status`, `run-<n>.usage.jsonl`, `task-<n>.json`.
    """

    work: Path
    input: Path
    output: Path
    log: Path
    control: Path

    def lock_of(self, run: int) -> Path:
        """Name the file whose lock is held for as long as anything of this run lives."""
        return self.control / f"run-{run}.lock"

    def status_of(self, run: int) -> Path:
        """Name the file with the launch's facts, the sandbox's process id and the exit code."""
        return self.control / f"run-{run}.status"


@dataclass(frozen=True, slots=True)
class JobView:
    """The job's three folders as its command sees them."""

    work: str
    input: str
    output: str


SECRETS = "/run/secrets"
"""Where the job finds its secret files: a folder in memory that nobody but the job sees."""

JOB_VIEW = JobView(work="/job/work", input="/job/input", output="/job/output")
"""The same for every job, so that nothing on the host shows through."""


def host_view(paths: RunPaths) -> JobView:
    """Return the view of a command that runs without a sandbox."""
    return JobView(work=str(paths.work), input=str(paths.input), output=str(paths.output))


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What looking at a run, waiting for it and stopping it need: no secrets, and nothing of its command."""

    lock: Path
    status: Path
    log: RunLog
    work: Path
    output: Path
    cgroup: Path | None = None
    stdout: Path | None = None

    @property
    def usage(self) -> Path:
        """The file with what the run used over time, beside its status."""
        return self.status.with_suffix(".usage.jsonl")

    @property
    def handed(self) -> tuple[Path, ...]:
        """The files that the run has descriptors of, its log apart: it can write to them, as much as it likes."""
        return tuple(path for path in (self.stdout, self.lock, self.status) if path is not None)


def files_of(
    paths: RunPaths,
    run: int,
    cgroup: Path | None = None,
    stdout: Path | None = None,
    memory_log: MemoryFile | None = None,
) -> RunFiles:
    """Name a run's files; after a restart this needs the workspace and the run's number alone.

    `memory_log` is where its log is while it runs, if not on the disk: known to who started it, and to nobody later.
    """
    return RunFiles(
        lock=paths.lock_of(run),
        status=paths.status_of(run),
        log=RunLog(paths.log, memory_log),
        work=paths.work,
        output=paths.output,
        cgroup=cgroup,
        stdout=stdout,
    )


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything that starting a run needs, and nothing that can change afterwards.

    `argv` is what runs inside the sandbox, its first element an absolute path there.
    `env` is the whole environment of the command; `secret_env` joins it without ever being part of an
    argument list, a file or a log; neither do `secret_files`, by name, which it finds below SECRETS.
    `name` is unique on the node (job, attempt and run) and safe as a file name; a cgroup takes it. `devices`
    are device nodes of assigned GPUs. `binds` come on top of the system folders and of the job's own. `stdout`,
    if set, takes the standard output alone: a file that the job can't see, so that no link of its making can
    lead the daemon astray. `egress`: somebody listens on its loopback for it (runners.egress) before the command
    starts.
    """

    name: str
    run: int
    argv: tuple[str, ...]
    env: Mapping[str, str]
    paths: RunPaths
    limits: Limits
    gpu: bool = False
    egress: bool = False
    devices: tuple[str, ...] = ()
    binds: tuple[Bind, ...] = ()
    secret_env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    secret_files: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    stdout: Path | None = None

    @property
    def told_secrets(self) -> bool:
        """Whether it may print what must reach no disk."""
        return bool(self.secret_env or self.secret_files)

    @property
    def lock(self) -> Path:
        """The file whose lock is held for as long as anything in the sandbox lives."""
        return self.paths.lock_of(self.run)

    @property
    def status(self) -> Path:
        """The file in which bubblewrap leaves its child's process id and exit code."""
        return self.paths.status_of(self.run)
