"""The records of a case as a table: what happened when, and whether it is what was written. Bounded."""

import json
from collections.abc import Iterator
from typing import Any

from fsm_miner.forensics.case import Case
from fsm_miner.forensics.page_html import Html, cut, el, join
from fsm_miner.forensics.page_life import Life, Mark
from fsm_miner.forensics.page_time import short_span
from fsm_miner.forensics.story import Step, data_of
from fsm_miner.forensics.telling import tell
from fsm_miner.words import utc

__all__ = ["RecordTable", "pretty", "what_of"]

_FIRST_ROWS, _LAST_ROWS = 300, 500
_WORDS_MAX = 500
_DATA_MAX = 2000
_DATA_TOTAL_MAX = 400_000


def what_of(step: Step) -> str:
    """Return what mattered in a record, in words; the data as it stands where they make no sense."""
    words = ""
    if step.event is not None:
        try:
            words = tell(step.event)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            words = ""  # its data was changed and is nonsense
    return words or f"can't be understood: {cut(str(step.record.data_json), _WORDS_MAX)}"


def pretty(data: Any, chars_max: int) -> str:
    """Return JSON as people read it, cut where it is very long."""
    try:
        words = data if isinstance(data, str) else json.dumps(data, indent=2, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        words = "it can't be written as JSON"
    return cut(words, chars_max)


class RecordTable:
    """The table; of very many records the middle is left out."""

    def __init__(self, case: Case, life: Life) -> None:
        self._case = case
        self._life = life
        marks = life.marks
        many = len(marks) > _FIRST_ROWS + _LAST_ROWS
        self._head = marks[:_FIRST_ROWS] if many else marks
        self._tail = marks[-_LAST_ROWS:] if many else ()
        self._seqs = {mark.seq for mark in (*self._head, *self._tail)}
        self._data_left = _DATA_TOTAL_MAX

    def row_of(self, seq: int) -> str:
        """Return the id of a record's row, or of the table where it has none."""
        return f"r{seq}" if seq in self._seqs else "records"

    def render(self) -> Html:
        """Return the table."""
        day = utc(self._case.story.steps[0].record.at_ns)[:10]
        heads = (("#", "num"), (f"Time (UTC, {day})", ""), ("After", "num"), ("Event", ""), ("State", ""))
        more = (("What mattered", ""), ("Hash", ""), ("Holds", ""))
        return el(
            "table",
            el(
                "thead",
                el(
                    "tr",
                    *(el("th", name, scope="col", class_=kind or None) for name, kind in (*heads, *more)),
                ),
            ),
            el("tbody", *self._rows(day)),
            class_="records",
            aria_labelledby="records",
        )

    def _rows(self, day: str) -> Iterator[Html]:
        before: Mark | None = None
        for mark in self._head:
            yield self._row(mark, before, day)
            day, before = utc(mark.step.record.at_ns)[:10], mark
        if not self._tail:
            return
        left_out = len(self._life.marks) - len(self._head) - len(self._tail)
        words = (
            f"{left_out} records are left out here; fsm-miner replay {self._case.story.key} tells them all"
        )
        yield el("tr", el("td", words, colspan=8), class_="between")
        for mark in self._tail:
            yield self._row(mark, before if before is not self._head[-1] else None, day)
            day, before = utc(mark.step.record.at_ns)[:10], mark

    def _row(self, mark: Mark, before: Mark | None, day: str) -> Html:
        step, record = mark.step, mark.step.record
        broken = self._case.story.broken
        first_bad = broken is not None and broken.seq == record.seq and not step.holds
        tags: list[Html] = []
        if before is not None and before.step.record.boot_id != record.boot_id:
            tags.append(el("span", "after a reboot", class_="tag"))
        if first_bad:
            tags.append(el("span", "the first record that does not hold", class_="tag bad"))
        if record.seq in self._case.redacted:
            tags.append(el("span", "redacted", class_="tag"))
        return el(
            "tr",
            el("th", str(record.seq), scope="row", class_="num"),
            el("td", utc(record.at_ns).removeprefix(f"{day} "), class_="time"),
            el("td", _gap(mark, before), class_="num gap"),
            el("td", el("b", cut(record.event, 80)), class_="event"),
            el("td", *_states(record.source, record.dest), class_=f"state s-{_class(record.dest)}"),
            el("td", *tags, self._what(step), class_="what"),
            el(
                "td",
                el("code", cut(record.hash, 10).removesuffix("…"), title=cut(record.hash, 64)),
                class_="hash",
            ),
            el("td", self._holds(step), class_="chain"),
            id=f"r{record.seq}",
            class_="doubt" if not step.holds else f"tone-{mark.tone}",
        )

    def _what(self, step: Step) -> Html:
        words = cut(what_of(step), _WORDS_MAX)
        data = pretty(data_of(step.record), _DATA_MAX)
        if len(data) > self._data_left:
            return join(words)
        self._data_left -= len(data)
        return el("details", el("summary", words), el("pre", data))

    def _holds(self, step: Step) -> Html:
        if not step.holds:
            return el("span", "no", class_="no")
        if step.record.seq in self._case.redacted:
            return el(
                "span",
                "linked",
                class_="quiet",
                title="Its data was redacted: its own hash can't be recomputed",
            )
        return el("span", "yes", class_="yes")


def _gap(mark: Mark, before: Mark | None) -> str:
    if before is None:
        return ""
    gap_ns = mark.step.record.at_ns - before.step.record.at_ns
    return f"-{short_span(-gap_ns)}" if gap_ns < 0 else f"+{short_span(gap_ns)}"


def _states(source: str, dest: str) -> Iterator[Html]:
    yield el("i")
    yield el("span", cut(dest, 40) if source == dest else f"{cut(source, 40)} → {cut(dest, 40)}")


def _class(name: str) -> str:
    return name if name.isascii() and name.replace("_", "").isalpha() and len(name) < 20 else "unknown"
