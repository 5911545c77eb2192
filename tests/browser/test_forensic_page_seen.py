"""The forensic page as a browser shows it: to scale, legible, within its width, asking for nothing."""

from itertools import pairwise

import pytest

from states.table import FINAL, State
from tests.support.forensic_cases import CASES, SCRIPT

WIDTHS = (360, 520, 768, 820, 1280, 1600)
FEW_WIDTHS = (360, 768, 1600)  # for the page that takes long to lay out
SCHEMES = ("light", "dark")

# What is wider than the window, outside of what scrolls by itself. What is folded away is not asked: asking lays it
# out, each time anew.
SPILLED = """() => {
  const scrolls = one => one && (getComputedStyle(one).overflowX !== 'visible' || scrolls(one.parentElement));
  return [...document.body.querySelectorAll('*:not(details:not([open]) > pre)')]
    .filter(one => one.getBoundingClientRect().right > innerWidth + 0.5 && !scrolls(one.parentElement))
    .map(one => `${one.tagName} ${one.getAttribute('class')} ${one.getBoundingClientRect().right}`);
}"""

# The boxes of what is shown of a kind, within its picture: left and right in pixels from the picture's own edges.
BOXES = """selector => [...document.querySelectorAll('svg.time')].map(picture => {
  const frame = picture.getBoundingClientRect();
  return [...picture.querySelectorAll(selector)].filter(one => one.getClientRects().length).map(one => {
    const box = one.getBoundingClientRect();
    return {left: box.left - frame.left, right: box.right - frame.left, top: box.top - frame.top,
            bottom: box.bottom - frame.top, width: frame.width, words: one.textContent};
  });
})"""

BARS = """() => {
  const picture = document.querySelector('svg.time');
  const width = picture.getBoundingClientRect().width;
  return [...picture.querySelectorAll('rect.bar')].map(bar => {
    const box = bar.getBBox();
    return {state: bar.getAttribute('class').match(/s-([A-Z_]+)/)[1], left: box.x, width: box.width, of: width};
  });
}"""

# Every piece of text, its colour and what it stands on; CSS colours as [red, green, blue].
TEXTS = """() => {
  const parsed = colour => colour.match(/[0-9.]+/g).map(Number);
  const solid = colour => { const one = parsed(colour); return one.length === 3 || one[3] === 1; };
  const under = one => {
    for (let at = one; at; at = at.parentElement) {
      if (at.namespaceURI.endsWith('svg')) {
        const shape = at !== one && at.tagName !== 'svg' ? at.querySelector(':scope > rect') : null;
        if (shape && !shape.classList.contains('closer')) return getComputedStyle(shape).fill;
      } else if (solid(getComputedStyle(at).backgroundColor)) {
        return getComputedStyle(at).backgroundColor;
      }
    }
    return getComputedStyle(document.body).backgroundColor;
  };
  return [...document.body.querySelectorAll('*:not(details:not([open]) > pre)')]
    .filter(one => one.getClientRects().length && one.tagName !== 'title')
    .filter(one => [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
    .map(one => {
      const style = getComputedStyle(one);
      const colour = one.namespaceURI.endsWith('svg') ? style.fill : style.color;
      return {words: one.textContent.slice(0, 30), kind: `${one.tagName}.${one.getAttribute('class')}`,
              ink: parsed(colour).slice(0, 3), paper: parsed(under(one)).slice(0, 3)};
    });
}"""


@pytest.mark.parametrize("name", CASES)
def test_it_fits_every_width_and_asks_for_nothing(opened, name):
    page = opened(name)
    for width in FEW_WIDTHS if name == "many" else WIDTHS:
        for scheme in SCHEMES:
            page.show(width, scheme)
            assert page.ask("document.documentElement.scrollWidth") <= width, (width, scheme)
        assert page.ask(SPILLED) == [], width
    page.show(794, media="print")
    assert page.ask("document.documentElement.scrollWidth") <= 794
    assert page.requests == [page.url]
    assert page.complaints == []


def expected_bars(case, whole_ns):
    """(state, left, width) of each stay, as shares, told by the records alone; in the order of lanes and time."""
    records = [step.record for step in case.story.steps]
    start_ns = records[0].at_ns
    changes = [records[0], *(after for before, after in pairwise(records) if before.dest != after.dest)]
    ends = [record.at_ns for record in changes[1:]] + [start_ns + whole_ns]
    stays = [
        (record.dest, (record.at_ns - start_ns) / whole_ns, (end_ns - record.at_ns) / whole_ns)
        for record, end_ns in zip(changes, ends, strict=True)
        if State(record.dest) not in FINAL
    ]
    return sorted(stays, key=lambda stay: (list(State).index(stay[0]), stay[1]))


