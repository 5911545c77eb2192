"""The story in sentences, each with the records behind it, as links to their rows."""

from collections.abc import Callable, Iterator, Sequence

from fsm_miner.forensics.case import Case
from fsm_miner.forensics.page_html import Html, cut, el, join
from fsm_miner.forensics.telling import ranges
from fsm_miner.forensics.why import why

__all__ = ["story_items"]

_SENTENCES_MAX = 80
_WORDS_MAX = 700
_LINKS_MAX = 8
# The top of the page tells these by itself.
_TOLD_ABOVE = frozenset({"damage", "verdict"})


def story_items(case: Case, row_of: Callable[[int], str]) -> Html:
    """Return the sentences as a list; of very many the first."""
    told = [sentence for sentence in why(case) if sentence.topic not in _TOLD_ABOVE]
    items = [
        el("li", cut(one.text, _WORDS_MAX), el("span", *_links(one.records, row_of), class_="refs"))
        for one in told[:_SENTENCES_MAX]
    ]
    if len(told) > _SENTENCES_MAX:
        items.append(
            el("li", f"and {len(told) - _SENTENCES_MAX} sentences more: fsm-miner why {case.story.key}")
        )
    return el("ul", *items, class_="why")


def _links(records: Sequence[int], row_of: Callable[[int], str]) -> Iterator[Html]:
    parts = ranges(records).split(", ") if records else []
    for at, part in enumerate(parts[:_LINKS_MAX]):
        first = int(part.split("-")[0])
        yield join(" " if at else None, el("a", part, href=f"#{row_of(first)}", aria_label=f"record {part}"))
    if len(parts) > _LINKS_MAX:
        yield join(" …")
