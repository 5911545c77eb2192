"""What xxd, hexdump and od show of bytes: an address, columns of numbers or characters, maybe the text again."""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate

from fsm_miner.secret_views import Span, View

__all__ = ["DUMP_LINE_MAX", "dumps", "unended_dump"]

DUMP_LINE_MAX = 256
"""No line of a dump has more bytes."""
_ADDRESS = rb" *[0-9a-fA-F]{6,16}"
# The first line of the data, and every other one: with the line end in front it is found ten times as fast.
_FIRST_LINE = re.compile(_ADDRESS + rb":?[ \t]")
_OTHER_LINE = re.compile(rb"\n" + _ADDRESS + rb":?[ \t]")
_UNENDED = re.compile(_ADDRESS + rb":?[ \t][^\n]*")
_UNENDED_ADDRESS = re.compile(rb"[ 0-9a-fA-F]{1,24}:?")
_CELL_ESCAPES = dict(zip(b"0abfnrtv", b"\0\a\b\f\n\r\t\v", strict=True))


class _Dump(View):
    """Lines of a dump that follow each other, decoded. Of a line only all is in the data: it is there twice or more."""

    def __init__(self, lines: list[tuple[Span, bytes]], *, is_open: bool) -> None:
        super().__init__(b"".join(content for _, content in lines), is_open=is_open)
        self._lines = [span for span, _ in lines]
        self._starts = list(accumulate((len(content) for _, content in lines), initial=0))

    def span(self, begin: int, end: int) -> Span:
        return self._line(begin)[0], self._line(end - 1)[1]

    def _line(self, index: int) -> Span:
        return self._lines[bisect_right(self._starts, index) - 1]


def dumps(data: bytes) -> Iterator[View]:
    """Yield what xxd, hexdump and od (or what writes as they do) show with an address before each line."""
    found: list[tuple[Span, bytes]] = []
    for start in _line_starts(data):
        stop = data.find(b"\n", start, start + DUMP_LINE_MAX)
        stop = min(len(data), start + DUMP_LINE_MAX) if stop < 0 else stop
        content = _decoded(data[start:stop])
        if found and (not content or found[-1][0][1] + 1 != start):
            yield _Dump(found, is_open=False)
            found = []
        if content:
            found.append(((start, stop), content))
    if found:
        yield _Dump(found, is_open=found[-1][0][1] + 1 >= len(data))


def unended_dump(data: bytes) -> int:
    """Return where a last line begins that has no end yet and may be one of a dump; else the length of the data."""
    start = data.rfind(b"\n", max(len(data) - DUMP_LINE_MAX, 0)) + 1
    if len(data) - start > DUMP_LINE_MAX:
        return len(data)
    line = data[start:]
    if _UNENDED.fullmatch(line):
        return start
    before = data[max(start - 1 - DUMP_LINE_MAX, 0) : max(start - 1, 0)]
    after_one = bool(_decoded(before[before.rfind(b"\n") + 1 :]))
    return start if after_one and _UNENDED_ADDRESS.fullmatch(line) else len(data)


def _line_starts(data: bytes) -> Iterator[int]:
    if _FIRST_LINE.match(data):
        yield 0
    for found in _OTHER_LINE.finditer(data):
        yield found.start() + 1


def _hex_pairs(digits: bytes) -> bytes:
    return bytes.fromhex(digits.decode("ascii"))


def _hex_words(digits: bytes) -> bytes:
    """Decode numbers as the processor keeps them, the last byte first."""
    return b"".join(_hex_pairs(word)[::-1] for word in digits.split())


def _octal_words(digits: bytes) -> bytes:
    return b"".join((int(word, 8) & 0xFFFF).to_bytes(2, "little") for word in digits.split())


def _cells(cells: bytes) -> bytes:
    """Decode cells of four: a character, an escape, or three octal digits."""
    decoded = bytearray()
    for at in range(1, len(cells), 4):
        cell = cells[at : at + 3]
        if cell.isdigit():
            decoded.append(int(cell, 8) & 0xFF)
        elif cell[1:2] == b"\\":
            decoded.append(_CELL_ESCAPES.get(cell[2], 0))
        else:
            decoded += cell[2:3]
    return bytes(decoded)


# What may stand right of the bytes: |as text| or >as text<.
_TEXT = rb" *(?:[|>].*)?"
_LAYOUTS: tuple[tuple[re.Pattern[bytes], Callable[[bytes], bytes]], ...] = (
    # xxd
    (re.compile(_ADDRESS + rb":((?: (?:[0-9a-fA-F]{2})+)+)(?:  .*)?", re.DOTALL), _hex_pairs),
    # hexdump -C, od -tx1
    (re.compile(_ADDRESS + rb"((?: {1,3}[0-9a-fA-F]{2})+)" + _TEXT, re.DOTALL), _hex_pairs),
    # hexdump, od -x, od -tx4
    (re.compile(_ADDRESS + rb"((?: {1,4}(?:[0-9a-fA-F]{4}){1,4})+)" + _TEXT, re.DOTALL), _hex_words),
    # od
    (re.compile(_ADDRESS + rb"((?: {1,3}[0-7]{6})+)" + _TEXT, re.DOTALL), _octal_words),
    # od -c, od -b, hexdump -c, hexdump -b
    (re.compile(_ADDRESS + rb"((?:   [ -~]|  \\[0abfnrtv]| [0-3][0-7]{2})+) *"), _cells),
)


def _decoded(line: bytes) -> bytes:
    """Return the bytes that a line of a dump shows; none if it is no such line."""
    line = line.removesuffix(b"\r")
    for layout, decode in _LAYOUTS:
        found = layout.fullmatch(line)
        if found is not None:
            return decode(found[1])
    return b""
