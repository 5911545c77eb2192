"""The timeline of a life as inline SVG: states as bars in lanes, events as numbered marks, what was missing as zones.

Along the time everything is in per cent, so that one picture fits every width with its letters as they are; across it
is in pixels, which the column of names beside it (`page_style`) shares.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fsm_miner.forensics.page_charts import CHART_PX, Chart
from fsm_miner.forensics.page_html import Html, cut, el, join
from fsm_miner.forensics.page_life import Bar, Break, Life, Mark
from fsm_miner.forensics.page_places import Place, place
from fsm_miner.forensics.page_time import Window, short_span
from states.table import FINAL, State

__all__ = ["BREAK_NAMES", "TIERS", "Closer", "draw"]

EVENTS_PX = 56
LANE_PX = 30
AXIS_PX = 36
CLOSER_PX = 24
TIERS = (("wide", 530.0, 8), ("middle", 376.0, 6), ("narrow", 216.0, 4))
"""How a picture is labelled: its class, the least width of the line in pixels, and how many ticks it may have."""
BREAK_NAMES = {"daemon": "No daemon", "reboot": "Reboot", "coordinator": "Not delivered"}

_PILL_PX = 20
_LETTER_PX = 7.0
_STEMS_MAX = 400
_LEAST_WIDTH = 0.01
_BARS_MAX = 200
_JOINS_MAX = 120
_TITLE_MARKS_MAX = 12
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


Tell = Callable[[Mark], str]


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
    breaks = [one for one in life.breaks if window.holds(one.start_ns, one.end_ns)]
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
        *_marks(life, window, tell, row_of),
        *(chart.draw(window, charts_y + at * CHART_PX) for at, chart in enumerate(charts)),
        *_axis(window, axis_y),
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


def _zones(window: Window, breaks: Sequence[Break], height: int) -> Iterator[Html]:
    for one in breaks:
        left, width = _stretch(window, one.start_ns, one.end_ns)
        top = EVENTS_PX - 8
        yield el(
            "rect", x=_pct(left), y=top, width=_pct(width), height=height - top, class_=f"zone z-{one.kind}"
        )


def _grid(window: Window, height: int) -> Iterator[Html]:
    for tier, _, count in TIERS:
        for tick in window.ticks(count):
            x = _pct(tick.at)
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
            x = _pct(window.at(after.start_ns))
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
            end = el("circle", r=7, cx=_pct(left), cy=middle, class_=f"end s-{lane.name}")
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
            x=_pct(left),
            y=lane.y + 6,
            width=_pct(width),
            height=LANE_PX - 12,
            rx=3,
            class_=f"bar s-{lane.name}{kind}",
        )
        label = _spent(left, width, middle, short_span(spent_ns)) if kind != " sparse" else ()
        yield el("g", el("title", words), shape, *label, role="img", aria_label=words)


def _spent(left: float, width: float, middle: int, spent: str) -> Iterator[Html]:
    for tier, least in _LABEL_FROM.items():
        if width >= least:
            yield el("text", spent, x=_pct(left), dx=7, y=middle, dy="0.35em", class_=f"spent {tier}")


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
            f"{BREAK_NAMES[one.kind]} for {short_span(one.end_ns - one.start_ns)}. {one.words}",
            _TITLE_CHARS_MAX,
        )
        shape = el(
            "rect",
            x=_pct(left),
            y=y + 8,
            width=_pct(width),
            height=LANE_PX - 16,
            rx=3,
            class_=f"break z-{one.kind}",
        )
        yield el("g", el("title", words), shape, role="img", aria_label=words)


def _marks(life: Life, window: Window, tell: Tell, row_of: Callable[[int], str]) -> Iterator[Html]:
    marks = [mark for mark in life.marks if window.start_ns <= mark.at_ns <= window.end_ns]
    moments = [window.at(mark.at_ns) for mark in marks]
    stems = dict.fromkeys(round(moment, 2) for moment in moments)
    for moment in list(stems)[:: max(1, -(-len(stems) // _STEMS_MAX))]:
        yield el("line", x1=_pct(moment), x2=_pct(moment), y1=EVENTS_PX - 8, y2=EVENTS_PX, class_="stem")
    for tier, line_px, _ in TIERS:
        for spot in place(moments, [mark.seq for mark in marks], line_px):
            group = marks[spot.first : spot.last + 1]
            yield from _leaders(moments, spot, tier)
            yield _pill(group, spot, line_px, tier, tell, row_of)


def _leaders(moments: Sequence[float], spot: Place, tier: str) -> Iterator[Html]:
    for moment in dict.fromkeys((moments[spot.first], moments[spot.last])):
        yield el(
            "line",
            x1=_pct(spot.middle),
            y1=_PILL_PX,
            x2=_pct(moment),
            y2=EVENTS_PX - 8,
            class_=f"leader {tier}",
        )


def _pill(
    group: Sequence[Mark], spot: Place, line_px: float, tier: str, tell: Tell, row_of: Callable[[int], str]
) -> Html:
    first, last = group[0], group[-1]
    number = str(first.seq) if first is last else f"{first.seq}-{last.seq}"
    tones = {mark.tone for mark in group}
    tone = next((one for one in ("bad", "care", "good") if one in tones), "plain")
    told = [cut(tell(mark), _TITLE_CHARS_MAX) for mark in group[:_TITLE_MARKS_MAX]]
    if len(group) > _TITLE_MARKS_MAX:
        told.append(f"and {len(group) - _TITLE_MARKS_MAX} more")
    width = max(18.0, spot.width * line_px / 100 - 3)
    shape = el("rect", x=-width / 2, y=1, width=width, height=_PILL_PX - 2, rx=9)
    label = el("text", number, x=0, y=_PILL_PX / 2, dy="0.35em")
    link = el(
        "a",
        el("title", "\n".join(told)),
        shape,
        label,
        href=f"#{row_of(first.seq)}",
        aria_label="; ".join(told[:3]),
    )
    # A picture of its own is how something in pixels gets a place in per cent.
    return el("svg", link, x=_pct(spot.middle), y=0, width=1, height=1, class_=f"mark t-{tone} {tier}")


def _axis(window: Window, y: int) -> Iterator[Html]:
    yield el("line", x1="0", x2="100%", y1=y, y2=y, class_="axis")
    for tier, line_px, count in TIERS:
        ticks = window.ticks(count)
        yield from _labels([(tick.at, tick.since) for tick in ticks], line_px, y + 16, f"tick {tier}")
        yield from _labels([(tick.at, tick.clock) for tick in ticks], line_px, y + 30, f"clock {tier}")


def _labels(labels: Sequence[tuple[float, str]], line_px: float, y: int, kind: str) -> Iterator[Html]:
    """Write labels under their moments, those alone that have room."""
    free_px = 0.0
    for at, words in labels:
        width_px = len(words) * _LETTER_PX
        # At the ends they stay within the line.
        anchor = "start" if at < 3 else "end" if at > 95 else "middle"
        left_px = at * line_px / 100 - {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor] * width_px
        if left_px >= free_px:
            yield el("text", words, x=_pct(at), y=y, text_anchor=anchor, class_=kind)
            free_px = left_px + width_px + _LETTER_PX


def _closer(window: Window, closer: Sequence[Closer], y: int) -> Iterator[Html]:
    for one in closer:
        left, width = _stretch(window, one.window.start_ns, one.window.end_ns)
        shape = el("rect", x=_pct(left), y=y + 2, width=_pct(width), height=4, class_="closer")
        label = el(
            "text", one.letter, x=_pct(left + width / 2), y=y + 18, text_anchor="middle", class_="letter"
        )
        words = f"{one.letter}: shown closer below"
        yield el("a", el("title", words), shape, label, href=f"#closer-{one.letter}", aria_label=words)


def _stretch(window: Window, start_ns: int, end_ns: int) -> tuple[float, float]:
    """Return left edge and width; what is too short to be seen gets a width all the same, or it is not drawn at all."""
    left = window.at(start_ns)
    return left, max(window.at(end_ns) - left, _LEAST_WIDTH)


def _pct(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".") + "%"


def captioned(picture: Html, *words: object, letter: str = "") -> Html:
    """Return a picture with a line of words above it; `letter` is that of a closer look."""
    caption = el("figcaption", join(*words))
    return el("figure", caption, picture, id=f"closer-{letter}" if letter else None)
