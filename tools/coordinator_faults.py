"""Scripted trouble: an ASGI wrapper that spoils calls as tests ask for it.

`do` is one of
  drop_before        the connection is closed, nothing is processed
  drop_after         processed, then the connection is closed without an answer
  drop_at:BYTES      the request's body is cut after so many bytes, and the connection with it
  cut_body           processed, then the answer is cut in its middle
  garbage            processed, then 200 with bytes that are no JSON
  status:CODE        nothing is processed; also `status:429;retry_after=1`
  delay:SECONDS      processed after so long
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import asdict, dataclass
from typing import Any

from coordinator_checks import Refusal, integer, text
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["Connections", "Fault", "Faults", "parse_fault", "tracked_protocol"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

FOREVER = -1
FAULTS_MAX = 1000


class Connections:
    """The open connections by the client's address, so that one can be closed without an answer."""

    def __init__(self) -> None:
        self.by_client: dict[Any, asyncio.Transport] = {}

    def close(self, client: Any) -> None:
        """Close at once what was not yet closed; bytes already written still go out."""
        transport = self.by_client.get(tuple(client))
        if transport is not None:
            transport.close()


def tracked_protocol(connections: Connections) -> type[H11Protocol]:
    """Make uvicorn's protocol class write down its connections."""

    class TrackedProtocol(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            connections.by_client[self.client] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            connections.by_client.pop(self.client, None)
            super().connection_lost(exc)

    return TrackedProtocol


@dataclass(slots=True)
class Fault:
    """One rule: the next `times` calls whose path contains `match`, after `skip` of them, go wrong by `do`."""

    match: str
    do: str
    argument: float = 0.0
    retry_after: str | None = None
    method: str | None = None
    times: int = 1
    skip: int = 0

    def takes(self, method: str, path: str) -> bool:
        """Whether this call is one of them; counts it."""
        if self.times == 0 or self.match not in path or self.method not in (None, method):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times != FOREVER:
            self.times -= 1
        return True


def parse_fault(body: Any) -> Fault:
    """Read a fault as tests send it. Raises Refusal that names what is wrong."""
    spec, _, options = text(body, "do").partition(";")
    do, _, argument = spec.partition(":")
    plain = {"drop_before", "drop_after", "cut_body", "garbage"}
    if do not in plain | {"status", "delay", "drop_at"} or (do in plain) != (argument == ""):
        raise Refusal(
            422,
            f"do: {spec!r} is none of drop_before, drop_after, drop_at:BYTES, cut_body, garbage, "
            "status:CODE[;retry_after=S], delay:S",
        )
    try:
        number = float(argument or 0)
    except ValueError as error:
        raise Refusal(422, f"do: {argument!r} is not a number") from error
    if not 0 <= number <= 1e12 or (do == "status" and not 200 <= number <= 599):
        raise Refusal(422, f"do: {argument!r} is out of range")
    method = None if body.get("method") is None else text(body, "method").upper()
    retry_after = options.removeprefix("retry_after=") if options.startswith("retry_after=") else None
    if (options and not (retry_after or "").isprintable()) or (options and retry_after is None):
        raise Refusal(422, f"do: {options!r}: only retry_after=... may follow the semicolon")
    return Fault(
        text(body, "match"),
        do,
        number,
        retry_after,
        method,
        integer(body, "times", 1, low=FOREVER),
        integer(body, "skip", 0),
    )


class Faults:
    """The wrapper. Faults live in memory, the oldest matching one wins, /admin is never spoiled."""

    def __init__(self, app: App, connections: Connections) -> None:
        self._app = app
        self._connections = connections
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Add a rule behind the others."""
        if len(self._faults) >= FAULTS_MAX:
            raise Refusal(429, f"{FAULTS_MAX} faults are set already; DELETE /admin/faults first")
        self._faults.append(fault)

    def clear(self) -> None:
        """Forget all rules."""
        self._faults.clear()

    def list(self) -> list[dict[str, Any]]:
        """Return the rules that still have calls to spoil."""
        return [asdict(fault) for fault in self._faults]

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one call, well or badly."""
        fault = self._pick(scope) if self._faults and scope["type"] == "http" else None
        if fault is None:
            return await self._app(scope, receive, send)
        if fault.do == "delay":
            await asyncio.sleep(fault.argument)
            return await self._app(scope, receive, send)
        if fault.do == "drop_before":
            return await self._drop(scope, receive)
        if fault.do == "drop_at":
            return await self._drop_at(int(fault.argument), scope, receive)
        if fault.do == "status":
            await _drain(receive)
            return await _answer(send, int(fault.argument), b'{"error": "scripted"}', fault.retry_after)
        return await self._spoil_answer(fault, scope, receive, send)

    def _pick(self, scope: MutableMapping[str, Any]) -> Fault | None:
        path = scope["path"]
        if path.startswith("/admin/"):
            return None
        picked = next((f for f in self._faults if f.takes(scope["method"], path)), None)
        self._faults = [f for f in self._faults if f.times != 0]
        return picked

    async def _spoil_answer(
        self, fault: Fault, scope: MutableMapping[str, Any], receive: Receive, send: Send
    ) -> None:
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)

        await self._app(scope, receive, hold)
        body = b"".join(m.get("body", b"") for m in held if m["type"] == "http.response.body")
        if fault.do == "garbage":
            return await _answer(send, 200, b"\xff\xfe{not json", None)
        if fault.do == "cut_body":
            await send(held[0])
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        return await self._drop(scope, receive)

    async def _drop_at(self, limit: int, scope: MutableMapping[str, Any], receive: Receive) -> None:
        passed = 0

        async def cut() -> Message:
            nonlocal passed
            if passed >= limit:
                self._connections.close(scope["client"])
                return {"type": "http.disconnect"}
            message = await receive()
            body = message.get("body", b"")[: limit - passed]
            passed += len(body)
            return (
                {**message, "body": body, "more_body": True} if message["type"] == "http.request" else message
            )

        async def nowhere(_message: Message) -> None:
            return None

        await self._app(scope, cut, nowhere)
        await self._drop(scope, receive)

    async def _drop(self, scope: MutableMapping[str, Any], receive: Receive) -> None:
        self._connections.close(scope["client"])
        # uvicorn answers 500 for an app that returns without an answer, unless it knows the client is gone
        while (await receive())["type"] != "http.disconnect":
            pass


async def _drain(receive: Receive) -> None:
    while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
        pass


async def _answer(send: Send, status: int, body: bytes, retry_after: str | None) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if retry_after is not None:
        headers.append((b"retry-after", retry_after.encode("latin-1", "replace")))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
