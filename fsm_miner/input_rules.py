"""The rules for an input's name, URL, redirects and answer. Decides; does no I/O.

Whether an address may be reached is decided when it is known: `fsm_miner.addresses`.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from fsm_miner.beneath import path_problem
from states.codes import ErrorCode, Failure

__all__ = [
    "PART_PREFIX",
    "REDIRECTS",
    "InputUrl",
    "StoppedError",
    "check_answer",
    "check_url",
    "content_length",
    "failed",
    "names_problem",
    "parse_url",
    "redirect_target",
    "shown",
]

PART_PREFIX = ".part-"
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_URL_CHARS_MAX = 4096
_SHOWN_CHARS_MAX = 160


@dataclass(frozen=True, slots=True)
class InputUrl:
    """One input to download. `sha256` in lower-case hex, if the manifest gives it."""

    url: str
    name: str
    sha256: str | None = None


class StoppedError(Exception):
    """Carries a Failure out of the depths of a transfer."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def shown(url: str) -> str:
    """Return a URL fit for a message or log: no credentials, query (it may be a signature) or fragment."""
    try:
        parsed = httpx.URL(url)
        plain = str(parsed.copy_with(username=None, password=None, query=None, fragment=None))
    except (httpx.InvalidURL, ValueError, TypeError):
        return "(not a URL)"
    return plain if len(plain) <= _SHOWN_CHARS_MAX else plain[:_SHOWN_CHARS_MAX] + "…"


def names_problem(names: Sequence[str]) -> str | None:
    """Say which of the names cannot be a file's name in one folder with the others; None if all can."""
    seen: set[str] = set()
    for name in names:
        problem = path_problem(name) or ("has a slash" if "/" in name else None)
        if problem is None and name.startswith(PART_PREFIX):
            problem = f"begins with {PART_PREFIX!r}, which is reserved"
        if problem is None and name in seen:
            problem = "is there twice"
        if problem is not None:
            return f"input: name {name[:_SHOWN_CHARS_MAX]!r} {problem}"
        seen.add(name)
    return None


def parse_url(url: str, name: str) -> httpx.URL:
    """Parse the URL of the input `name`.

    Raises:
        StoppedError: it is none.

    """
    try:
        if len(url) > _URL_CHARS_MAX:
            raise failed(name, f"its URL is longer than {_URL_CHARS_MAX} characters", permanent=True)
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as problem:
        raise failed(name, f"its URL does not parse: {problem}"[:300], permanent=True) from problem
    return parsed


def check_url(url: httpx.URL, item: InputUrl) -> None:
    """Take plain http only where nobody can listen in, or where the hash tells if somebody meddled.

    Raises:
        StoppedError: E_DENY.

    """
    if url.scheme not in {"http", "https"} or not url.host:
        problem = "is neither http nor https"
    elif url.userinfo:
        problem = "has credentials in it; give a signed URL instead"
    elif url.scheme == "http" and item.sha256 is None and not _is_loopback(url.host):
        problem = "is plain http; use https, or give the input's sha256"
    else:
        return
    raise StoppedError(Failure(ErrorCode.DENY, f"input {item.name!r}: {shown(str(url))} {problem}"))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def redirect_target(url: httpx.URL, response: httpx.Response, item: InputUrl) -> httpx.URL:
    """Return where the answer to `url` redirects; `check_url` has yet to judge it.

    Raises:
        StoppedError: nowhere, or from https down to http.

    """
    location = response.headers.get("Location", "")
    if not location:
        raise failed(item.name, f"{shown(str(url))}: {response.status_code} without Location", permanent=True)
    target = url.join(parse_url(location, item.name))
    if url.scheme == "https" and target.scheme != "https":
        message = f"input {item.name!r}: {shown(str(url))} redirects from https down to {shown(str(target))}"
        raise StoppedError(Failure(ErrorCode.DENY, message))
    return target


def check_answer(response: httpx.Response, item: InputUrl) -> None:
    """Take an answer whose body is the input, whole and as it is.

    Raises:
        StoppedError: it is another one.

    """
    status = response.status_code
    where = shown(str(response.url))
    if status != 200:
        # A file may appear late, and a signed URL may be renewed (contract, E_INPUT): what was answered with an
        # error is asked for again. Another success than 200 is not the file, and stays what it is.
        raise failed(item.name, f"{where} answered {status}", permanent=status < 400)
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"", "identity"} and item.sha256 is None:
        # With a hash the bytes speak for themselves; without one nobody knows which bytes are meant.
        raise failed(
            item.name,
            f"{where} answered with Content-Encoding {encoding[:40]!r} though it was asked for none; "
            "give the input's sha256 to take the bytes as they come",
            permanent=True,
        )
    delimited = {"content-length", "transfer-encoding"} & {key.lower() for key in response.headers}
    if not delimited and item.sha256 is None:
        # The body then ends where the connection does, and a cut-off looks like an end.
        raise failed(
            item.name,
            f"{where} does not say where the body ends; give the input's sha256 to take it anyway",
            permanent=True,
        )


def content_length(response: httpx.Response, name: str) -> int | None:
    """Return the announced size in bytes, if one is announced.

    Raises:
        StoppedError: what is announced is no size.

    """
    text = response.headers.get("Content-Length")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise failed(name, f"Content-Length {text[:40]!r} is no size")
    return int(text)


def failed(name: str, what: str, *, permanent: bool = False) -> StoppedError:
    """Make the E_INPUT failure of the input `name`, to be raised."""
    return StoppedError(Failure(ErrorCode.INPUT, f"input {name!r}: {what}", permanent=permanent))
