"""A coordinator for development: speaks all of the contract, on loopback, from one folder.

It serves tests, `make run`, benchmarks and people who write jobs. See docs/dev-coordinator.md.
"""

import asyncio
import contextlib
import ipaddress
import os
import shutil
import signal
import socket
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
from coordinator_admin import AdminApi
from coordinator_api import node_routes
from coordinator_checks import Refusal
from coordinator_db import connect
from coordinator_faults import Connections, Faults, tracked_protocol
from coordinator_house import House, Waiters, answer
from coordinator_nodes import Nodes
from coordinator_queue import JobQueue, Policy
from coordinator_signing import Signer
from coordinator_uploads import Uploads
from coordinator_views import Views
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

MIB = 1024 * 1024
OPTIONAL = frozenset({"register", "heartbeat", "progress", "reconcile", "tus"})


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a server is started with. Times in seconds, sizes in MiB."""

    host: str
    port: int
    data: Path
    token: str
    policy: Policy
    token_ttl_s: float
    result_mb_max: int
    without: frozenset[str]
    signer: Signer | None
    log_level: str


class CoordinatorServer(uvicorn.Server):
    """Uvicorn that ends its long polls before it waits for open calls, and leaves signals to us."""

    def __init__(self, config: uvicorn.Config, waiters: Waiters) -> None:
        super().__init__(config)
        self._waiters = waiters

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Take no signal: `_serve` below does, so that the exit status is ours."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer everybody who waits, then go on as usual."""
        self._waiters.close()
        await super().shutdown(sockets)


def build(house: House, connections: Connections) -> Faults:
    """Make the ASGI application."""
    app = Starlette(exception_handlers={Refusal: _refuse, ClientDisconnect: _gone})
    faults = Faults(app, connections)
    app.router.routes.extend(node_routes(house) + AdminApi(house, faults).routes())
    return faults


async def _refuse(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal), "registered for it alone"
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    return answer({"error": error.message}, error.status, headers | {"Tus-Resumable": "1.0.0"})


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # nobody is there to read it


async def _sweep(queue: JobQueue, period_s: float) -> None:
    while True:
        queue.sweep()
        await asyncio.sleep(period_s)


@contextlib.asynccontextmanager
async def _sweeping(queue: JobQueue, policy: Policy) -> AsyncGenerator[None]:
    period_s = max(0.02, min(1.0, policy.lease_s / 10, policy.offer_s / 10))
    task = asyncio.create_task(_sweep(queue, period_s))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _serve(settings: Settings) -> None:
    data = settings.data
    shutil.rmtree(data / "incoming", ignore_errors=True)  # left by a crash: nothing there was promised
    for name in ("incoming", "results", "uploads", "files"):
        (data / name).mkdir(parents=True, exist_ok=True)
    waiters, connections = Waiters(), Connections()
    with contextlib.closing(connect(data / "coordinator.db")) as db:
        house = House(
            db=db,
            data=data,
            queue=JobQueue(db, settings.policy, wake=waiters.wake),
            nodes=Nodes(db, settings.token, token_ttl_s=settings.token_ttl_s),
            uploads=Uploads(db, data / "uploads", settings.result_mb_max * MIB),
            views=Views(db),
            waiters=waiters,
            signer=settings.signer,
            result_bytes_max=settings.result_mb_max * MIB,
            without=settings.without,
            admin_needs_token=not _is_loopback(settings.host),
        )
        config = uvicorn.Config(
            build(house, connections),
            http=tracked_protocol(connections),
            ws="none",
            loop="asyncio",
            lifespan="off",
            access_log=False,
            log_level=settings.log_level,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=3,
        )
        server = CoordinatorServer(config, waiters)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, setattr, server, "should_exit", True)
        listener = _listen(settings.host, settings.port)
        url = f"http://{_shown(settings.host)}:{listener.getsockname()[1]}/api/v1"
        with listener:
            async with _sweeping(house.queue, settings.policy):
                _announce(data, url)
                await server.serve([listener])


