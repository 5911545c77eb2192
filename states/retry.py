"""When to try again: exponential backoff with jitter, and how often a job may run."""

from dataclasses import dataclass

__all__ = ["Backoff", "Policy"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits grow from `min_s` by doubling up to `max_s`; jitter spreads each over its upper half."""

    min_s: float
    max_s: float

    def __post_init__(self) -> None:
        if not 0 < self.min_s <= self.max_s:
            raise ValueError(f"a backoff needs 0 < min_s <= max_s, not {self.min_s} and {self.max_s}")

    def delay_s(self, failures: int, chance: float, at_least_s: float | None = None) -> float:
        """Return the wait after `failures` (1 and up) in a row; `chance` is uniform in [0, 1).

        `at_least_s` is what the other side asked for (Retry-After); it may exceed `max_s`.
        """
        full = min(self.max_s, self.min_s * 2.0 ** min(max(failures, 1) - 1, 60))
        wait = full * (0.5 + 0.5 * chance)
        return wait if at_least_s is None else max(wait, at_least_s)


@dataclass(frozen=True, slots=True)
class Policy:
    """The operator's word on retries. `max_runs` bounds the runs of one attempt (`retries.max_attempts`)."""

    max_runs: int = 3
    run_backoff: Backoff = Backoff(2.0, 60.0)
    delivery_backoff: Backoff = Backoff(5.0, 120.0)
