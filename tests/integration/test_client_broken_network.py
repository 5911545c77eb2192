"""A coordinator or a network that misbehaves: every call ends, says so, and nothing raises."""

import asyncio
import contextlib
import socket
import struct
import threading

import httpx
import pytest

from fsm_miner import loop
from fsm_miner.coordinator import port
from fsm_miner.coordinator.http import HttpCoordinator
from fsm_miner.input_hosts import AddressPolicy, input_client
from tests.support.scripted_coordinator import (
    ScriptedCoordinator,
    answer,
    cut,
    drop,
    hold,
    http,
    huge,
    raw,
    reset,
    text,
    trickle,
)

PULL = port.PullRequest(("cli",), 1, ())


@contextlib.asynccontextmanager
async def connected(timeout_s=5.0):
    async with ScriptedCoordinator() as server:
        server.on("/nodes/register", answer({"node_token": "node-token"}))
        client = HttpCoordinator(server.base_url, "node-1", lambda: "boot-token", timeout_s=timeout_s)
        try:
            while not isinstance(await client.register({}), port.Registered):
                pass  # a busy machine may need more than the shortest time limits
            yield server, client
        finally:
            await client.close()


def play(test):
    async def bounded():
        async with asyncio.timeout(30):
            await test()

    asyncio.run(bounded())


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (cut({"job": {"job_id": "j-1"}}, 5), "cut off or no HTTP"),
        (cut({"job": {"job_id": "j-1"}}, 60), "cut off or no HTTP"),
        (cut({"job": {"job_id": "j-1"}}, 100), "cut off or no HTTP"),
        (drop(), "cut off or no HTTP"),
        (reset(), "connection broke"),
        (raw(b"\x00\x01garbage\xff\r\n\r\n"), "cut off or no HTTP"),
        (raw(b"SSH-2.0-OpenSSH_9.2\r\n"), "cut off or no HTTP"),
        (raw(b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"a" * 300_000 + b"\r\n\r\n"), "cut off or no HTTP"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), "cut off or no HTTP"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n{}"), ""),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}"), "cut off or no HTTP"),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}"), "cut off or no HTTP"),
        (text("<html>login</html>", 200, "text/html"), "not JSON"),
        (text("all is well"), "not JSON"),
        (text(b"\xff\xfe\x00"), "not JSON"),
        (text(b"[" * 200_000, 200, "application/json"), "not JSON"),
        (raw(http(200, b"\x1f\x8b\x08", {"Content-Encoding": "gzip"})), "compressed"),
        (huge(5 * 1024 * 1024), "larger than 4194304 bytes"),
        (huge(5 * 1024 * 1024, chunked=True), "larger than 4194304 bytes"),
    ],
)
def test_a_broken_answer_is_unknown_and_the_next_call_is_well(act, said):
    async def test():
        async with connected() as (server, client):
            server.on("/jobs/pull", act, answer({"job": {"job_id": "j-2"}}))
            got = await client.pull(PULL)
            assert isinstance(got, port.Unknown)
            assert said in got.reason
            assert await client.pull(PULL) == port.JobOffer({"job_id": "j-2"})

    play(test)


def test_the_right_json_under_a_wrong_content_type_is_taken():
    async def test():
        async with connected() as (server, client):
            server.on("/jobs/pull", text('{"job": {"job_id": "j-1"}}', 200, "text/plain"))
            assert await client.pull(PULL) == port.JobOffer({"job_id": "j-1"})

    play(test)


@pytest.mark.parametrize("chunked", [False, True])
def test_other_answers_have_a_smaller_bound(chunked):
    async def test():
        async with connected() as (server, client):
            server.on("/jobs/ack", huge(1024 * 1024, chunked=chunked))
            got = await client.ack("j-1", 1)
            assert isinstance(got, port.Unknown)
            assert "larger than 262144 bytes" in got.reason

    play(test)


def test_a_large_manifest_within_the_bound_arrives():
    async def test():
        async with connected() as (server, client):
            server.on("/jobs/pull", answer({"job": {"job_id": "j-1", "x": "y" * 3_000_000}}))
            got = await client.pull(PULL)
            assert isinstance(got, port.JobOffer)
            assert len(got.manifest["x"]) == 3_000_000

    play(test)


