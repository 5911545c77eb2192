"""The forensic page as text: whole, bounded, without a way out for a stranger's words, true to the records."""

import base64
import json
import re
import unicodedata
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm_miner.forensics.case import LOG_TAIL_BYTES_MAX, Case, Sample
from fsm_miner.forensics.page import render
from fsm_miner.forensics.page_charts import amount, charts_of
from fsm_miner.forensics.page_figure import BREAK_NAMES
from fsm_miner.forensics.page_html import el, text
from fsm_miner.forensics.page_life import read_life
from fsm_miner.forensics.page_places import place
from fsm_miner.forensics.page_style import STYLE
from fsm_miner.forensics.page_time import Window, short_span
from fsm_miner.forensics.story import read_story
from journal import StreamKey
from runners.series import LINES_MAX
from states import events as e
from tests.support.cli_journal import START_NS, offered
from tests.support.forensic_cases import (
    CASES,
    HOUR,
    MS,
    SECOND,
    case_of,
    ended,
    intended,
    launched,
    measured,
    records_at,
)
from tests.support.job_histories import lives

TAGS = """a b body br circle code dd details div dl dt figcaption figure g h1 h2 head header html i li line main
meta p path pre rect section small span style summary svg table tbody td text th thead title tr ul"""
ATTRIBUTES = """aria-hidden aria-label aria-labelledby charset class colspan content cx cy d dx dy height href
http-equiv id lang name preserveaspectratio r role rx scope tabindex text-anchor title viewbox width x x1 x2 y y1 y2"""
VOID = {"meta", "br"}


