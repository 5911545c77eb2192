"""Asking a daemon's status page. Plain HTTP to this machine; no proxy, no library that takes long to load."""

import http.client
import json
from typing import Any, cast
from urllib.parse import urlsplit

__all__ = ["NoAnswer", "health", "jobs_of", "mapping_of", "texts_of"]

_BYTES_MAX = 16 * 1024 * 1024


class NoAnswer(Exception):
    """The page could not be had. The message says from where, and why."""


def health(url: str, timeout_s: float = 5.0) -> dict[str, Any]:
    """Return the JSON of `/healthz` at `url` (http://host:port).

    Raises:
        NoAnswer: nobody answered in time, or not with a status.

    """
    parts = urlsplit(url)
    try:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
        try:
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            body = answer.read(_BYTES_MAX)
        finally:
            connection.close()
        found: object = json.loads(body)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise NoAnswer(f"{url}/healthz: no answer: {error}") from None
    if answer.status != 200 or not isinstance(found, dict):
        raise NoAnswer(f"{url}/healthz: HTTP {answer.status}, and not a node's status")
    return cast("dict[str, Any]", found)


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
