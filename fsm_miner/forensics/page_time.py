"""A stretch of time as an axis: where a moment lies on it, and which moments are written under it. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fsm_miner.words import NS

__all__ = ["Tick", "Window", "short_span"]

_MS = 1_000_000
_YEAR_S = 365 * 86400
_YEARS_FROM_S = 2 * _YEAR_S
_STEPS_NS = (
    *(n * unit for unit in (1_000, 10_000, 100_000, _MS, 10 * _MS, 100 * _MS) for n in (1, 2, 5)),
    *(n * NS for n in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800)),
    *(n * 3600 * NS for n in (1, 2, 3, 6, 12, 24, 48, 5 * 24, 10 * 24, 30 * 24, 90 * 24)),
    *(n * 365 * 86400 * NS for n in (1, 2, 5, 10, 20, 50, 100, 200)),
)


@dataclass(frozen=True, slots=True)
class Tick:
    """A moment on the axis: `at` in per cent, the time since the job's first record, and the time of day (UTC)."""

    at: float
    since: str
    clock: str


@dataclass(frozen=True, slots=True)
class Window:
    """From `start_ns` to `end_ns`, drawn to scale; `zero_ns` is what the ticks count from."""

    start_ns: int
    end_ns: int
    zero_ns: int

    def __post_init__(self) -> None:
        assert self.start_ns < self.end_ns

    @property
    def span_ns(self) -> int:
        """How long it is."""
        return self.end_ns - self.start_ns

    def at(self, moment_ns: int) -> float:
        """Return where a moment lies, in per cent of the width; beyond the ends it is at the end."""
        inside = min(max(moment_ns, self.start_ns), self.end_ns)
        return round(100 * (inside - self.start_ns) / self.span_ns, 4)

    def holds(self, start_ns: int, end_ns: int) -> bool:
        """Say whether any of a stretch is to be seen."""
        return start_ns <= self.end_ns and end_ns >= self.start_ns

    def ticks(self, count_max: int) -> list[Tick]:
        """Return at most `count_max` moments at even steps, counted from the job's first record."""
        step = next((step for step in _STEPS_NS if self.span_ns // step < count_max), self.span_ns)
        first = -((self.zero_ns - self.start_ns) // step) * step + self.zero_ns
        found: list[Tick] = []
        before: datetime | None = None
        for moment in range(first, self.end_ns + 1, step):
            if moment < self.start_ns:
                continue
            when = _date(moment)
            found.append(
                Tick(self.at(moment), _since(moment - self.zero_ns, step), _clock(when, before, step))
            )
            before = when
        return found[:count_max]


def _since(passed_ns: int, step_ns: int) -> str:
    """Return the time since zero, as exact as the step asks for."""
    if passed_ns < 0:
        return "-" + _since(-passed_ns, step_ns)
    if passed_ns == 0:
        return "0"
    if step_ns < _MS:
        return f"{passed_ns / _MS:.3f}".rstrip("0").rstrip(".") + " ms"
    if step_ns < NS:
        return (
            f"{passed_ns // _MS} ms"
            if passed_ns < NS
            else f"{passed_ns / NS:.3f}".rstrip("0").rstrip(".") + " s"
        )
    return short_span(passed_ns, step_ns)


def short_span(passed_ns: int, step_ns: int = 1) -> str:
    """Return a span in at most two units: `4.2 s`, `3 min 20 s`, `2 h 05 min`, `1 d 12 h`."""
    if passed_ns < NS and step_ns < NS:
        ms = passed_ns / _MS
        return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.3g} ms" if ms else "0 s"
    seconds = passed_ns / NS
    if seconds < 59.95:
        return f"{seconds:.{2 if seconds < 9.995 and step_ns < NS else 1}f}".rstrip("0").rstrip(".") + " s"
    whole = round(seconds)
    if whole >= _YEARS_FROM_S:
        return f"{whole / _YEAR_S:.1f}".removesuffix(".0") + " years"
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {name}" if rest else "")
    return f"{whole} s"


def _date(moment_ns: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=moment_ns // 1000)
    except OverflowError:
        return None


def _clock(when: datetime | None, before: datetime | None, step_ns: int) -> str:
    if when is None:
        return ""
    if step_ns >= 365 * 86400 * NS:
        return f"{when:%Y}"
    if step_ns >= 86400 * NS:
        return f"{when:%b} {when.day}"
    if step_ns < _MS:
        return f"{when:%H:%M:%S.%f}"
    if step_ns < NS:
        return f"{when:%H:%M:%S}.{when.microsecond // 1000:03d}"
    shown = f"{when:%H:%M}" if step_ns >= 60 * NS and when.second == 0 else f"{when:%H:%M:%S}"
    if before is not None and when.date() != before.date():
        return f"{when:%b} {when.day}"
    return shown
