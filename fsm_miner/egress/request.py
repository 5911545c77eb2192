"""What a client asks the proxy for, read from bytes of a job: hostile, bounded, and never guessed at.

Two forms (RFC 9110, section 9.3.6; RFC 9112, section 3.2): `CONNECT host:port`, and for plain http a request whose
target is a whole URI. Of the latter one per connection, with a body of announced length or none: so no second request
can ride along to a host that was asked for the first alone.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from fsm_miner.egress.grant import HostAndPort, host_and_port

__all__ = ["HEAD_BYTES_MAX", "Ask", "Refusal", "parse_head"]

HEAD_BYTES_MAX = 16 * 1024
"""The most that a request line and its fields may have."""

_BODY_BYTES_MAX = 1 << 40
_LINE = re.compile(rb"([A-Z]{1,20}) ([\x21-\x7e]{1,8192}) (HTTP/1\.[01])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_LENGTH = re.compile(rb"[0-9]{1,13}")
# Between the client and us (RFC 9110, section 7.6.1), or said anew by us.
_DROPPED = {
    b"connection",
    b"host",
    b"keep-alive",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"upgrade",
}


@dataclass(frozen=True, slots=True)
class Ask:
    """A wish to reach `target`.

    `head` is what to send there first; None for CONNECT, where everything that follows is the client's. `body_bytes`
    is how much may follow `head`; None without a bound.
    """

    target: HostAndPort
    head: bytes | None
    body_bytes: int | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not: an HTTP status and a sentence without anything of the client's in it."""

    status: int
    text: str


def parse_head(head: bytes) -> Ask | Refusal:
    """Read a request's head: everything up to the empty line, and without it. Never raises."""
    line, *rest = head.split(b"\r\n")
    found = _LINE.fullmatch(line)
    if found is None:
        return Refusal(400, "the request line is not one of HTTP/1.1")
    fields: list[tuple[bytes, bytes]] = []
    for text in rest:
        field = _FIELD.fullmatch(text)
        if field is None:
            return Refusal(400, "a header field is malformed")
        fields.append((field[1].lower(), field[2].strip()))
    method, target = found[1], found[2].decode("ascii")
    if method == b"CONNECT":
        return _connect(target)
    return _absolute(method, target, found[3], fields)


def _connect(target: str) -> Ask | Refusal:
    try:
        return Ask(host_and_port(target), None, None)
    except ValueError:
        return Refusal(400, "CONNECT wants host:port, such as example.org:443")


def _absolute(method: bytes, target: str, version: bytes, fields: list[tuple[bytes, bytes]]) -> Ask | Refusal:
    try:
        parts = urlsplit(target)
    except ValueError:
        return Refusal(400, "the target is not a URI")
    if parts.scheme != "http":
        return Refusal(400, "the target must be an http:// URI, or the method CONNECT")
    authority = parts.netloc if re.search(r":[0-9]+\Z", parts.netloc) else f"{parts.netloc}:80"
    try:
        wanted = host_and_port(authority)
    except ValueError:
        return Refusal(400, "the target must have a host, maybe a port, and no user")
    names = [name for name, _ in fields]
    if b"transfer-encoding" in names:
        return Refusal(501, "a body of unknown length is not passed on; announce it by Content-Length")
    lengths = [value for name, value in fields if name == b"content-length"]
    if len(lengths) > 1 or any(not _LENGTH.fullmatch(value) for value in lengths):
        return Refusal(400, "Content-Length is malformed")
    body_bytes = int(lengths[0]) if lengths else 0
    if body_bytes > _BODY_BYTES_MAX:
        return Refusal(413, "the body is too large")
    named = {
        word.strip().lower() for name, value in fields if name == b"connection" for word in value.split(b",")
    }
    path = (parts.path or "/") + (f"?{parts.query}" if "?" in target.partition("#")[0] else "")
    # The answer is passed on as it comes, so it has to be one that the client's version can read.
    first = b" ".join((method, path.encode("ascii"), version))
    lines = [first, b"Host: " + parts.netloc.encode("ascii")]
    kept = _DROPPED | (named - {b"content-length"})
    lines += [name + b": " + value for name, value in fields if name not in kept]
    lines.append(b"Connection: close")
    return Ask(wanted, b"\r\n".join(lines) + b"\r\n\r\n", body_bytes)
