"""One job's proxy on real sockets of this machine's loopback."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsm_miner.addresses import AddressPolicy
from fsm_miner.egress.gateway import Names
from fsm_miner.egress.grant import Grant
from fsm_miner.egress.proxy import JobProxy, ProxyLimits

QUICK = ProxyLimits(connections=4, head_s=5, resolve_s=5, connect_s=5, idle_s=5, linger_s=1)


class Net:
    """A proxy, and an echoing server that it may reach as `echo.lan`; `rebind.lan` answers differently each time."""

    def __init__(self, limits=QUICK, trusted=("echo.lan",), host="127.0.0.1"):
        self.limits = limits
        self.host = host
        self.trusted = trusted
        self.refused = []
        self.asked = []
        self.served = 0

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.echo, self.host, 0)
        self.port = self.server.sockets[0].getsockname()[1]
        listener = socket.create_server((self.host, 0), backlog=64)
        listener.setblocking(False)
        self.address = listener.getsockname()
        names = ("echo.lan", "rebind.lan", "nowhere.lan", "slow.lan")
        self.proxy = JobProxy(
            listener,
            Grant(
                frozenset((name, self.port) for name in names),
                AddressPolicy(frozenset((name, self.port) for name in self.trusted)),
            ),
            self.resolve,
            lambda target, why: self.refused.append((target, why)),
            self.limits,
        )
        self.proxy.start()
        return self

    async def __aexit__(self, *_):
        await self.proxy.close()
        self.server.close()
        await self.server.wait_closed()

    async def resolve(self, host, _port):
        self.asked.append(host)
        if host == "nowhere.lan":
            raise OSError("no such name")
        if host == "slow.lan":
            await asyncio.Event().wait()
        if host == "rebind.lan":
            return ["203.0.113.7"] if self.asked.count(host) > 1 else ["127.0.0.1"]
        return ["127.0.0.1"]

    async def echo(self, reader, writer):
        self.served += 1
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(65536):
                writer.write(part)
                await writer.drain()
            writer.write(b"end")
            await writer.drain()
        writer.close()

    async def ask(self, request, then=b""):
        """Send, half-close, return everything that comes."""
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            writer.write(request)
            if then is not None:
                writer.write(then)
                writer.write_eof()
            return await reader.read()
        finally:
            writer.close()

    def connect(self, name="echo.lan"):
        return f"CONNECT {name}:{self.port} HTTP/1.1\r\n\r\n".encode()


def play(story, **how):
    async def go():
        async with asyncio.timeout(30), Net(**how) as net:
            return await story(net), net

    return asyncio.run(go())


def status(answer):
    return int(answer.split(b" ", 2)[1])


def test_half_closing_lets_the_answer_come_to_its_end():
    answer, net = play(lambda net: net.ask(net.connect(), b"hello"))
    assert answer.endswith(b"\r\n\r\nhelloend")
    assert (net.proxy.traffic.sent_bytes, net.proxy.traffic.received_bytes) == (5, 8)


@pytest.mark.parametrize(
    ("name", "code", "served"),
    [("elsewhere.lan", 403, 0), ("rebind.lan", 403, 0), ("nowhere.lan", 502, 0), ("127.0.0.1", 403, 0)],
)
def test_refused(name, code, served):
    answer, net = play(lambda net: net.ask(net.connect(name)))
    assert status(answer) == code
    assert net.served == served
    assert len(net.refused) == net.proxy.traffic.refused == (code == 403)


def test_a_name_that_changes_its_address_gains_nothing():
    """Judged and connected to is one and the same answer: the resolver is asked once for a connection."""
    answer, net = play(lambda net: net.ask(net.connect("rebind.lan")), trusted=("rebind.lan",))
    assert answer.endswith(b"end")
    assert net.asked == ["rebind.lan"]


def test_a_name_that_does_not_resolve_in_time():
    answer, _ = play(lambda net: net.ask(net.connect("slow.lan")), limits=ProxyLimits(resolve_s=0.05))
    assert status(answer) == 504


def test_a_jobs_slow_names_take_one_place_however_often_it_asks():
    """What is given up is still being looked up: it must not take a second place, nor pile up."""

    async def story(net):
        answers = [await net.ask(net.connect("slow.lan")) for _ in range(3)]
        answers.append(await net.ask(net.connect("nowhere.lan")))
        return answers, len(net.proxy._tasks)

    (answers, tasks), net = play(story, limits=ProxyLimits(resolve_s=0.02))
    assert [status(answer) for answer in answers] == [504] * 4
    assert net.asked == ["slow.lan"]
    assert tasks <= 4  # who accepts, two lookups, and maybe the last connection


OWN_ADDRESS = """
import asyncio, fcntl, socket, struct, sys
from tests.integration.test_egress_proxy import Net, status
from fsm_miner.addresses import is_own

PUBLIC = "93.184.215.14"
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    for request, content in ((0x8916, struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(PUBLIC))),
                             (0x8914, struct.pack("H14x", 0x41))):
        fcntl.ioctl(any_socket, request, struct.pack("16s16s8x", b"lo", content))

class Here(Net):
    async def resolve(self, host, port):
        return [PUBLIC]

async def story():
    async with asyncio.timeout(20), Here(trusted=sys.argv[1:], host="0.0.0.0") as net:
        print(is_own(PUBLIC), status(await net.ask(net.connect())), net.served, len(net.refused))

