import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_miner.log_tail import last_line, parse_progress, read_tail, readable


def test_a_short_log_is_read_whole(tmp_path: Path):
    log = tmp_path / "exec.log"
    log.write_bytes("eins\n\tzwei: größer\n".encode())
    assert read_tail(log) == "eins\n\tzwei: größer\n"


def test_of_a_long_log_only_the_last_whole_lines_are_read(tmp_path: Path):
    log = tmp_path / "exec.log"
    log.write_bytes(b"".join(b"line %d\n" % n for n in range(100_000)))
    tail = read_tail(log, 100)
    assert tail.endswith("line 99998\nline 99999\n")
    assert all(line.startswith("line 99") for line in tail.split("\n")[:-1])
    assert len(tail) <= 100


def test_one_endless_line_is_cut_at_a_character(tmp_path: Path):
    log = tmp_path / "exec.log"
    log.write_bytes("€".encode() * 10_000)
    assert read_tail(log, 100) == "€" * 33
    log.write_bytes("€".encode() * 10_000 + b"\n")
    assert "€" * 30 in read_tail(log, 100)


def test_what_is_no_log_is_an_empty_text(tmp_path: Path):
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    for name in ("none", "link", "fifo", "."):
        path = tmp_path / name if name != "." else tmp_path
        assert read_tail(path) == ""
    assert read_tail(tmp_path / "no" / "folder") == ""


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\x1b]0;new title\x07x", "x"),
        (b"\x1b]8;;http://h/\x1b\\link\x1b]8;;\x1b\\", "link"),
        (b"\x1bPdevice string\x1b\\x", "x"),
        (b"a\x1b]0;never ends\nb", "a\nb"),
        (b"\x1b[2J\x1b[H\x1bcx", "x"),
        ("\x9b31mx\x9d0;t\x07y".encode(), "xy"),
        (b"bell\x07 back\x08 null\x00 del\x7f", "bell\ufffd back\ufffd null\ufffd del\ufffd"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        ("a\u202eb\u200bc\u2028d".encode(), "a\ufffdb\ufffdc\ufffdd"),
        (b"dos\r\nlines\r\n", "dos\nlines\n"),
        (b"frame= 1\rframe= 2\rframe= 3\r", "frame= 3"),
        (b"a\rb\nc\rd", "b\nd"),
        (b"tab\there", "tab\there"),
        (b"\x1b", ""),
        (b"", ""),
    ],
)
def test_only_printable_text_comes_out(data: bytes, text: str):
    assert readable(data) == text


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")))
def test_whatever_comes_out_is_harmless(data: bytes):
    text = readable(data)
    assert text.encode().decode() == text
    assert len(text) <= len(data)
    for char in text.replace("\n", "").replace("\t", ""):
        assert unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("text", "pct"),
    [
        ("progress: 42%", 42.0),
        ("x\nprogress:42.5 %\ny", 42.5),
        ("FSM_MINER_PROGRESS 7", 7.0),
        ("progress: 1%\nprogress: 2%\n", 2.0),
        ("progress: 100%", 100.0),
        ("progress: 50%\nprogress: 101%", 50.0),
        ("progress: 101%", None),
        ("progress: -1%", None),
        ("progress: 1e9%", None),
        ("progress: nan%", None),
        ("progress: 42% done", None),
        ("my progress: 42%", None),
        ("FSM_MINER_PROGRESS", None),
        ("progress: ٤٢%", None),
        ("", None),
    ],
)
def test_progress(text: str, pct: float | None):
    assert parse_progress(text) == pct


def test_the_last_line_with_something_in_it():
    assert last_line("a\n  b  \n\n \n") == "b"
    assert last_line("\n\n") == ""
    assert last_line("x" * 1000, 10) == "x" * 10
