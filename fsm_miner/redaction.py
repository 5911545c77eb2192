"""Taking secrets out of what is shown, stored or sent: also where they were encoded on the way.

Text and bytes are searched for each secret as it is, as repr, JSON, HTML, a URL and a shell quote it, line by line,
as hex, and inside base64 wherever in a stream of bytes it began, also wrapped over lines. That stops accidents (a
traceback, `set -x`, a dumped environment, an Authorization header), not a job that wants to give its own secret away:
it can always write it backwards.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

from fsm_miner.config.secret import REDACTED, Secret
from fsm_miner.secret_forms import SPACED_MIN, encoded_forms, quoted_forms

__all__ = ["Redactor", "redact_file"]

_MARK = REDACTED.encode("ascii")
# Of a secret that is being written, so much of its beginning is held back.
_PREFIX_MIN = 2
# So many last bytes say where in a form the data may have stopped.
_PROBE = 16
# A form that repeats itself offers many such places: after so many that were none, the next is taken for one.
_TRIES_MAX = 64
# What stands between the characters of an encoded form: line ends, indents, the colons of hex.
_BETWEEN = b" \t\r\n\v\f:"
_SOLID = re.compile(rb"[^ \t\r\n\v\f:]+")
_CHUNK = 1024 * 1024

_Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Forms:
    """What is looked for: as it is, and with blanks in it; and how many bytes of data one of them may take."""

    exact: frozenset[bytes] = frozenset()
    spaced: frozenset[bytes] = frozenset()
    longest: int = 0


class Redactor:
    """Replaces registered secrets in text and in bytes.

    Threads may add and redact at the same time: what is registered is replaced as a whole.
    """

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._forms = _with(_Forms(), secrets)

    def add(self, secret: Secret) -> None:
        """Register a secret. An empty one is ignored: it is everywhere."""
        self._forms = _with(self._forms, [secret])

    def redact(self, text: str) -> str:
        """Return `text` with `[redacted]` in place of every secret."""
        data = text.encode("utf-8", "surrogatepass")
        spans = _spans(self._forms, data)
        return _shown(data, spans, 0, len(data)).decode("utf-8", "surrogatepass") if spans else text

    def redact_bytes(self, data: bytes) -> bytes:
        """Do the same to bytes, which need not be text."""
        return _shown(data, _spans(self._forms, data), 0, len(data))

    def redact_end(self, data: bytes, skip: int) -> bytes:
        """Return what may be shown of `data` after its first `skip` bytes, and of a file whose last bytes `data` is.

        If the file begins before `data` does, `skip` must be at least `longest`: the end of a secret that begins
        there is nowhere else. The beginning of a secret at the end is left out: the rest is perhaps being written.
        """
        forms = self._forms
        return _shown(data, _spans(forms, data, skip), skip, _unfinished(forms, data))

    @property
    def longest(self) -> int:
        """How many bytes of data the longest form of a secret may take."""
        return self._forms.longest

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Return where in `data` secrets are, each as begin and end; in order, none overlaps another."""
        return _spans(self._forms, data)

    def without_beginning(self, data: bytes) -> bytes:
        """Return `data` without the beginning of a secret that it may end with: the rest is perhaps being written."""
        return data[: _unfinished(self._forms, data)]


def redact_file(source: BinaryIO, target: BinaryIO, redactor: Redactor) -> None:
    """Copy `source` to `target` without secrets, at most a few MiB of it in memory at a time.

    Raises:
        OSError: one of the files can't be read or written.

    """
    # What may be the beginning of a secret stays until its end has been read.
    keep = max(redactor.longest - 1, 0)
    held = b""
    replaced = (
        0  # so many bytes of what is held belong to a secret whose mark is written: its end may be another's
    )
    more = True
    while more:
        chunk = source.read(_CHUNK)
        more = bool(chunk)
        held += chunk
        done = max(len(held) - keep, 0) if more else len(held)
        spans = redactor.spans(held)
        if replaced:
            (_, replaced), *spans = _merged([(0, replaced), *spans])
        target.write(_shown(held, spans, replaced, done))
        reach = max([replaced, *(end for begin, end in spans if begin < done)])
        replaced = max(reach - done, 0)
        held = held[done:]


