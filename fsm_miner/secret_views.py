r"""What tools put between the bytes of a secret is taken away: blanks, colours, the `\x` and commas around hex.

A view is data without all that, and knows where in the data its bytes are. Linear in time, whatever the data.
"""

import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from functools import cached_property
from itertools import accumulate

__all__ = ["BLANKS", "Span", "View", "hex_digits", "without_blanks", "without_escapes"]

Span = tuple[int, int]
"""Where something begins and where it ends."""

BLANKS = b" \t\r\n\v\f:"
"""Line ends, indents, and the colons of hex."""
# As in "\x73\x33", %73%33, 0x73, 0x33 (of which the 0 goes first), ['0x73', '0x33'], 73-33.
_HEX_BETWEEN = BLANKS + b"\\x%,;-'\""
_LOWER = bytes(range(256)).lower()
_BLOCK = 4096
# ECMA-48, as in fsm_miner.log_tail: control sequences, strings up to their end, other escapes.
_ESCAPE = re.compile(
    rb"(?:\x1b\[|\xc2\x9b)[0-?]*[ -/]*[@-~]?"
    rb"|(?:\x1b[\]PX^_]|\xc2[\x9d\x90\x98\x9e\x9f])(?:(?!\xc2\x9c)[^\x07\x1b\n])*(?:\x07|\x1b\\|\xc2\x9c)?"
    rb"|\x1b[ -/]*[0-~]?"
)


class View(ABC):
    """Bytes to be searched, and where in the data they are. `open`: more of the same may follow the data."""

    def __init__(self, content: bytes, *, is_open: bool = True) -> None:
        self.bytes = content
        self.open = is_open

    @abstractmethod
    def span(self, begin: int, end: int) -> Span:
        """Return what bytes of this cover in the data; at least one byte."""


class _Thinned(View):
    """Data without some of the bytes there are."""

    def __init__(self, data: bytes, deleted: bytes, table: bytes | None = None) -> None:
        super().__init__(data.translate(table, deleted))
        self._data = data
        self._deleted = deleted
        self._kept = re.compile(b"[^%b]+" % re.escape(deleted))
        self._runs: dict[int, tuple[list[int], list[int]]] = {}

    def span(self, begin: int, end: int) -> Span:
        return self._place(begin), self._place(end - 1) + 1

    def _place(self, index: int) -> int:
        block = bisect_right(self._starts, index) - 1
        if block not in self._runs:
            self._runs[block] = self._runs_of(block)
        starts, places = self._runs[block]
        run = bisect_right(starts, index) - 1
        return places[run] + index - starts[run]

    def _runs_of(self, block: int) -> tuple[list[int], list[int]]:
        """Return where runs of what is kept begin, in this and in the data."""
        begin = block * _BLOCK
        found = [run.span() for run in self._kept.finditer(self._data, begin, begin + _BLOCK)]
        lengths = (end - begin for begin, end in found[:-1])
        return list(accumulate(lengths, initial=self._starts[block])), [begin for begin, _ in found]

    @cached_property
    def _starts(self) -> list[int]:
        """How many bytes of this come before each block of the data."""
        blocks = (self._data[at : at + _BLOCK] for at in range(0, len(self._data), _BLOCK))
        return list(accumulate((len(block.translate(None, self._deleted)) for block in blocks), initial=0))


class _Colourless(View):
    """Data without terminal escapes."""

    def __init__(self, data: bytes) -> None:
        gaps = [found.span() for found in _ESCAPE.finditer(data)]
        self._begins = [0, *(end for _, end in gaps)]
        ends = [*(begin for begin, _ in gaps), len(data)]
        kept = [data[begin:end] for begin, end in zip(self._begins, ends, strict=True)]
        super().__init__(b"".join(kept))
        self._starts = list(accumulate(map(len, kept[:-1]), initial=0))

    def span(self, begin: int, end: int) -> Span:
        return self._place(begin), self._place(end - 1) + 1

    def _place(self, index: int) -> int:
        run = bisect_right(self._starts, index) - 1
        return self._begins[run] + index - self._starts[run]


def without_blanks(data: bytes) -> View:
    """Return the data as it is before it is wrapped and indented."""
    return _Thinned(data, BLANKS)


def hex_digits(data: bytes) -> View:
    """Return the data with hex in one piece, in lower case."""
    return _Thinned(data.replace(b"0x", b"  "), _HEX_BETWEEN, _LOWER)


def without_escapes(data: bytes) -> View:
    """Return the data as a terminal shows it, as far as colours go."""
    return _Colourless(data)