@pytest.mark.parametrize("name", ["rough", "brief", "long", "hostile"])
@pytest.mark.parametrize("width", [360, 1600])
def test_bars_are_to_scale(opened, name, width):
    page = opened(name)
    page.show(width)
    case = CASES[name]()
    records = [step.record for step in case.story.steps]
    expected = expected_bars(case, records[-1].at_ns - records[0].at_ns)
    bars = page.ask(BARS)
    assert [bar["state"] for bar in bars] == [state for state, _, _ in expected]
    for bar, (state, left, share) in zip(bars, expected, strict=True):
        assert bar["of"] > 200
        assert bar["left"] == pytest.approx(left * bar["of"], abs=0.2), state
        assert bar["width"] == pytest.approx(share * bar["of"], abs=0.35), state


def test_no_state_is_too_short_to_be_seen(opened):
    page = opened("long")
    drawn = page.ask(
        """() => [...document.querySelector('svg.time').querySelectorAll('rect.bar')].map(bar => {
          const box = bar.getBBox(), style = getComputedStyle(bar);
          return [box.width > 0, box.width + parseFloat(style.strokeWidth), style.stroke !== 'none'];
        })"""
    )
    assert len(drawn) == 8
    assert all(there and width >= 1.5 and stroked for there, width, stroked in drawn)


@pytest.mark.parametrize("name", CASES)
def test_marks_stay_in_the_picture_and_apart(opened, name):
    page = opened(name)
    for width in FEW_WIDTHS if name == "many" else WIDTHS:
        page.show(width)
        for boxes in page.ask(BOXES, ".mark rect"):
            assert boxes, "a picture without marks"
            assert boxes[0]["left"] >= -0.5
            assert all(box["right"] <= box["width"] + 0.5 for box in boxes)
            for before, after in pairwise(sorted(boxes, key=lambda box: box["left"])):
                assert before["right"] <= after["left"] + 0.5, (width, before, after)
        for kind in ("text.tick", "text.clock"):
            for boxes in page.ask(BOXES, kind):
                for before, after in pairwise(sorted(boxes, key=lambda box: box["left"])):
                    assert before["right"] < after["left"], (width, before, after)


def test_stems_stand_where_things_happened(opened):
    page = opened("rough")
    records = [step.record for step in CASES["rough"]().story.steps]
    whole_ns = records[-1].at_ns - records[0].at_ns
    (stems, *_) = page.ask(BOXES, ".stem")
    wanted = sorted({round((record.at_ns - records[0].at_ns) / whole_ns, 4) for record in records})
    assert [(stem["left"] + stem["right"]) / 2 / stem["width"] for stem in stems] == pytest.approx(
        wanted, abs=0.002
    )


def test_tooltips_say_what_happened(opened):
    page = opened("rough")
    titles = page.ask("[...document.querySelectorAll('.mark.wide title')].map(one => one.textContent)")
    assert (
        "6 Reattached, 2026-01-01 00:00:09.000: run 1 was found alive by a new daemon (process 5101)"
        in titles
    )
    page.show(360)
    (grouped, *_) = page.ask(
        "[...document.querySelectorAll('.mark.narrow title')].map(one => one.textContent)"
    )
    assert [line.split(",")[0] for line in grouped.splitlines()] == [
        "1 Offered", "2 Acked", "3 PrepStarted", "4 LaunchIntended", "5 Launched",
    ]  # fmt: skip
    bars = page.ask("[...document.querySelectorAll('rect.bar')].map(one => one.parentElement.textContent)")
    assert any(bar.startswith("RUNNING for 26.1 s, from record 5") for bar in bars)
    outages = page.ask(
        "[...document.querySelectorAll('rect.break')].map(one => one.parentElement.textContent)"
    )
    assert [outage.split(" for")[0] for outage in outages[:3]] == ["No daemon", "No daemon", "Not delivered"]


def test_outages_are_seen_where_they_were(opened):
    page = opened("rough")
    (breaks, *_) = page.ask(BOXES, "rect.break")
    (zones, *_) = page.ask(BOXES, "rect.zone")
    shares = [(box["left"] / box["width"], box["right"] / box["width"]) for box in breaks]
    wanted = [(5.9 / 47, 9 / 47), (12.9 / 47, 17.4 / 47), (26.4 / 47, 44.7 / 47)]
    for share, want in zip(shares, wanted, strict=True):
        assert share == pytest.approx(want, abs=0.003)
    for zone, box in zip(zones, breaks, strict=True):
        assert (zone["left"], zone["right"]) == pytest.approx((box["left"], box["right"]), abs=1.5)
    # Nobody looked then: memory and disk have no line there, while they have one before and after.
    for lines in page.ask(BOXES, ".c-memory .line, .c-disk .line")[:1]:
        assert len(lines) == 6
        for line in lines:
            for start, end in wanted[:2]:
                middle = (start + end) / 2 * line["width"]
                assert not line["left"] < middle < line["right"]


