"""A job as its journal tells it: the value that `evolve` builds, event by event."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from states.codes import Failure
from states.events import Ended, Launched, LaunchIntended, RetryScheduled
from states.table import FINAL, HOLDS_SLOT, State

__all__ = ["NEW", "Job", "Step", "newest_attempts"]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Step(NamedTuple):
    """One line of a job's story, kept for the error that an illegal event raises."""

    seq: int
    event: str
    dest: State


class Job(NamedTuple):
    """Everything a decision may depend on. A tuple, because a replay makes 100,000 of them a second.

    `seq` counts the events applied. `run` counts the runs of this attempt; `intent`, `launch` and `ended` belong
    to the current one. `failure` is the outcome's, once `outcome_known`. `deliveries` counts the tries to hand
    the outcome over that failed.
    """

    job_id: str = ""
    attempt: int = 1
    state: State = State.IDLE
    seq: int = 0
    manifest: Mapping[str, Any] = _NOTHING
    manifest_sha256: str = ""
    problem: Failure | None = None
    offered_ns: int = 0
    lease_s: float | None = None
    run: int = 0
    gpus: tuple[str, ...] = ()
    intent: LaunchIntended | None = None
    launch: Launched | None = None
    ended: Ended | None = None
    cancelled_by: str | None = None
    abandoned: str | None = None
    limit: Failure | None = None
    outcome_known: bool = False
    failure: Failure | None = None
    artifacts: tuple[Mapping[str, Any], ...] = ()
    retry: RetryScheduled | None = None
    deliveries: int = 0
    superseded: str | None = None
    story: tuple[Step, ...] = ()

    @property
    def final(self) -> bool:
        """Whether nothing can happen to the job any more."""
        return self.state in FINAL

    @property
    def holds_slot(self) -> bool:
        """Whether the job counts against the node's slots."""
        return self.state in HOLDS_SLOT

    @property
    def requirements(self) -> Mapping[str, Any]:
        """What the manifest asks for; empty where it says nothing."""
        found = self.manifest.get("requirements")
        return cast("Mapping[str, Any]", found) if isinstance(found, Mapping) else _NOTHING

    @property
    def wants_gpu(self) -> bool:
        """Whether the manifest asks for a card."""
        return self.requirements.get("gpu") is True

    # The guards of `states.table.Guard`.

    @property
    def succeeded(self) -> bool:
        """The outcome is a success."""
        return self.outcome_known and self.failure is None

    @property
    def not_succeeded(self) -> bool:
        """The outcome is a failure."""
        return not self.succeeded

    @property
    def back_to_prep(self) -> bool:
        """The wait leads to another run."""
        return self.retry is not None and self.retry.back_to == State.PREP

    @property
    def back_to_uploading(self) -> bool:
        """The wait leads to another try to deliver."""
        return self.retry is not None and self.retry.back_to == State.UPLOADING


NEW = Job()


def newest_attempts(jobs: Iterable[Job]) -> dict[str, int]:
    """Return the highest attempt of each job id: the ones before it were counted as over when it was handed out."""
    newest: dict[str, int] = {}
    for job in jobs:
        newest[job.job_id] = max(job.attempt, newest.get(job.job_id, 0))
    return newest
