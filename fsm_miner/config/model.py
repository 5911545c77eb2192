"""The configuration, as section 4 of the specification lays it out, with the keys that it leaves open.

Every key is explained in docs/configuration.md. A configuration never changes once it is loaded.
"""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fsm_miner.config.fields import (
    BaseUrl,
    Duration,
    HostPort,
    ListenOn,
    LogPath,
    Many,
    MaxMb,
    NodeId,
    PathHere,
    SecretReference,
    ShownPath,
    Tag,
    told,
)
from fsm_miner.config.units import Listen

__all__ = [
    "AUTO_NODE_ID",
    "Backoff",
    "CliRunner",
    "Config",
    "CoordinatorSection",
    "Health",
    "Heartbeat",
    "JournalSection",
    "Logging",
    "Network",
    "OutboxSection",
    "PythonRunner",
    "Resources",
    "Retries",
    "Runners",
    "Sandbox",
    "Timeouts",
    "Workspace",
    "warnings_of",
]

AUTO_NODE_ID = "auto"

Seconds = Annotated[float, Field(gt=0, le=86400)]
Mb = Annotated[int, Field(ge=0, le=2**40)]
Slots = Annotated[int, Field(ge=0, le=1024)]


class _Section(BaseModel):
    """What all sections share: unknown keys are errors, nothing is guessed, an empty one has its defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty(cls, data: Any) -> Any:
        return {} if data is None else data


class CoordinatorSection(_Section):
    """Where the coordinator is, and how to talk to it."""

    base_url: BaseUrl
    auth_token: SecretReference
    tls_verify: bool = True
    ca_file: PathHere | None = None
    timeout_s: Seconds = 20.0
    pull_wait_s: Annotated[float, Field(ge=0, le=600)] = 20.0
    poll_interval_s: Seconds = 5.0

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.ca_file is not None and not self.tls_verify:
            raise told(
                "ca_file says whom to trust, but tls_verify: false trusts everybody; remove one of them"
            )
        return self


class Backoff(_Section):
    """Waiting after failures, doubled each time from `min_s` to `max_s`."""

    min_s: Seconds = 5.0
    max_s: Seconds = 120.0

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.min_s > self.max_s:
            raise told("min_s must not be greater than max_s")
        return self


class Heartbeat(_Section):
    """How often the coordinator hears from this node."""

    interval_s: Seconds = 15.0
    jitter_pct: Annotated[float, Field(ge=0, le=90)] = 10.0
    backoff: Backoff = Backoff()


class CliRunner(_Section):
    """Commands from the allowlist: files, folders of them, globs. Without one, no command is allowed."""

    enable: bool = True
    allowlist_files: Annotated[tuple[PathHere, ...], Many] = (Path("/etc/aitbc/miner/allowlist.d"),)


class PythonRunner(_Section):
    """Trusted task modules. `venv` is by default the one that the daemon itself runs in.

    Its own folder, not a link to it: a task that runs through an upgrade goes on loading what it started with.
    """

    enable: bool = True
    task_paths: Annotated[tuple[PathHere, ...], Many] = (Path("/usr/local/lib/aitbc/miner/tasks"),)
    venv: PathHere = Field(default_factory=lambda: Path(sys.prefix).resolve())


class Runners(_Section):
    """The two kinds of jobs."""

    cli: CliRunner = CliRunner()
    python: PythonRunner = PythonRunner()


class Resources(_Section):
    """What jobs may use. Sizes in MiB."""

    max_concurrent_cpu: Slots = 2
    max_concurrent_gpu: Slots = 1
    cpu_nice: Annotated[int, Field(ge=0, le=19)] = 10
    io_class: Literal["best-effort", "idle"] = "best-effort"
    io_level: Annotated[int, Field(ge=0, le=7)] = 6
    mem_soft_mb: Annotated[int, Field(ge=16, le=2**40)] = 16384
    swap_mb: Mb = 0
    max_processes: Annotated[int, Field(ge=16, le=16384)] = 1024
    disk_reserve_mb: Mb = 1024
    input_max_mb: Annotated[int, Field(ge=1, le=2**40)] = 51200

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.max_concurrent_cpu + self.max_concurrent_gpu == 0:
            raise told("max_concurrent_cpu and max_concurrent_gpu are both 0, so no job could ever run")
        return self


class Workspace(_Section):
    """Where jobs live on the disk, and for how long after their end. `max_mb` None is no limit."""

    root: PathHere = Path("/var/lib/aitbc/miner/jobs")
    keep_success: Duration = timedelta(hours=24)
    keep_failed: Duration = timedelta(days=7)
    max_mb: MaxMb = None
    max_files: Annotated[int, Field(ge=1, le=10_000_000)] = 200_000


class Logging(_Section):
    """What is logged, in which form, and where. `path` None is standard error only."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    as_json: bool = Field(default=True, alias="json")
    path: LogPath = Path("/var/log/aitbc/miner/miner.jsonl")


