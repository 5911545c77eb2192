"""What the runs used, as charts on the time axis: processor time as a rate, memory and disk against their limits."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from fsm_miner.forensics.page_html import Html, el
from fsm_miner.forensics.page_life import Life, number_in, runs_of
from fsm_miner.forensics.page_time import Window
from fsm_miner.words import NS
from states import events as e

__all__ = ["CHART_PX", "Chart", "charts_of"]

CHART_PX = 92
_TOP, _BOTTOM = 22, 84
_WIDTH = 1000
_POINTS_MAX = 400
_LEAST_NS = NS // 20
_LIMIT_FROM = 0.2

Line = list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Chart:
    """One quantity: lines of (time, value), each without a hole, and the limit, if there is one."""

    kind: str
    name: str
    unit: str
    lines: tuple[Line, ...]
    limit: float | None = None

    @property
    def highest(self) -> float:
        """The highest value."""
        return max((value for line in self.lines for _, value in line), default=0.0)

    def tells(self, window: Window) -> bool:
        """Say whether enough of it is in the window to be worth a picture."""
        inside = sum(
            bisect_right(line, window.end_ns, key=_time) - bisect_left(line, window.start_ns, key=_time)
            for line in self.lines
        )
        return inside > 1

    @property
    def peak(self) -> str:
        """The highest value in words, with the limit."""
        of = "" if self.limit is None else f" of {amount(self.limit, self.unit)}"
        return f"peak {amount(self.highest, self.unit)}{of}"

    def draw(self, window: Window, y: int) -> Html:
        """Draw what of it is in the window, its upper edge at `y`."""
        shown = self.limit if self.limit is not None and self.highest >= self.limit * _LIMIT_FROM else None
        top = _round_up(self.highest or 1.0) if shown is None else max(shown, self.highest) * 1.1
        words = f"{self.name}: {self.peak}"
        parts = [
            el("title", words),
            *_levels(top, self.unit if shown is None else "", y),
            el(
                "svg",
                *(_shape(line, window, top) for line in self.lines),
                *([_limit(shown, top)] if shown is not None else []),
                x=0,
                y=y + _TOP,
                width="100%",
                height=_BOTTOM - _TOP,
                viewBox=f"0 0 {_WIDTH} {_BOTTOM - _TOP}",
                preserveAspectRatio="none",
            ),
        ]
        if self.limit is not None:
            said = f"limit {amount(self.limit, self.unit)}"
            if shown is None:
                off = {"x": "100%", "y": y + 14, "text_anchor": "end", "class_": "level"}
                parts.append(el("text", f"{said}, off this scale", **off))
            else:
                parts.append(el("text", said, x="0", y=y + _TOP + _y(shown, top) - 5, class_="limit"))
        return el("g", *parts, class_=f"chart c-{self.kind}", role="img", aria_label=words)


def charts_of(life: Life) -> list[Chart]:
    """Return the charts of a life; none where nothing was measured."""
    if not life.samples:
        return []
    limits = [mark.step.event for mark in life.marks if isinstance(mark.step.event, e.LaunchIntended)]
    memory = max((number_in(one.memory_limit_mb) for one in limits), default=0.0)
    disk = max((number_in(one.output_limit_mb) for one in limits), default=0.0)
    holes = [one.start_ns for one in life.breaks if one.kind != "coordinator"]
    runs = [list(run) for _, run in groupby(life.samples, key=lambda sample: sample.run)]
    held = [[(sample.at_ns, sample.memory_mb) for sample in run] for run in runs]
    written = [[(sample.at_ns, sample.disk_mb) for sample in run] for run in runs]
    return [
        Chart("cpu", "CPU", "cores", tuple(_rates(life))),
        Chart("memory", "Memory", "MiB", tuple(_without_holes(held, holes)), memory or None),
        Chart("disk", "Disk", "MiB", tuple(_without_holes(written, holes)), disk or None),
    ]


def amount(value: float, unit: str) -> str:
    """Return a quantity in three figures or so, in the unit that suits it."""
    if unit == "MiB":
        for bigger in ("MiB", "GiB", "TiB"):
            unit = bigger
            if value < 1024 or bigger == "TiB":
                break
            value /= 1024
    if unit == "cores" and value == 1:
        return "1 core"
    digits = 0 if value >= 99.95 or value == int(value) else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {unit}"


def _rates(life: Life) -> Iterator[Line]:
    """Turn each run's processor time into cores in use, as steps, over times that are not too short to tell."""
    least_ns = max(_LEAST_NS, 2 * (life.end_ns - life.start_ns) // _POINTS_MAX)
    for run, samples in groupby(life.samples, key=lambda sample: sample.run):
        known = sorted({(sample.at_ns, sample.cpu_s) for sample in samples} | _edges(life, run))
        knots = [known[0]]
        for point in known[1:]:
            if point[0] - knots[-1][0] >= least_ns:
                knots.append(point)
        if len(knots) > 1 or known[-1][0] > knots[0][0]:
            # The end counts; what is left before it is too short for a rate of its own.
            knots[max(1, len(knots) - 1) :] = [known[-1]]
        line: Line = []
        for (start_ns, start_s), (end_ns, end_s) in pairwise(knots):
            rate = max(0.0, (end_s - start_s) * NS / (end_ns - start_ns))
            line += [(start_ns, rate), (end_ns, rate)]
        if line:
            yield line


def _edges(life: Life, run: int) -> set[tuple[int, float]]:
    """Return what the records know of a run's processor time: none at its launch, all of it at its end."""
    found: set[tuple[int, float]] = set()
    for number, mark in runs_of(life):
        if number != run:
            continue
        if isinstance(mark.step.event, e.Ended):
            spent = number_in(mark.step.event.usage, "cpu_s")
            found |= {(mark.at_ns, spent)} if spent else set()
        else:
            found.add((mark.at_ns, 0.0))
    return found


def _without_holes(runs: Sequence[Line], holes: Sequence[int]) -> Iterator[Line]:
    """Part each run's line where nobody looked."""
    holes = sorted(holes)
    for run in runs:
        line: Line = []
        for point in run:
            if line and bisect_left(holes, point[0]) > bisect_left(holes, line[-1][0]):
                yield line
                line = []
            line.append(point)
        if line:
            yield line


def _levels(top: float, unit: str, y: int) -> Iterator[Html]:
    for share in (0.0, 0.5, 1.0) if unit else (0.0,):
        at = y + _BOTTOM - share * (_BOTTOM - _TOP)
        yield el("line", x1="0", x2="100%", y1=at, y2=at, class_="level")
    if unit:
        yield el("text", amount(top, unit), x="0", y=y + 14, class_="level")


def _limit(limit: float, top: float) -> Html:
    y = _y(limit, top)
    return el("path", d=f"M0 {y}H{_WIDTH}", class_="limit")


def _shape(line: Line, window: Window, top: float) -> Html:
    points = _thinned(line, window)
    if not points:
        return Html("")
    spots = [(_x(at_ns, window), _y(value, top)) for at_ns, value in points]
    if len(spots) == 1:
        spots.append((spots[0][0] + 0.5, spots[0][1]))
    path = "L".join(f"{x} {y}" for x, y in spots)
    floor = _BOTTOM - _TOP
    area = el("path", d=f"M{spots[0][0]} {floor}L{path}L{spots[-1][0]} {floor}Z", class_="area")
    return el("g", area, el("path", d=f"M{path}", class_="line"))


def _thinned(line: Line, window: Window) -> Line:
    """Return what of a line is in the window, up to its edges; of many points those that stand out."""
    first, last = bisect_left(line, window.start_ns, key=_time), bisect_right(line, window.end_ns, key=_time)
    shown = line[first:last]
    if 0 < first < len(line):
        shown = [_between(line[first - 1], line[first], window.start_ns), *shown]
    if 0 < last < len(line):
        shown = [*shown, _between(line[last - 1], line[last], window.end_ns)]
    every = -(-len(shown) // _POINTS_MAX)
    if every <= 1:
        return shown
    parts = [shown[at : at + 2 * every] for at in range(0, len(shown), 2 * every)]
    found: Line = []
    for part in parts:
        low, high = min(part, key=_value), max(part, key=_value)
        found += sorted({low, high})
    return found


def _between(before: tuple[int, float], after: tuple[int, float], at_ns: int) -> tuple[int, float]:
    share = (at_ns - before[0]) / max(after[0] - before[0], 1)
    return at_ns, before[1] + share * (after[1] - before[1])


def _time(point: tuple[int, float]) -> int:
    return point[0]


def _value(point: tuple[int, float]) -> float:
    return point[1]


def _x(at_ns: int, window: Window) -> float:
    return round(_WIDTH * (at_ns - window.start_ns) / window.span_ns, 2)


def _y(value: float, top: float) -> float:
    return round((_BOTTOM - _TOP) * (1 - value / top), 2)


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 2.5, 5, 10, 20 and so on, from a thousandth upward."""
    power = 0.001
    while value > 10 * power:
        power *= 10
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if value <= factor * power * 1.0000001)
