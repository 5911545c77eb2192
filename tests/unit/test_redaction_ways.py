"""Secrets as real programs print them, and as dumps show them, wherever the log is cut."""

import io
import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_miner.byte_search import Needles
from fsm_miner.config.secret import Secret
from fsm_miner.redaction import Redactor, redact_file
from fsm_miner.secret_dumps import dumps
from fsm_miner.secret_views import hex_digits, without_blanks, without_escapes

MARK = b"[redacted]"
WORDS = "s3cr3t 'with' \"quotes\" & $m0re/stuff+é<x>"
TOKEN = "ghp_Zk3Vx9QmTr7LwYb2NcHf5JdSa8GpUe4RiOo1"
KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEA\nMEi9w0BAQEFAASC7VJTUt9\n-----END KEY-----\n"

# What is in every Debian: coreutils, grep, sed, dash, bash, perl-base.
SHELL = {
    "echo": 'echo "$S"',
    "echo, unquoted": "echo $S",
    "env": "env | grep ^S=",
    "export -p": "export -p | grep ' S='",
    "declare -p": "declare -p S",
    "set -x": '( set -x; : "$S" ) 2>&1',
    "set -x, assignment": '( set -x; A="$S" ) 2>&1',
    "set -x of dash": "dash -c 'set -x; : \"$S\"' 2>&1",
    "printf %q": "printf '%q\\n' \"$S\"",
    "@Q": 'echo "${S@Q}"',
    "printf %q without a locale": 'LC_ALL=C bash -c \'printf "%q\\n" "$S"\'',
    "environ": "cat /proc/self/environ",
    "base64": 'printf %s "$S" | base64',
    "base64, one line": 'printf %s "$S" | base64 -w0',
    "base64, second byte": "printf 'x%s' \"$S\" | base64 -w0",
    "base64, third byte": "printf 'xy%sz' \"$S\" | base64 -w0",
    "base64, basic auth": "printf 'user:%s' \"$S\" | base64 -w0",
    "base64, PowerShell": 'printf %s "$S" | iconv -t utf-16le | base64 -w0',
    "utf-16le": 'printf %s "$S" | iconv -t utf-16le',
    "utf-16be": 'printf %s "$S" | iconv -t utf-16be',
    "od -tx1": 'printf %s "$S" | od -tx1',
    "od -An -tx1": 'printf %s "$S" | od -An -tx1',
    "od -Ax -tx1z": 'printf %s "$S" | od -Ax -tx1z',
    "od -tx1 -w8": 'printf %s "$S" | od -tx1 -w8',
    "od": 'printf %s "$S" | od',
    "od -x": 'printf %s "$S" | od -x',
    "od -tx4": 'printf %s "$S" | od -tx4',
    "od -b": 'printf %s "$S" | od -b',
    "od -c": 'printf %s "$S" | od -c',
    "colours": 'echo "$S" | grep --color=always "[3K]"',
    "folded": 'echo "$S" | fold -w 10',
    "sed l": 'echo "$S" | sed -n l',
    "nul": "printf '\\0%s\\0' \"$S\"",
    "perl, unpack": "perl -e 'print unpack \"H*\", $ENV{S}'",
    "perl, %XX": "perl -e 'print map { sprintf \"%%%02X\", ord } split //, $ENV{S}'",
    "perl, \\x": "perl -e 'print map { sprintf \"\\\\x%02x\", ord } split //, $ENV{S}'",
    "perl, C array": 'perl -e \'print join ", ", map { sprintf "0x%02x", ord } split //, $ENV{S}\'',
    "perl, numbers": "perl -e 'print join \", \", map ord, split //, $ENV{S}'",
    "perl, warn": "perl -e 'warn $ENV{S}' 2>&1",
    "cut in two writes": "perl -e '$| = 1; print substr $ENV{S}, 0, 5; print substr $ENV{S}, 5'",
}


def cleaned(known, content, size=1 << 20):
    class Pieces(io.BytesIO):
        def read(self, _size=-1):
            return super().read(size)

    target = io.BytesIO()
    redact_file(Pieces(content), target, known)
    return target.getvalue()


@pytest.mark.parametrize("way", SHELL)
@pytest.mark.parametrize("secret", [WORDS, TOKEN, KEY], ids=["words", "token", "key"])
def test_it_is_found_as_real_programs_print_it(way, secret):
    if secret == KEY and way in {"colours", "sed l", "cut in two writes"}:
        return  # printed line by line, of which the first and the last are no secret
    environment = {"S": secret, "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"}
    printed = subprocess.run(
        ["bash", "-c", SHELL[way]], env=environment, capture_output=True, check=True
    ).stdout
    assert len(printed) > 20
    shown = cleaned(Redactor([Secret(secret)]), printed)
    assert MARK in shown
    # Names, an address, and what of base64 belongs to other bytes as well.
    frame = re.sub(
        rb"PATH=.*?\0|LANG=.*?\0|(PWD|SHLVL|_)=.*?\0|(declare|export) -x", b"", shown.replace(MARK, b"")
    )
    assert len(frame) <= 30, frame


