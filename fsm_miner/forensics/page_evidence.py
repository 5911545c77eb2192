"""The lower part of the page: log, artifacts, manifest, the chain's check, and where all of it was read. Bounded."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fsm_miner.forensics.case import LOG_TAIL_BYTES_MAX, Case
from fsm_miner.forensics.page_html import Html, cut, el
from fsm_miner.forensics.page_records import pretty
from fsm_miner.words import counted, size, utc

__all__ = ["evidence"]

_MANIFEST_MAX = 64 * 1024
_ARTIFACTS_MAX = 200
_LINES_MAX = 20
_WORDS_MAX = 500


def section(name: str, title: str, *parts: object, more: str = "") -> Html:
    """Return a section with its heading."""
    heading = el("h2", title, el("small", more) if more else None, id=name)
    return el("section", heading, *parts, aria_labelledby=name)


def evidence(case: Case) -> Iterator[Html]:
    """Yield the sections."""
    yield _log(case)
    artifacts = _artifacts(case)
    if artifacts is not None:
        yield artifacts
    yield el("div", _manifest(case), el("div", _chain(case), _source(case)), class_="pair")


def _log(case: Case) -> Html:
    if case.log_tail is None:
        return section(
            "log", "Log", el("p", "The job's folder is gone, and its log with it.", class_="quiet")
        )
    if not case.log_tail.strip():
        return section("log", "Log", el("p", "The run has printed nothing.", class_="quiet"))
    tail = case.log_tail[-LOG_TAIL_BYTES_MAX:]
    pre = el("pre", tail, tabindex=0, role="region", aria_label="The end of the log")
    return section("log", "Log", pre, more=f"its last {counted(tail.rstrip().count(chr(10)) + 1, 'line')}")


def _artifacts(case: Case) -> Html | None:
    found = case.story.job.artifacts
    if not found:
        return None
    heads = (("Path", ""), ("Type", ""), ("Size", "num"), ("SHA-256", ""))
    rows = [
        el(
            "tr",
            el("th", cut(_word(one, "path"), _WORDS_MAX), scope="row"),
            el("td", cut(_word(one, "type"), 100)),
            el("td", _size(one), class_="num"),
            el("td", el("code", cut(_word(one, "sha256"), 64))),
        )
        for one in found[:_ARTIFACTS_MAX]
    ]
    if len(found) > _ARTIFACTS_MAX:
        rows.append(
            el("tr", el("td", f"and {len(found) - _ARTIFACTS_MAX} more", colspan=4), class_="between")
        )
    head = el("thead", el("tr", *(el("th", name, scope="col", class_=kind or None) for name, kind in heads)))
    table = el("table", head, el("tbody", *rows), aria_labelledby="artifacts")
    return section("artifacts", "Artifacts", el("div", table, class_="scroll"), more=str(len(found)))


def _word(one: Mapping[str, Any], name: str) -> str:
    return str(one.get(name, "")) if isinstance(one, Mapping) else ""  # pyright: ignore[reportUnnecessaryIsInstance]


def _size(one: Mapping[str, Any]) -> str:
    value = one.get("size") if isinstance(one, Mapping) else None  # pyright: ignore[reportUnnecessaryIsInstance]
    return size(value) if isinstance(value, int) and value >= 0 else "unknown"


def _manifest(case: Case) -> Html:
    if case.manifest is None:
        return section("manifest", "Manifest", el("p", "It can't be read any more.", class_="quiet"))
    words = pretty(case.manifest, _MANIFEST_MAX)
    pre = el("pre", words, tabindex=0, role="region", aria_label="The manifest as JSON")
    return section("manifest", "Manifest", pre, more="as journaled, without secrets")


def _chain(case: Case) -> Html:
    story = case.story
    if story.broken is not None:
        words = el(
            "p",
            el("span", "does not hold", class_="no"),
            f": record {story.broken.seq}: ",
            story.broken.reason,
        )
    elif not story.steps:
        words = el("p", "Not one record could be read.", class_="quiet")
    else:
        last = story.steps[-1].record
        words = el(
            "p",
            el("span", "holds", class_="yes"),
            f": {counted(len(story.steps), 'record')}, each hash computed anew. Its head is ",
            el("code", cut(last.hash, 64)),
            ".",
        )
    redacted = None
    if case.redacted:
        listed = ", ".join(map(str, sorted(case.redacted)[:_LINES_MAX])) + (
            " …" if len(case.redacted) > _LINES_MAX else ""
        )
        redacted = el(
            "p",
            f"The data of {counted(len(case.redacted), 'record')} was redacted before it came here ({listed}): the "
            "links to their neighbours were checked, their own hashes can't be.",
            class_="note",
        )
    return section("chain", "Chain", words, redacted)


def _source(case: Case) -> Html:
    rows: list[tuple[str, str]] = [("Read from", cut(case.source, _WORDS_MAX))]
    if case.node_id is not None:
        rows.append(("Node", cut(case.node_id, _WORDS_MAX)))
    if case.exported_ns is not None:
        rows.append(("Exported", f"{utc(case.exported_ns)} UTC"))
    rows += [(cut(name, 60), cut(version, 120)) for name, version in list(case.versions.items())[:_LINES_MAX]]
    if case.others:
        rows.append(("Other attempts", _listed(case.others)))
    rows += [("Note", cut(note, _WORDS_MAX)) for note in case.notes[:_LINES_MAX]]
    pairs = [part for name, value in rows for part in (el("dt", name), el("dd", value))]
    return section("source", "Where this comes from", el("dl", *pairs, class_="plain"))


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:_LINES_MAX])) + (" …" if len(numbers) > _LINES_MAX else "")
