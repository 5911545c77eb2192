"""Facts in a job's journal, in the past tense. The name of a class is its trigger in `states.table`.

An event is plain data: `to_data` gives the JSON object that is stored, `decode` reads it back. A change of
an event's fields raises its number in `VERSIONS`, and `journal.upcast` learns to read the old form.
Times are UTC in nanoseconds since the epoch unless a name says otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from states.codes import ErrorCode, Failure

__all__ = [
    "EVENTS",
    "VERSIONS",
    "AbandonRequested",
    "Acked",
    "CancelRequested",
    "Delivered",
    "Ended",
    "Event",
    "LaunchIntended",
    "Launched",
    "LimitExceeded",
    "Offered",
    "OutcomeKnown",
    "OutcomeRevised",
    "PrepStarted",
    "Reattached",
    "RetryDue",
    "RetryScheduled",
    "Superseded",
    "decode",
    "to_data",
]


@dataclass(frozen=True, slots=True)
class Offered:
    """A coordinator handed us a manifest. `manifest` is its journal form: no secret values."""

    job_id: str
    attempt: int
    manifest: Mapping[str, Any]
    manifest_sha256: str
    offered_ns: int
    problem_code: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Acked:
    """The coordinator agreed that the job is ours."""

    lease_s: float | None = None


@dataclass(frozen=True, slots=True)
class PrepStarted:
    """The job holds a slot (and its cards, by id) and its first run is being prepared."""

    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LaunchIntended:
    """Written before a process is started: from here on it may exist, under these names."""

    run: int
    boot_id: str
    lock: str
    cgroup: str | None
    program: str
    argv_sha256: str
    time_limit_s: float
    memory_limit_mb: int
    output_limit_mb: int


@dataclass(frozen=True, slots=True)
class Launched:
    """The process exists. `started_boot_ns` is CLOCK_BOOTTIME, which no clock change moves."""

    run: int
    pid: int | None
    started_ns: int
    started_boot_ns: int
    isolation: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reattached:
    """A new daemon found the process of an earlier one alive."""

    run: int
    daemon_pid: int


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody wants the job stopped: `by` is "coordinator" or "operator"."""

    by: str


@dataclass(frozen=True, slots=True)
class AbandonRequested:
    """The coordinator has given the job to another node."""

    reason: str


@dataclass(frozen=True, slots=True)
class LimitExceeded:
    """The run went over a limit and is being stopped for it."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The process is gone. Exactly one of `exit_code`, `signal` is set, or neither (killed, lost)."""

    how: str
    exit_code: int | None
    signal: int | None
    finished_ns: int
    usage: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OutcomeKnown:
    """What came of the job. `code` is None for a success; `artifacts` are as in the result's metadata."""

    code: str | None
    message: str
    permanent: bool = False
    artifacts: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class OutcomeRevised:
    """A success that can't be handed over (refused by the coordinator, its files gone) is a failure now."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class RetryScheduled:
    """Something failed that may go better later: back to `back_to` after `delay_s`, at `due_ns`."""

    back_to: str
    code: str | None
    reason: str
    delay_s: float
    due_ns: int


@dataclass(frozen=True, slots=True)
class RetryDue:
    """The wait is over. On the way back to PREP it starts another run, with these cards."""

    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivered:
    """The coordinator has the outcome."""

    status: int


@dataclass(frozen=True, slots=True)
class Superseded:
    """The coordinator no longer wants anything of this attempt from us."""

    reason: str
    status: int | None = None


Event = (
    Offered
    | Acked
    | PrepStarted
    | LaunchIntended
    | Launched
    | Reattached
    | CancelRequested
    | AbandonRequested
    | LimitExceeded
    | Ended
    | OutcomeKnown
    | OutcomeRevised
    | RetryScheduled
    | RetryDue
    | Delivered
    | Superseded
)

EVENTS: Mapping[str, type[Event]] = MappingProxyType({kind.__name__: kind for kind in Event.__args__})
VERSIONS: Mapping[str, int] = MappingProxyType(dict.fromkeys(EVENTS, 1))

_FIELDS = {kind: tuple(f.name for f in fields(kind)) for kind in EVENTS.values()}
_TUPLES = {
    kind: tuple(f.name for f in fields(kind) if str(f.type).startswith("tuple")) for kind in EVENTS.values()
}


def to_data(event: Event) -> dict[str, Any]:
    """Return the event's JSON object."""
    return {name: getattr(event, name) for name in _FIELDS[type(event)]}


def decode(name: str, data: Mapping[str, Any]) -> Event:
    """Read an event back from its name and JSON object.

    Raises:
        KeyError: no event has this name.
        TypeError: `data` does not have the event's fields.

    """
    kind = EVENTS[name]
    tuples = _TUPLES[kind]
    if not tuples:
        return kind(**data)
    plain = dict(data)
    for field in tuples:
        if field in plain:
            plain[field] = tuple(plain[field])
    return kind(**plain)


def failure_of(event: OutcomeKnown | OutcomeRevised | LimitExceeded) -> Failure | None:
    """Return the failure that an event speaks of, or None for a success."""
    if event.code is None:
        return None
    permanent = isinstance(event, OutcomeKnown) and event.permanent
    return Failure(ErrorCode(event.code), event.message, permanent)
