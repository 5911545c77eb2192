"""A scenario: everything that a run depends on, as plain data. It can be shortened, and written down as Python."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any

from tests.simulation.crash import CrashKind
from tests.simulation.network import Fate, Outage
from tests.simulation.worksite import Behaviour

__all__ = ["SECRET", "Act", "Habits", "JobSpec", "Scenario", "written"]

SECRET = "s3cret-never-on-a-disk"


@dataclass(frozen=True)
class Habits:
    """What kind of coordinator this is."""

    registration: bool = True
    heartbeats: bool = True
    reconcile: bool = True
    progress: bool = True
    lease_s: float | None = 60.0
    offer_s: float = 15.0
    token_life_s: float | None = None
    token_lies: bool = False
    """Whether tokens end long before the time that was told at the registration."""
    long_poll_s: float = 30.0
    requeue_here: float = 0.5
    """How likely a lapsed job comes back to this node (as another attempt), rather than to another node."""
    offer_again: float = 0.0
    """How likely a pull is answered with a job that is this node's already, or over."""
    fickle: float = 0.0
    """How likely it says no (or yes) where it means the opposite, and hands the same attempt out again later."""
    garbage: float = 0.0
    """How likely an answer has nonsense in it: manifests of any shape, jobs that nobody knows."""
    rejects_results: bool = False


@dataclass(frozen=True)
class JobSpec:
    """A job, and when it is submitted."""

    job_id: str
    at_s: float
    behaviour: Behaviour = field(default_factory=Behaviour)
    gpu_mb: int | None = None
    artifacts: bool = False
    secret: bool = False
    timeout_s: float = 3600.0

    def manifest(self) -> dict[str, Any]:
        made: dict[str, Any] = {
            "job_id": self.job_id,
            "runner": "cli",
            "command": "true",
            "timeout_s": self.timeout_s,
        }
        if self.gpu_mb is not None:
            made["requirements"] = {"gpu": True, "vram_mb": self.gpu_mb}
        if self.artifacts:
            made["artifacts"] = [{"path": "out.txt", "type": "text/plain"}]
        if self.secret:
            made["secrets"] = {"TOKEN": SECRET}
        return made


@dataclass(frozen=True)
class Act:
    """Something that somebody does at a time: `what` is a name in `acts.ACTS`, `about` what that takes."""

    at_s: float
    what: str
    about: Any = None

    def __str__(self) -> str:
        return self.what if self.about is None else f"{self.what}: {self.about}"


@dataclass(frozen=True)
class Scenario:
    """What happens, and when all trouble ends (`fair_from_s`); after that, all is over `ends_within_s` later."""

    seed: int
    jobs: tuple[JobSpec, ...]
    habits: Habits = field(default_factory=Habits)
    acts: tuple[Act, ...] = ()
    loss: float = 0.0
    late_s: float = 0.0
    """How late a request may still arrive that was delayed or sent twice on its way."""
    latency_s: tuple[float, float] = (0.005, 0.05)
    outages: tuple[Outage, ...] = ()
    fates: Mapping[tuple[str, int], Fate] = field(default_factory=dict)
    """What becomes of the n-th call (from 1) of a name, whatever chance says."""
    crashes: Mapping[int, CrashKind] = field(default_factory=dict)
    """At which crash points (numbered from 1, through all lives) what ends."""
    downtime_s: tuple[float, ...] = (2.0,)
    fair_from_s: float = 0.0
    ends_within_s: float = 4 * 3600.0
    cpu: int = 2
    gpu: int = 1
    cards_mb: tuple[int, ...] = (16000,)
    defects: float = 0.0
    """How likely an effect on the machine raises an I/O error."""
    ambiguous_appends: frozenset[int] = frozenset()
    """Which appends are kept but reported as failed."""
    parts: Mapping[str, type] = field(default_factory=dict)
    """Other classes than the product's ("supervisor", "delivery", ...), to see that a defect is noticed."""


def written(value: Any) -> str:
    """Return a scenario (or a part of one) as the Python that makes it, without what is as usual."""
    if is_dataclass(value):
        usual = _usual(value)
        given = [
            f"{name}={written(part)}"
            for name, part in ((one.name, getattr(value, one.name)) for one in fields(value))
            if name != "parts" and (name not in usual or usual[name] != part)
        ]
        return f"{type(value).__name__}({', '.join(given)})"
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, tuple):
        return f"({''.join(f'{written(one)}, ' for one in value).strip()})"
    if isinstance(value, frozenset):
        return f"frozenset({sorted(value)})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{written(key)}: {written(part)}" for key, part in value.items()) + "}"
    return repr(value)


def _usual(value: Any) -> dict[str, Any]:
    needed = {
        "seed": 0,
        "jobs": (),
        "job_id": "",
        "at_s": None,
        "what": "",
        "start_s": 0,
        "end_s": 0,
        "fate": "",
    }
    kind = type(value)
    made = kind(**{one.name: needed[one.name] for one in fields(kind) if one.name in needed})
    return {one.name: getattr(made, one.name) for one in fields(kind) if one.name not in needed}