def _with(known: _Forms, secrets: Iterable[Secret]) -> _Forms:
    exact, spaced = set(known.exact), set(known.spaced)
    for value in {secret.reveal() for secret in secrets}:
        exact |= quoted_forms(value)
        encoded = encoded_forms(value)
        spaced |= {form for form in encoded if len(form) >= SPACED_MIN}
        exact |= {form for form in encoded if len(form) < SPACED_MIN}
    longest = max((len(form) for form in exact), default=0)
    # Tools put at most one blank between two bytes in hex, and an indent.
    wide = max((2 * len(form) + 64 for form in spaced), default=0)
    return _Forms(frozenset(exact), frozenset(spaced), max(longest, wide))


class _Solid:
    """Data without its blanks, and where in the data its bytes are."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.bytes = data.translate(None, _BETWEEN)

    def place(self, index: int) -> int:
        """Return where in the data a byte of this is."""
        starts, places = self._runs
        run = bisect_right(starts, index) - 1
        return places[run] + index - starts[run]

    @cached_property
    def _runs(self) -> tuple[list[int], list[int]]:
        starts: list[int] = []
        places: list[int] = []
        length = 0
        for run in _SOLID.finditer(self._data):
            starts.append(length)
            places.append(run.start())
            length += run.end() - run.start()
        return starts, places


def _spans(forms: _Forms, data: bytes, skip: int = 0) -> list[_Span]:
    """Find what ends after the first `skip` bytes; what ends before them may be found, too."""
    found = [span for form in forms.exact for span in _occurrences(data, form, max(skip - len(form) + 1, 0))]
    if forms.spaced:
        solid = _Solid(data)
        found += [
            (solid.place(begin), solid.place(end - 1) + 1)
            for form in forms.spaced
            for begin, end in _occurrences(solid.bytes, form)
        ]
    return _merged(found)


def _occurrences(data: bytes, form: bytes, start: int = 0) -> Iterator[_Span]:
    """Yield what occurrences of a form cover, also where they overlap each other; in linear time."""
    size = len(form)
    begin = data.find(form, start)
    while begin >= 0:
        end = begin + size
        again = data.find(form, begin + 1, end + size - 1)
        if again < 0:
            yield begin, end
            begin = data.find(form, end)
            continue
        # It repeats itself at this distance, so its end tells whether it is there once more.
        step = again - begin
        end += step
        while data.startswith(form[-step:], end):
            end += step
        yield begin, end
        begin = data.find(form, end - size + 1)


def _merged(spans: Iterable[_Span]) -> list[_Span]:
    merged: list[_Span] = []
    for begin, end in sorted(spans):
        if merged and begin < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def _shown(data: bytes, spans: Sequence[_Span], first: int, last: int) -> bytes:
    """Return the data from `first` up to `last`, with a mark for every span that has a part in it."""
    parts: list[bytes] = []
    for begin, end in spans:
        if end <= first:
            continue
        if begin >= last:
            break
        parts += (data[first:begin] if begin > first else b"", _MARK)
        first = end
    parts.append(data[first:last])
    return b"".join(parts)


def _unfinished(forms: _Forms, data: bytes) -> int:
    """Return where the beginning of a secret begins that the data ends with; else its length."""
    cut = len(data) - max((_begun(data, form) for form in forms.exact), default=0)
    offset = max(len(data) - forms.longest, 0)
    solid = _Solid(data[offset:])
    begun = max((_begun(solid.bytes, form) for form in forms.spaced), default=0)
    return min(cut, offset + solid.place(len(solid.bytes) - begun)) if begun else cut


def _begun(data: bytes, form: bytes) -> int:
    """Return how many of a form's first bytes the data ends with, less than all of them; 0 if too few to tell."""
    most = min(len(form) - 1, len(data))
    if most > _PROBE:
        probe = data[-_PROBE:]
        at = form.rfind(probe, 0, most)
        tries = 0
        while at >= 0:
            length = at + _PROBE
            if tries == _TRIES_MAX or form.startswith(data[-length:]):
                return length
            tries += 1
            at = form.rfind(probe, 0, length - 1)
    for length in range(min(most, _PROBE), _PREFIX_MIN - 1, -1):
        if form.startswith(data[-length:]):
            return length
    return 0
