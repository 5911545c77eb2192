"""Times, spans and sizes as people read them; text that can't steer a terminal."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_miner.cli.output import Cell, Screen, clean
from fsm_miner.words import counted, size, span, utc


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.000s"),
        (0.0123, "0.012s"),
        (9.9996, "10.0s"),
        (59.94, "59.9s"),
        (59.96, "1m00s"),
        (3599.6, "1h00m"),
        (86399.9, "1d00h"),
        (200000, "2d07h"),
        (-2, "-2.000s"),
    ],
)
def test_a_span_has_at_most_two_units(seconds, text):
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("at_ns", "text"),
    [
        (0, "1970-01-01 00:00:00.000"),
        (1_767_225_600_123_999_999, "2026-01-01 00:00:00.123"),
        (10**30, f"{10**30} ns"),
    ],
)
def test_a_time_is_utc_whatever_it_is(at_ns, text):
    assert utc(at_ns) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 2**20, "5.0 MiB"), (2**60, "1048576.0 TiB")],
)
def test_a_size(size_bytes, text):
    assert size(size_bytes) == text


def test_one_record_and_two_records():
    assert [counted(1, "record"), counted(2, "record")] == ["1 record", "2 records"]


def test_what_could_steer_a_terminal_is_escaped():
    assert clean("a\x1b[31mb\r\nc\x07\u202ed\ud800") == "a\\x1b[31mb\\r\\nc\\x07\\u202ed\\ud800"


@given(st.text(), st.integers(1, 50))
def test_clean_text_is_one_printable_line_and_bounded(text, chars_max):
    cleaned = clean(text, chars_max)
    assert cleaned.isprintable()
    assert cleaned == text or not text.isprintable() or len(cleaned) == chars_max < len(text)


def written(act):
    file = io.StringIO()
    act(Screen(file))
    return file.getvalue()


def test_a_pipe_gets_whole_lines_without_colour_or_trailing_blanks():
    long = "x" * 500
    text = written(
        lambda screen: screen.table(("A", ">B", "C"), [(Cell("a", "red"), "1", long), ("bb", "22", "c")])
    )
    assert text.splitlines() == ["A    B  C", f"a    1  {long}", "bb  22  c"]


def test_markup_and_escapes_in_data_are_data():
    text = written(lambda screen: screen.say("[red]not red[/red] :smile: ", "\x1b[2J"))
    assert text == "[red]not red[/red] :smile: \\x1b[2J\n"


def test_json_is_ascii():
    text = written(lambda screen: screen.json({"a": "ü\x1b\ud800"}))
    assert text.isascii()
    assert json.loads(text) == {"a": "ü\x1b\ud800"}
