import os
import time
import unicodedata
from base64 import b64encode
from pathlib import Path
from textwrap import wrap

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsm_miner.config.secret import Secret
from fsm_miner.log_tail import last_line, parse_progress, read_tail, readable
from fsm_miner.redaction import Redactor


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


def test_blanks_cost_no_more_than_their_number():
    began = time.process_time()
    for text in ("progress: 1" + " " * 100_000 + "x", " " * 100_000 + "x", "progress:" + " " * 100_000 + "x"):
        assert parse_progress(text) is None
    assert time.process_time() - began < 2


PEM = "\n".join(
    ["-----BEGIN PRIVATE KEY-----"]
    + [f"{number * 0x9E3779B97F4A7C15 % 2**128:032x}" * 2 for number in range(1, 27)]
    + ["-----END PRIVATE KEY-----"]
)
TOKEN = "".join(f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}" for number in range(1, 89))  # 1408 characters


def no_piece_of(secret: str, text: str) -> bool:
    pieces = {secret[at : at + 8] for at in range(len(secret) - 7)}
    return not any(text[at : at + 8] in pieces for at in range(len(text) - 7))


@pytest.mark.parametrize(
    ("secret", "end"), [(PEM, "\n"), (TOKEN, ""), (TOKEN, "\n")], ids=["pem", "token", "lines"]
)
def test_a_secret_that_is_cut_at_the_beginning_is_not_shown(tmp_path: Path, secret: str, end: str):
    log = tmp_path / "exec.log"
    redactor = Redactor([Secret(secret)])
    log.write_text((secret + end) * 12)
    for max_bytes in (*range(1, 3000, 97), 8192):
        assert no_piece_of(secret, read_tail(log, max_bytes, redactor))


@pytest.mark.parametrize("columns", [60, 76])
@pytest.mark.parametrize(
    "form", [TOKEN.encode().hex(" "), b64encode(TOKEN.encode()).decode()], ids=["od", "base64"]
)
def test_nor_is_one_that_was_encoded_and_wrapped(tmp_path: Path, form: str, columns: int):
    log = tmp_path / "exec.log"
    redactor = Redactor([Secret(TOKEN)])
    log.write_text(("\n".join(wrap(form, columns)) + "\n") * 12)
    solid = form.replace(" ", "")
    for max_bytes in (*range(1, 3000, 97), 8192):
        shown = read_tail(log, max_bytes, redactor)
        assert no_piece_of(solid, "".join(shown.split()))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    st.text("abcdef\n", min_size=8, max_size=40) | st.sampled_from([PEM, TOKEN]),
    st.lists(
        st.binary(max_size=3).map(lambda filler: filler.replace(b"\n", b"")) | st.just(None), max_size=20
    ),
    st.integers(0, 3000),
    st.integers(1, 3000),
)
def test_no_piece_of_a_secret_is_in_the_tail(
    tmp_path: Path, secret: str, parts: list[bytes | None], missing: int, max_bytes: int
):
    """Whatever the log, wherever the tail begins, and however much of the last secret is written."""
    content = b"".join(secret.encode() if part is None else b"<%b>" % part for part in (*parts, None))
    log = tmp_path / "exec.log"
    log.write_bytes(content[: len(content) - missing % len(secret)])
    assert no_piece_of(secret, read_tail(log, max_bytes, Redactor([Secret(secret)])))


@pytest.mark.parametrize(
    "escape", ["\x1b[31m", "\x1b]8;;http://h\x1b\\", "\u009b1m", "\x1b(B", "\x1b[01;31m\x1b[K"]
)
def test_no_colour_hides_a_secret(tmp_path: Path, escape: str):
    """It would be taken out for the reader, and the secret would stand there whole."""
    log = tmp_path / "exec.log"
    log.write_text(f"token: {TOKEN[:20]}{escape}{TOKEN[20:]}\n", encoding="utf-8")
    redactor = Redactor([Secret(TOKEN)])
    assert read_tail(log, redactor=redactor) == "token: [redacted]\n"
    form = b64encode(TOKEN.encode()).decode()
    log.write_text(f"token: {form[:20]}{escape}{form[20:]}\n", encoding="utf-8")
    assert no_piece_of(form, read_tail(log, redactor=redactor))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(
    st.lists(
        st.sampled_from(["a", "b", "\x1b[", "\x1b]", "1m", "\x9b", "\x07", "\x1b", "\\", "\r", "\n", " "]),
        max_size=30,
    )
)
def test_nothing_made_readable_is_a_secret(tmp_path: Path, parts: list[str]):
    log = tmp_path / "exec.log"
    log.write_text("".join(parts), encoding="utf-8")
    assert "abba" not in read_tail(log, redactor=Redactor([Secret("abba")]))