def test_names_stand_beside_what_they_name(opened):
    page = opened("rough")
    for width in (360, 1280):
        page.show(width)
        rows = page.ask(
            """() => [...document.querySelector('.names').querySelectorAll('.g-lane')].map(one => {
              const box = one.getBoundingClientRect();
              return [one.querySelector('b').textContent, (box.top + box.bottom) / 2];
            })"""
        )
        bars = page.ask(
            """() => Object.fromEntries([...document.querySelector('svg.time').querySelectorAll('.bar, .end')].map(
              one => { const box = one.getBoundingClientRect();
                return [one.getAttribute('class').match(/s-([A-Z_]+)/)[1], (box.top + box.bottom) / 2]; }))"""
        )
        named = {name: middle for name, middle in rows if name in bars}
        assert named == pytest.approx(bars, abs=1.5)
        assert len(named) == 7


def contrast(ink, paper):
    """WCAG 2.1: the ratio of the relative luminances."""

    def luminance(colour):
        red, green, blue = (
            part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4
            for part in (part / 255 for part in colour)
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("name", ["rough", "broken", "hostile", "alive"])
def test_every_letter_can_be_read(opened, name):
    page = opened(name)
    for scheme in SCHEMES:
        page.show(1280, scheme)
        texts = page.ask(TEXTS)
        assert len(texts) > 100
        faint = [one for one in texts if contrast(one["ink"], one["paper"]) < 4.5]
        assert faint == [], scheme


def test_a_mark_leads_to_its_record_by_keyboard(opened):
    page = opened("rough")
    page.page.locator(".mark.wide a").first.focus()
    page.page.keyboard.press("Tab")
    label = page.ask("document.activeElement.getAttribute('aria-label')")
    assert label.startswith("2 Acked"), label
    page.page.keyboard.press("Enter")
    assert page.ask("location.hash") == "#r2"
    assert page.ask("document.querySelector('tr:target').textContent").startswith("2")
    row = page.page.locator("tr#r4 summary")
    row.focus()
    page.page.keyboard.press("Enter")
    assert '"memory_limit_mb": 256' in page.page.locator("tr#r4 pre").inner_text()


def test_what_is_scrolled_can_be_reached_by_keyboard_and_has_a_name(opened):
    page = opened("rough")
    for name in ("The end of the log", "The manifest as JSON"):
        region = page.page.get_by_role("region", name=name)
        assert region.get_attribute("tabindex") == "0"
    headers = page.ask("[...document.querySelectorAll('th')].map(one => one.getAttribute('scope'))")
    assert headers
    assert set(headers) <= {"row", "col"}
    assert page.ask("document.documentElement.lang") == "en"


def test_hostile_words_are_words(opened):
    page = opened("hostile")
    assert page.ask("document.title").startswith(
        "</title></style></pre></script><script>document.title='owned'</scrip"
    )
    allowed = "a b body br circle code dd details div dl dt figcaption figure g h1 h2 head header html i li line main "
    allowed += "meta p path pre rect section small span style summary svg table tbody td text th thead title tr ul ol"
    tags = page.ask("[...new Set([...document.querySelectorAll('*')].map(one => one.tagName.toLowerCase()))]")
    assert set(tags) <= set(allowed.split())
    hrefs = page.ask("[...document.querySelectorAll('[href]')].map(one => one.getAttribute('href'))")
    assert hrefs
    assert all(href.startswith("#") for href in hrefs)
    names = page.ask(
        "[...new Set([...document.querySelectorAll('*')].flatMap(one => one.getAttributeNames()))]"
    )
    assert not [
        name for name in names if name.startswith("on") or name in {"src", "srcset", "style", "action"}
    ]
    seen = page.page.locator("body").inner_text()
    assert seen.count(SCRIPT) > 20
    assert not set(seen) & set("\u202e\u2066\x00\x1b")
    assert "\\u202egnp.exe" in seen
    assert page.ask("document.querySelector('pre[aria-label=\"The end of the log\"]').innerText").startswith(
        SCRIPT
    )


def test_two_thousand_records_stay_within_bounds(opened, pages):
    page = opened("many")
    assert pages("many").stat().st_size < 1024 * 1024
    assert page.ask("document.querySelectorAll('table.records tbody tr').length") == 801
    assert "1200 records are left out here; fsm-miner replay j-outage/1 tells them all" in page.ask(
        "document.querySelector('tr.between').innerText"
    )
    assert page.ask("document.querySelectorAll('svg *').length") < 3000
    # A mark of a record that has no row leads to the table.
    dangling = page.ask(
        "[...document.querySelectorAll('a[href]')].filter(one => !document.querySelector(one.getAttribute('href')))"
        ".map(one => one.getAttribute('href'))"
    )
    assert dangling == []
    sparse = page.ask(
        "[...document.querySelectorAll('rect.sparse')].map(one => one.parentElement.textContent)"
    )
    assert sparse[0].startswith("UPLOADING for 20 s, from record 7 to 1999, in 997 stays")


def test_a_broken_chain_is_the_first_thing_one_sees(opened):
    page = opened("broken")
    alert = page.page.get_by_role("alert")
    assert "The chain does not hold. Record 4: its content is not what its hash covers" in alert.inner_text()
    box = alert.bounding_box()
    assert box is not None
    assert box["y"] < 300
    assert page.page.locator("tr#r4 td.chain").inner_text() == "no"
    assert page.page.locator("tr#r3 td.chain").inner_text() == "yes"
