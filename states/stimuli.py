"""What can happen to a job. A stimulus may be ignored; only `states.decide` says what it means.

A stimulus that may start a wait carries `now_ns` (UTC) and `chance` (uniform in [0, 1)), because nothing in
this package has a clock or dice of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from states.codes import Failure

__all__ = [
    "AbandonAsked",
    "AckGranted",
    "AckRefused",
    "ArtifactsCollected",
    "ArtifactsRefused",
    "CancelAsked",
    "DeliveryDone",
    "DeliveryRefused",
    "DeliveryRejected",
    "DeliveryUnknown",
    "EffectFailed",
    "How",
    "LaunchFailed",
    "LaunchSucceeded",
    "LimitHit",
    "OfferReceived",
    "OutputDoubted",
    "PrepDone",
    "PrepFailed",
    "ProcessFound",
    "ProcessGone",
    "RetryTimerFired",
    "SlotGranted",
    "SlotImpossible",
    "Stimulus",
]


@dataclass(frozen=True, slots=True)
class OfferReceived:
    """A pull brought a manifest with a usable id; `problem` if it can't be run as it is."""

    job_id: str
    attempt: int
    manifest: Mapping[str, Any]
    manifest_sha256: str
    problem: Failure | None
    now_ns: int


@dataclass(frozen=True, slots=True)
class AckGranted:
    """The coordinator took our ack."""

    lease_s: float | None


@dataclass(frozen=True, slots=True)
class AckRefused:
    """404, 409 or 410: somebody else's, or gone."""

    status: int


@dataclass(frozen=True, slots=True)
class SlotGranted:
    """Admission gave the job a slot, and these cards."""

    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SlotImpossible:
    """This node can never hold the job."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class PrepDone:
    """Checked, workspace made, inputs there; this is what will be started (see `LaunchIntended`)."""

    boot_id: str
    lock: str
    cgroup: str | None
    program: str
    argv_sha256: str
    time_limit_s: float
    memory_limit_mb: int
    output_limit_mb: int


@dataclass(frozen=True, slots=True)
class PrepFailed:
    """The job can't be prepared."""

    failure: Failure
    now_ns: int
    chance: float


@dataclass(frozen=True, slots=True)
class LaunchSucceeded:
    """The run's process exists, or did: what became of it, a look will tell."""

    pid: int | None
    started_ns: int
    started_boot_ns: int
    isolation: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LaunchFailed:
    """No process was started, and none will be for this run."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class ProcessFound:
    """After a restart, the process is still there."""

    daemon_pid: int


class How(StrEnum):
    """How a process came to its end."""

    EXITED = "exited"
    SIGNALLED = "signalled"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    SANDBOX_FAILED = "sandbox_failed"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class ProcessGone:
    """Nothing of the run lives any more. `detail` is a sentence for the failure's message."""

    how: How
    exit_code: int | None
    signal: int | None
    finished_ns: int
    now_ns: int
    chance: float
    usage: Mapping[str, Any] = field(default_factory=dict[str, Any])
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LimitHit:
    """The run went over a limit; it still lives."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class ArtifactsCollected:
    """Every declared artifact is there, hashed."""

    artifacts: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class ArtifactsRefused:
    """A declared artifact is missing, too large, not what may be delivered, or gone before it was delivered."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class OutputDoubted:
    """The run ended well, and a power cut may have taken any part of what it wrote. `reason` is a sentence."""

    reason: str
    now_ns: int
    chance: float


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """The coordinator or the operator wants the job stopped. May be said again and again."""

    by: str


@dataclass(frozen=True, slots=True)
class AbandonAsked:
    """The coordinator gave the job to another node, or has forgotten it."""

    reason: str


@dataclass(frozen=True, slots=True)
class DeliveryDone:
    """The coordinator has the outcome."""

    status: int


@dataclass(frozen=True, slots=True)
class DeliveryRefused:
    """404, 409 or 410: the coordinator has moved on."""

    status: int


@dataclass(frozen=True, slots=True)
class DeliveryRejected:
    """The coordinator refuses the content itself (413, 422)."""

    status: int
    reason: str
    now_ns: int
    chance: float


@dataclass(frozen=True, slots=True)
class DeliveryUnknown:
    """Nobody knows whether the outcome arrived."""

    reason: str
    retry_after_s: float | None
    now_ns: int
    chance: float


@dataclass(frozen=True, slots=True)
class RetryTimerFired:
    """The wait of RETRY_WAIT is over."""


@dataclass(frozen=True, slots=True)
class EffectFailed:
    """A defect of ours: an effect raised. `message` is what the coordinator may read of it."""

    message: str
    now_ns: int
    chance: float


Stimulus = (
    OfferReceived
    | AckGranted
    | AckRefused
    | SlotGranted
    | SlotImpossible
    | PrepDone
    | PrepFailed
    | LaunchSucceeded
    | LaunchFailed
    | ProcessFound
    | ProcessGone
    | LimitHit
    | ArtifactsCollected
    | ArtifactsRefused
    | OutputDoubted
    | CancelAsked
    | AbandonAsked
    | DeliveryDone
    | DeliveryRefused
    | DeliveryRejected
    | DeliveryUnknown
    | RetryTimerFired
    | EffectFailed
)
