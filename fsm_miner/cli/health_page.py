"""Asking a daemon's status page. Plain HTTP to an address; no proxy, no library that takes long to load.

Where it is the daemon's user says, so that whatever answers there is bounded in time, size and depth.
"""

import http.client
import io
import ipaddress
import json
import socket
import time
from typing import Any, cast
from urllib.parse import urlsplit

__all__ = ["ASKED_S", "NoAnswer", "health", "jobs_of", "mapping_of", "number_of", "texts_of"]

ASKED_S = 5.0
"""How long the whole of an answer may take."""

_BYTES_MAX = 1024 * 1024
_DEPTH_MAX = 16
_NUMBER_MAX = 1e15
_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class NoAnswer(Exception):
    """The page could not be had. The message says from where, and why."""


def health(url: str, timeout_s: float = ASKED_S) -> dict[str, Any]:
    """Return the JSON of `/healthz` at `url` (http://host:port, the host an IP address).

    Raises:
        NoAnswer: nobody answered with the whole of a status in `timeout_s`.

    """
    try:
        parts = urlsplit(url)
        # A name would have to be looked up, for as long as that takes.
        host = str(ipaddress.ip_address(parts.hostname or ""))
        answer = http.client.HTTPResponse(
            cast("socket.socket", _Received(_ask(host, parts.port or 80, timeout_s)))
        )
        answer.begin()
        found: object = json.loads(answer.read())
    except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
        raise NoAnswer(f"{url}/healthz: no answer: {error or type(error).__name__}") from None
    if answer.status != 200 or not isinstance(found, dict) or _deeper(cast("object", found), _DEPTH_MAX):
        raise NoAnswer(f"{url}/healthz: HTTP {answer.status}, and not a node's status")
    return cast("dict[str, Any]", found)


def _ask(host: str, port: int, timeout_s: float) -> bytes:
    """Return all that is answered until the other side closes.

    Raises:
        OSError: it could not be had in time, or is too much.

    """
    deadline_s = time.monotonic() + timeout_s
    received = bytearray()
    with socket.create_connection((host, port), timeout_s) as connection:
        connection.sendall(_REQUEST)
        while (left_s := deadline_s - time.monotonic()) > 0:
            connection.settimeout(left_s)
            part = connection.recv(65536)
            if not part:
                return bytes(received)
            received += part
            if len(received) > _BYTES_MAX:
                raise OSError(f"more than {_BYTES_MAX} bytes")
    raise TimeoutError("timed out")


class _Received:
    """Bytes that were received already, for a parser that wants to read them from a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _deeper(value: object, depth: int) -> bool:
    """Return whether lists and objects lie in each other more than `depth` deep."""
    inner: list[object] = []
    if isinstance(value, dict):
        inner = list(cast("dict[str, object]", value).values())
    elif isinstance(value, list):
        inner = cast("list[object]", value)
    return depth < 0 or any(_deeper(one, depth - 1) for one in inner)


def jobs_of(page: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the unfinished jobs that a page lists."""
    found: object = page.get("jobs")
    items = cast("list[object]", found) if isinstance(found, list) else []
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]


def texts_of(page: dict[str, Any], name: str) -> list[str]:
    """Return a page's list of texts."""
    found: object = page.get(name)
    return [str(item) for item in cast("list[object]", found)] if isinstance(found, list) else []


def mapping_of(page: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a page's object; empty if there is none."""
    found: object = page.get(name)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def number_of(page: dict[str, Any], name: str) -> float:
    """Return a page's number; 0 if there is none, or none that could be meant."""
    found: object = page.get(name)
    return found if isinstance(found, int | float) and abs(found) < _NUMBER_MAX else 0