class JournalSection(_Section):
    """The durable record of every job."""

    path: PathHere = Path("/var/lib/aitbc/miner/journal.db")
    retention: Duration = timedelta(days=90)


class Health(_Section):
    """The local status page; None turns it off."""

    listen: ListenOn = Listen("127.0.0.1", 9470)


class Sandbox(_Section):
    """What separates a job from the machine."""

    backend: Literal["bubblewrap", "none"] = "bubblewrap"
    extra_ro_binds: Annotated[tuple[ShownPath, ...], Many] = ()


class Retries(_Section):
    """How often, and how patiently, a job is tried again on this node."""

    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    base_s: Seconds = 2.0
    max_s: Seconds = 60.0

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.base_s > self.max_s:
            raise told("base_s must not be greater than max_s")
        return self


class OutboxSection(_Section):
    """Outcomes that wait for the coordinator. `pause_pull_at` None never stops the pulling."""

    max_concurrent: Annotated[int, Field(ge=1, le=64)] = 4
    pause_pull_at: Annotated[int, Field(ge=1, le=100_000)] | None = 64


class Timeouts(_Section):
    """How long things may take that are not the job's own."""

    stop_grace_s: Annotated[float, Field(ge=0, le=3600)] = 5.0


class Network(_Section):
    """Hosts that jobs may reach, as `host:port`; the second list also at addresses that are not public."""

    allow: Annotated[tuple[HostPort, ...], Many] = ()
    allow_private: Annotated[tuple[HostPort, ...], Many] = ()

    @model_validator(mode="after")
    def _agree(self) -> Self:
        both = sorted({*self.allow} & {*self.allow_private})
        if both:
            raise told(f"allow and allow_private both name {both[0]}; leave it in one of them")
        return self


class Config(_Section):
    """The whole configuration. `node_id` is the real one, never `auto`, once it was loaded from a file."""

    node_id: NodeId = AUTO_NODE_ID
    coordinator: CoordinatorSection
    heartbeat: Heartbeat = Heartbeat()
    runners: Runners = Runners()
    resources: Resources = Resources()
    workspace: Workspace = Workspace()
    logging: Logging = Logging()
    journal: JournalSection = JournalSection()
    health: Health = Health()
    sandbox: Sandbox = Sandbox()
    retries: Retries = Retries()
    outbox: OutboxSection = OutboxSection()
    timeouts: Timeouts = Timeouts()
    tags: Annotated[tuple[Tag, ...], Many] = ()
    network: Network = Network()

    @property
    def state_dir(self) -> Path:
        """The folder of the journal, where the daemon also keeps its lock and its control files."""
        return self.journal.path.parent


def warnings_of(config: Config) -> tuple[str, ...]:
    """Return what is allowed but dangerous, each as `key: what it means`, to be said loudly at start."""
    found: list[str] = []
    if not config.coordinator.tls_verify:
        found.append(
            "coordinator.tls_verify: TLS IS NOT VERIFIED: anybody on the way can read the token and hand out "
            "jobs; set ca_file to trust a private authority instead"
        )
    if config.sandbox.backend == "none":
        found.append("sandbox.backend: NO SANDBOX: jobs see and can change whatever the daemon's user can")
    if config.health.listen is not None and not config.health.listen.loopback:
        found.append("health.listen: other machines can read this node's status")
    return tuple(found)
