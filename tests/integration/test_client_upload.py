"""Results: streamed from open files, read by a real multipart parser on the other side."""

import asyncio
import contextlib
import os

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse

from fsm_miner.coordinator import port
from fsm_miner.coordinator.http import HttpCoordinator
from tests.support.scripted_coordinator import ScriptedCoordinator, answer, drop, reset

METADATA = {"job_id": "j-1", "attempt": 1, "exit_code": 0, "note": 'ü "quoted" \\'}
BIG = 3 * 1024 * 1024 + 17


@contextlib.asynccontextmanager
async def connected():
    async with ScriptedCoordinator() as server:
        server.on("/nodes/register", answer({"node_token": "node-token"}))
        client = HttpCoordinator(server.base_url, "node-1", lambda: "boot-token", timeout_s=10.0)
        try:
            await client.register({})
            yield server, client
        finally:
            await client.close()


def play(test):
    async def bounded():
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


@pytest.fixture
def upload(tmp_path):
    fds = []

    def make(data, filename, content_type="application/octet-stream", size=None):
        path = tmp_path / f"file-{len(fds)}"
        path.write_bytes(data)
        fds.append(os.open(path, os.O_RDONLY))
        return port.UploadFile(fds[-1], len(data) if size is None else size, filename, content_type)

    yield make
    for fd in fds:
        os.close(fd)  # would fail if the client had closed it


async def parsed(request):
    """Have the form read by starlette, as a FastAPI coordinator would."""
    form = {}

    async def endpoint(scope, receive, send):
        async with Request(scope, receive).form() as fields:
            for name, value in fields.multi_items():
                is_text = isinstance(value, str)
                item = value if is_text else (value.filename, value.content_type, await value.read())
                form.setdefault(name, []).append(item)
        await JSONResponse({})(scope, receive, send)

    app = Starlette()
    app.mount("/", endpoint)
    headers = [(name.encode(), value.encode()) for name, value in request.headers.items()]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": headers,
        "query_string": b"",
        "root_path": "",
    }
    messages = iter([{"type": "http.request", "body": request.body, "more_body": False}])

    async def receive():
        return next(messages)

    async def send(_message):
        return None

    await app(scope, receive, send)
    return form


@pytest.mark.parametrize("size", [0, 100, BIG])
def test_a_result_as_a_coordinator_reads_it(upload, size):
    data = os.urandom(size)
    artifacts = (
        upload(data, "artifacts/out/a.bin"),
        upload(b"hi", 'artifacts/größe "x".txt', "text/plain"),
    )
    report = port.ResultReport("j-1", 1, METADATA, artifacts, upload(b"log\n", "logs/exec.log", "text/plain"))

    async def test():
        async with connected() as (server, client):
            assert await client.result(report) == port.Delivered(200)
            (request,) = server.of("/jobs/result")
            assert request.headers["idempotency-key"] == "j-1/1/result"
            assert request.headers["content-length"] == str(len(request.body))
            form = await parsed(request)
            assert list(form) == ["job_id", "metadata", "artifact", "log"]
            assert form["job_id"] == ["j-1"]
            assert form["metadata"] == [
                '{"job_id":"j-1","attempt":1,"exit_code":0,"note":"\\u00fc \\"quoted\\" \\\\"}'
            ]
            assert form["artifact"] == [
                ("artifacts/out/a.bin", "application/octet-stream", data),
                ("artifacts/größe %22x%22.txt", "text/plain", b"hi"),
            ]
            assert form["log"] == [("logs/exec.log", "text/plain", b"log\n")]

    play(test)


@pytest.mark.parametrize("size", [100, BIG])
@pytest.mark.parametrize("act", [drop(), reset(), reset(body_bytes=50)])
def test_a_retry_sends_the_same_bytes(upload, size, act):
    report = port.ResultReport("j-1", 1, METADATA, (upload(os.urandom(size), "artifacts/a"),), None)

    async def test():
        async with connected() as (server, client):
            server.on("/jobs/result", act, answer({}))
            assert isinstance(await client.result(report), port.Unknown)
            assert await client.result(report) == port.Delivered(200)
            first, second = server.of("/jobs/result")
            assert second.body.startswith(first.body)
            assert first.headers["content-type"] == second.headers["content-type"]
            assert first.headers["idempotency-key"] == second.headers["idempotency-key"]

    play(test)


@pytest.mark.parametrize("size", [100, BIG])
def test_a_file_that_shrank_aborts_the_request(upload, size):
    short = upload(b"x" * (size - 1), "artifacts/a", size=size)

    async def test():
        async with connected() as (server, client):
            got = await client.result(port.ResultReport("j-1", 1, METADATA, (short,), None))
            assert isinstance(got, port.Unknown)
            assert f"ended at byte {size - 1} of {size}" in got.reason
            assert server.of("/jobs/result") == []
            assert await client.ack("j-1", 1) == port.Acked(None)

    play(test)


def test_an_unreadable_file_is_unknown(upload):
    gone = os.open("/", os.O_RDONLY)
    os.close(gone)
    report = port.ResultReport(
        "j-1", 1, METADATA, (port.UploadFile(gone, 10, "artifacts/a", "text/plain"),), None
    )

    async def test():
        async with connected() as (_, client):
            assert isinstance(await client.result(report), port.Unknown)

    play(test)


def test_boundaries_differ_between_jobs_and_between_processes(upload):
    async def test():
        kinds = set()
        for _ in range(2):
            async with connected() as (server, client):
                for job_id in ("j-1", "j-2"):
                    await client.result(
                        port.ResultReport(job_id, 1, METADATA, (), upload(b"", "logs/exec.log"))
                    )
                kinds |= {request.headers["content-type"] for request in server.of("/jobs/result")}
        assert len(kinds) == 4

    play(test)
