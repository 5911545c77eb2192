"""Every way of writing a secret that is looked for: as programs quote it, encode it, or cut it into lines."""

import json
import re
import shlex
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Container, Iterable, Iterator
from html import escape
from unicodedata import normalize
from urllib.parse import quote, quote_plus

from fsm_miner.secret_views import BLANKS

__all__ = ["SPACED_MIN", "dumped_forms", "encoded_forms", "hex_forms", "quoted_forms"]

# Encoded forms of at least so many characters are looked for with anything blank between their characters, too.
SPACED_MIN = 12
# Shorter ones would be found everywhere.
_ENCODED_MIN = 6
_STRIPPED_MIN = 4
_DUMPED_MIN = 4
_LINE_MIN = 8
# Enough for every key and certificate chain; each costs a look through everything that is shown.
_LINES_MAX = 256
_BASH_QUOTED = frozenset(" \t'\"\\|&;()<>!{}*[]?^$`,")
# What URLs leave as it is: nothing, paths, JavaScript's encodeURIComponent, its encodeURI.
_URL_SAFE = ("", "/", "!'()*", "!'()*;/?:@&=+$,#")
_PERCENT = re.compile("%[0-9A-F]{2}")


def quoted_forms(value: str) -> set[bytes]:
    """Return the secret and its parts as they are and as they are quoted: all of it is there, in order."""
    forms = {_utf8(form) for part in _parts(value) for form in _quoted(part)}
    return {form for form in forms | _other_encodings(value) if form}


def encoded_forms(value: str) -> set[bytes]:
    """Return what tools wrap over lines, or put blanks between: the secret, its base64, its bytes as numbers."""
    encoded = {form.encode("ascii") for raw in _raw(value) for form in _encoded(raw)}
    wrapped = _utf8(value).translate(None, BLANKS)
    return {form for form in encoded if len(form) >= _ENCODED_MIN} | (
        {wrapped} if len(wrapped) >= SPACED_MIN else set()
    )


def hex_forms(value: str) -> set[bytes]:
    """Return the secret and its parts as hex, in lower case; what is short is among the encoded forms."""
    forms = {raw.hex().encode("ascii") for raw in _raw(value)}
    return {form for form in forms if len(form) >= SPACED_MIN}


def dumped_forms(value: str) -> set[bytes]:
    """Return the bytes that a dump shows of the secret and its parts."""
    return {raw for raw in map(_utf8, _parts(value)) if len(raw) >= _DUMPED_MIN}


def _raw(value: str) -> set[bytes]:
    parts = {_utf8(part) for part in _parts(value)}
    return parts | {value.encode("utf-16-le", "surrogatepass")}


def _other_encodings(value: str) -> set[bytes]:
    """Return the secret as Windows, old and Apple's programs write it."""
    texts = {value, *(normalize(form, value) for form in ("NFC", "NFD"))}
    forms = {
        text.encode(name, "surrogatepass") for text in texts for name in ("utf-8", "utf-16-le", "utf-16-be")
    }
    # A single byte of Latin-1 is a part of other characters in UTF-8.
    old = {text for text in texts if len(text) >= _STRIPPED_MIN and max(text) <= "\xff"}
    return forms | {text.encode("latin-1") for text in old}


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
            yield json.dumps(slashes)[1:-1]
            yield _replaced(slashes, "&<>", (r"\u0026", r"\u003c", r"\u003e"))
            yield _replaced(slashes, "&<>'", (r"\u0026", r"\u003C", r"\u003E", r"\u0027"))
    for text in (
        *(quote(value, safe=safe, errors="replace") for safe in _URL_SAFE),
        quote_plus(value, errors="replace"),
    ):
        yield text
        yield text.replace("%", "%25")
        yield _PERCENT.sub(lambda found: found[0].lower(), text)
    text = escape(value, quote=False)
    yield text
    for both in (
        ("&quot;", "'"),
        ("&quot;", "&#x27;"),
        ("&quot;", "&#39;"),
        ("&quot;", "&apos;"),
        ("&#34;", "&#39;"),
    ):
        yield _replaced(text, "\"'", both)
    yield shlex.quote(value).removeprefix("'").removesuffix("'")
    # As bash's `set -x` writes it, its printf %q, and its `export -p`.
    yield value.replace("'", "'\\''")
    yield _escaped(value, _BASH_QUOTED)
    yield _escaped(value, '\\"$`')
    # As C, git, strace and sed write it, Perl, bash without a locale, and Python's `ascii`.
    for chars in ("\\", '\\"', '\\"$@', "\\'"):
        yield _c_quoted(value, chars)
    yield ascii(value)[1:-1]


def _escaped(text: str, chars: Container[str]) -> str:
    return "".join(f"\\{char}" if char in chars else char for char in text)


def _c_quoted(text: str, chars: str) -> str:
    names = {"\n": "\\n", "\t": "\\t", "\r": "\\r", **{char: f"\\{char}" for char in chars}}
    return "".join(
        names.get(char) or (char if " " <= char <= "~" else "".join(f"\\{byte:03o}" for byte in _utf8(char)))
        for char in text
    )


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _replaced(text: str, chars: str, by: Iterable[str]) -> str:
    return text.translate(dict(zip(map(ord, chars), by, strict=True)))


def _encoded(raw: bytes) -> Iterator[str]:
    if len(raw) * 2 < SPACED_MIN:
        yield from (raw.hex(), raw.hex().upper(), raw.hex(" "), raw.hex(":"))
    yield ",".join(map(str, raw))
    for before in range(3):
        # Only whole characters of the secret alone: those at both ends depend on its neighbours, too.
        first = -(-before * 8 // 6)
        last = (before + len(raw)) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            yield encode(b"\0" * before + raw).decode("ascii")[first:last]