def _announce(data: Path, url: str) -> None:
    """Say where we are. The socket listens already, so whoever reads this can connect."""
    staged = data / "url.new"
    staged.write_text(url + "\n")
    staged.replace(data / "url")
    print(f"listening on {url}", flush=True)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small answers at once only where the socket names its protocol.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise typer.BadParameter(f"--listen {host}:{port}: {error.strerror}") from error
    return listener


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback


def _address(listen: str, *, anywhere: bool) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.strip("[]")
    try:
        loopback = _is_loopback(host)
        number = int(port)
    except ValueError as error:
        raise typer.BadParameter(f"--listen {listen}: ADDRESS:PORT is needed, like 127.0.0.1:8787") from error
    if not 0 <= number <= 65535:
        raise typer.BadParameter(f"--listen {listen}: a port from 0 to 65535 is needed")
    if not loopback and not anywhere:
        raise typer.BadParameter(f"--listen {listen}: not loopback. It has no TLS; --i-know overrules this")
    return host, number


def _token(token_env: str, token_file: Path | None) -> str:
    try:
        token = os.environ.get(token_env, "") if token_file is None else token_file.read_text()
    except OSError as error:
        raise typer.BadParameter(f"--token-file {token_file}: {error.strerror}") from error
    if not token.strip():
        raise typer.BadParameter(
            f"no bootstrap token: set {token_env} (for example to `dev`) or give --token-file"
        )
    return token.strip()


def main(
    data: Annotated[Path, typer.Option(help="Folder for the database, results, uploads and files.")],
    listen: Annotated[str, typer.Option(help="ADDRESS:PORT; port 0 takes any free one.")] = "127.0.0.1:8787",
    token_env: Annotated[str, typer.Option(help="Variable that holds the bootstrap token.")] = "MINER_AUTH",  # noqa: S107 (a name)
    token_file: Annotated[Path | None, typer.Option(help="File that holds it, instead.")] = None,
    token_ttl_s: Annotated[float, typer.Option(min=0.05, help="Life of a node token.")] = 3600.0,
    lease_s: Annotated[
        float, typer.Option(min=0.05, help="Life of a lease; each heartbeat renews it.")
    ] = 30.0,
    offer_s: Annotated[
        float, typer.Option(min=0.05, help="Time to acknowledge what a pull handed out.")
    ] = 10.0,
    max_attempts: Annotated[int, typer.Option(min=1, help="Attempts of a job, over all nodes.")] = 3,
    sign_key: Annotated[
        Path | None, typer.Option(help="JWK (oct or Ed25519, with kid): sign manifests.")
    ] = None,
    without: Annotated[str, typer.Option(help=f"Answer 404 on these: {', '.join(sorted(OPTIONAL))}.")] = "",
    result_mb_max: Annotated[int, typer.Option(min=1, help="Largest result or upload, MiB.")] = 16384,
    log_level: Annotated[str, typer.Option(help="critical, error, warning, info or debug.")] = "warning",
    i_know: Annotated[bool, typer.Option("--i-know", help="Listen elsewhere than on loopback.")] = False,
) -> None:
    """Run a coordinator for development.

    Example: MINER_AUTH=a-long-token-for-trying python tools/dev_coordinator.py --data /tmp/coordinator

    Then point a node at the URL it prints (also in DATA/url), and hand out work with tools/submit.py.
    It ends on SIGTERM or Ctrl-C, and goes on where it was when started again with the same --data.
    """
    host, port = _address(listen, anywhere=i_know)
    left_out = frozenset(filter(None, without.split(",")))
    if left_out - OPTIONAL:
        raise typer.BadParameter(
            f"--without: {', '.join(sorted(left_out - OPTIONAL))}: not one of the optional ones"
        )
    if log_level not in {"critical", "error", "warning", "info", "debug"}:
        raise typer.BadParameter(f"--log-level {log_level}: see --help")
    try:
        signer = None if sign_key is None else Signer(sign_key)
    except ValueError as error:
        raise typer.BadParameter(f"--sign-key {error}") from error
    settings = Settings(
        host, port, data, _token(token_env, token_file), Policy(lease_s, offer_s, max_attempts), token_ttl_s,
        result_mb_max, left_out, signer, log_level,
    )  # fmt: skip
    asyncio.run(_serve(settings))


if __name__ == "__main__":
    typer.run(main)
