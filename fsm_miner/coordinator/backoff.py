"""How long to wait before talking to a coordinator again. Pure: chance is passed in."""

from dataclasses import dataclass

__all__ = ["CallBackoff", "jittered"]


def jittered(interval_s: float, jitter_pct: float, chance: float) -> float:
    """Spread an interval evenly over ±`jitter_pct` percent; `chance` is uniform in [0, 1)."""
    assert 0 <= chance <= 1, "chance is a share of one"
    return interval_s * (1 + jitter_pct / 100 * (2 * chance - 1))


@dataclass(frozen=True, slots=True)
class CallBackoff:
    """Waits double from `min_s` to `max_s` (`heartbeat.backoff`), each then jittered by ±`jitter_pct` percent."""

    min_s: float
    max_s: float
    jitter_pct: float

    def __post_init__(self) -> None:
        if not 0 < self.min_s <= self.max_s:
            raise ValueError(f"a backoff needs 0 < min_s <= max_s, not {self.min_s} and {self.max_s}")
        if not 0 <= self.jitter_pct < 100:
            raise ValueError(f"a jitter is 0 to less than 100 percent, not {self.jitter_pct}")

    def delay_s(self, failures: int, chance: float, at_least_s: float | None = None) -> float:
        """Return the wait after `failures` (1 and up) in a row; `chance` is uniform in [0, 1).

        `at_least_s` is what the coordinator asked for (Retry-After); it may exceed `max_s`.
        """
        full = min(self.max_s, self.min_s * 2.0 ** min(max(failures, 1) - 1, 60))
        wait = jittered(full, self.jitter_pct, chance)
        return wait if at_least_s is None else max(wait, at_least_s)
