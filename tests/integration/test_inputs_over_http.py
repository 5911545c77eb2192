"""Inputs from real servers on loopback that misbehave in every way a stranger's can."""

import asyncio
import hashlib
import resource
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpcore
import pytest

from fsm_miner.addresses import AddressPolicy, resolve
from fsm_miner.input_hosts import input_client
from fsm_miner.inputs import Fetched, FetchLimits, InputUrl, fetch_inputs
from states.codes import ErrorCode, Failure

MIB = 1 << 20
ROOMY = FetchLimits(total_bytes=1 << 30, reserve_bytes=0, total_s=60.0)
Handler = Callable[[str, dict[str, str], asyncio.StreamWriter], Awaitable[None]]


class CountingNetwork(httpcore.AsyncNetworkBackend):
    """The real network, which remembers what it was asked to connect to."""

    def __init__(self) -> None:
        self.connected: list[tuple[str, int]] = []
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):  # noqa: ASYNC109
        self.connected.append((host, port))
        return await self._inner.connect_tcp(host, port, timeout, local_address, socket_options)

    async def sleep(self, seconds):
        await self._inner.sleep(seconds)


@asynccontextmanager
async def serving(handler: Handler):
    """Serve each connection one request by `handler(path, headers, writer)`; yields the port."""
    running: set[asyncio.Task[None]] = set()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {key.lower(): value for key, value in (line.split(": ", 1) for line in lines)}
            await handler(first.split()[1], headers, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            running.discard(task)

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await server.wait_closed()


def answer(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {size}", "Connection: close", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def always(data: bytes) -> Handler:
    async def handler(_path: str, _headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return handler


def fetch(
    handler: Handler,
    into: Path,
    *,
    sha256: str | None = None,
    limits: FetchLimits = ROOMY,
    network: CountingNetwork | None = None,
    resolver: Callable[[str, int], Awaitable[Sequence[str]]] = resolve,
    host: str = "127.0.0.1",
    trusted: bool = True,
    read_timeout_s: float = 10.0,
) -> list[Fetched] | Failure:
    async def go() -> list[Fetched] | Failure:
        async with serving(handler) as port:
            policy = AddressPolicy(frozenset({(host, port)} if trusted else ()))
            client = input_client(policy, backend=network, resolver=resolver, read_timeout_s=read_timeout_s)
            async with client:
                item = InputUrl(f"http://{host}:{port}/file", "in", sha256)
                return await fetch_inputs(
                    [item], {}, into, client=client, limits=limits, free_bytes=lambda _: 1 << 40
                )

    return asyncio.run(go())


def failure_of(result: list[Fetched] | Failure, into: Path) -> Failure:
    """Nothing that counts, and no half file, is left after a failure."""
    assert isinstance(result, Failure), result
    assert list(into.iterdir()) == []
    return result


def test_an_input_arrives_with_its_size_and_hash(tmp_path: Path):
    body = bytes(range(256)) * 10_000
    digest = hashlib.sha256(body).hexdigest()
    for given in (None, digest, digest.upper()):
        assert fetch(always(answer(body)), tmp_path, sha256=given) == [Fetched("in", len(body), digest)]
    assert (tmp_path / "in").read_bytes() == body
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert (tmp_path / "in").stat().st_mode & 0o777 == 0o444


def test_a_wrong_hash_is_permanent(tmp_path: Path):
    failure = failure_of(fetch(always(answer(b"x")), tmp_path, sha256="0" * 64), tmp_path)
    assert failure.code is ErrorCode.INPUT
    assert (failure.retry_here, failure.retryable) == (False, False)
    assert hashlib.sha256(b"x").hexdigest() in failure.message


@pytest.mark.parametrize(
    "data",
    [
        answer(b"short", length=100),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"\x00\x01\x02 garbage\r\n\r\n",
        b"",
        answer(b"", status="503 Busy"),
        answer(b"", status="500 Oops"),
        answer(b"", status="429 Slow down"),
        answer(b"", status="408 Late"),
        answer(b"", status="404 None yet"),
        answer(b"", status="403 Expired"),
    ],
)
def test_a_break_is_tried_again(tmp_path: Path, data: bytes):
    failure = failure_of(fetch(always(data), tmp_path), tmp_path)
    assert failure.code is ErrorCode.INPUT
    assert failure.retry_here


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (answer(b"xy", status="206 Partial"), "answered 206"),
        (answer(b"", status="204 Empty"), "answered 204"),
        (answer(b"", status="302 Found"), "without Location"),
        (answer(b"x", "Content-Encoding: gzip"), "Content-Encoding"),
        (b"HTTP/1.1 200 OK\r\n\r\nunbounded", "where the body ends"),
    ],
)
def test_an_answer_that_another_try_will_not_change(tmp_path: Path, data: bytes, words: str):
    failure = failure_of(fetch(always(data), tmp_path), tmp_path)
    assert failure.code is ErrorCode.INPUT
    assert not failure.retry_here
    assert words in failure.message


@pytest.mark.parametrize(
    "data",
    [answer(b"as it is", "Content-Encoding: gzip"), b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nas it is"],
)
def test_with_a_hash_the_bytes_speak_for_themselves(tmp_path: Path, data: bytes):
    result = fetch(always(data), tmp_path, sha256=hashlib.sha256(b"as it is").hexdigest())
    assert isinstance(result, list)
    assert (tmp_path / "in").read_bytes() == b"as it is"


def test_too_much_is_refused_when_announced_and_when_it_comes(tmp_path: Path):
    small = FetchLimits(total_bytes=3 * MIB, reserve_bytes=0, total_s=30.0)
    sent = 0

    async def endless(_path: str, _headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await writer.drain()
            sent += 0x10000

    for handler in (always(answer(b"", length=4 * MIB)), endless):
        failure = failure_of(fetch(handler, tmp_path, limits=small), tmp_path)
        assert failure.code is ErrorCode.INPUT
        assert not failure.retry_here
        assert str(3 * MIB) in failure.message
    assert sent < 64 * MIB


@pytest.mark.parametrize("over", [0, 1])
def test_the_limit_is_exact_where_no_size_is_announced(tmp_path: Path, over: int):
    size = MIB + over
    data = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % size + bytes(size) + b"\r\n0\r\n\r\n"
    )
    limits = FetchLimits(total_bytes=MIB, reserve_bytes=0, total_s=30.0)
    result = fetch(always(data), tmp_path, limits=limits)
    if over:
        assert not failure_of(result, tmp_path).retry_here
    else:
        assert isinstance(result, list)
        assert result[0].size == MIB


def test_a_server_that_falls_silent_is_tried_again(tmp_path: Path):
    async def silent(_path: str, _headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"some", length=100))
        await writer.drain()
        await asyncio.Event().wait()

    failure = failure_of(fetch(silent, tmp_path, read_timeout_s=0.05), tmp_path)
    assert failure.code is ErrorCode.INPUT
    assert failure.retry_here


def test_a_server_that_drips_is_given_up_in_the_end(tmp_path: Path):
    async def drips(_path: str, _headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"", length=MIB))
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    limits = FetchLimits(total_bytes=MIB, reserve_bytes=0, total_s=0.2)
    failure = failure_of(fetch(drips, tmp_path, limits=limits), tmp_path)
    assert failure.code is ErrorCode.INPUT
    assert failure.retry_here
    assert "not complete" in failure.message


