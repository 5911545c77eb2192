"""Every way of writing a secret that is looked for: as programs quote it, encode it, or cut it into lines."""

import json
import re
import shlex
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator
from html import escape
from urllib.parse import quote, quote_plus

__all__ = ["SPACED_MIN", "encoded_forms", "quoted_forms"]

# Encoded forms of at least so many characters are looked for with anything blank between their characters, too.
SPACED_MIN = 12
# Shorter ones would be found everywhere.
_ENCODED_MIN = 6
_STRIPPED_MIN = 4
_LINE_MIN = 8
# Enough for every key and certificate chain; each costs a look through everything that is shown.
_LINES_MAX = 256
_BASH_QUOTED = frozenset(" \t'\"\\|&;()<>!{}*[]?^$`,")
# What URLs leave as it is: nothing, paths, JavaScript's encodeURIComponent, its encodeURI.
_URL_SAFE = ("", "/", "!'()*", "!'()*;/?:@&=+$,#")
_PERCENT = re.compile("%[0-9A-F]{2}")


def quoted_forms(value: str) -> set[bytes]:
    """Return the secret and its parts as they are and as they are quoted: all of it is there, in order."""
    return {form.encode("utf-8", "surrogatepass") for part in _parts(value) for form in _quoted(part) if form}


def encoded_forms(value: str) -> set[bytes]:
    """Return hex and base64 of the secret and its parts: tools wrap these over lines, or put blanks between."""
    encoded = {form for part in _parts(value) for form in _encoded(part.encode("utf-8", "surrogatepass"))}
    return {form.encode("ascii") for form in encoded if len(form) >= _ENCODED_MIN}


def _parts(value: str) -> set[str]:
    r"""Return the secret, also with the blanks and line ends that shells and editors drop or change, and its lines."""
    unix = value.replace("\r\n", "\n")
    lines = [line.strip() for line in unix.split("\n")]
    ended = {
        form for text in (value, unix, unix.replace("\n", "\r\n")) for form in (text, text.rstrip("\r\n"))
    }
    bare = {
        value.strip(),
        " ".join(value.split()),
        *(line for line in lines[:_LINES_MAX] if len(line) >= _LINE_MIN),
    }
    return {part for part in ended | {part for part in bare if len(part) >= _STRIPPED_MIN} if part}


def _quoted(value: str) -> Iterator[str]:
    yield value
    yield repr(value)[1:-1]
    yield repr(value.encode("utf-8", "surrogatepass"))[2:-1]
    for text in (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]):
        # As PHP writes JSON, and as Go does, for the sake of HTML around it.
        for slashes in (text, text.replace("/", "\\/")):
            yield slashes
            yield _replaced(slashes, "&<>", (r"\u0026", r"\u003c", r"\u003e"))
            yield _replaced(slashes, "&<>'", (r"\u0026", r"\u003C", r"\u003E", r"\u0027"))
    for text in (
        *(quote(value, safe=safe, errors="replace") for safe in _URL_SAFE),
        quote_plus(value, errors="replace"),
    ):
        yield text
        yield _PERCENT.sub(lambda found: found[0].lower(), text)
    yield escape(value, quote=False)
    yield escape(value)
    yield escape(value).replace("&#x27;", "&#39;")
    yield _replaced(escape(value, quote=False), "\"'", ("&#34;", "&#39;"))
    yield shlex.quote(value).removeprefix("'").removesuffix("'")
    # As bash's `set -x` writes it, and its printf %q.
    yield value.replace("'", "'\\''")
    yield "".join(f"\\{char}" if char in _BASH_QUOTED else char for char in value)


def _replaced(text: str, chars: str, by: Iterable[str]) -> str:
    return text.translate(dict(zip(map(ord, chars), by, strict=True)))


def _encoded(raw: bytes) -> Iterator[str]:
    yield raw.hex()
    yield raw.hex().upper()
    if len(raw) * 2 < SPACED_MIN:
        yield raw.hex(" ")
        yield raw.hex(":")
    for before in range(3):
        # Only whole characters of the secret alone: those at both ends depend on its neighbours, too.
        first = -(-before * 8 // 6)
        last = (before + len(raw)) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            yield encode(b"\0" * before + raw).decode("ascii")[first:last]
