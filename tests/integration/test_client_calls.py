"""The client against a real loopback socket: what it sends, and how it remembers."""

import asyncio
import contextlib

import pytest

from fsm_miner import __version__
from fsm_miner.coordinator import port
from fsm_miner.coordinator.http import HttpCoordinator
from tests.support.scripted_coordinator import ScriptedCoordinator, answer, busy, http, raw, text

BEAT = port.Beat(
    (0.123, 0.2, 0.3), 100, 1, "active", ({"job_id": "j-1", "attempt": 1, "state": "RUNNING"},), {"cpu": 2}
)
PULL = port.PullRequest(("cli", "python"), 2, (8000,), ("debian",), ("latency",))
NOW_NS = 1_700_000_000_123_456_789


@contextlib.asynccontextmanager
async def connected(*, register=None, **options):
    """A server and a client that has registered with it."""
    async with ScriptedCoordinator() as server:
        server.on("/nodes/register", register or answer({"node_token": "node-token", "expires_in_s": 60}))
        absent = []
        client = HttpCoordinator(
            server.base_url,
            "node-1",
            lambda: "boot-token",
            timeout_s=5.0,
            now_ns=lambda: NOW_NS,
            on_absent=absent.append,
            **options,
        )
        try:
            await client.register({"node_id": "node-1", "tags": ["cpu"]})
            yield server, client, absent
        finally:
            await client.close()


def play(test):
    """Run an async test to its end, within a bound that only a hang can reach."""

    async def bounded():
        async with asyncio.timeout(30):
            await test()

    asyncio.run(bounded())


def test_registration_changes_the_token():
    async def test():
        async with connected() as (server, client, _):
            await client.heartbeat(BEAT)

            register, beat = server.requests
            assert register.path == "/nodes/register"
            assert register.json() == {"node_id": "node-1", "tags": ["cpu"]}
            assert register.headers["authorization"] == "Bearer boot-token"
            assert register.headers["user-agent"] == f"fsm-miner/{__version__}"
            assert beat.headers["authorization"] == "Bearer node-token"
            assert "token" not in repr(client)

    play(test)


def test_nothing_is_sent_before_the_registration():
    async def test():
        async with ScriptedCoordinator() as server:
            client = HttpCoordinator(server.base_url, "node-1", lambda: "boot-token")
            assert isinstance(await client.pull(PULL), port.Unauthorized)
            assert server.requests == []
            await client.close()

    play(test)


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_coordinator_without_registration_gets_the_bootstrap_token(status):
    async def test():
        async with connected(register=answer({}, status)) as (server, client, absent):
            assert await client.pull(PULL) == port.NothingToDo()
            assert server.of("/jobs/pull")[0].headers["authorization"] == "Bearer boot-token"
            await client.register({})
            assert len(server.of("/nodes/register")) == 2
            assert absent == ["/nodes/register"]

    play(test)


def test_a_refused_registration_keeps_what_there_was():
    async def test():
        async with connected() as (server, client, _):
            server.on("/nodes/register", answer({"detail": "no"}, 403))
            assert isinstance(await client.register({}), port.Refused)
            await client.heartbeat(BEAT)
            assert server.of("/nodes/heartbeat")[0].headers["authorization"] == "Bearer node-token"

    play(test)


def test_the_requests_of_a_job():
    async def test():
        async with connected() as (server, client, _):
            server.on("/jobs/pull", answer({"job": {"job_id": "j-1"}}))
            server.on("/jobs/ack", answer({"lease_s": 30}))
            server.on("/jobs/reconcile", answer({"jobs": {"j-1": "abandon", "j-2": "continue"}}))
            server.on("/jobs/progress", answer({"cancel": True}))

            assert await client.pull(PULL) == port.JobOffer({"job_id": "j-1"})
            assert await client.ack("j-1", 2) == port.Acked(30.0)
            assert await client.progress(
                port.ProgressReport("j-1", 2, 150.0, "half \ud800", "t" * 70_000)
            ) == (port.ProgressTaken(cancel=True))
            report = port.FailureReport("j-1", 2, "E_EXIT", "exit code 3", "logs/exec.log", retryable=False)
            assert await client.fail(report) == port.Delivered(200)
            jobs = (port.ReconcileJob("j-1", 2, "ACKED", NOW_NS), port.ReconcileJob("j-2", 1, "PREP", 0))
            assert await client.reconcile(jobs) == port.Reconciled(frozenset({"j-1"}))
            await client.heartbeat(BEAT)

            pull, ack, progress, fail, reconcile, beat = server.requests[1:]
            assert pull.json() == {
                "node_id": "node-1",
                "filters": {
                    "runners": ["cli", "python"],
                    "cpu_slots": 2,
                    "gpus": [{"vram_free_mb": 8000}],
                    "tags": ["debian"],
                    "queues": ["latency"],
                },
            }
            assert ack.json() == {"job_id": "j-1", "node_id": "node-1", "attempt": 2}
            assert ack.query == {"job_id": ["j-1"], "node_id": ["node-1"]}
            assert ack.headers["idempotency-key"] == "j-1/2/ack"
            assert progress.json()["pct"] == 100.0
            assert progress.json()["note"] == "half ?"
            assert len(progress.json()["log_tail"]) == 65_536
            assert progress.headers["idempotency-key"] == "j-1/2/progress-1700000000123"
            assert fail.json() == {
                "job_id": "j-1",
                "node_id": "node-1",
                "attempt": 2,
                "error_code": "E_EXIT",
                "error_msg": "exit code 3",
                "logs_ref": "logs/exec.log",
                "retryable": False,
            }
            assert fail.headers["idempotency-key"] == "j-1/2/fail"
            assert reconcile.json()["jobs"][0] == {
                "job_id": "j-1",
                "attempt": 2,
                "state": "ACKED",
                "since": "2023-11-14T22:13:20.123+00:00",
            }
            assert beat.json() == {
                "node_id": "node-1",
                "load": [0.12, 0.2, 0.3],
                "free_mb": 100,
                "gpu_free": 1,
                "state": "active",
                "running": [{"job_id": "j-1", "attempt": 1, "state": "RUNNING"}],
                "slots": {"cpu": 2},
            }
            assert {request.connection for request in server.requests} == {1}

    play(test)


