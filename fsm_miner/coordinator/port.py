"""What the daemon asks of a coordinator, and every answer it knows how to take.

A call never raises for what the network or the other side did: it returns one of the answers below.
`Unknown` is not a no: whoever gets it asks again later and destroys nothing because of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = [
    "Absent",
    "AckAnswer",
    "Acked",
    "Beat",
    "BeatAnswer",
    "BeatTaken",
    "Coordinator",
    "Delivered",
    "DeliveryAnswer",
    "FailureReport",
    "Gone",
    "JobOffer",
    "NothingToDo",
    "ProgressAnswer",
    "ProgressReport",
    "ProgressTaken",
    "PullAnswer",
    "PullRequest",
    "ReconcileAnswer",
    "ReconcileJob",
    "Reconciled",
    "Refused",
    "RegisterAnswer",
    "Registered",
    "Rejected",
    "ResultReport",
    "Unauthorized",
    "Unknown",
    "UploadFile",
]


# Answers that many calls share.


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody knows whether the call took effect: a time-out, a refused connection, 5xx, 429, a garbled body.

    `retry_after_s` is what the coordinator asked for, if it did (already bounded).
    """

    reason: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unauthorized:
    """401 on a call of the node: register again, then go on."""

    reason: str


@dataclass(frozen=True, slots=True)
class Absent:
    """404, 405 or 501 on an optional endpoint: this coordinator does not have it."""


@dataclass(frozen=True, slots=True)
class Gone:
    """404, 409 or 410 on a job's call: the job is somebody else's, or over."""

    status: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """The coordinator understood and refuses the content itself (413, 422 or another 4xx)."""

    status: int
    reason: str


# Node.


@dataclass(frozen=True, slots=True)
class Registered:
    """The node is known. The client keeps the node token in memory by itself; it never leaves it."""

    expires_in_s: float | None
    features: frozenset[str]


@dataclass(frozen=True, slots=True)
class Refused:
    """401 or 403 at registration."""

    status: int
    reason: str


RegisterAnswer = Registered | Refused | Absent | Unknown


@dataclass(frozen=True, slots=True)
class Beat:
    """One heartbeat. `running` items: `{"job_id", "attempt", "state"}`."""

    load: tuple[float, float, float]
    free_mb: int
    gpu_free: int
    state: str
    running: Sequence[Mapping[str, Any]]
    slots: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class BeatTaken:
    """The heartbeat's answer, with the commands that rode on it; each is idempotent."""

    cancel: tuple[str, ...] = ()
    drain: bool | None = None


BeatAnswer = BeatTaken | Unauthorized | Absent | Unknown


# Jobs.


@dataclass(frozen=True, slots=True)
class PullRequest:
    """What this node can take now. `gpus`: free video memory of each free card, in MiB."""

    runners: tuple[str, ...]
    cpu_slots: int
    gpus_vram_free_mb: tuple[int, ...]
    tags: tuple[str, ...] = ()
    queues: tuple[str, ...] = ("latency", "throughput")
    wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class JobOffer:
    """A manifest as it came: decoded JSON and nothing more. Everything in it is hostile."""

    manifest: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class NothingToDo:
    """No job now."""


PullAnswer = JobOffer | NothingToDo | Unauthorized | Unknown


@dataclass(frozen=True, slots=True)
class Acked:
    """The job is this node's, for `lease_s` seconds after the last heartbeat where the coordinator says so."""

    lease_s: float | None


AckAnswer = Acked | Gone | Unauthorized | Unknown


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """Throttled by the caller; a lost one is never retried. `pct` is 0..100 or None."""

    job_id: str
    attempt: int
    pct: float | None
    note: str
    log_tail: str | None


@dataclass(frozen=True, slots=True)
class ProgressTaken:
    """The progress was read; `cancel` asks to stop the job."""

    cancel: bool


ProgressAnswer = ProgressTaken | Unauthorized | Absent | Unknown


@dataclass(frozen=True, slots=True)
class UploadFile:
    """A file part of a result. The file is opened once, by whoever checked it, and streamed from `fd`.

    `fd` stays the caller's; the client reads `size` bytes from offset 0 with pread and never closes it,
    so that a retry reads the same bytes again.
    """

    fd: int
    size: int
    filename: str
    content_type: str


@dataclass(frozen=True, slots=True)
class ResultReport:
    """A success. `metadata` is the contract's; `artifacts` go as parts named `artifact`, `log` is the last."""

    job_id: str
    attempt: int
    metadata: Mapping[str, Any]
    artifacts: tuple[UploadFile, ...]
    log: UploadFile | None


@dataclass(frozen=True, slots=True)
class FailureReport:
    """A failure, with a message for the person who wrote the job."""

    job_id: str
    attempt: int
    error_code: str
    error_msg: str
    logs_ref: str | None
    retryable: bool


@dataclass(frozen=True, slots=True)
class Delivered:
    """The coordinator has the outcome."""

    status: int


DeliveryAnswer = Delivered | Gone | Rejected | Unauthorized | Unknown


@dataclass(frozen=True, slots=True)
class ReconcileJob:
    """One unfinished job, as the journal knows it. `since_ns`: UTC, when it entered `state`."""

    job_id: str
    attempt: int
    state: str
    since_ns: int


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What to do with each job that was asked about: `abandon` holds the ids to give up."""

    abandon: frozenset[str]


ReconcileAnswer = Reconciled | Absent | Unauthorized | Unknown


class Coordinator(Protocol):
    """The port. Every mutating call of a job carries `Idempotency-Key: <job_id>/<attempt>/<step>`."""

    async def register(self, descriptor: Mapping[str, Any]) -> RegisterAnswer:
        """Announce the node; the bootstrap token is used here and nowhere else (unless this is Absent)."""
        ...

    async def heartbeat(self, beat: Beat) -> BeatAnswer:
        """Say that the node lives and what it does."""
        ...

    async def pull(self, request: PullRequest) -> PullAnswer:
        """Ask for one job."""
        ...

    async def ack(self, job_id: str, attempt: int) -> AckAnswer:
        """Take the job."""
        ...

    async def progress(self, report: ProgressReport) -> ProgressAnswer:
        """Tell how far a job is."""
        ...

    async def result(self, report: ResultReport) -> DeliveryAnswer:
        """Deliver a success."""
        ...

    async def fail(self, report: FailureReport) -> DeliveryAnswer:
        """Deliver a failure."""
        ...

    async def reconcile(self, jobs: Sequence[ReconcileJob]) -> ReconcileAnswer:
        """Ask what to do with the jobs that a restart found unfinished."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
