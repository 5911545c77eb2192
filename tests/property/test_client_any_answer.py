"""Whatever the other side answers, a call gives one of the port's answers and never raises."""

import asyncio
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from fsm_miner.coordinator import port
from fsm_miner.coordinator.http import HttpCoordinator
from tests.support.scripted_coordinator import ScriptedCoordinator, answer, http, raw

TOKEN = "tok-0123456789"
BOOTSTRAP = "boot-9876543210"
BEAT = port.Beat((0.1, 0.2, 0.3), 100, 0, "active", (), {"cpu": 2})

json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["job", "jobs", "lease_s", "cancel", "drain", "node_token", "expires_in_s", "features", "j-1"]
            )
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
bodies = st.one_of(
    json_value.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"[" * 50_000,
            b'{"a":' * 50_000,
            b"9" * 9000,
            b"<html>",
            b"\xef\xbb\xbf{}",
            TOKEN.encode() * 40,
            BOOTSTRAP.encode() * 40,
            b'"\\ud800"',
            b" ",
        ]
    ),
)
header_text = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20)
headers = st.dictionaries(
    st.sampled_from(
        ["Content-Type", "Retry-After", "Location", "Content-Encoding", "Set-Cookie", "X-Any", "Content-Length",
         "Transfer-Encoding", "Connection"]
    ),
    header_text | st.sampled_from(["chunked", "gzip", "9" * 5000, "-1", "0", "close", "Tue, 14 Nov 2023 22:13:50 GMT"]),
    max_size=3,
)  # fmt: skip
statuses = st.sampled_from([101, 200, 200, 200, 201, 204, 206, 301, 304, 400, 401, 403, 404, 405, 408, 409, 410, 413,
                            422, 425, 429, 500, 501, 503, 599, 999])  # fmt: skip
answers = st.one_of(
    st.builds(http, statuses, bodies, headers),
    st.builds(lambda whole, keep: whole[:keep], st.builds(http, statuses, bodies), st.integers(0, 120)),
    st.binary(max_size=80),
)


async def _calls(data):
    """Make every call once against a coordinator that answers `data` to each, and return what came back."""
    async with ScriptedCoordinator() as server:
        server.on("/nodes/register", answer({"node_token": TOKEN}))
        client = HttpCoordinator(server.base_url, "node-1", lambda: BOOTSTRAP, timeout_s=5.0)
        try:
            assert isinstance(await client.register({}), port.Registered)
            server.otherwise = raw(data)
            got = [
                (await client.pull(port.PullRequest(("cli",), 1, ())), port.PullAnswer),
                (await client.ack("j-1", 1), port.AckAnswer),
                (await client.progress(port.ProgressReport("j-1", 1, 5.0, "x", None)), port.ProgressAnswer),
                (await client.result(port.ResultReport("j-1", 1, {}, (), None)), port.DeliveryAnswer),
                (
                    await client.fail(port.FailureReport("j-1", 1, "E_EXIT", "x", None, False)),
                    port.DeliveryAnswer,
                ),
                (await client.heartbeat(BEAT), port.BeatAnswer),
                (await client.reconcile((port.ReconcileJob("j-1", 1, "ACKED", 0),)), port.ReconcileAnswer),
            ]
            server.on("/nodes/register", raw(data))
            got.append((await client.register({}), port.RegisterAnswer))
            return got
        finally:
            await client.close()


@settings(max_examples=150, deadline=None)
@given(answers)
def test_any_answer_is_one_of_the_ports(data):
    for got, kinds in asyncio.run(_calls(data)):
        assert isinstance(got, kinds)
        if isinstance(got, port.Unknown | port.Rejected | port.Refused | port.Unauthorized):
            assert got.reason
            assert len(got.reason) <= 400
            assert got.reason.isprintable()
            assert TOKEN not in got.reason
            assert BOOTSTRAP not in got.reason
        if isinstance(got, port.Unknown) and got.retry_after_s is not None:
            assert 0 <= got.retry_after_s <= 3600