def test_a_strange_job_id_stays_in_its_place():
    async def test():
        async with connected() as (server, client, _):
            await client.ack("a&node_id=x\r\nö\ud800/..", 1)
            (ack,) = server.of("/jobs/ack")
            assert ack.query["node_id"] == ["node-1"]
            assert ack.headers["idempotency-key"] == "a%26node_id%3Dx%0D%0A%C3%B6%3F%2F../1/ack"

    play(test)


def test_an_absent_endpoint_is_asked_again_after_the_next_registration():
    async def test():
        async with connected() as (server, client, absent):
            report = port.ProgressReport("j-1", 1, None, "", None)
            server.on("/jobs/progress", answer({}, 404), answer({}))
            assert await client.progress(report) == port.Absent()
            assert await client.progress(report) == port.Absent()
            assert len(server.of("/jobs/progress")) == 1
            assert absent == ["/jobs/progress"]

            server.on("/nodes/register", answer({}, 503), answer({"node_token": "second"}))
            await client.register({})
            assert await client.progress(report) == port.Absent()

            await client.register({})
            assert await client.progress(report) == port.ProgressTaken(cancel=False)

    play(test)


@pytest.mark.parametrize(
    "act",
    [
        answer({}, 302, {"Location": "https://elsewhere.example/"}),
        answer({}, 307, {"Location": "/api/v1/jobs/fail"}),
    ],
)
def test_redirects_are_not_followed(act):
    async def test():
        async with connected() as (server, client, _):
            server.on("/jobs/pull", act)
            got = await client.pull(PULL)
            assert isinstance(got, port.Unknown)
            assert "redirects are not followed" in got.reason
            assert len(server.requests) == 2

    play(test)


def test_cookies_are_not_kept():
    async def test():
        async with connected() as (server, client, _):
            server.on("/nodes/heartbeat", raw(http(200, b"{}", {"Set-Cookie": "a=b"}), keep=True))
            await client.heartbeat(BEAT)
            await client.heartbeat(BEAT)
            assert "cookie" not in server.requests[-1].headers

    play(test)


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [("7", 7.0), ("99999", 3600.0), ("Tue, 14 Nov 2023 22:14:20 GMT", 59.88), ("soon", None)],
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_coordinator_says_when(status, header, wait_s):
    async def test():
        async with connected() as (server, client, _):
            server.on("/jobs/pull", busy(header, status))
            got = await client.pull(PULL)
            assert isinstance(got, port.Unknown)
            assert got.retry_after_s == (None if wait_s is None else pytest.approx(wait_s, abs=0.01))

    play(test)


def test_a_refusal_says_why_without_the_token():
    async def test():
        async with connected() as (server, client, _):
            server.on(
                "/jobs/result",
                text('{"detail": "metadata: bad \x1b[31m node-token boot-token"}', 422, "application/json"),
            )
            got = await client.result(port.ResultReport("j-1", 1, {}, (), None))
            assert got == port.Rejected(422, 'HTTP 422: {"detail": "metadata: bad  [31m *** ***"}')

    play(test)


@pytest.mark.parametrize("token", ["with space", "line\r\nX-Evil: 1", "ünïcode"])
def test_a_bootstrap_token_that_no_header_can_hold(token):
    async def test():
        async with ScriptedCoordinator() as server:
            client = HttpCoordinator(server.base_url, "node-1", lambda: token)
            got = await client.register({})
            await client.close()
            if token != "with space":  # a space is legal in a header, so the coordinator judges it
                assert isinstance(got, port.Unknown)
                assert server.requests == []
                assert token not in got.reason
            else:
                assert server.requests[0].headers["authorization"] == "Bearer with space"

    play(test)


def test_proxies_of_the_environment_are_ignored(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")

    async def test():
        async with connected() as (_, client, _):
            assert await client.pull(PULL) == port.NothingToDo()

    play(test)


def test_calls_run_side_by_side():
    async def test():
        async with connected() as (server, client, _):
            got = await asyncio.gather(*(client.ack(f"j-{n}", 1) for n in range(20)))
            assert got == [port.Acked(None)] * 20
            assert len(server.of("/jobs/ack")) == 20

    play(test)