def test_a_lost_answer_is_asked_for_again_with_the_same_key():
    async def test():
        async with connected() as (server, client):
            server.on("/jobs/ack", drop(), answer({}))
            assert isinstance(await client.ack("j-1", 1), port.Unknown)
            assert await client.ack("j-1", 1) == port.Acked(None)
            first, second = server.of("/jobs/ack")
            assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
            assert first.body == second.body

    play(test)


def test_silence_ends_with_the_time_limit():
    async def test():
        async with connected(timeout_s=0.05) as (server, client):
            server.on("/jobs/ack", hold(asyncio.Event(), answer({})))
            got = await client.ack("j-1", 1)
            assert isinstance(got, port.Unknown)
            assert "in time" in got.reason

    play(test)


def test_a_trickle_ends_with_the_time_limit_of_the_whole():
    async def test():
        async with connected(timeout_s=0.1) as (server, client):
            server.on("/jobs/ack", trickle())
            got = await client.ack("j-1", 1)
            assert isinstance(got, port.Unknown)
            assert "in time" in got.reason

    play(test)


def test_a_long_poll_may_take_longer_than_the_time_limit():
    async def test():
        async with connected(timeout_s=0.5) as (server, client):
            release = asyncio.Event()
            server.on("/jobs/pull", hold(release, answer({"job": {"job_id": "j-1"}})))
            pull = asyncio.create_task(client.pull(port.PullRequest(("cli",), 1, (), wait_s=20.5)))
            (request,) = await server.arrived("/jobs/pull")
            assert request.json()["wait_s"] == 21

            server.on("/jobs/ack", hold(asyncio.Event(), answer({})))
            # This call starts after the poll and runs into the limit; the poll, begun before, does not.
            assert isinstance(await client.ack("j-0", 1), port.Unknown)
            assert not pull.done()
            release.set()
            assert await pull == port.JobOffer({"job_id": "j-1"})

    play(test)


def test_a_cancelled_call_leaves_the_client_usable():
    async def test():
        async with connected() as (server, client):
            server.on("/jobs/pull", hold(asyncio.Event(), answer({})), answer({}))
            pull = asyncio.create_task(client.pull(PULL))
            await server.arrived("/jobs/pull")
            pull.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pull
            assert await client.pull(PULL) == port.NothingToDo()

    play(test)


def test_nobody_listens():
    async def test():
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"http://127.0.0.1:{taken.getsockname()[1]}/api/v1"
        client = HttpCoordinator(address, "node-1", lambda: "boot-token", timeout_s=5.0)
        got = await client.register({})
        await client.close()
        assert isinstance(got, port.Unknown)
        assert "cannot connect" in got.reason

    play(test)


def test_a_connection_that_the_server_closed_while_idle_is_replaced():
    async def test():
        async with connected() as (server, client):
            server.on("/jobs/ack", raw(http(200, b"{}"), keep=False), answer({}))
            assert await client.ack("j-1", 1) == port.Acked(None)
            assert await client.ack("j-2", 1) == port.Acked(None)
            assert server.connections == 2

    play(test)


@contextlib.contextmanager
def resetting():
    """A server that takes connections and resets each at once: now and then in the moment it is made."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):  # shut down
            while True:
                connection, _ = listener.accept()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


TRIES = 1000  # one in ten or twenty meets the moment


def test_a_connection_reset_as_it_is_made_is_no_answer():
    async def main():
        with resetting() as url:
            client = HttpCoordinator(url, "node-1", lambda: "boot-token", timeout_s=5.0)
            answers = [await client.register({}) for _ in range(TRIES)]
            await client.close()
        return answers

    answers = loop.run(main())
    assert all(isinstance(one, port.Unknown) for one in answers), answers
    assert any(one.reason.startswith("cannot connect: ") for one in answers)


def test_an_input_whose_connection_is_reset_as_it_is_made_is_not_there():
    async def main():
        seen = set()
        with resetting() as url:
            async with input_client(AddressPolicy.for_coordinator(url)) as client:
                for _ in range(TRIES):
                    with pytest.raises(httpx.TransportError) as error:
                        await client.get(url)
                    seen.add(type(error.value))
        return seen

    assert httpx.ConnectError in loop.run(main())
