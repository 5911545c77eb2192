"""A run: one execution of one job's command, described by data before anything happens."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Bind", "Limits", "RunPaths", "RunSpec"]


@dataclass(frozen=True, slots=True)
class Bind:
    """A host path made visible inside the sandbox, read-only unless `writable`."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use. Sizes in MiB, times in seconds.

    `memory_mb` bounds resident memory (cgroup or watchdog); the address-space backstop is derived
    from it and is never set for GPU runs. `output_mb` bounds what the run writes below its writable
    folders together; `log_mb` bounds its log; `file_mb` any single file (RLIMIT_FSIZE).
    """

    time_s: float
    grace_s: float
    memory_mb: int
    output_mb: int
    log_mb: int
    processes: int = 1024
    open_files: int = 4096
    nice: int = 10
    io_class: str = "best-effort"
    io_level: int = 6
    cpu_threads: int | None = None


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Where a run lives on the host. All absolute; all but `control` belong to the job's workspace.

    `control` holds what the job must never see: `run-<n>.lock`, `run-<n>.status`, `task-<n>.json`.
    """

    work: Path
    input: Path
    output: Path
    log: Path
    control: Path


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything that starting a run needs, and nothing that can change afterwards.

    `argv` is what runs inside the sandbox, its first element an absolute path there.
    `env` is the whole environment of the command; `secret_env` joins it without ever being part of an
    argument list, a file or a log. `name` is unique on the node (job, attempt and run) and safe as a
    file name; a cgroup takes it. `devices` are device nodes of assigned GPUs. `binds` come on top of the
    system folders and of the job's own.
    """

    name: str
    run: int
    argv: tuple[str, ...]
    env: Mapping[str, str]
    paths: RunPaths
    limits: Limits
    gpu: bool = False
    devices: tuple[str, ...] = ()
    binds: tuple[Bind, ...] = ()
    secret_env: Mapping[str, str] = field(default_factory=dict, repr=False)
    stdout: Path | None = None

    @property
    def lock(self) -> Path:
        """The file whose lock is held for as long as anything in the sandbox lives."""
        return self.paths.control / f"run-{self.run}.lock"

    @property
    def status(self) -> Path:
        """The file in which bubblewrap leaves its child's process id and exit code."""
        return self.paths.control / f"run-{self.run}.status"
