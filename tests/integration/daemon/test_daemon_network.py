"""Egress for real: a job, its proxy, and servers on this machine's loopback. No packet leaves it."""

import socket
import socketserver
import threading
from pathlib import Path

import pytest

from fsm_miner.fault_points.spec import VARIABLE
from tests.integration.daemon.rig import printed, sh, until

CURL = "curl --noproxy '' -sS --max-time 20"


class _Answer(socketserver.StreamRequestHandler):
    def handle(self):
        """One request, one answer: 1000 bytes, or the body back."""
        line = self.rfile.readline()
        length = 0
        while (field := self.rfile.readline()) not in (b"\r\n", b""):
            if field.lower().startswith(b"content-length:"):
                length = int(field.partition(b":")[2])
        self.server.heard.append(line)
        if b"/hold" in line:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\nheld")
            self.server.holding.set()
            self.rfile.read()
            self.server.let_go.set()
            return
        body = self.rfile.read(length) or b"x" * 1000
        self.wfile.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body
        )


class Server(socketserver.ThreadingTCPServer):
    """What jobs reach, or must not reach."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.heard = []
        self.holding = threading.Event()
        self.let_go = threading.Event()
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


@pytest.fixture(scope="module")
def servers():
    made = [Server(), Server()]
    yield made
    for server in made:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def rig(shared_rigs, servers):
    open_, closed = servers
    # `closed` may be asked for by its name, but not at its address, which is loopback.
    return shared_rigs(
        network={
            "allow": [f"localhost:{closed.port}", f"127.0.0.1:{open_.port}"],
            "allow_private": [f"localhost:{open_.port}"],
        }
    )


def wants(*servers, host="localhost"):
    return {"network": {"allow": [f"{host}:{server.port}" for server in servers]}}


def delivered(rig, view):
    assert view["state"] == "done", view["outcomes"]
    (outcome,) = view["outcomes"]
    return rig.coordinator.artifact(view["job_id"], "out.txt").decode(), outcome["body"]["usage"]


def test_plain_http_and_a_tunnel_reach_what_is_allowed_and_are_counted(rig, servers):
    url = f"http://localhost:{servers[0].port}"
    script = (
        f"{CURL} {url}/plain?q=1 | wc -c; {CURL} -p {url}/tunnel | wc -c; head -c 300000 /dev/zero >big; "
        f"{CURL} --data-binary @big -H Expect: {url}/post | wc -c"
    )
    output, usage = delivered(rig, rig.coordinator.run(printed(script, **wants(servers[0]))))
    assert output.split() == ["1000", "1000", "300000"]
    assert {b"GET /plain?q=1 HTTP/1.1\r\n", b"GET /tunnel HTTP/1.1\r\n"} <= set(servers[0].heard)
    network = usage["network"]
    assert (network["connections"], network["refused"]) == (3, 0)
    assert 302_000 < network["received_bytes"] < 303_000
    assert 300_000 < network["sent_bytes"] < 301_000


URLLIB = "import sys, urllib.request as r; print(len(r.urlopen(sys.argv[1]).read()))"
TASK = "import httpx\n\ndef run(url):\n    print('httpx', len(httpx.get(url).content))\n"


def test_programs_find_the_proxy_by_themselves(rig, servers):
    """Also to a name of loopback: what is granted of it is not in `no_proxy`."""
    url = f"http://localhost:{servers[0].port}"
    script = (
        f"curl -sS {url}/curl | wc -c; python3 -c '{URLLIB}' {url}/urllib; "
        f"/usr/lib/apt/apt-helper download-file {url}/apt got >/dev/null; wc -c <got; echo $no_proxy"
    )
    output, _ = delivered(rig, rig.coordinator.run(printed(script, **wants(servers[0]))))
    assert output.split() == ["1000", "1000", "1000", "127.0.0.1,::1"]
    rig.node.task("fetch", TASK)
    task = {"runner": "python", "task": "fetch", "params": {"url": f"{url}/httpx"}, **wants(servers[0])}
    view = rig.coordinator.run(task)
    assert view["state"] == "done", view["outcomes"]
    assert "httpx 1000" in rig.coordinator.log_of(view["job_id"])
    lines = {line.split()[1] for line in servers[0].heard}
    assert {b"/curl", b"/urllib", b"/apt", b"/httpx"} <= lines


def test_the_connections_of_a_cancelled_job_end_with_it(rig, servers):
    server = servers[0]
    server.holding.clear()
    server.let_go.clear()
    script = f"trap '' TERM; {CURL} http://localhost:{server.port}/hold; sleep 60"
    (job_id,) = rig.coordinator.submit(sh(script, **wants(server)))
    assert server.holding.wait(20)
    assert not server.let_go.is_set()
    rig.coordinator.cancel(job_id)
    assert server.let_go.wait(20)
    body = rig.coordinator.wait(job_id)["outcomes"][0]["body"]
    assert body["error_code"] == "E_CANCELLED"


def test_an_address_that_the_operator_wrote_is_meant(rig, servers):
    script = f"{CURL} http://127.0.0.1:{servers[0].port}/ | wc -c"
    output, _ = delivered(rig, rig.coordinator.run(printed(script, **wants(servers[0], host="127.0.0.1"))))
    assert output.split() == ["1000"]


def test_what_is_not_allowed_gets_403_and_no_packet(rig, servers):
    before = len(servers[1].heard)
    job = printed(
        f"{CURL} http://localhost:{servers[1].port}/; {CURL} -o /dev/null -w '%{{http_connect}}\\n' -p "
        f"http://127.0.0.1:{servers[1].port}/; true",
        **wants(servers[0], servers[1]),
    )
    view = rig.coordinator.run(job)
    output, usage = delivered(rig, view)
    assert output.splitlines() == [
        f"fsm-miner: localhost:{servers[1].port} has no address that a job may reach",
        "403",
    ]
    assert usage["network"]["refused"] == 2
    assert len(servers[1].heard) == before
    logged = [one for one in rig.node.log("egress_refused") if one["job_id"] == view["job_id"]]
    assert [one["attrs"]["target"] for one in logged] == [
        f"localhost:{servers[1].port}",
        f"127.0.0.1:{servers[1].port}",
    ]


def test_what_the_operator_does_not_allow_is_denied_by_name(rig):
    view = rig.coordinator.run(sh("true", network={"allow": ["elsewhere.example:443"]}))
    body = view["outcomes"][0]["body"]
    assert body["error_code"] == "E_DENY"
    assert "elsewhere.example:443" in body["error_msg"]


def test_a_job_without_it_has_no_proxy_and_no_listener(rig):
    script = (
        f"env | grep -ic proxy; grep -c 0C38 /proc/net/tcp; {CURL} -x http://127.0.0.1:3128 http://localhost/"
    )
    output, usage = delivered(rig, rig.coordinator.run(printed(script + " 2>/dev/null; true")))
    assert output.split() == ["0", "0"]
    assert "network" not in usage


PRYING = """
import socket
def told(target):
    with socket.create_connection(("127.0.0.1", 3128), 20) as proxy:
        proxy.sendall(f"CONNECT {target} HTTP/1.1\\r\\n\\r\\n".encode("latin-1"))
        return proxy.makefile(encoding="latin-1").readline().split()[1]