def xxd(data, width=16):
    """As xxd, Vim's, writes it."""
    for at in range(0, len(data), width):
        part = data[at : at + width]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        yield f"{at:08x}: {part.hex(' ', -2):{width * 5 // 2 - 1}}  {text}\n"


def hexdump(data):
    """As hexdump -C, BSD's, and Go's hex.Dump write it."""
    for at in range(0, len(data), 16):
        part = data[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        yield f"{at:08x}  {part[:8].hex(' '):23}  {part[8:].hex(' '):23}  |{text}|\n"


def words(data):
    """As hexdump without an option writes it."""
    for at in range(0, len(data), 16):
        numbers = (int.from_bytes(data[i : i + 2], "little") for i in range(at, min(at + 16, len(data)), 2))
        yield f"{at:07x} {' '.join(f'{number:04x}' for number in numbers)}\n"


DUMPS = {"xxd": xxd, "xxd -c 8": lambda data: xxd(data, 8), "hexdump -C": hexdump, "hexdump": words}
SECRETS = [WORDS, TOKEN, KEY]


@pytest.mark.parametrize("before", [0, 421])
@pytest.mark.parametrize("way", DUMPS)
def test_it_is_found_in_a_dump_wherever_the_file_is_cut(way, before):
    for secret in SECRETS:
        data = b"u" * before + secret.encode() + b"v" * 400
        printed = "".join(DUMPS[way](data)).encode()
        known = Redactor([Secret(secret)])
        whole = cleaned(known, b"one line\n" + printed + b"another\n")
        assert re.fullmatch(rb"one line\n(.*\n)*\[redacted\]\n(.*\n)*another\n", whole), whole
        assert no_piece_of(secret, whole)
        for size in (79, 80, 81, 83):
            assert cleaned(known, b"one line\n" + printed + b"another\n", size) == whole


def no_piece_of(secret, shown, size=5):
    raw = secret.encode()
    pieces = {raw[at : at + size] for at in range(len(raw) - size + 1)}
    solid = re.sub(rb"[ :]", b"", shown)
    return not any(piece in shown or piece.hex().encode() in solid for piece in pieces)


@pytest.mark.parametrize("way", DUMPS)
def test_the_beginning_of_a_dump_is_held_back(way):
    printed = "".join(DUMPS[way](b"some" + TOKEN.encode())).encode()
    known = Redactor([Secret(TOKEN)])
    for stop in range(len(printed)):
        shown = known.redact_end(b"a line\n" + printed[:stop], 0)
        assert shown.startswith(b"a line\n")
        assert len(shown) <= len("a line\n[redacted]\n") + 8, shown


def test_what_merely_looks_like_a_dump_is_shown():
    text = "20250926 12 34 56 a line\n000001: deadbeef  text\n00000000  61 62 63  |abc|\n0000000 a b\n"
    known = Redactor([Secret(TOKEN)])
    assert known.redact(text) == text
    for end in (b"exit code 12", b"00000000 " + b"x" * 300, text.encode() + b"be"):
        assert known.redact_end(end, 0) == end


@given(st.lists(st.text("ab", min_size=1, max_size=20), min_size=2, max_size=6), st.text("ab", max_size=80))
def test_of_many_the_same_is_found_as_of_each(strings, text):
    data = text.encode()
    covered = {at for begin, end in Needles(map(str.encode, strings)).found(data) for at in range(begin, end)}
    each = {
        at + offset
        for string in strings
        for at in range(len(text))
        if text.startswith(string, at)
        for offset in range(len(string))
    }
    assert covered == each


@given(
    st.lists(
        st.sampled_from([b"a", b"B", b"0x", b" ", b"\n", b":", b"\\x", b"\x1b[1m", b"c" * 2500, b"%"]),
        max_size=30,
    )
)
def test_a_view_knows_where_its_bytes_are(parts):
    data = b"".join(parts)
    for view in (without_blanks(data), hex_digits(data), without_escapes(data)):
        for at in {*range(min(20, len(view.bytes))), *range(max(len(view.bytes) - 20, 0), len(view.bytes))}:
            begin, end = view.span(at, at + 1)
            assert end == begin + 1
            assert data[begin:end].lower() == view.bytes[at : at + 1].lower()


@given(st.binary(max_size=200), st.sampled_from([xxd, hexdump]))
def test_a_dump_is_read_back(data, way):
    found = list(dumps(("no dump\n" + "".join(way(data)) + "nor this\n").encode()))
    assert b"".join(view.bytes for view in found) == data
    assert len(found) == (1 if data else 0)


def test_dumps_with_a_line_between_are_two():
    found = dumps(b"00000000: 6162  ab\nno dump\n00000002: 6364  cd\n")
    assert [(view.bytes, view.span(0, 2)) for view in found] == [(b"ab", (0, 18)), (b"cd", (27, 45))]
