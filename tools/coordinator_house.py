"""What the routes of the dev coordinator share: the stores, waiting, reading a body, answering."""

import asyncio
import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coordinator_checks import Refusal, mapping
from coordinator_nodes import Nodes
from coordinator_queue import JobQueue
from coordinator_signing import Signer
from coordinator_uploads import Uploads
from coordinator_views import Views
from starlette.requests import Request
from starlette.responses import Response

__all__ = ["House", "Waiters", "answer", "bearer", "json_body", "json_value"]

JSON_BYTES_MAX = 4 * 1024 * 1024


class Waiters:
    """Long polls: whoever waits is woken when anything may have changed, and when the server stops."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self.closing = False
        self.waiting = 0

    def wake(self) -> None:
        """Wake all who wait now."""
        self._changed.set()
        self._changed = asyncio.Event()

    def close(self) -> None:
        """Wake all for good: the server stops."""
        self.closing = True
        self.wake()

    async def until(self, ready: Callable[[], Any], timeout_s: float) -> Any:
        """Return the first true value of `ready()`, or what it says when the time is up."""
        end = asyncio.get_running_loop().time() + timeout_s
        self.waiting += 1
        try:
            return await self._until(ready, end)
        finally:
            self.waiting -= 1

    async def _until(self, ready: Callable[[], Any], end: float) -> Any:
        loop = asyncio.get_running_loop()
        while not (value := ready()) and not self.closing and (left := end - loop.time()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                return ready()
        return value


@dataclass(frozen=True, slots=True)
class House:
    """The stores and settings behind one server."""

    db: sqlite3.Connection
    data: Path
    queue: JobQueue
    nodes: Nodes
    uploads: Uploads
    views: Views
    waiters: Waiters
    signer: Signer | None = None
    result_bytes_max: int = 16 * 1024**3
    without: frozenset[str] = field(default_factory=frozenset)
    admin_needs_token: bool = False


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with JSON."""
    return Response(json.dumps(body, separators=(",", ":")), status, headers, "application/json")


async def json_body(request: Request) -> dict[str, Any]:
    """Read a bounded JSON object."""
    value = await json_value(request)
    if not isinstance(value, dict):
        raise Refusal(422, "a JSON object is needed")
    return mapping(value)


async def json_value(request: Request) -> Any:
    """Read bounded JSON of any shape."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > JSON_BYTES_MAX:
            raise Refusal(413, f"a body of at most {JSON_BYTES_MAX} bytes is needed")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON: {error}") from error


def bearer(request: Request) -> str:
    """Return the bearer token; 401 without one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Refusal(401, "Authorization: Bearer <token> is needed")
    return token
