"""One job's proxy: whatever the job sends it costs the daemon a bounded amount of memory, time and descriptors.

Each connection has one buffer for each direction, and the next piece is read when the last one was taken: who reads
slowly is sent slowly. What comes in too large numbers waits in the kernel's queue, which is short.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from fsm_miner.addresses import AddressRefusedError, Resolver, addresses_of, is_own
from fsm_miner.egress.grant import Grant, HostAndPort
from fsm_miner.egress.request import HEAD_BYTES_MAX, Ask, Refusal, parse_head
from fsm_miner.egress.traffic import Traffic

__all__ = ["JobProxy", "ProxyLimits"]

_BUFFER_BYTES = 64 * 1024
_ADDRESSES_TRIED_MAX = 4
_ACCEPT_AGAIN_S = 1.0
_LINGER_BYTES_MAX = 256 * 1024
_T = TypeVar("_T")
_REASONS = {
    400: "Bad Request",
    403: "Forbidden",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    502: "Bad Gateway",
    504: "Gateway Timeout",
}


@dataclass(frozen=True, slots=True)
class ProxyLimits:
    """Of one job. `connections` at once; `idle_s` without a byte in either direction."""

    connections: int = 32
    head_s: float = 15.0
    resolve_s: float = 10.0
    connect_s: float = 5.0
    idle_s: float = 300.0
    linger_s: float = 2.0


@dataclass(slots=True)
class JobProxy:
    """Serves one listening socket until `close`. `refused` hears (host:port, why) of each refusal."""

    listener: socket.socket
    grant: Grant
    resolver: Resolver
    refused: Callable[[str, str], None]
    limits: ProxyLimits = field(default_factory=ProxyLimits)
    traffic: Traffic = field(default_factory=Traffic)
    _tasks: set["asyncio.Task[Any]"] = field(default_factory=set["asyncio.Task[Any]"])
    _resolving: asyncio.Lock = field(default_factory=asyncio.Lock)
    _lookups: dict[HostAndPort, "asyncio.Task[list[str]]"] = field(
        default_factory=dict[HostAndPort, "asyncio.Task[list[str]]"]
    )

    def start(self) -> None:
        """Begin to accept."""
        self._spawn(self._accept())

    async def close(self) -> None:
        """Break every connection, and return when nothing of them is left."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.listener.close()

    def _spawn(self, work: Coroutine[Any, Any, _T]) -> "asyncio.Task[_T]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        room = asyncio.Semaphore(self.limits.connections)

        def done(client: socket.socket, _: "asyncio.Task[None]") -> None:
            client.close()
            room.release()

        while True:
            await room.acquire()
            try:
                client, _ = await loop.sock_accept(self.listener)
            except OSError:  # it went away again, or there is no descriptor left: wait for one
                room.release()
                await asyncio.sleep(_ACCEPT_AGAIN_S)
                continue
            # Not within the task: one that is cancelled before its first step never takes that step.
            self._spawn(self._serve(client)).add_done_callback(partial(done, client))

    async def _serve(self, client: socket.socket) -> None:
        # Broken by either side: there is nobody to tell.
        with contextlib.suppress(OSError, TimeoutError):
            found = await self._head(client)
            if found is None:
                return
            ask, early = found
            if isinstance(ask, Ask):
                server = await self._reach(ask.target)
                if isinstance(server, socket.socket):
                    with server:
                        await self._tunnel(client, server, ask, early)
                    return
                ask = server
            await self._refuse(client, ask)

    async def _head(self, client: socket.socket) -> tuple[Ask | Refusal, bytes] | None:
        """Return what is asked for, and what came after it; None if nothing comes."""
        loop = asyncio.get_running_loop()
        got = bytearray()
        async with asyncio.timeout(self.limits.head_s):
            while (end := got.find(b"\r\n\r\n")) < 0:
                if len(got) > HEAD_BYTES_MAX:
                    return Refusal(431, f"more than {HEAD_BYTES_MAX} bytes of header"), b""
                part = await loop.sock_recv(client, HEAD_BYTES_MAX)
                if not part:
                    return None
                got += part
        return parse_head(bytes(got[:end])), bytes(got[end + 4 :])

    async def _reach(self, target: HostAndPort) -> socket.socket | Refusal:
        host, port = target
        if target not in self.grant.targets:
            return self._deny(target, "is not in the job's network.allow")
        try:
            async with asyncio.timeout(self.limits.resolve_s):
                addresses = await asyncio.shield(self._looking_up(target))
        except AddressRefusedError:  # the address is none of the job's business
            return self._deny(target, "has no address that a job may reach")
        except TimeoutError:
            return Refusal(504, "the name did not resolve in time")
        except (OSError, UnicodeError):
            addresses = []
        if not addresses:
            return Refusal(502, "the name does not resolve")
        if not self.grant.policy.trusts(host, port):
            addresses = [address for address in addresses if not is_own(address)]
        if not addresses:
            return self._deny(target, "has no address that a job may reach")
        return await self._connect(addresses, port)

    def _looking_up(self, target: HostAndPort) -> "asyncio.Task[list[str]]":
        """Return the lookup of a host, of which there is one at a time; it goes on when nobody waits any more."""
        lookup = self._lookups.get(target)
        if lookup is None:
            lookup = self._lookups[target] = self._spawn(self._look_up(*target))
            lookup.add_done_callback(partial(self._looked_up, target))
        return lookup

    async def _look_up(self, host: str, port: int) -> list[str]:
        async with self._resolving:  # a job's slow names hold up each other, and nobody else
            return await addresses_of(host, port, self.grant.policy, self.resolver)

    def _looked_up(self, target: HostAndPort, lookup: "asyncio.Task[list[str]]") -> None:
        del self._lookups[target]
        if not lookup.cancelled():
            lookup.exception()  # whoever still waits gets it; maybe nobody does

    async def _connect(self, addresses: list[str], port: int) -> socket.socket | Refusal:
        refusal = Refusal(502, "no connection could be made")
        for address in addresses[:_ADDRESSES_TRIED_MAX]:
            try:
                server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            except OSError:  # there is no descriptor left
                continue
            try:
                server.setblocking(False)
                async with asyncio.timeout(self.limits.connect_s):
                    await asyncio.get_running_loop().sock_connect(server, (address, port))
            except TimeoutError:
                refusal = Refusal(504, "no connection could be made in time")
            except OSError:
                pass  # the next address may answer; if none does, the job is told
            else:
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.traffic.connections += 1
                return server
            server.close()
        return refusal

    def _deny(self, target: HostAndPort, why: str) -> Refusal:
        self.traffic.refused += 1
        host, port = target
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.refused(name, why)
        return Refusal(403, f"{name} {why}")

    async def _refuse(self, client: socket.socket, refusal: Refusal) -> None:
        loop = asyncio.get_running_loop()
        body = f"fsm-miner: {refusal.text}\n".encode("ascii", "replace")
        head = (
            f"HTTP/1.1 {refusal.status} {_REASONS[refusal.status]}\r\nContent-Type: text/plain\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        async with asyncio.timeout(self.limits.linger_s):
            await loop.sock_sendall(client, head.encode("ascii") + body)
            client.shutdown(socket.SHUT_WR)
            # Closing with something unread would take the answer back.
            left = _LINGER_BYTES_MAX
            while left > 0 and (part := await loop.sock_recv(client, _BUFFER_BYTES)):
                left -= len(part)

    async def _tunnel(self, client: socket.socket, server: socket.socket, ask: Ask, early: bytes) -> None:
        """Copy both ways until both are at their ends, or nothing has moved for too long."""
        loop = asyncio.get_running_loop()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(self.limits.idle_s) as idle:

            def moved() -> None:
                idle.reschedule(loop.time() + self.limits.idle_s)

            def sent(count: int) -> None:
                self.traffic.sent_bytes += count
                moved()

            def received(count: int) -> None:
                self.traffic.received_bytes += count
                moved()

            if ask.head is None:
                await loop.sock_sendall(client, b"HTTP/1.1 200 Connection established\r\n\r\n")
            first = (ask.head or b"") + early[: ask.body_bytes]
            left = None if ask.body_bytes is None else max(0, ask.body_bytes - len(early))

            async def up() -> None:
                if first:
                    await loop.sock_sendall(server, first)
                    sent(len(first))
                await _copy(client, server, sent, left)
                if left is None:
                    server.shutdown(socket.SHUT_WR)

            async def down() -> None:
                await _copy(server, client, received, None)
                client.shutdown(socket.SHUT_WR)

            await _both(up(), down())


async def _copy(
    source: socket.socket, target: socket.socket, moved: Callable[[int], None], left: int | None
) -> None:
    """Copy until the end of `source`, or `left` bytes."""
    loop = asyncio.get_running_loop()
    if left == 0:
        return
    buffer = bytearray(_BUFFER_BYTES if left is None else min(left, _BUFFER_BYTES))
    view = memoryview(buffer)
    while left is None or left > 0:
        room = view if left is None else view[:left]
        count = await loop.sock_recv_into(source, room)
        if not count:
            return
        await loop.sock_sendall(target, view[:count])
        moved(count)
        left = None if left is None else left - count
        # Both calls come back at once where there is always something to do: let others have their turn.
        await asyncio.sleep(0)


async def _both(first: Coroutine[Any, Any, None], second: Coroutine[Any, Any, None]) -> None:
    """Run both to their ends; when one breaks, the other has no use any more."""
    tasks = [asyncio.ensure_future(first), asyncio.ensure_future(second)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
