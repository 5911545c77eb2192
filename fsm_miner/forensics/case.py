"""A case: everything that is known of one attempt of a job, wherever it was read from. Data only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fsm_miner.forensics.story import Story
from states.events import Offered

__all__ = ["LOG_TAIL_BYTES_MAX", "Case", "Sample"]

LOG_TAIL_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """What a run used at one moment: `at_ns` is UTC; `cpu_s` is counted from the run's start."""

    run: int
    at_ns: int
    cpu_s: float
    memory_mb: float
    disk_mb: float


@dataclass(frozen=True, slots=True)
class Case:
    """`log_tail` and `samples` are None where the job's folder is gone (the journal outlives it).

    `source` says where it was read from; `versions` name the programs of the machine that it was collected on, and
    `node_id` its node; `redacted` are the sequence numbers of records whose data was redacted for a bundle, so that
    their hashes can't be recomputed. `exported_ns` (UTC) is when a bundle was made, None for what was read in place.
    `notes` say, for people, what could not be collected, and why.
    """

    story: Story
    source: str
    others: tuple[int, ...] = ()
    log_tail: str | None = None
    samples: tuple[Sample, ...] | None = None
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    redacted: frozenset[int] = frozenset()
    node_id: str | None = None
    exported_ns: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def manifest(self) -> Mapping[str, Any] | None:
        """The manifest as it was journaled (no secret values); None if it can't be read any more."""
        first = self.story.steps[0].event if self.story.steps else None
        return first.manifest if isinstance(first, Offered) else None
