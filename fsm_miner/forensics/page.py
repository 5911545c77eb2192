"""A case as one page of HTML that needs nothing else: no script, no other file, no network.

What is on it is a stranger's, so all of it is text (`page_html`), the page forbids itself everything but its own
style sheet, and all of it is bounded: what was left out is said where it is missing.
"""

import base64
from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise

from fsm_miner.forensics.case import Case
from fsm_miner.forensics.page_charts import charts_of
from fsm_miner.forensics.page_evidence import evidence, section
from fsm_miner.forensics.page_figure import BREAK_NAMES, Closer, captioned, draw
from fsm_miner.forensics.page_head import header
from fsm_miner.forensics.page_html import Html, cut, el, join
from fsm_miner.forensics.page_life import Life, Mark, read_life
from fsm_miner.forensics.page_records import RecordTable, what_of
from fsm_miner.forensics.page_style import STYLE
from fsm_miner.forensics.page_time import Window, short_span
from fsm_miner.forensics.page_why import story_items
from fsm_miner.words import utc

__all__ = ["render"]

_CLOSER_MAX = 3
_CLOSER_SHARE = 0.08
_CLOSER_MARKS_MIN = 3
_BREAKS_MAX = 40


def render(case: Case) -> str:
    """Return the page of a case. Never raises for what is in the case, whatever it is."""
    life = read_life(case)
    job_id, attempt = case.story.key
    title = f"{cut(job_id, 80)}/{attempt}"
    body = [header(case, life)]
    if life is not None:
        table = RecordTable(case, life)
        body += [
            section("story", "What happened", story_items(case, table.row_of)),
            _timeline(case, life, table),
            section(
                "records", "Records", el("div", table.render(), class_="scroll"), more=str(len(life.marks))
            ),
        ]
    body += evidence(case)
    # The hash is of the very text between the tags.
    style = base64.b64encode(sha256(STYLE.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", f"{title} · what became of it"),
        el("style", Html(STYLE)),
    )
    return "<!doctype html>\n" + el("html", head, el("body", el("main", *body)), lang="en") + "\n"


def _timeline(case: Case, life: Life, table: RecordTable) -> Html:
    whole = Window(life.start_ns, life.end_ns, life.start_ns)
    charts = charts_of(life)
    closer = [
        Closer(letter, window) for letter, window in zip("ABC", _closer_looks(life, whole), strict=False)
    ]

    def tell(mark: Mark) -> str:
        return f"{mark.seq} {mark.step.record.event}, {utc(mark.step.record.at_ns)}: {what_of(mark.step)}"

    def picture(window: Window, *inside: Closer) -> Html:
        shown = [chart for chart in charts if chart.tells(window)]
        return draw(life, window, shown, tell, table.row_of, inside)

    caption = (
        f"From {utc(life.start_ns)} UTC, ",
        el("b", short_span(life.end_ns - life.start_ns)),
        ", to scale.",
    )
    figures = [captioned(picture(whole, *closer), *caption)]
    for one in closer:
        after_ns = one.window.start_ns - life.start_ns
        begin = f"{short_span(after_ns)} after the start" if after_ns else "the start"
        words = (
            el("b", f"{one.letter}. Closer: {short_span(one.window.span_ns)}"),
            f" from {begin}, {utc(one.window.start_ns)} UTC, to scale.",
        )
        figures.append(captioned(picture(one.window), *words, letter=one.letter))
    return section("timeline", "Timeline", *figures, *_breaks(life), *_notes(case, life))


def _closer_looks(life: Life, whole: Window) -> list[Window]:
    """Find where much happened in little time: there the whole picture shows too little.

    What is too long is split at its wide gaps, until it is short enough to be looked at closer.
    """
    waiting, dense = [list(life.marks)], list[list[Mark]]()
    while waiting:
        burst = waiting.pop()
        spent_ns = burst[-1].at_ns - burst[0].at_ns
        if len(burst) < _CLOSER_MARKS_MIN or spent_ns == 0:
            continue
        if spent_ns <= whole.span_ns * _CLOSER_SHARE:
            dense.append(burst)
        else:
            waiting += _parted(burst)
    chosen = sorted(dense, key=len, reverse=True)[:_CLOSER_MAX]
    return [_around(burst, whole) for burst in sorted(chosen, key=lambda burst: burst[0].at_ns)]


def _parted(marks: list[Mark]) -> list[list[Mark]]:
    """Split marks at every gap that is more than half as wide as the widest."""
    gaps = [after.at_ns - mark.at_ns for mark, after in pairwise(marks)]
    widest_ns = max(gaps)
    parts = [[marks[0]]]
    for mark, gap_ns in zip(marks[1:], gaps, strict=True):
        if 2 * gap_ns > widest_ns:
            parts.append([])
        parts[-1].append(mark)
    return parts


def _around(burst: list[Mark], whole: Window) -> Window:
    first, last = burst[0].at_ns, burst[-1].at_ns
    margin = max((last - first) // 12, 1)
    start = max(first - margin, whole.start_ns)
    return Window(start, min(last + margin, whole.end_ns), start)


def _breaks(life: Life) -> Iterator[Html]:
    if not life.breaks:
        return
    rows = [
        el(
            "li",
            el(
                "span",
                el("b", BREAK_NAMES[one.kind]),
                f" for {short_span(one.end_ns - one.start_ns)}, {_from_to(one.start_ns, one.end_ns)}. ",
                el("span", cut(one.words, 300), ".", class_="quiet"),
            ),
            class_=f"z-{one.kind}",
        )
        for one in life.breaks[:_BREAKS_MAX]
    ]
    if len(life.breaks) > _BREAKS_MAX:
        rows.append(el("li", el("span", f"and {len(life.breaks) - _BREAKS_MAX} more")))
    yield el("ul", *rows, class_="outages", aria_label="What was missing, and when")


def _from_to(start_ns: int, end_ns: int) -> str:
    start, end = utc(start_ns), utc(end_ns)
    return f"from {start} to {end.removeprefix(start[:11])}"


def _notes(case: Case, life: Life) -> Iterator[Html]:
    if case.samples is None:
        yield el("p", "What the runs used over time is not known here.", class_="note")
    elif not case.samples and any(mark.step.record.event == "Launched" for mark in life.marks):
        yield el("p", "The runs were too short for anybody to look what they use.", class_="note")
    for note in life.notes[:_BREAKS_MAX]:
        yield el("p", join(note), class_="note")
