"""The client for inputs: it connects only to addresses that inputs may come from (fsm_miner.addresses)."""

import asyncio
import http.cookiejar
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable
from contextlib import contextmanager
from ssl import SSLContext
from typing import cast

import httpcore
import httpx

from fsm_miner.addresses import AddressPolicy, AddressRefusedError, Resolver, addresses_of, resolve

__all__ = ["input_client"]

SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]

_ADDRESSES_TRIED_MAX = 4
_CONNECT_TIMEOUT_S = 15.0
_READ_TIMEOUT_S = 60.0


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Resolves by itself, judges, and hands on an address, never a name."""

    def __init__(
        self, policy: AddressPolicy, inner: httpcore.AsyncNetworkBackend, resolver: Resolver
    ) -> None:
        self._policy = policy
        self._inner = inner
        self._resolver = resolver

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is httpcore's
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                allowed = await addresses_of(host, port, self._policy, self._resolver)
        except TimeoutError:
            raise httpcore.ConnectTimeout(f"{host} did not resolve in time") from None
        except (OSError, UnicodeError) as problem:
            raise httpcore.ConnectError(f"{host} does not resolve: {problem}") from problem
        failed: httpcore.ConnectError | httpcore.ConnectTimeout = httpcore.ConnectError(
            f"{host} has no address"
        )
        for address in allowed[:_ADDRESSES_TRIED_MAX]:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as problem:
                failed = problem
        raise failed

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is httpcore's
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise AddressRefusedError(f"{path}: inputs do not come from local sockets")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


def _network() -> httpcore.AsyncNetworkBackend:
    # httpcore declares a second, empty class of this name for where anyio is missing; httpx needs anyio.
    return cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())


class _Body(httpx.AsyncByteStream):
    def __init__(self, stream: AsyncIterable[bytes]) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx():
            async for part in self._stream:
                yield part

    async def aclose(self) -> None:
        close = getattr(self._stream, "aclose", None)
        if close is not None:
            with _as_httpx():
                await close()


class _GuardedTransport(httpx.AsyncBaseTransport):
    """httpx's own transport takes no network backend, so this stands between it and httpcore's pool."""

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self._pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        url = request.url
        with _as_httpx():
            answer = await self._pool.handle_async_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(
                        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        assert isinstance(answer.stream, AsyncIterable)
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(answer.stream),
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


@contextmanager
def _as_httpx() -> Generator[None]:
    """Map what httpcore raises for the network's sake to httpx's exception of the same meaning."""
    try:
        yield
    except httpcore.ConnectTimeout as problem:
        raise httpx.ConnectTimeout(str(problem)) from problem
    except httpcore.ConnectError as problem:
        raise httpx.ConnectError(str(problem)) from problem
    except httpcore.TimeoutException as problem:
        raise httpx.ReadTimeout(str(problem)) from problem
    except httpcore.NetworkError as problem:
        raise httpx.ReadError(str(problem)) from problem
    except (httpcore.ProtocolError, httpcore.UnsupportedProtocol) as problem:
        raise httpx.RemoteProtocolError(str(problem)) from problem


def input_client(
    policy: AddressPolicy,
    *,
    tls: SSLContext | None = None,
    backend: httpcore.AsyncNetworkBackend | None = None,
    resolver: Resolver = resolve,
    read_timeout_s: float = _READ_TIMEOUT_S,
) -> httpx.AsyncClient:
    """Return a client for inputs, of which a node needs one. The caller closes it.

    It knows no token, keeps no cookie, follows no redirect by itself, and takes neither a proxy nor
    credentials from the environment or ~/.netrc. `tls` is the default, verifying context unless given.
    """
    pool = httpcore.AsyncConnectionPool(
        ssl_context=tls if tls is not None else httpx.create_ssl_context(trust_env=False),
        max_connections=16,
        max_keepalive_connections=4,
        keepalive_expiry=5.0,
        network_backend=_GuardedBackend(policy, backend or _network(), resolver),
    )
    return httpx.AsyncClient(
        transport=_GuardedTransport(pool),
        trust_env=False,
        follow_redirects=False,
        timeout=httpx.Timeout(read_timeout_s, connect=_CONNECT_TIMEOUT_S),
        # A jar that takes nothing: one job's host must not recognise the next job's request.
        cookies=http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[])),
    )
