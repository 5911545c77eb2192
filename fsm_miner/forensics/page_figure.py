"""The timeline of a life as inline SVG: states as bars in lanes, events as numbered marks, what was missing as zones.

Along the time everything is in per cent, so that one picture fits every width with its letters as they are; across it
is in pixels, which the column of names beside it (`page_style`) shares.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fsm_miner.forensics.page_charts import CHART_PX, Chart
from fsm_miner.forensics.page_html import Html, cut, el, join
from fsm_miner.forensics.page_life import Bar, Break, Life
from fsm_miner.forensics.page_marks import EVENTS_PX, TIERS, Tell, draw_axis, draw_marks, pct
from fsm_miner.forensics.page_time import Window, short_span
from states.table import FINAL, State

__all__ = ["BREAK_NAMES", "Closer", "captioned", "draw"]

LANE_PX = 30
AXIS_PX = 36
CLOSER_PX = 24
BREAK_NAMES = {"daemon": "No daemon", "reboot": "Reboot", "coordinator": "Not delivered"}

_LEAST_WIDTH = 0.01
_BARS_MAX = 200
_JOINS_MAX = 120
_TITLE_CHARS_MAX = 240
_LABEL_FROM = {"wide": 9.0, "middle": 14.0, "narrow": 24.0}


@dataclass(frozen=True, slots=True)
class Closer:
    """A part of a picture that another one shows closer: its letter, and what it covers."""

    letter: str
    window: Window


@dataclass(frozen=True, slots=True)
class _Lane:
    name: str
    total: str
    y: int
    bars: tuple[Bar, ...]


def draw(
    life: Life,
    window: Window,
    charts: Sequence[Chart],
    tell: Tell,
    row_of: Callable[[int], str],
    closer: Sequence[Closer] = (),
) -> Html:
    """Draw what of a life is in the window, with charts under it. `row_of` names the row of a record."""
    lanes = _lanes(life, window)
    breaks = _breaks_in(life, window)
    breaks_y = EVENTS_PX + len(lanes) * LANE_PX
    charts_y = breaks_y + (LANE_PX if breaks else 0)
    axis_y = charts_y + len(charts) * CHART_PX
    height = axis_y + AXIS_PX + (CLOSER_PX if closer else 0)
    picture = el(
        "svg",
        *_zones(window, breaks, axis_y),
        *_grid(window, axis_y),
        *_rules([EVENTS_PX, *(lane.y + LANE_PX for lane in lanes), charts_y]),
        *_joins(life, window, lanes),
        *(part for lane in lanes for part in _bars(window, lane)),
        *_break_bars(window, breaks, breaks_y),
        *draw_marks(life, window, tell, row_of),
        *(chart.draw(window, charts_y + at * CHART_PX) for at, chart in enumerate(charts)),
        *draw_axis(window, axis_y),
        *_closer(window, closer, axis_y + AXIS_PX),
        class_="time",
        width="100%",
        height=height,
        role="group",
        aria_label="Timeline, drawn to scale",
    )
    return el("div", _names(lanes, breaks, charts, bool(closer)), picture, class_="plot")


def _lanes(life: Life, window: Window) -> list[_Lane]:
    found: list[_Lane] = []
    for state in State:
        bars = tuple(
            bar for bar in life.bars if bar.state is state and window.holds(bar.start_ns, bar.end_ns)
        )
        if bars:
            total_ns = sum(bar.end_ns - bar.start_ns for bar in life.bars if bar.state is state)
            total = "" if state in FINAL else short_span(total_ns)
            if any(bar.going_on for bar in bars):
                total = f"{total} so far" if total_ns > 1 else "now"
            found.append(_Lane(state.value, total, EVENTS_PX + len(found) * LANE_PX, bars))
    return found


def _names(lanes: Sequence[_Lane], breaks: Sequence[Break], charts: Sequence[Chart], closer: bool) -> Html:
    rows = [el("div", el("b", "Events"), el("span", "by number"), class_="g-events")]
    rows += [
        el("div", el("b", lane.name), el("span", lane.total), class_=f"g-lane s-{lane.name}")
        for lane in lanes
    ]
    if breaks:
        rows.append(el("div", el("b", "OUTAGES"), el("span", _kinds(breaks)), class_="g-lane s-OUTAGES"))
    rows += [
        el("div", el("b", chart.name), el("span", chart.peak), class_=f"g-chart c-{chart.kind}")
        for chart in charts
    ]
    rows.append(el("div", el("b", "Time"), el("span", "UTC below"), class_="g-axis"))
    if closer:
        rows.append(el("div", el("span", "closer below"), class_="g-closer"))
    return el("div", *rows, class_="names", aria_hidden="true")


def _kinds(breaks: Sequence[Break]) -> str:
    total_ns = sum(one.end_ns - one.start_ns for one in breaks)
    return short_span(total_ns)


def _breaks_in(life: Life, window: Window) -> list[Break]:
    """Return the breaks to draw; of very many, those are put together that no eye could tell apart."""
    breaks = [one for one in life.breaks if window.holds(one.start_ns, one.end_ns)]
    if len(breaks) <= _BARS_MAX:
        return breaks
    found: list[Break] = []
    for one in breaks:
        before = found[-1] if found else None
        if before and before.kind == one.kind and one.start_ns - before.end_ns <= window.span_ns // 400:
            words = f"Several, one after another; the last: {one.words}"
            found[-1] = Break(one.kind, before.start_ns, max(before.end_ns, one.end_ns), words)
        else:
            found.append(one)
    return found[:_BARS_MAX]


def _zones(window: Window, breaks: Sequence[Break], height: int) -> Iterator[Html]:
    for one in breaks:
        left, width = _stretch(window, one.start_ns, one.end_ns)
        top = EVENTS_PX - 8
        yield el(
            "rect", x=pct(left), y=top, width=pct(width), height=height - top, class_=f"zone z-{one.kind}"
        )


def _grid(window: Window, height: int) -> Iterator[Html]:
    for tier, _, count in TIERS:
        for tick in window.ticks(count):
            x = pct(tick.at)
            yield el("line", x1=x, x2=x, y1=EVENTS_PX - 8, y2=height + 4, class_=f"grid {tier}")


def _rules(heights: Sequence[int]) -> Iterator[Html]:
    for y in dict.fromkeys(heights):
        yield el("line", x1="0", x2="100%", y1=y, y2=y, class_="rule")


def _joins(life: Life, window: Window, lanes: Sequence[_Lane]) -> Iterator[Html]:
    """Lead the eye from each bar to the next."""
    middle = {lane.name: lane.y + LANE_PX // 2 for lane in lanes}
    inside = [
        (bar, after)
        for bar, after in zip(life.bars, life.bars[1:], strict=False)
        if window.start_ns <= after.start_ns <= window.end_ns
    ]
    if len(inside) > _JOINS_MAX:
        return
    for bar, after in inside:
        if bar.state.value in middle and after.state.value in middle:
            x = pct(window.at(after.start_ns))
            yield el(
                "line", x1=x, x2=x, y1=middle[bar.state.value], y2=middle[after.state.value], class_="join"
            )


def _bars(window: Window, lane: _Lane) -> Iterator[Html]:
    middle = lane.y + LANE_PX // 2
    for bars in _together(window, lane.bars):
        first, last = bars[0], bars[-1]
        left, width = _stretch(window, first.start_ns, last.end_ns)
        if first.state in FINAL:
            words = f"{lane.name}, from record {first.seq}"
            end = el("circle", r=7, cx=pct(left), cy=middle, class_=f"end s-{lane.name}")
            yield el("g", el("title", words), end, role="img", aria_label=words)
            continue
        spent_ns = sum(bar.end_ns - bar.start_ns for bar in bars)
        words = f"{lane.name} for {short_span(spent_ns)}" + (", and it goes on" if last.going_on else "")
        words += f", from record {first.seq}" + (
            f" to {last.seq}, in {len(bars)} stays" if len(bars) > 1 else ""
        )
        kind = " open" if last.going_on else " sparse" if 2 * spent_ns < last.end_ns - first.start_ns else ""
        shape = el(
            "rect",
            x=pct(left),
            y=lane.y + 6,
            width=pct(width),
            height=LANE_PX - 12,
            rx=3,
            class_=f"bar s-{lane.name}{kind}",
        )
        label = _spent(left, width, middle, short_span(spent_ns)) if kind != " sparse" else ()
        yield el("g", el("title", words), shape, *label, role="img", aria_label=words)


def _spent(left: float, width: float, middle: int, spent: str) -> Iterator[Html]:
    for tier, least in _LABEL_FROM.items():
        if width >= least:
            yield el("text", spent, x=pct(left), dx=7, y=middle, dy="0.35em", class_=f"spent {tier}")


def _together(window: Window, bars: Sequence[Bar]) -> list[list[Bar]]:
    """Put bars together that no eye could tell apart, where there are very many."""
    nearest = window.span_ns // 400 if len(bars) > _BARS_MAX else -1
    found: list[list[Bar]] = []
    for bar in bars:
        if found and bar.start_ns - found[-1][-1].end_ns <= nearest:
            found[-1].append(bar)
        else:
            found.append([bar])
    return found


def _break_bars(window: Window, breaks: Sequence[Break], y: int) -> Iterator[Html]:
    for one in breaks:
        left, width = _stretch(window, one.start_ns, one.end_ns)
        words = cut(
            f"{BREAK_NAMES[one.kind]} for {one.at_most}{short_span(one.end_ns - one.start_ns)}. {one.words}",
            _TITLE_CHARS_MAX,
        )
        shape = el(
            "rect",
            x=pct(left),
            y=y + 8,
            width=pct(width),
            height=LANE_PX - 16,
            rx=3,
            class_=f"break z-{one.kind}",
        )
        yield el("g", el("title", words), shape, role="img", aria_label=words)


def _closer(window: Window, closer: Sequence[Closer], y: int) -> Iterator[Html]:
    for one in closer:
        left, width = _stretch(window, one.window.start_ns, one.window.end_ns)
        shape = el("rect", x=pct(left), y=y + 2, width=pct(width), height=4, class_="closer")
        label = el(
            "text", one.letter, x=pct(left + width / 2), y=y + 18, text_anchor="middle", class_="letter"
        )
        words = f"{one.letter}: shown closer below"
        yield el("a", el("title", words), shape, label, href=f"#closer-{one.letter}", aria_label=words)


def _stretch(window: Window, start_ns: int, end_ns: int) -> tuple[float, float]:
    """Return left edge and width; what is too short to be seen gets a width all the same, or it is not drawn at all."""
    left = window.at(start_ns)
    return left, max(window.at(end_ns) - left, _LEAST_WIDTH)


def captioned(picture: Html, *words: object, letter: str = "") -> Html:
    """Return a picture with a line of words above it; `letter` is that of a closer look."""
    caption = el("figcaption", join(*words))
    return el("figure", caption, picture, id=f"closer-{letter}" if letter else None)
