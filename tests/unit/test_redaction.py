"""Secrets are found however they were written, and wherever a file was cut."""

import base64
import io
import json
import shlex
import subprocess
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_miner.config.secret import Secret
from fsm_miner.redaction import Redactor, redact_file

SECRET = "hunter2 & \"quoted\" 'x' $HOME \\n é"


def redactor(*values):
    return Redactor(Secret(value) for value in values)


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
    for shown in (found.redact(text), found.redact_bytes(text.encode()).decode()):
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
    shown = redactor("two words; $x 'y'").redact_bytes(traced.stdout + traced.stderr)
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

    class Pieces(io.BytesIO):
        def read(self, _size=-1):
            return super().read(chunk)

    target = io.BytesIO()
    known = redactor(secret)
    redact_file(Pieces(content), target, known)
    assert secret.encode() not in target.getvalue().replace(b"[redacted]", b"|")
    assert len(target.getvalue()) <= len(content) + 10 * len(content) // 4 + 10


@pytest.mark.parametrize("length", range(2, len("hunter2!")))
def test_the_beginning_of_a_secret_is_held_back(length):
    known = redactor("hunter2!")
    assert known.without_beginning(b"password: " + b"hunter2!"[:length]) == b"password: "
    assert known.without_beginning(b"password: hunter3") == b"password: hunter3"
    assert known.without_beginning(b"") == b""