for host in ("127.0.0.1", "localhost", "localhost.", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0.0.0.0"):
    print(told(f"{host}:COORDINATOR"))
for target in ("169.254.169.254:80", "[fd00:ec2::254]:80", "metadata.google.internal:80", "u@localhost:OPEN",
               "localhost:OPEN@elsewhere:1", "localhost:OPEN/", "localhost:OPEN\\r\\nX: y", "l\xf6calhost:OPEN"):
    print(told(target))
try:
    print(socket.create_connection(("127.0.0.1", COORDINATOR), 5))
except OSError:
    print("direct")
try:
    print(socket.getaddrinfo("example.org", 80))
except OSError:
    print("names")
"""


def test_with_a_proxy_a_job_still_reaches_nothing_of_the_host(rig, servers):
    before = len(servers[0].heard)
    code = PRYING.replace("COORDINATOR", str(rig.coordinator.port)).replace("OPEN", str(servers[0].port))
    job = printed('exec python3 -c "$GREETING"', env={"GREETING": code}, **wants(servers[0]))
    output, usage = delivered(rig, rig.coordinator.run(job))
    *answers, direct, names = output.split()
    assert set(answers) <= {"400", "403"}
    assert (len(answers), direct, names) == (16, "direct", "names")
    assert usage["network"]["connections"] == 0
    assert len(servers[0].heard) == before


def test_a_flood_of_connections_is_held_back_and_harms_nobody(rig, servers):
    flood = (
        "python3 -c '\nimport socket\nheld = []\nfor _ in range(400):\n  s = socket.socket(); s.setblocking(False)\n"
        '  s.connect_ex(("127.0.0.1", 3128)); held.append(s)\n'
        'print("flooding", flush=True)\nimport time; time.sleep(60)\n\' >&2'
    )
    (job_id,) = rig.coordinator.submit(sh(flood, **wants(servers[0])))
    rig.node.await_printed(job_id, "flooding")
    script = f"{CURL} http://localhost:{servers[0].port}/ | wc -c"
    output, _ = delivered(rig, rig.coordinator.run(printed(script, **wants(servers[0]))))
    assert output.split() == ["1000"]
    assert rig.node.health()["registered"]
    # Not one of the flood's connections is counted: none asked for anything.
    fds = len(list(Path(f"/proc/{rig.node.pid}/fd").iterdir()))
    assert fds < 150
    rig.coordinator.cancel(job_id)
    rig.coordinator.wait(job_id)


@pytest.fixture
def own_rig(rigs, servers):
    return rigs(network={"allow_private": [f"localhost:{servers[0].port}"]})


def test_after_a_restart_there_is_a_new_listener_and_the_count_goes_on(own_rig, servers):
    rig, url = own_rig, f"http://localhost:{servers[0].port}"
    script = (
        f"{CURL} {url}/before | wc -c; echo ready >&2; while ! test -e go; do sleep 0.02; done;"
        f" {CURL} --retry 20 --retry-connrefused --retry-delay 1 {url}/after | wc -c"
    )
    (job_id,) = rig.coordinator.submit(printed(script, **wants(servers[0])))
    rig.node.await_printed(job_id, "ready")
    record = rig.node.jobs / job_id / "control" / "run-1.network.json"
    until(lambda: record.exists() and '"received_bytes": 10' in record.read_text(), "it is written down")
    rig.node.restart()
    rig.node.await_event(job_id, "Reattached")
    (rig.node.jobs / job_id / "work" / "go").touch()
    output, usage = delivered(rig, rig.coordinator.wait(job_id))
    assert output.split() == ["1000", "1000"]
    assert usage["network"]["connections"] == 2
    assert len(rig.node.stream(job_id)) > 0


def test_a_daemon_that_dies_before_the_listener_leaves_a_job_that_the_next_one_lets_out(rigs, servers):
    rig = rigs(start=False, network={"allow_private": [f"localhost:{servers[0].port}"]})
    rig.node.env[VARIABLE] = "before process.listen"
    rig.node.start()
    script = f"for _ in $(seq 400); do {CURL} http://localhost:{servers[0].port}/ && break; sleep 0.05; done | wc -c"
    (job_id,) = rig.coordinator.submit(printed(script, **wants(servers[0])))
    rig.node.exit_code()
    rig.node.await_printed(job_id, "Failed to connect")  # it began, and has no way out
    del rig.node.env[VARIABLE]
    rig.node.start()
    view = rig.coordinator.wait(job_id)
    output, usage = delivered(rig, view)
    assert output.split() == ["1000"]
    assert usage["network"]["connections"] == 1


def test_what_was_open_ends_with_the_daemon_and_the_next_one_allows_what_it_is_told_to(own_rig, servers):
    rig, url = own_rig, f"http://localhost:{servers[0].port}"
    servers[0].holding.clear()
    script = (
        f"{CURL} --max-time 60 {url}/hold; echo curl ended with $? >&2; "
        f"until {CURL} {url}/again >got; do sleep 0.05; done; cat got >&2"
    )
    (job_id,) = rig.coordinator.submit(sh(script, **wants(servers[0])))
    assert servers[0].holding.wait(20)
    rig.node.stop()
    rig.node.await_printed(job_id, "curl ended with")
    rig.node.configure()
    rig.node.start()
    view = rig.coordinator.wait(job_id)
    assert view["state"] == "done"
    assert "is not in the job's network.allow" in rig.coordinator.log_of(job_id)


def test_without_a_sandbox_there_is_none(rigs, servers):
    rig = rigs(network={"allow_private": [f"localhost:{servers[0].port}"]}, sandbox={"backend": "none"})
    body = rig.coordinator.run(sh("true", **wants(servers[0])))["outcomes"][0]["body"]
    assert body["error_code"] == "E_NORESOURCE"
    assert "sandbox" in body["error_msg"]


def test_the_test_names_resolve_to_loopback():
    assert {one[4][0] for one in socket.getaddrinfo("localhost", 80)} <= {"127.0.0.1", "::1"}
