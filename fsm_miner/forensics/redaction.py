"""Taking out of a case what may open a door: credentials in addresses, values of `env`, what looks like a token.

The journal holds no secret that the manifest calls one. But signed addresses, the environment, arguments and logs
may hold what their author did not think of. What is replaced here is replaced on suspicion: rather too much.
Every pattern is bounded, so that no text makes the search slow.
"""

import re
from collections.abc import Mapping
from typing import Any, cast

from fsm_miner.config.secret import REDACTED

__all__ = ["REDACTED", "redact_data", "redact_text"]

# The end of a name that says what it is the name of; what stands before it does not matter.
_NAME = (
    r"(?:secret|token(?!s)|passw(?:or)?d|passphrase|api[_-]?key|access[_-]?key|private[_-]?key|"
    r"credential|authorization|signature|cookie)[\w.-]{0,40}"
)
_FLAG = rf"--?[\w.-]{{0,40}}?{_NAME}"
_SCHEME = r"(?:Bearer|Basic|Digest|Negotiate|Token)"
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20}://)([^\s\"'<>\\^`{|}]{1,8192})")
_SENSITIVE = re.compile(_NAME, re.IGNORECASE)
_OPTION = re.compile(_FLAG, re.IGNORECASE)
_NAMED = re.compile(
    rf"({_NAME}[\"']?\s{{0,4}}[=:]\s{{0,4}}(?:{_SCHEME}\s{{1,4}})?|{_FLAG}\s{{1,4}})"
    r"(\"[^\"\n]{1,4096}\"|'[^'\n]{1,4096}'|[^\s\"',;&]{1,8192})",
    re.IGNORECASE,
)
_AUTHORIZED = re.compile(rf"\b({_SCHEME}\s{{1,4}})[A-Za-z0-9+/=._~-]{{16,8192}}", re.IGNORECASE)
_KNOWN = re.compile(
    r"\b(?:gh[pousr]_|github_pat_|glpat-|sk-|xox[abeprs]-|AKIA|ASIA|AIza|hf_|npm_|pypi-|ya29\.|eyJ)"
    r"[A-Za-z0-9._=-]{10,8192}"
)
_PEM = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.{0,65536}?(?:-----END [^\n]{0,60}|\Z)", re.DOTALL
)
_LONG = re.compile(r"[A-Za-z0-9_+/-]{24,8192}={0,2}")
_SLASH_EVERY = 16  # characters; a path has slashes more often than base64 does
# Names and digests of the journal's own: they look like tokens, are none, and tie the records together.
_OURS = frozenset(
    {
        "argv_sha256",
        "attempt",
        "boot_id",
        "cgroup",
        "job_id",
        "lock",
        "manifest_sha256",
        "path",
        "program",
        "secret_names",
        "sha256",
        "task",
        "type",
    }
)
_THE_JOBS = frozenset({"params", "inline"})


def redact_text(text: str) -> str:
    """Return `text` with the marker in place of whatever may be a credential. Redacting twice changes nothing."""
    text = _PEM.sub(REDACTED, text)
    text = _URL.sub(_bare_url, text)
    text = _AUTHORIZED.sub(rf"\1{REDACTED}", text)
    text = _NAMED.sub(rf"\1{REDACTED}", text)
    text = _KNOWN.sub(REDACTED, text)
    return _LONG.sub(_random, text)


def redact_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event's data (JSON, not nested deeper than a few hundred levels) redacted."""
    return _mapping(data, ours=True)


def _mapping(data: Mapping[str, Any], *, ours: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in data.items():
        if ours and name in _OURS:
            found[name] = value
        elif ours and name == "env" and isinstance(value, Mapping):
            found[name] = dict.fromkeys(cast("Mapping[str, Any]", value), REDACTED)
        elif isinstance(value, str | int | float) and not isinstance(value, bool) and _SENSITIVE.search(name):
            found[name] = REDACTED
        else:
            found[name] = _value(value, ours=ours and name not in _THE_JOBS)
    return found


def _value(value: Any, *, ours: bool) -> Any:
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return _mapping(cast("Mapping[str, Any]", value), ours=ours)
    if isinstance(value, list | tuple):
        return _items(cast("list[Any] | tuple[Any, ...]", value), ours=ours)
    return value


def _items(items: list[Any] | tuple[Any, ...], *, ours: bool) -> list[Any]:
    """Redact a list; in one of arguments, a value follows its option."""
    found: list[Any] = []
    before: Any = None
    for item in items:
        follows = isinstance(item, str) and isinstance(before, str) and _OPTION.fullmatch(before)
        found.append(REDACTED if follows else _value(item, ours=ours))
        before = item
    return found


def _bare_url(match: re.Match[str]) -> str:
    scheme, rest = match[1], match[2]
    end = next((at for at, char in enumerate(rest) if char in "/?#"), len(rest))
    host, tail = rest[:end], rest[end:]
    if "@" in host:
        host = f"{REDACTED}@{host.rpartition('@')[2]}"
    cut = next((at for at, char in enumerate(tail) if char in "?#"), len(tail))
    # A lone "?" or "#" says nothing.
    return scheme + host + tail[:cut] + (f"{tail[cut]}{REDACTED}" if len(tail) > cut + 1 else tail[cut:])


def _random(match: re.Match[str]) -> str:
    """Return the marker for what no person and no hash function would write: both cases and digits, and long."""
    word = match[0]
    mixed = any(map(str.isupper, word)) and any(map(str.islower, word)) and any(map(str.isdigit, word))
    return REDACTED if mixed and word.count("/") * _SLASH_EVERY <= len(word) else word
