"""Looking for many byte strings at once: where they are, and whether the data ends with the beginning of one."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any, cast

import re2

__all__ = ["Needles"]

Span = tuple[int, int]

# Of what is being written, so much of its beginning is told from chance.
_PREFIX_MIN = 2
# So many last bytes say where in a string the data may have stopped.
_PROBE = 16
# A string that repeats itself offers many such places: after so many that were none, the next is taken for one.
_TRIES_MAX = 64
# One look for so many first bytes of all of them spares a look for each in data that has none.
_FIRST_BYTES = 8
# So often in one piece of data; more, and every string is looked for.
_HITS_MAX = 256
# More of them would need more memory than RE2 is given, which then is slow.
_FIRSTS_MAX = 4000
_MEMORY_BYTES_MAX = 32 * 1024 * 1024


class Needles:
    """Non-empty byte strings to be found."""

    def __init__(self, strings: Iterable[bytes] = ()) -> None:
        self.strings = frozenset(strings)
        self.longest = max(map(len, self.strings), default=0)
        self._by_first: dict[bytes, list[bytes]] = {}
        for string in self.strings:
            self._by_first.setdefault(string[:_FIRST_BYTES], []).append(string)
        self._filter = _filter_of(self._by_first.keys())

    def found(self, data: bytes, skip: int = 0) -> Iterator[Span]:
        """Yield what they cover, in no order; all that ends after the first `skip` bytes is among it."""
        for string in self._possible(data, max(skip - self.longest + 1, 0)):
            yield from _occurrences(data, string, max(skip - len(string) + 1, 0))

    def begun(self, data: bytes) -> int:
        """Return how many of one's first bytes the data ends with, less than all of them; 0 if too few to tell."""
        return max((_begun(data, string) for string in self.strings), default=0)

    def _possible(self, data: bytes, at: int) -> Iterable[bytes]:
        """Return those whose first bytes are in the data after the place `at`."""
        if self._filter is None:
            return self.strings
        seen: set[bytes] = set()
        for _ in range(_HITS_MAX):
            hit = self._filter.search(data, at)
            if hit is None:
                return [string for first in seen for string in self._by_first[first]]
            at = hit.start()
            # It tells one of them; a longer or a shorter one may begin at the same place.
            seen.update({data[at : at + size] for size in range(1, _FIRST_BYTES + 1)} & self._by_first.keys())
            at += 1
        return self.strings


def _filter_of(firsts: Collection[bytes]) -> Any:
    """Return what finds one of `firsts`, if there are a few; the library has no types of its own."""
    if not 1 < len(firsts) <= _FIRSTS_MAX:
        return None
    engine = cast("Any", re2)
    options = engine.Options()
    options.encoding = engine.Options.Encoding.LATIN1  # bytes are bytes
    options.max_mem = _MEMORY_BYTES_MAX
    options.log_errors = False  # it would write them to standard error
    options.never_capture = True
    try:
        return engine.compile(b"|".join(engine.escape(first) for first in sorted(firsts)), options)
    except engine.error:
        return None  # too large after all: each is looked for by itself


def _occurrences(data: bytes, string: bytes, start: int = 0) -> Iterator[Span]:
    """Yield what occurrences of a string cover, also where they overlap each other; in linear time."""
    size = len(string)
    begin = data.find(string, start)
    while begin >= 0:
        end = begin + size
        again = data.find(string, begin + 1, end + size - 1)
        if again < 0:
            yield begin, end
            begin = data.find(string, end)
            continue
        # It repeats itself at this distance, so its end tells whether it is there once more.
        step = again - begin
        end += step
        while data.startswith(string[-step:], end):
            end += step
        yield begin, end
        begin = data.find(string, end - size + 1)


def _begun(data: bytes, string: bytes) -> int:
    most = min(len(string) - 1, len(data))
    if most > _PROBE:
        probe = data[-_PROBE:]
        at = string.rfind(probe, 0, most)
        tries = 0
        while at >= 0:
            length = at + _PROBE
            if tries == _TRIES_MAX or string.startswith(data[-length:]):
                return length
            tries += 1
            at = string.rfind(probe, 0, length - 1)
    for length in range(min(most, _PROBE), _PREFIX_MIN - 1, -1):
        if string.startswith(data[-length:]):
            return length
    return 0
