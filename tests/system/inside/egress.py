"""A job that needs a host and has a secret, as the real user under the hardened unit."""

import pwd
import shlex
import sqlite3
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from world import (
    ALLOWED,
    DAEMON,
    JOBS_UNIT,
    REFUSED,
    World,
    cgroup_of,
    processes_of,
    run,
)

SECRET = "s3cr3t-of-a-stranger-for-this-job-alone"
_STATE = Path("/var/lib/aitbc/miner")
# Asks both hosts, shows how its secret lies there, prints it, and waits.
_ASKING = """
import os, sys, time, urllib.error, urllib.request
os.environ["no_proxy"] = ""  # it names the sandbox as itself, and both hosts are called so
for host in sys.argv[1:]:
    try:
        with urllib.request.urlopen("http://%s/" % host, timeout=30) as answer:
            print(answer.read().decode())
    except urllib.error.HTTPError as error:
        print(error.code)
name = os.environ["API_KEY_FILE"]
with open(name) as key:
    text = key.read()
print(oct(os.stat(name).st_mode & 0o777), len(text))
print(text, file=sys.stderr, flush=True)
open("started", "w").close()
while not os.path.exists("go"):
    time.sleep(0.1)
"""


class _Host(ThreadingHTTPServer):
    def __init__(self, address: str) -> None:
        name, _, port = address.partition(":")
        super().__init__((name, int(port)), _Answer)
        self.asked = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.asked += 1
        super().process_request(request, client_address)


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"reached"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        """Say nothing."""


def host_and_secret(world: World) -> dict[str, Any]:
    """It reaches the host that is allowed, gets 403 from any other; of its secret nothing is left anywhere."""
    hosts = [_Host(ALLOWED), _Host(REFUSED)]
    try:
        job_id = world.submit(
            f"/usr/bin/python3 -c {shlex.quote(_ASKING)} {ALLOWED} {REFUSED} > output.txt",
            network={"allow": [ALLOWED]},
            secrets={"API_KEY": {"value": SECRET, "file": True}},
        )
        folder = world.running(job_id)
        inside = processes_of(cgroup_of(job_id))
        uid = pwd.getpwnam("games").pw_uid
        assert {Path(f"/proc/{pid}").stat().st_uid for pid in inside} == {uid}, inside
        # No argument and no variable of any process: it is a file, in the sandbox's memory.
        for process in Path("/proc").glob("[0-9]*"):
            assert SECRET.encode() not in _read(process / "cmdline") + _read(process / "environ"), process
        (folder / "work" / "go").touch()
        view = world.wait(job_id)
    finally:
        for host in hosts:
            host.shutdown()
            host.server_close()
    assert view["state"] == "done", view
    results = Path(f"/var/lib/coordinator/results/{job_id}/1")
    output = next(results.rglob("output.txt")).read_text().split("\n")
    assert output == ["reached", "403", f"0o400 {len(SECRET)}", ""], output
    assert [host.asked for host in hosts] == [1, 0]
    network = view["outcomes"][-1]["body"]["usage"]["network"]
    assert (network["connections"], network["refused"]) == (1, 1), network

    for unit in (DAEMON, JOBS_UNIT):
        assert SECRET not in run("systemctl", "show", unit)
    assert SECRET not in run("journalctl", "--no-pager", "-b", "-o", "json")
    kept = [path for root in (_STATE, Path("/var/log/aitbc")) for path in root.rglob("*") if path.is_file()]
    assert any(path.name.startswith("journal.db") for path in kept)
    assert [path for path in kept if SECRET.encode() in _read(path)] == []
    log = _read(folder / "logs" / "exec.log").decode()
    assert "[redacted]" in log, log
    return {
        "network": network,
        "launch_ms": _launch_ms(job_id),
        "without_ms": _launch_ms(world.kept["a_job"]),
    }


def _launch_ms(job_id: str) -> float:
    """Return how long it took from the intention to a running sandbox."""
    with closing(sqlite3.connect(f"file:{_STATE}/journal.db?mode=ro", uri=True)) as journal:
        at = dict(journal.execute("SELECT event, at_ns FROM records WHERE job_id = ?", (job_id,)))
    return round((at["Launched"] - at["LaunchIntended"]) / 1e6, 1)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # it has ended meanwhile
        return b""
