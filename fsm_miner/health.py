"""The local status page: `/healthz` for people and monitors, `/metrics` for Prometheus."""

import asyncio
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any, cast

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from fsm_miner.config.units import Listen

__all__ = ["HealthServer"]

_BACKLOG = 64
_CONNECTIONS_MAX = 64
# From here on, who is connected and asks nothing has to go: any local user can connect, and never be heard of again.
_CONNECTIONS_CROWDED = 32


class _Server(uvicorn.Server):
    """uvicorn inside the daemon's loop: signals are the daemon's business, and an idle node stays idle."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stop = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def main_loop(self) -> None:
        """Tick once a second; uvicorn's own loop wakes ten times as often, for reload and signals."""
        tick = 0
        while not self.stop.is_set():
            await self.on_tick(tick)
            self._drop_the_silent()
            tick += 10  # on_tick renews the Date header at every tenth
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self.stop.wait()

    def _drop_the_silent(self) -> None:
        """Close connections without a request, should there be too many: each holds a descriptor of the daemon."""
        connections = self.server_state.connections
        if len(connections) <= _CONNECTIONS_CROWDED:
            return
        for connection in list(connections):
            if isinstance(connection, H11Protocol) and not _asks(connection):
                connection.transport.abort()


def _asks(connection: H11Protocol) -> bool:
    # Until the first request there is none, whatever the annotation says.
    cycle = cast("RequestResponseCycle | None", connection.cycle)
    return cycle is not None and not cycle.response_complete


class HealthServer:
    """Serves on `listen` until `close`. Port 0 takes any free one."""

    def __init__(
        self, listen: Listen, health: Callable[[], dict[str, Any]], metrics: Callable[[], bytes]
    ) -> None:
        """Bind.

        Raises:
            OSError: the address is taken or is not this machine's.

        """
        family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        # asyncio sends small answers at once only where the socket names its protocol.
        self._socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((listen.host, listen.port))
            # Now, not when serving begins: who reads the published address can connect at once.
            self._socket.listen(_BACKLOG)
        except BaseException:
            self._socket.close()
            raise
        host = f"[{listen.host}]" if family == socket.AF_INET6 else listen.host
        self.url = f"http://{host}:{self._socket.getsockname()[1]}"

        async def healthz(_request: Request) -> Response:
            return JSONResponse(health())

        async def metrics_page(_request: Request) -> Response:
            return Response(metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

        app = Starlette(routes=[Route("/healthz", healthz), Route("/metrics", metrics_page)])
        self._server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                http=H11Protocol,
                ws="none",
                limit_concurrency=_CONNECTIONS_MAX,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=1,
            )
        )

    async def run(self) -> None:
        """Serve until `close` is called."""
        try:
            await self._server.serve(sockets=[self._socket])
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        """Ask `run` to return."""
        self._server.stop.set()