class Reader(HTMLParser):
    """Reads a page as a browser would, and insists that it is what it should be."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.links, self.words = [], [], [], []

    def handle_starttag(self, tag, attrs):
        assert tag in TAGS.split(), tag
        for name, value in attrs:
            assert name in ATTRIBUTES.split(), name
            if name == "href":
                assert re.fullmatch(r"#[\w-]+", value)
                self.links.append(value[1:])
            if name == "id":
                self.ids.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    assert set(reader.links) <= set(reader.ids)
    return reader


@pytest.mark.parametrize("name", CASES)
def test_a_page_is_whole_and_says_the_same_each_time(name):
    page = render(CASES[name]())
    reader = read(page)
    assert len(reader.ids) == len(set(reader.ids))
    assert page == render(CASES[name]())
    page.encode("utf-8")  # no half characters


def test_the_page_forbids_itself_everything_but_its_own_style():
    page = render(CASES["rough"]())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    style = re.search(r"<style>(.*)</style>", page, re.DOTALL)[1]
    digest = base64.b64encode(sha256(style.encode()).digest()).decode()
    assert policy.replace("&#x27;", "'") == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert "url(" not in STYLE
    assert "@import" not in STYLE
    assert "<" not in STYLE


JUNK = [None, True, -1, 2**70, 1e308, "", "<b>", [], [None], ["x"], {}, {"usage": []}, [[["deep"]]]]


@st.composite
def any_case(draw):
    """A reachable life at any times, with any measurements, perhaps changed afterwards."""
    life = draw(lives())
    at_ns, timed = 0, []
    for event in life.events:
        at_ns = max(-START_NS, min(at_ns + draw(st.integers(-(10**12), 10**16)), 2**62))
        timed.append((event, at_ns))
    job_id = life.events[0].job_id if life.events else ""
    records = []
    if life.events and job_id and job_id.isprintable():
        records = records_at(timed, job_id)
    for index in range(len(records)):
        if draw(st.integers(0, 20)) == 0:
            change = draw(
                st.sampled_from(
                    [
                        {"data_json": "[]"},
                        {"data_json": '{"usage": null}'},
                        {"dest": "<b>"},
                        {"event": "Nothing"},
                        {"boot_id": "other"},
                        {"at_ns": -(2**63)},
                        {"data_json": "[" * 5000},
                    ]
                )
            )
            records[index] = replace(records[index], **change)
        if records[index].data_json.startswith("{") and draw(st.integers(0, 3)) == 0:
            data = json.loads(records[index].data_json)
            data[draw(st.sampled_from(sorted(data)))] = draw(st.sampled_from(JUNK))
            records[index] = replace(records[index], data_json=json.dumps(data))
    samples = draw(
        st.none()
        | st.lists(
            st.builds(
                Sample,
                st.integers(1, 3),
                st.integers(0, 2**63 - 1),
                st.floats(0, 1e14),
                st.floats(0, 1e14),
                st.floats(0, 1e14),
            ),
            max_size=8,
        ).map(lambda found: tuple(sorted(found, key=lambda one: (one.run, one.at_ns))))
    )
    log = draw(st.none() | st.text(max_size=50))
    story = read_story(StreamKey(job_id or "j", 1), records)
    return Case(
        story, draw(st.text(max_size=20)), (), log, samples, {}, draw(st.frozensets(st.integers(1, 9)))
    )


@settings(max_examples=150, deadline=None)
@given(any_case())
def test_any_case_becomes_a_page(case):
    read(render(case))


@given(st.text())
def test_text_is_shown_and_never_markup(words):
    made = text(words)
    assert not set(made) & set("<>\"'")
    assert all(char.isprintable() or char in "\n\t" or unicodedata.category(char) == "Zs" for char in made)
    reader = Reader()
    reader.feed(str(el("p", words)))
    reader.close()
    if words.isprintable():
        assert "".join(reader.words) == words


def test_what_cant_be_seen_is_written_out():
    assert text("a\u202eb\x00\ud800\ue000") == "a\\u202eb\\x00\\ud800\\ue000"
    assert text("two\nlines\tand") == "two\nlines\tand"


@given(st.lists(st.floats(0, 100), min_size=1, max_size=200), st.sampled_from([216.0, 376.0, 530.0]))
def test_labels_keep_apart_in_order_and_within_the_line(moments, line_px):
    moments = sorted(moments)
    spots = place(moments, list(range(1, len(moments) + 1)), line_px)
    assert [spots[0].first, *(spot.first for spot in spots[1:]), len(moments)] == [
        0,
        *(spot.last + 1 for spot in spots),
    ]
    for spot in spots:
        assert spot.middle - spot.width / 2 >= -0.001
        assert spot.middle + spot.width / 2 <= 100.001
    for before, after in pairwise(spots):
        assert before.middle + before.width / 2 <= after.middle - after.width / 2 + 0.001


def test_labels_stand_where_they_belong_as_long_as_there_is_room():
    assert [spot.middle for spot in place([10, 50, 90], [1, 2, 3], 376)] == [10, 50, 90]
    crowd = place([50, 50, 50], [1, 2, 3], 376)
    assert [spot.first for spot in crowd] == [0, 1, 2]
    assert sum(spot.middle for spot in crowd) / 3 == pytest.approx(50)


@given(st.integers(1, 2**62), st.integers(2, 9), st.integers(0, 2**61))
def test_ticks_are_few_in_order_and_within(span_ns, count, start_ns):
    window = Window(start_ns, start_ns + span_ns, start_ns)
    ticks = window.ticks(count)
    assert 1 <= len(ticks) <= count
    assert all(0 <= tick.at <= 100 for tick in ticks)
    assert all(before.at < after.at for before, after in pairwise(ticks))
    assert ticks[0].since == "0"


@pytest.mark.parametrize(
    ("span_ns", "since"),
    [
        (30 * MS, ["0", "5 ms", "10 ms", "15 ms", "20 ms", "25 ms", "30 ms"]),
        (47 * SECOND, ["0", "10 s", "20 s", "30 s", "40 s"]),
        (71 * HOUR, ["0", "12 h", "1 d", "1 d 12 h", "2 d", "2 d 12 h"]),
        (1_500, ["0", "0.001 ms"]),
    ],
)
def test_ticks_suit_their_span(span_ns, since):
    assert [tick.since for tick in Window(START_NS, START_NS + span_ns, START_NS).ticks(8)] == since


def test_days_are_named_where_they_change():
    clocks = [tick.clock for tick in Window(START_NS, START_NS + 71 * HOUR, START_NS).ticks(8)]
    assert clocks == ["00:00", "12:00", "Jan 2", "12:00", "Jan 3", "12:00"]


@pytest.mark.parametrize(
    ("span_ns", "words"),
    [
        (0, "0 s"),
        (1_500_000, "1.5 ms"),
        (30 * MS, "30 ms"),
        (2_450 * MS, "2.45 s"),
        (59_940 * MS, "59.9 s"),
        (59_960 * MS, "1 min"),
        (3 * HOUR + 5 * 60 * SECOND, "3 h 5 min"),
        (3 * 24 * HOUR, "3 d"),
        (800 * 24 * HOUR, "2.2 years"),
    ],
)
def test_spans_in_words(span_ns, words):
    assert short_span(span_ns) == words


def test_amounts_in_words():
    said = [
        amount(*one) for one in ((1, "cores"), (0.444, "cores"), (256, "MiB"), (16384, "MiB"), (9.5e9, "MiB"))
    ]
    assert said == ["1 core", "0.44 cores", "256 MiB", "16 GiB", "9060 TiB"]


def test_a_crash_lasts_from_the_last_look_to_the_new_daemon():
    life = read_life(CASES["rough"]())
    daemons = [one for one in life.breaks if one.kind == "daemon"]
    assert [(one.start_ns - START_NS, one.end_ns - START_NS) for one in daemons] == [
        (5_900 * MS, 9_000 * MS),
        (12_900 * MS, 17_400 * MS),
    ]
    unmeasured = read_life(replace(CASES["rough"](), samples=None))
    assert [one.start_ns - START_NS for one in unmeasured.breaks[:2]] == [334 * MS, 9_000 * MS]


def test_an_outage_lasts_until_the_try_that_got_through():
    (outage,) = [one for one in read_life(CASES["rough"]()).breaks if one.kind == "coordinator"]
    assert (outage.start_ns - START_NS, outage.end_ns - START_NS) == (26_400 * MS, 44_700 * MS)
    assert outage.words == "The outcome could not be delivered: 3 tries, the last: HTTP 503"


def test_an_end_that_was_written_down_late_is_seen():
    timed = [(offered(), 0), (e.Acked(), 1), (e.PrepStarted(), 2), (intended(), 3), (launched(), 4 * MS)]
    timed += [(e.Ended("exited", 0, None, START_NS + 20 * SECOND, {}), 60 * SECOND)]
    case = case_of(timed)
    (late,) = read_life(case).breaks
    assert (late.kind, late.start_ns, late.end_ns) == ("daemon", START_NS + 4 * MS, START_NS + 60 * SECOND)
    assert "No daemon for at most 1 min. The end of the run was written down late" in render(case)


def test_a_job_that_was_given_up_says_so_once():
    timed = [(offered(), 0), (e.Superseded("the coordinator has moved on", 409), 38 * SECOND)]
    words = "".join(read(render(case_of(timed))).words)
    assert "Given upafter 38 s: the coordinator handed it out again, or forgot it." in words


def test_a_reboot_is_seen():
    (reboot,) = read_life(CASES["long"]()).breaks
    assert reboot.kind == "reboot"
    assert reboot.end_ns == START_NS + 9 * HOUR


def test_a_run_that_ended_while_nobody_looked_is_seen():
    timed = [(offered(), 0), (e.Acked(), 1), (e.PrepStarted(), 2), (intended(), 3), (launched(), 4 * MS)]
    timed += [(ended(3.0, 5.0), 60 * SECOND)]
    samples = tuple(measured(1, 10 * MS, 20 * SECOND, SECOND // 2))
    (away,) = read_life(case_of(timed, samples)).breaks
    assert (away.kind, away.start_ns, away.end_ns) == ("daemon", samples[-1].at_ns, START_NS + 60 * SECOND)
    assert read_life(case_of(timed, measured(1, 10 * MS, 60 * SECOND, SECOND // 2))).breaks == ()


def test_a_clock_that_was_set_back_moves_nothing_backward():
    timed = [
        (offered(), 0),
        (e.Acked(), SECOND),
        (e.PrepStarted(), -24 * HOUR),
        (intended(), 2 * SECOND - 24 * HOUR),
    ]
    life = read_life(case_of(timed))
    assert [mark.at_ns - START_NS for mark in life.marks] == [
        0,
        SECOND,
        SECOND,
        24 * HOUR + 3 * SECOND - 24 * HOUR,
    ]
    assert life.notes == (
        "Between records 2 and 3 the clock was set back by 1 d: that time is drawn as none.",
    )
    assert life.notes[0] in "".join(read(render(case_of(timed))).words)


def test_samples_move_with_a_clock_that_was_set_back():
    timed = [(offered(), 0), (e.Acked(), 1), (e.PrepStarted(), 2), (intended(), 3), (launched(), SECOND)]
    timed += [(ended(1.0, 5.0), 10 * SECOND - 24 * HOUR)]
    samples = [Sample(1, START_NS + at, 0.1, 1.0, 0.0) for at in (2 * SECOND, 9 * SECOND - 24 * HOUR)]
    life = read_life(case_of(timed, samples))
    assert life.samples[0].at_ns == START_NS + 2 * SECOND
    assert life.start_ns <= life.samples[1].at_ns


def test_the_processor_is_told_as_a_rate_that_adds_up():
    timed = [(offered(), 0), (e.Acked(), 1), (e.PrepStarted(), 2), (intended(), 3), (launched(), SECOND)]
    timed += [(ended(12.0, 5.0), 11 * SECOND)]
    samples = [
        Sample(1, START_NS + at * SECOND, cpu_s, 1.0, 0.0) for at, cpu_s in ((3, 4.0), (7, 4.0), (9, 8.0))
    ]
    (line,) = charts_of(read_life(case_of(timed, samples)))[0].lines
    rates = [
        (start[0] - START_NS, end[0] - START_NS, start[1])
        for start, end in zip(line[::2], line[1::2], strict=True)
    ]
    assert rates == [
        (SECOND, 3 * SECOND, 2.0),
        (3 * SECOND, 7 * SECOND, 0.0),
        (7 * SECOND, 9 * SECOND, 2.0),
        (9 * SECOND, 11 * SECOND, 2.0),
    ]


HEADLINES = {
    "rough": "It ended well with 1 artifact, and was delivered 47 s after its offer, through 2 times without a daemon "
    "and 1 outage of the coordinator.",
    "brief": "It ended well with 1 artifact, and was delivered 30 ms after its offer.",
    "long": "It ended well with 1 artifact, and was delivered 2 d 23 h after its offer, in its second run, "
    "through 1 reboot.",
    "broken": "Its records can't be followed to their end; what can be told is below.",
    "alive": "It has not ended yet; the last record is 1 min after its offer, through 1 time without a daemon.",
}


@pytest.mark.parametrize(("name", "words"), HEADLINES.items())
def test_the_headline(name, words):
    assert words in read(render(CASES[name]())).words


def test_a_failure_is_told_with_its_code():
    timed = [
        (offered(), 0),
        (e.Acked(), 1),
        (e.PrepStarted(), 2),
        (e.OutcomeKnown("E_DENY", "not allowed."), 3),
    ]
    words = "".join(read(render(case_of(timed))).words)
    assert "E_DENY: not allowed, and the coordinator does not have it yet." in words
    words = "".join(read(render(case_of([*timed, (e.Delivered(200), SECOND)]))).words)
    assert "E_DENY: not allowed. The coordinator was told 1 s after the offer." in words


def test_no_record_at_all_is_a_page_too():
    words = "".join(read(render(Case(read_story(StreamKey("j-1", 1), []), "journal.db"))).words)
    assert "Not one record of it could be read." in words


def test_every_sentence_of_the_story_leads_to_its_records():
    reader = read(render(CASES["rough"]()))
    assert any("A daemon died or was stopped while it ran" in words for words in reader.words)
    assert reader.links.count("r6") >= 2


def test_redacted_records_are_said_to_be_so():
    words = "".join(read(render(CASES["hostile"]())).words)
    assert "The data of 1 record was redacted before it came here (4)" in words
    assert "linked" in words


def test_a_page_stays_bounded_however_much_there_is():
    events = [
        (offered(args=["x" * 900] * 900), 0),
        (e.Acked(), 1),
        (e.PrepStarted(), 2),
        (intended(), 3),
        (launched(), 4),
    ]
    events += [(e.Reattached(1, 5), 5 + n * SECOND) for n in range(6000)]
    artifacts = tuple(
        {"path": "p" * 900, "type": "t" * 900, "size": 1, "sha256": "s" * 900} for _ in range(1000)
    )
    events += [
        (ended(1.0, 1.0), 7000 * SECOND),
        (e.OutcomeKnown(None, "", artifacts=artifacts), 7000 * SECOND),
    ]
    samples = [
        sample for run in range(1, 33) for sample in measured(run, run * SECOND, 60 * SECOND, SECOND // 9)
    ]
    case = case_of(events, samples, "<" * 10**6, notes=("n" * 10**5,) * 500)
    page = render(
        replace(case, versions={f"v{n}": "x" * 10**4 for n in range(500)}, others=tuple(range(10_000)))
    )
    reader = read(page)
    assert len(page) < 3 * 1024 * 1024
    assert max(map(len, reader.words)) <= LOG_TAIL_BYTES_MAX + 1
    assert sum(words.startswith("<<<") for words in reader.words) == 1
    assert any("records are left out here" in words for words in reader.words)
    assert any(words == "and 800 more" for words in reader.words)


def documented(heads):
    """The first column of the table with these heads in docs/forensics.md."""
    document = (Path(__file__).parents[2] / "docs" / "forensics.md").read_text()
    rows = document.split(f"| {heads} |")[1].split("\n\n")[0].splitlines()[2:]
    return [row.split("|")[1].strip() for row in rows]


def test_the_sections_are_as_documented():
    headings = re.findall(r"<h2[^>]*>([^<]*)", render(CASES["rough"]()))
    assert ["(top)", *headings] == documented("section | shows")


def test_the_outages_and_bounds_are_as_documented():
    assert list(BREAK_NAMES.values()) == documented("name | what it is | from | to")
    document = (Path(__file__).parents[2] / "docs" / "forensics.md").read_text()
    assert f"at {LINES_MAX} lines" in document
    assert f"the last {LOG_TAIL_BYTES_MAX // 1024} KiB" in document
    shown = re.findall(r'<tr id="r(\d+)"', render(CASES["many"]()))
    assert [int(shown[0]), int(shown[299]), int(shown[300]), int(shown[-1])] == [1, 300, 1501, 2000]
    assert len(shown) == 800
