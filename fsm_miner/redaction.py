"""Taking secrets out of what is shown, stored or sent: also where they were encoded on the way.

Text and bytes are searched for each secret as it is, as repr, JSON, a URL and a shell quote it, as hex, and inside
base64 wherever in a stream of bytes it began. That stops accidents (a traceback, `set -x`, a dumped environment, an
Authorization header), not a job that wants to give its own secret away: it can always write it backwards.
"""

import json
import shlex
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator
from typing import BinaryIO
from urllib.parse import quote, quote_plus

from fsm_miner.config.secret import REDACTED, Secret

__all__ = ["Redactor", "redact_file"]

_MARK = REDACTED.encode("ascii")
# Encoded forms shorter than this would be found everywhere.
_ENCODED_MIN = 6
# Of a secret that is being written, so much of its beginning is held back.
_PREFIX_MIN = 2
_BASH_QUOTED = frozenset(" \t'\"\\|&;()<>!{}*[]?^$`,")
_CHUNK = 1024 * 1024


class Redactor:
    """Replaces registered secrets in text and in bytes.

    Threads may add and redact at the same time: what is registered is replaced as a whole.
    """

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._known: tuple[tuple[str, bytes], ...] = ()
        for secret in secrets:
            self.add(secret)

    def add(self, secret: Secret) -> None:
        """Register a secret. An empty one is ignored: it is everywhere."""
        forms = {form for form, _ in self._known} | set(_forms(secret.reveal()))
        # The longest first: what contains another secret must not be broken up by it.
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        self._known = tuple((form, form.encode("utf-8", "surrogatepass")) for form in ordered)

    def redact(self, text: str) -> str:
        """Return `text` with `[redacted]` in place of every secret."""
        for form, _ in self._known:
            if form in text:
                text = text.replace(form, REDACTED)
        return text

    def redact_bytes(self, data: bytes) -> bytes:
        """Do the same to bytes, which need not be text."""
        for _, form in self._known:
            if form in data:
                data = data.replace(form, _MARK)
        return data

    @property
    def longest(self) -> int:
        """How many bytes the longest form of a secret has."""
        return max((len(form) for _, form in self._known), default=0)

    def without_beginning(self, data: bytes) -> bytes:
        """Return `data` without the beginning of a secret that it may end with: the rest is perhaps being written."""
        cut = len(data)
        for _, form in self._known:
            for length in range(min(len(form) - 1, len(data)), _PREFIX_MIN - 1, -1):
                if data.endswith(form[:length]):
                    cut = min(cut, len(data) - length)
                    break
        return data[:cut]


def _forms(value: str) -> Iterator[str]:
    """Yield every way of writing a secret that is looked for."""
    if not value:
        return
    raw = value.encode("utf-8", "surrogatepass")
    yield value
    yield repr(value)[1:-1]
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield quote(value, safe="", errors="replace")
    yield quote_plus(value, errors="replace")
    yield shlex.quote(value).removeprefix("'").removesuffix("'")
    # As bash's `set -x` writes it, and its printf %q.
    yield value.replace("'", "'\\''")
    yield "".join(f"\\{char}" if char in _BASH_QUOTED else char for char in value)
    for encoded in (raw.hex(), raw.hex().upper(), raw.hex(" "), raw.hex(":"), *_base64(raw)):
        if len(encoded) >= _ENCODED_MIN:
            yield encoded


def _base64(raw: bytes) -> Iterator[str]:
    """Yield what base64 makes of `raw`, whichever of the three places in a group of bytes it begins at."""
    for before in range(3):
        # Only whole characters of the secret alone: those at both ends depend on its neighbours, too.
        first = -(-before * 8 // 6)
        last = (before + len(raw)) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            yield encode(b"\0" * before + raw).decode("ascii")[first:last]


def redact_file(source: BinaryIO, target: BinaryIO, redactor: Redactor) -> None:
    """Copy `source` to `target` without secrets, at most a few MiB of it in memory at a time.

    Raises:
        OSError: one of the files can't be read or written.

    """
    # What may be the beginning of a secret stays until its end has been read.
    keep = max(redactor.longest - 1, 0)
    held = b""
    while chunk := source.read(_CHUNK):
        held = redactor.redact_bytes(held + chunk)
        done = max(len(held) - keep, 0)
        target.write(held[:done])
        held = held[done:]
    target.write(held)