def redirecting(
    to: Callable[[str], str | None], body: bytes = b"there", seen: list[dict[str, str]] | None = None
):
    async def handler(path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        if seen is not None:
            seen.append(headers)
        target = to(path)
        cookie = "Set-Cookie: id=1"
        writer.write(
            answer(body, cookie)
            if target is None
            else answer(b"", f"Location: {target}", cookie, status="302 Found")
        )

    return handler


def test_redirects_are_followed_five_times_and_carry_nothing(tmp_path: Path):
    seen: list[dict[str, str]] = []

    def hops(path: str) -> str | None:
        n = int(path.removeprefix("/file") or 0)
        return f"/file{n + 1}" if n < 5 else None

    result = fetch(redirecting(hops, seen=seen), tmp_path)
    assert isinstance(result, list)
    assert (tmp_path / "in").read_bytes() == b"there"
    assert len(seen) == 6
    assert all("authorization" not in headers and "cookie" not in headers for headers in seen)
    assert {headers["accept-encoding"] for headers in seen} == {"identity"}


def test_a_redirect_loop_ends(tmp_path: Path):
    seen: list[dict[str, str]] = []
    failure = failure_of(fetch(redirecting(lambda _: "/file", seen=seen), tmp_path), tmp_path)
    assert failure.code is ErrorCode.INPUT
    assert not failure.retry_here
    assert len(seen) == 6


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/",
        "http://2852039166/",
        "http://127.0.0.1:1/",
        "http://10.0.0.1/",
        "http://0.0.0.0:1/",
        "https://metadata/",
        "file:///etc/passwd",
        "http://user:pw@127.0.0.1/",
    ],
)
def test_a_redirect_to_where_nobody_may_go_sends_no_packet_there(tmp_path: Path, target: str):
    network = CountingNetwork()

    async def resolver(host: str, port: int) -> list[str]:
        return ["169.254.169.254"] if host == "metadata" else await resolve(host, port)

    result = fetch(
        redirecting(lambda _: target), tmp_path, sha256="0" * 64, network=network, resolver=resolver
    )
    failure = failure_of(result, tmp_path)
    assert failure.code is ErrorCode.DENY
    assert not failure.retry_here
    assert [host for host, _ in network.connected] == ["127.0.0.1"]
    assert len(network.connected) == 1  # the server that redirected, and nobody else