asyncio.run(story())
"""


@pytest.mark.parametrize(("trusted", "said"), [([], "True 403 0 1"), (["echo.lan"], "True 200 1 0")])
def test_a_public_address_of_this_machine_is_not_public(trusted, said):
    """In a network namespace of the test's own, which has such an address and no way out."""
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--net",
        sys.executable,
        "-P",
        "-c",
        OWN_ADDRESS,
        *trusted,
    ]
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.strip() == said, done.stderr


def test_too_long_a_head():
    answer, net = play(lambda net: net.ask(b"CONNECT echo.lan:1 HTTP/1.1\r\nA: " + b"a" * 40_000))
    assert status(answer) == 431
    assert net.served == 0


def test_who_says_nothing_is_let_go():
    answer, _ = play(lambda net: net.ask(b"CONN", then=None), limits=ProxyLimits(head_s=0.05))
    assert answer == b""


def test_who_moves_nothing_is_let_go():
    answer, _ = play(lambda net: net.ask(net.connect(), then=None), limits=ProxyLimits(idle_s=0.1))
    assert answer.endswith(b"established\r\n\r\n")


def test_a_second_request_does_not_ride_along():
    async def story(net):
        first = f"GET http://echo.lan:{net.port}/ HTTP/1.1\r\n\r\n".encode()
        reader, writer = await asyncio.open_connection(*net.address)
        writer.write(first + b"GET http://elsewhere.lan/ HTTP/1.1\r\nX: secret\r\n\r\n")
        heard = await reader.readuntil(b"close\r\n\r\n")
        writer.close()
        return heard, net.proxy.traffic.sent_bytes

    (heard, sent), _ = play(story)
    assert heard.startswith(b"GET / HTTP/1.1\r\nHost: echo.lan:")
    assert sent == len(heard)  # echoed: nothing else came there


def test_a_slow_reader_holds_the_sender_back():
    async def story(net):
        reader, writer = await asyncio.open_connection(*net.address, limit=1024)
        writer.transport.set_write_buffer_limits(high=0)
        writer.write(net.connect())
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 1 << 30:  # nobody reads the echo: at some point nobody takes any more
                writer.write(b"x" * 65536)
                async with asyncio.timeout(0.5):
                    await writer.drain()
                sent += 65536
        writer.transport.abort()
        del reader
        return sent

    sent, net = play(story)
    assert sent < 64 << 20  # what the kernel's buffers take, and two buffers of ours
    assert net.proxy.traffic.received_bytes <= net.proxy.traffic.sent_bytes


def test_so_many_connections_at_once_and_the_next_when_one_ends():
    async def story(net):
        held = [await asyncio.open_connection(*net.address) for _ in range(4)]
        for _, writer in held:
            writer.write(net.connect())
        for reader, _ in held:
            await reader.readuntil(b"\r\n\r\n")
        waiting = asyncio.ensure_future(net.ask(net.connect(), b"late"))
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        served = net.served
        held[0][1].close()
        answer = await waiting
        for _, writer in held:
            writer.close()
        return done, served, answer

    (done, served, answer), net = play(story)
    assert (done, served, net.served) == (set(), 4, 5)
    assert answer.endswith(b"lateend")


def test_closing_leaves_nothing():
    async def story(net):
        reader, writer = await asyncio.open_connection(*net.address)
        writer.write(net.connect())
        await reader.readuntil(b"\r\n\r\n")
        await net.proxy.close()
        left = await reader.read()
        writer.close()
        return left, len(net.proxy._tasks)

    (left, tasks), _ = play(story)
    assert (left, tasks) == (b"", 0)


PIECES = st.sampled_from(
    [b"CONNECT ", b"GET ", b"http://", b"echo.lan", b"elsewhere.lan", b":", b"80", b"443", b"@", b"[::1]", b"/", b" ",
     b" HTTP/1.1", b"\r\n", b"\r\n\r\n", b"\n", b"\0", b"Host: x", b"Content-Length: 5", b"127.0.0.1", b"."]
)  # fmt: skip
BYTES = st.lists(PIECES | st.binary(max_size=8), max_size=25).map(b"".join)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BYTES)
def test_any_bytes_reach_nobody_who_is_not_granted(data):
    """Whatever comes: it never raises, and connects nowhere: no bytes here can name what is granted."""
    trouble = []

    async def go():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: trouble.append(context))
        async with asyncio.timeout(20), Net(limits=ProxyLimits(head_s=2, linger_s=1)) as net:
            answer = await net.ask(data)
        return answer, net

    answer, net = asyncio.run(go())
    assert trouble == []
    assert net.served == net.proxy.traffic.connections == 0
    assert net.asked == []
    assert answer == b"" or status(answer) in {400, 403, 413, 431, 501}


def test_lookups_are_few_at_a_time_and_shared():
    async def go():
        running, peak, asked, gate = 0, 0, [], asyncio.Event()

        async def resolver(host, _port):
            nonlocal running, peak
            asked.append(host)
            running += 1
            peak = max(peak, running)
            await gate.wait()
            running -= 1
            return [host]

        names = Names(resolver)
        tasks = [asyncio.ensure_future(names(f"h{n % 20}", 80)) for n in range(40)]
        await asyncio.sleep(0)
        tasks[0].cancel()  # who stops waiting does not make room: the lookup goes on
        for _ in range(5):
            await asyncio.sleep(0)
        gate.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        await names.close()
        return peak, asked, found

    peak, asked, found = asyncio.run(go())
    assert peak == 8
    assert sorted(asked) == sorted(f"h{n}" for n in range(20))
    assert found[1:] == [[f"h{n % 20}"] for n in range(1, 40)]
