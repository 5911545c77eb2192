"""A coordinator that does what a script says, on a real loopback socket.

    async with ScriptedCoordinator() as server:
        server.on("/jobs/pull", answer({"job": None}), drop(), raw(b"garbage"))
        ...
        await server.arrived("/jobs/pull", 3)
        server.requests[0].json()

Each path has a queue of acts; the last one stays for every further request, and a path without acts gets
`server.otherwise`. It speaks HTTP by hand, because most of what it is for is not HTTP. Nothing here waits for
a time: `hold` waits for an event of the test, and everything else goes on at once.
"""

import asyncio
import json
import socket
import ssl
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

BASE_PATH = "/api/v1"


@dataclass(frozen=True)
class SeenRequest:
    """A request as it arrived. `path` is without the base path; `body` is what came before any cut."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes
    connection: int

    def json(self) -> Any:
        return json.loads(self.body)


Responder = Callable[[asyncio.StreamWriter, SeenRequest], Awaitable[bool]]


@dataclass(frozen=True)
class Act:
    """What to do with one request. `respond` answers whether the connection stays open.

    `body_bytes`: stop reading the body after so many bytes, and act then.
    """

    respond: Responder
    body_bytes: int | None = None


def http(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """Return a complete HTTP answer as bytes; a header set to "" is left out."""
    lines = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value != "")
    return f"HTTP/1.1 {status} Scripted\r\n{head}\r\n".encode("latin-1") + body


def raw(data: bytes, *, keep: bool = False) -> Act:
    """Send these bytes as they are, then close (or keep the connection)."""

    async def respond(writer: asyncio.StreamWriter, _request: SeenRequest) -> bool:
        writer.write(data)
        await writer.drain()
        return keep

    return Act(respond)


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Act:
    """Answer with JSON and keep the connection."""
    return raw(http(status, json.dumps(value).encode(), headers), keep=True)


def text(body: str | bytes, status: int = 200, content_type: str = "text/plain", **headers: str) -> Act:
    """Answer with any body and content type."""
    data = body if isinstance(body, bytes) else body.encode()
    return raw(http(status, data, {"Content-Type": content_type, **headers}), keep=True)


def busy(retry_after: str, status: int = 429) -> Act:
    """Answer 429 (or 503) with Retry-After."""
    return answer({"detail": "busy"}, status, {"Retry-After": retry_after})


def cut(value: Any, keep_bytes: int) -> Act:
    """Answer with JSON, but close the connection after `keep_bytes` bytes of the whole answer."""
    return raw(http(200, json.dumps(value).encode())[:keep_bytes])


def drop() -> Act:
    """Read the request (so that it counts as processed), and close without an answer."""
    return raw(b"")


def reset(body_bytes: int | None = None) -> Act:
    """Read the request, or `body_bytes` of its body, and answer with a TCP reset."""

    async def respond(writer: asyncio.StreamWriter, _request: SeenRequest) -> bool:
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return False

    return Act(respond, body_bytes)


def hold(until: asyncio.Event, then: Act) -> Act:
    """Say nothing until the event is set (or the client goes away), then act."""

    async def respond(writer: asyncio.StreamWriter, request: SeenRequest) -> bool:
        await until.wait()
        return await then.respond(writer, request)

    return Act(respond)


def huge(total_bytes: int, *, chunked: bool = False) -> Act:
    """Send a body of `total_bytes` spaces, its length announced or in chunks, until the client has enough."""

    async def respond(writer: asyncio.StreamWriter, _request: SeenRequest) -> bool:
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {total_bytes}"
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{length}\r\n\r\n".encode())
        block = b" " * 65536
        for _ in range(total_bytes // len(block)):
            writer.write(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
            await writer.drain()
        if chunked:
            writer.write(b"0\r\n\r\n")
        return True

    return Act(respond)


def trickle(byte: bytes = b" ") -> Act:
    """Begin a body that never ends: a byte as often as the loop allows, never enough to be an answer."""

    async def respond(writer: asyncio.StreamWriter, _request: SeenRequest) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(100_000):
            writer.write(byte)
            await writer.drain()
            await asyncio.sleep(0.01)
        return False

    return Act(respond)


@dataclass
class ScriptedCoordinator:
    """The server. `requests` holds every request in the order in which its act began."""

    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    otherwise: Act = field(default_factory=lambda: answer({}))
    requests: list[SeenRequest] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self._acts: dict[str, deque[Act]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        assert self._server is not None, "the server is not started"
        return self._server.sockets[0].getsockname()[1]

    @property
    def base_url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://{self.host}:{self.port}{BASE_PATH}"

    def on(self, path: str, *acts: Act) -> None:
        """Replace the acts of a path; the last one repeats."""
        assert acts, "a script needs at least one act"
        self._acts[path] = deque(acts)

    def of(self, path: str) -> list[SeenRequest]:
        """Return the requests to one path."""
        return [request for request in self.requests if request.path == path]

    async def arrived(self, path: str, count: int = 1) -> list[SeenRequest]:
        """Wait until `count` requests to a path have arrived."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.of(path)) >= count)
        return self.of(path)

    async def __aenter__(self) -> "ScriptedCoordinator":
        self._server = await asyncio.start_server(self._accept, self.host, 0, ssl=self.tls, limit=256 * 1024)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while await self._serve_one(reader, writer, self.connections):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # the client went away, which is its right
        except asyncio.CancelledError:
            pass  # the server closes; asyncio's own callback would report the cancellation as an error
        finally:
            self._tasks.discard(task)
            writer.transport.abort() if writer.is_closing() else writer.close()

    async def _serve_one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *rest = head.rstrip("\r\n").split("\r\n")
        method, target, _version = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        url = urlsplit(target)
        path = url.path.removeprefix(BASE_PATH)
        acts = self._acts.get(path)
        act = self.otherwise if acts is None else acts.popleft() if len(acts) > 1 else acts[0]
        length = int(headers.get("content-length", "0"))
        wanted = length if act.body_bytes is None else min(length, act.body_bytes)
        body = await reader.readexactly(wanted)
        request = SeenRequest(method, path, parse_qs(url.query), headers, body, connection)
        async with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        return await act.respond(writer, request) and wanted == length
