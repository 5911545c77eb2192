"""Secrets are found however they were written, and wherever a file was cut."""

import base64
import io
import json
import shlex
import subprocess
import time
from html import escape
from itertools import pairwise
from textwrap import wrap
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_miner.config.secret import Secret
from fsm_miner.redaction import Redactor, redact_file

SECRET = "hunter2 & \"quoted\" 'x' $HOME \\n é"


def redactor(*values):
    return Redactor(Secret(value) for value in values)


def redacted(known, data):
    """What is to become of data that nothing cuts."""
    parts, at = [], 0
    for begin, end in known.spans(data):
        parts += [data[at:begin], b"[redacted]"]
        at = end
    return b"".join([*parts, data[at:]])


WAYS = {
    "as it is": SECRET,
    "repr": repr(SECRET),
    "json": json.dumps(SECRET),
    "json, not ascii": json.dumps(SECRET, ensure_ascii=False),
    "url": quote(SECRET, safe=""),
    "shell": shlex.quote(SECRET),
    "hex": SECRET.encode().hex(),
    "HEX": SECRET.encode().hex().upper(),
    "hex with spaces": SECRET.encode().hex(" "),
    **{
        f"{name} after {before} bytes": encode(b"x" * before + SECRET.encode() + b"y" * after).decode()
        for before in range(4)
        for after in range(3)
        for name, encode in [("base64", base64.b64encode), ("url base64", base64.urlsafe_b64encode)]
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_it_is_found_however_it_was_written(way):
    text = f"before {WAYS[way]} after"
    found = redactor(SECRET)
    for shown in (found.redact(text), redacted(found, text.encode()).decode()):
        assert "[redacted]" in shown
        assert "hunter2" not in shown
        assert shown.startswith("before ")
        assert shown.endswith(" after")
        # What is left of base64 is the characters at the edges, which hold less than a byte of it.
        assert len(shown) <= len("before [redacted] after") + 16


def test_what_bash_writes_of_it():
    traced = subprocess.run(
        ["bash", "-xc", 'echo "$S" > /dev/null; printf "%q\\n" "$S"'],
        env={"S": "two words; $x 'y'", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
    )
    shown = redacted(redactor("two words; $x 'y'"), traced.stdout + traced.stderr)
    assert b"words" not in shown, shown


def test_the_longest_of_several_goes_first():
    assert redactor("abcdef", "cd").redact("abcdef cd") == "[redacted] [redacted]"


def test_an_empty_secret_is_nowhere():
    assert redactor("").redact("text") == "text"
    assert redactor("").longest == 0


@given(
    st.binary(min_size=4, max_size=40).filter(lambda value: b"[redacted]" not in value),
    st.lists(st.binary(max_size=60), max_size=5),
    st.integers(1, 16),
)
def test_a_file_is_the_same_wherever_it_is_cut(value, parts, chunk):
    secret = value.decode("latin-1")
    content = secret.encode().join(parts)

    known = redactor(secret)
    assert in_pieces(known, content, chunk) == redacted(known, content)
    assert content.count(secret.encode()) == 0 or b"[redacted]" in redacted(known, content)


@pytest.mark.parametrize("length", range(2, len("hunter2!")))
def test_the_beginning_of_a_secret_is_held_back(length):
    known = redactor("hunter2!")
    assert known.redact_end(b"password: " + b"hunter2!"[:length], 0) == b"password: "
    assert known.redact_end(b"password: hunter3", 0) == b"password: hunter3"
    assert known.redact_end(b"", 0) == b""


HEX = SECRET.encode().hex()
BASE64 = base64.b64encode((SECRET * 8).encode()).decode()
MORE_WAYS = {
    "url, as a path": quote("a/b c&d" * 3, safe="/"),
    "url, lower case": quote("a/b c&d" * 3, safe="").replace("%2F", "%2f"),
    "url, all lower case": quote_plus("a/b c&d" * 3).replace("%2F", "%2f"),
    "encodeURIComponent": quote("a/b c&d" * 3, safe="!'()*"),
    "html": escape("a/b c&d" * 3),
    "json of php": json.dumps("a/b c&d" * 3)[1:-1].replace("/", "\\/"),
    "json of go": json.dumps("a/b c&d" * 3)[1:-1].replace("&", "\\u0026"),
    "json of php, for html": json.dumps("a/b c&d" * 3)[1:-1].replace("/", "\\/").replace("&", "\\u0026"),
}


@pytest.mark.parametrize("way", MORE_WAYS)
def test_it_is_found_as_web_programs_quote_it(way):
    assert redactor("a/b c&d" * 3).redact(f"({MORE_WAYS[way]})") == "([redacted])"


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (SECRET * 8, "\n".join(wrap(BASE64, 76))),  # base64(1)
        (SECRET * 8, "\r\n  ".join(wrap(BASE64, 64))),  # PEM with an indent
        (SECRET, "\n".join(wrap(HEX, 60))),  # xxd -p
        (SECRET, "\n".join(wrap(" ".join(wrap(HEX, 2)), 48))),  # od -tx1
        (SECRET, ":".join(wrap(HEX, 2))),  # openssl
        (SECRET, " ".join(wrap(HEX, 4))),  # xxd
    ],
)
def test_it_is_found_encoded_and_wrapped(value, printed):
    shown = redactor(value).redact(f"before {printed} after")
    assert shown.startswith("before [redacted]")
    assert shown.endswith(" after")
    # base64's last characters hold less than a byte of the secret.
    assert len(shown) <= len("before [redacted]==== after")


def test_each_line_of_it_is_found_and_what_a_shell_makes_of_its_end():
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqh\nkiG9w0BAQEFAASC\nshort\n"
    known = redactor(key)
    assert known.redact("key: kiG9w0BAQEFAASC.") == "key: [redacted]."
    assert known.redact(quote("MIIEvQIBADANBgkqh")) == "[redacted]"
    assert known.redact(b"MIIEvQIBADANBgkqh".hex()) == "[redacted]"
    assert known.redact("a short line") == "a short line"
    assert known.redact(f"({key[:-1]})") == "([redacted])"
    assert known.redact(f"({key.replace(chr(10), chr(13) + chr(10))})") == "([redacted])"
    assert known.redact(f"({' '.join(key.split())})") == "([redacted])"  # echo $KEY
    assert redactor("12\r\n").redact("pin 12.") == "pin [redacted]."
    assert redactor(" \tword\n").redact("a word.") == "a [redacted]."


def test_what_overlaps_is_replaced_as_one():
    assert redactor("abcdef", "defghi").redact("1abcdefghi2") == "1[redacted]2"
    assert redactor("abcabc").redact("1abcabcabcabcab2") == "1[redacted]ab2"
    assert redactor("aabaa").redact("aabaabaaabaa") == "[redacted]"
    assert redactor("abcabc").redact("abcabcabcabc") == "[redacted]"


class Pieces(io.BytesIO):
    """A file that gives as much at a time as it was told to."""

    def __init__(self, content, size):
        super().__init__(content)
        self.size = size

    def read(self, _size=-1):
        return super().read(self.size)


def in_pieces(known, content, size):
    target = io.BytesIO()
    redact_file(Pieces(content, size), target, known)
    return target.getvalue()


@given(
    st.lists(st.text("ab\n:", min_size=1, max_size=9), min_size=1, max_size=4),
    st.lists(st.integers(0, 3) | st.sampled_from([b"a", b"b", b"\n"]), max_size=30),
    st.integers(1, 40),
)
def test_secrets_that_contain_each_other_leave_no_rest_where_a_file_is_cut(values, parts, size):
    content = b"".join(values[at % len(values)].encode() if isinstance(at, int) else at for at in parts)
    known = redactor(*values)
    assert in_pieces(known, content, size) == redacted(known, content)


def test_of_the_longer_secret_nothing_stays_behind_the_shorter_one():
    known = redactor("topsecret", "topsecret-and-more-of-it")
    content = b"x" * 50 + b"topsecret-and-more-of-it" + b"y" * 50
    for size in range(1, 130):
        assert in_pieces(known, content, size) == b"x" * 50 + b"[redacted]" + b"y" * 50


@given(st.text("ab\n", min_size=1, max_size=12), st.lists(st.text("ab\n", max_size=5), max_size=8))
def test_what_is_covered_is_what_is_found_at_any_place(value, parts):
    data = value.join(parts).encode()
    form = value.encode()
    spans = redactor(value).spans(data)
    covered = {at for begin, end in spans for at in range(begin, end)}
    places = [at for at in range(len(data)) if data.startswith(form, at)]
    assert covered >= {at for place in places for at in range(place, place + len(form))}
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


@given(st.text("ab", min_size=2, max_size=60), st.text("ab", max_size=90))
def test_what_is_held_back_is_the_longest_beginning(value, text):
    data, form = text.encode(), value.encode()
    begun = max((size for size in range(2, len(form)) if data.endswith(form[:size])), default=0)
    shown = redactor(value).redact_end(data, 0).replace(b"[redacted]", b"")
    assert len(shown) <= len(data) - begun


@pytest.mark.parametrize("stop", range(8, 200, 7))
def test_the_beginning_of_what_is_encoded_and_wrapped_is_held_back(stop):
    printed = "\n".join(wrap(BASE64, 76)).encode()
    assert redactor(SECRET * 8).redact_end(b"log " + printed[:stop], 0) == b"log "


@pytest.mark.parametrize(
    ("values", "data"),
    [
        (["'\" $" * 30_000], b"'\" $" * 20_000 + b"x" + b"'\" $" * 25_000),
        (["a" * 119_999 + "b"], b"a" * 500_000),
        (["b" + "a" * 119_999], b"a" * 500_000),
        (["a" * 120_000], b"a" * 500_000),
        (["\n".join(f"{number:08x}" for number in range(13_000))], b"z" * 500_000),
        ([f"x{number}Y" + "s" * 480 for number in range(250)], b"z" * 500_000),
    ],
    ids=["period", "end differs", "beginning differs", "one character", "many lines", "many"],
)
def test_long_and_repetitive_secrets_take_no_long_time(values, data):
    began = time.process_time()
    known = redactor(*values)
    known.redact_end(data, min(known.longest, len(data)))
    # It takes half a second at most; what grows with the square of the length takes more than ten.
    assert time.process_time() - began < 5
