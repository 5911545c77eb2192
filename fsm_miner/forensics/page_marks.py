"""What stands above and below the lanes: events by their numbers, and the axis with its ticks.

Each is drawn once for every tier of widths, and the style sheet shows the one that fits.
"""

from collections.abc import Callable, Iterator, Sequence

from fsm_miner.forensics.page_html import Html, cut, el
from fsm_miner.forensics.page_life import Life, Mark
from fsm_miner.forensics.page_places import Place, place
from fsm_miner.forensics.page_time import Window

__all__ = ["EVENTS_PX", "TIERS", "Tell", "draw_axis", "draw_marks", "pct"]

EVENTS_PX = 56
TIERS = (("wide", 530.0, 8), ("middle", 376.0, 6), ("narrow", 216.0, 4))
"""How a picture is labelled: its class, the least width of the line in pixels, and how many ticks it may have."""


_PILL_PX = 20
_LETTER_PX = 7.0
_STEMS_MAX = 400
_TITLE_MARKS_MAX = 12
_TITLE_CHARS_MAX = 240

Tell = Callable[[Mark], str]


def pct(value: float) -> str:
    """Return per cent as an attribute."""
    return f"{value:.4f}".rstrip("0").rstrip(".") + "%"


def draw_marks(life: Life, window: Window, tell: Tell, row_of: Callable[[int], str]) -> Iterator[Html]:
    """Yield the events in the window: stems where they happened, and a label for each or for some together."""
    marks = [mark for mark in life.marks if window.start_ns <= mark.at_ns <= window.end_ns]
    moments = [window.at(mark.at_ns) for mark in marks]
    stems = dict.fromkeys(round(moment, 2) for moment in moments)
    for moment in list(stems)[:: max(1, -(-len(stems) // _STEMS_MAX))]:
        yield el("line", x1=pct(moment), x2=pct(moment), y1=EVENTS_PX - 8, y2=EVENTS_PX, class_="stem")
    for tier, line_px, _ in TIERS:
        for spot in place(moments, [mark.seq for mark in marks], line_px):
            group = marks[spot.first : spot.last + 1]
            yield from _leaders(moments, spot, tier)
            yield _pill(group, spot, line_px, tier, tell, row_of)


def _leaders(moments: Sequence[float], spot: Place, tier: str) -> Iterator[Html]:
    for moment in dict.fromkeys((moments[spot.first], moments[spot.last])):
        yield el(
            "line",
            x1=pct(spot.middle),
            y1=_PILL_PX,
            x2=pct(moment),
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
    return el("svg", link, x=pct(spot.middle), y=0, width=1, height=1, class_=f"mark t-{tone} {tier}")


def draw_axis(window: Window, y: int) -> Iterator[Html]:
    """Yield the axis at `y`, with the time since the start and the time of day under it."""
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
            yield el("text", words, x=pct(at), y=y, text_anchor=anchor, class_=kind)
            free_px = left_px + width_px + _LETTER_PX
