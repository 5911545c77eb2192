"""One daemon for all attacks, two hosts on this machine's loopback, and somebody who asks how the daemon is."""

import json
import os
import shutil
import socketserver
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.integration.daemon.rig import Rig, until
from tests.support.needs import lacking

__all__ = ["ABSTRACT", "Asker", "Host", "Scene", "neighbour", "took_s", "tracing"]

ABSTRACT = f"fsm-miner-hostile-{os.getpid()}"

# A quarter of the time it computes, the rest it sleeps and writes durably: it is slowed down by whatever is short. One
# that only computes would tell more of the attack, and as much of whatever else this machine has to do meanwhile.
NEIGHBOUR = """
import os, time
for n in range(10):
    time.sleep(0.02)
    sum(i * i for i in range(200000))
    with open("/job/work/page", "ab") as file:
        file.write(bytes(4096)); file.flush(); os.fsync(file.fileno())
"""


class _Heard(socketserver.StreamRequestHandler):
    timeout = 10

    def handle(self):
        """Note the request line and the host that is asked for; /sink takes whatever comes, /slow ends late."""
        line = self.rfile.readline(8192).decode("latin-1").strip()
        fields = {}
        while (field := self.rfile.readline(8192)) not in (b"\r\n", b""):
            name, _, value = field.decode("latin-1").partition(":")
            fields[name.lower()] = value.strip()
        self.server.heard.append(f"{line} {fields.get('host', '')}")
        if "/sink" in line:
            while self.rfile.read1(1 << 20):
                pass
            return
        body = self.rfile.read(int(fields.get("content-length", 0))) or b"x"
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


class Host(socketserver.ThreadingTCPServer):
    """What a job may reach, or must not reach: it remembers who asked for what."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Heard)
        self.heard = []
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, request, client_address):
        """Take no notice of a connection that breaks: most of them do here."""

    def close(self):
        self.shutdown()
        self.server_close()


@dataclass
class Scene:
    """A rig, a host that jobs with a way out may reach, and one that they may not, unless they ask for it."""

    rig: Rig
    allowed: Host
    closed: Host
    config: dict[str, Any] = field(default_factory=dict)

    def places(self):
        """Return what the scripts can't know before."""
        status = self.rig.node.status_url().rpartition(":")[2]
        return {
            "SECRET_PLACE": str(self.rig.node.folder),
            "ABSTRACT_NAME": ABSTRACT,
            "ALLOWED": str(self.allowed.port),
            "CLOSED": str(self.closed.port),
            "PORTS": f"({self.rig.coordinator.port}, {status})",
        }

    def log(self, view):
        """Return the log as it was delivered."""
        results = self.rig.coordinator.folder / "data" / "results"
        return (results / view["job_id"] / "1" / "logs" / "exec.log").read_bytes()

    def forget(self):
        """Forget what the hosts have heard."""
        self.allowed.heard.clear()
        self.closed.heard.clear()

    def delivered(self, view, name="out.bin"):
        """Return the content of an artifact as it was delivered."""
        return self.rig.coordinator.artifact(view["job_id"], name)


def neighbour():
    return {"runner": "cli", "command": "python3", "args": ["-c", NEIGHBOUR], "timeout_s": 30}


def took_s(rig, job_id):
    """How long the job's process lived."""
    (launched,) = rig.node.await_event(job_id, "Launched")
    (ended,) = rig.node.await_event(job_id, "Ended")
    return (ended.data["finished_ns"] - launched.data["started_ns"]) / 1e9


@contextmanager
def tracing(pid, output):
    """Have strace write down which files a process and all below it open, while the block lasts."""
    strace = shutil.which("strace")
    if strace is None:
        lacking("strace is missing: apt install strace")
    command = [strace, "-f", "-qq", "-e", "trace=open,openat", "-o", output, "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as tracer:
        try:
            until(
                lambda: tracer.poll() is not None or all(map(_traced, Path(f"/proc/{pid}/task").iterdir())),
                "traced",
            )
            if tracer.poll() is not None:
                lacking(f"the daemon can't be traced here: {tracer.stderr.read().decode()}")
            yield
        finally:
            tracer.terminate()


def _traced(task):
    return "TracerPid:\t0\n" not in (task / "status").read_text()


class Asker:
    """Asks the daemon how it is, again and again, in a thread of its own."""

    def __init__(self, url):
        self._url = url + "/healthz"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.asked = 0
        self.problems = []
        self.slowest_s = 0.0

    def _run(self):
        with httpx.Client(timeout=10, trust_env=False) as http:
            while not self._stop.wait(0.05):
                before = time.monotonic()
                try:
                    answer = http.get(self._url)
                    answer.json()
                    if answer.status_code != 200:
                        self.problems.append(f"status {answer.status_code}")
                except (httpx.HTTPError, json.JSONDecodeError) as error:
                    self.problems.append(repr(error))
                self.asked += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - before)

    @contextmanager
    def asking(self):
        self._thread.start()
        try:
            until(lambda: self.asked, "the daemon was asked once")
            yield self
        finally:
            self._stop.set()
            self._thread.join()
