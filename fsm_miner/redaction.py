"""Taking secrets out of what is shown, stored or sent: also where they were encoded on the way.

Text and bytes are searched for each secret as it is, as repr, JSON, HTML, a URL, C and a shell quote it, line by line,
in UTF-16, with colours in it, wrapped, as hex, in a dump, and inside base64 wherever in a stream of bytes it began.
That stops accidents (a traceback, `set -x`, a dumped environment, an Authorization header), not a job that wants to
give its own secret away: it can always write it backwards.
"""

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import BinaryIO

from fsm_miner.byte_search import Needles
from fsm_miner.config.secret import REDACTED, Secret
from fsm_miner.secret_dumps import DUMP_LINE_MAX, dumps, unended_dump
from fsm_miner.secret_forms import SPACED_MIN, dumped_forms, encoded_forms, hex_forms, quoted_forms
from fsm_miner.secret_views import View, hex_digits, without_blanks, without_escapes

__all__ = ["Redactor", "redact_file"]

_MARK = REDACTED.encode("ascii")
_CHUNK = 256 * 1024

_Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Forms:
    """What is looked for: as it is, with blanks in it, as hex, in a dump; how many bytes of data one of them takes."""

    exact: Needles = field(default_factory=Needles)
    spaced: Needles = field(default_factory=Needles)
    hexed: Needles = field(default_factory=Needles)
    dumped: Needles = field(default_factory=Needles)

    @property
    def longest(self) -> int:
        # Tools put at most one blank between two bytes in hex, or `", 0x"`, and an indent. A dump of four bytes a line
        # or more has at most seven characters for a byte, and the whole lines of the first byte and the last.
        return max(
            self.exact.longest,
            *(3 * needles.longest + 64 for needles in (self.spaced, self.hexed) if needles.longest),
            *(8 * needles.longest + 2 * DUMP_LINE_MAX for needles in (self.dumped,) if needles.longest),
            0,
        )


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
        return _shown(data, spans, 0, len(data)).decode("utf-8", "replace") if spans else text

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


def redact_file(
    source: BinaryIO,
    target: BinaryIO,
    redactor: Redactor,
    *,
    bytes_max: int | None = None,
    stop: Event | None = None,
) -> None:
    """Copy `source` to `target` without secrets, at most a few MiB of it in memory at a time.

    Raises:
        OSError: one of the files can't be read or written, or the copy has more than `bytes_max`: a mark is longer
            than a short secret. Or `stop` was set, which is looked at now and then.

    """
    # What may be the beginning of a secret stays until its end has been read.
    longest = redactor.longest
    keep = max(longest - 1, 0)
    held = b""
    written = 0
    replaced = (
        0  # so many bytes of what is held belong to a secret whose mark is written: its end may be another's
    )
    more = True
    while more:
        if stop is not None and stop.is_set():
            raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
        chunk = source.read(max(_CHUNK, longest))
        more = bool(chunk)
        held += chunk
        done = max(len(held) - keep, 0) if more else len(held)
        spans = redactor.spans(held)
        if replaced:
            (_, replaced), *spans = _merged([(0, replaced), *spans])
        part = _shown(held, spans, replaced, done)
        written += len(part)
        if bytes_max is not None and written > bytes_max:
            raise OSError(errno.EFBIG, "without its secrets it is too large")
        target.write(part)
        reach = max([replaced, *(end for begin, end in spans if begin < done)])
        replaced = max(reach - done, 0)
        held = held[done:]


def _with(known: _Forms, secrets: Iterable[Secret]) -> _Forms:
    exact, spaced = set(known.exact.strings), set(known.spaced.strings)
    hexed, dumped = set(known.hexed.strings), set(known.dumped.strings)
    for value in {secret.reveal() for secret in secrets}:
        encoded = encoded_forms(value)
        exact |= quoted_forms(value) | {form for form in encoded if len(form) < SPACED_MIN}
        spaced |= {form for form in encoded if len(form) >= SPACED_MIN}
        hexed |= hex_forms(value)
        dumped |= dumped_forms(value)
    return _Forms(Needles(exact), Needles(spaced), Needles(hexed), Needles(dumped))


def _views(forms: _Forms, data: bytes, dump: bytes) -> Iterator[tuple[Needles, View]]:
    """Yield what to look for in which view of the data, and of so much of it as may be a dump."""
    if forms.spaced.strings:
        yield forms.spaced, without_blanks(data)
    if forms.hexed.strings:
        yield forms.hexed, hex_digits(data)
    if forms.exact.strings and (b"\x1b" in data or b"\xc2\x9b" in data):
        yield forms.exact, without_escapes(data)
    if forms.dumped.strings:
        for lines in dumps(dump):
            yield forms.dumped, lines


def _spans(forms: _Forms, data: bytes, skip: int = 0) -> list[_Span]:
    """Find what ends after the first `skip` bytes; what ends before them may be found, too."""
    found = list(forms.exact.found(data, skip))
    found += [
        view.span(*span) for needles, view in _views(forms, data, data) for span in needles.found(view.bytes)
    ]
    return _merged(found)


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
    cut = len(data) - forms.exact.begun(data)
    offset = max(len(data) - forms.longest, 0)
    end = data[offset:]
    # As far as it is written, a line of a dump reads as another one.
    ended = unended_dump(end) if forms.dumped.strings else len(end)
    for needles, view in _views(forms, end, end[:ended]):
        if view.open and (begun := needles.begun(view.bytes)):
            size = len(view.bytes)
            cut = min(cut, offset + view.span(size - begun, size)[0])
    return min(cut, offset + ended)