def test_loopback_is_for_trusted_hosts_only(tmp_path: Path):
    network = CountingNetwork()
    failure = failure_of(fetch(always(answer(b"x")), tmp_path, network=network, trusted=False), tmp_path)
    assert failure.code is ErrorCode.DENY
    assert network.connected == []


def test_a_name_that_changes_its_address_gains_nothing(tmp_path: Path):
    network = CountingNetwork()
    answers = [["127.0.0.1"], ["169.254.169.254"]]

    async def rebinding(_host: str, _port: int) -> list[str]:
        return answers.pop(0)

    handler = redirecting(lambda path: "/again" if path == "/file" else None)
    result = fetch(handler, tmp_path, sha256="0" * 64, network=network, resolver=rebinding, host="files.lan")
    failure = failure_of(result, tmp_path)
    assert failure.code is ErrorCode.DENY
    assert [host for host, _ in network.connected] == ["127.0.0.1"]


def test_of_several_addresses_only_the_allowed_are_tried(tmp_path: Path):
    network = CountingNetwork()

    async def resolver(_host: str, _port: int) -> list[str]:
        return ["fe80::1", "127.0.0.1"]

    digest = hashlib.sha256(b"x").hexdigest()
    result = fetch(
        always(answer(b"x")), tmp_path, sha256=digest, network=network, resolver=resolver, host="files.lan"
    )
    assert result == [Fetched("in", 1, digest)]
    assert [host for host, _ in network.connected] == ["127.0.0.1"]


def test_nobody_there_and_no_such_name_are_tried_again(tmp_path: Path):
    async def unknown(_host: str, _port: int) -> list[str]:
        raise OSError("no such name")

    async def nobody(_path: str, _headers: dict[str, str], _writer: asyncio.StreamWriter) -> None:
        raise AssertionError("nobody connects")

    failure = failure_of(
        fetch(nobody, tmp_path, sha256="0" * 64, resolver=unknown, host="files.lan"), tmp_path
    )
    assert (failure.code, failure.retry_here) == (ErrorCode.INPUT, True)

    async def refused() -> list[Fetched] | Failure:
        server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        async with input_client(AddressPolicy(frozenset({("127.0.0.1", port)}))) as client:
            item = InputUrl(f"http://127.0.0.1:{port}/", "in")
            return await fetch_inputs(
                [item], {}, tmp_path, client=client, limits=ROOMY, free_bytes=lambda _: 1 << 40
            )

    failure = failure_of(asyncio.run(refused()), tmp_path)
    assert (failure.code, failure.retry_here) == (ErrorCode.INPUT, True)


def test_cancellation_leaves_no_file(tmp_path: Path):
    async def go() -> None:
        arrived = asyncio.Event()

        async def silent(_path: str, _headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
            writer.write(answer(b"x" * (2 * MIB), length=4 * MIB))
            await writer.drain()
            arrived.set()
            await asyncio.Event().wait()

        async with (
            serving(silent) as port,
            input_client(AddressPolicy(frozenset({("127.0.0.1", port)}))) as client,
        ):
            item = InputUrl(f"http://127.0.0.1:{port}/", "in")
            task = asyncio.create_task(
                fetch_inputs([item], {}, tmp_path, client=client, limits=ROOMY, free_bytes=lambda _: 1 << 40)
            )
            await arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(go())
    assert list(tmp_path.iterdir()) == []


def test_a_big_input_takes_little_memory(tmp_path: Path):
    block = bytes(MIB)
    blocks = 200

    async def big(_path: str, _headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"", length=blocks * MIB))
        for _ in range(blocks):
            writer.write(block)
            await writer.drain()

    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = fetch(big, tmp_path)
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
    assert isinstance(result, list)
    assert result[0].size == blocks * MIB == (tmp_path / "in").stat().st_size
    assert grown_mib < 48
    (tmp_path / "in").unlink()


def test_a_disk_that_fills_up_meanwhile_stops_it(tmp_path: Path):
    async def go() -> list[Fetched] | Failure:
        async def big(_path: str, _headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(64):
                writer.write(b"100000\r\n" + bytes(MIB) + b"\r\n")
                await writer.drain()
            writer.write(b"0\r\n\r\n")

        free = iter([100 * MIB, 10])
        async with (
            serving(big) as port,
            input_client(AddressPolicy(frozenset({("127.0.0.1", port)}))) as client,
        ):
            item = InputUrl(f"http://127.0.0.1:{port}/", "in")
            return await fetch_inputs(
                [item], {}, tmp_path, client=client, limits=ROOMY, free_bytes=lambda _: next(free)
            )

    assert failure_of(asyncio.run(go()), tmp_path).code is ErrorCode.NORESOURCE
