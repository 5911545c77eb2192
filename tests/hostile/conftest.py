"""One daemon for all attacks, a neighbour that works beside each, and somebody who asks how the daemon is."""

import json
import os
import socket
import statistics
import threading
import time
from contextlib import closing, contextmanager

import httpx
import pytest

from fsm_miner.tree_removal import remove_tree
from tests.integration.daemon.conftest import _sandbox, shared_rigs  # noqa: F401 - fixtures
from tests.integration.daemon.rig import until

PYTHON_RULE = {
    "command": {"path": "/usr/bin/python3"},
    "args": [["-c", "(?s).*"]],
    "max_total_args_len": 16384,
    "max_runtime_s": 30,
    "max_output_mb": 8,
}
ABSTRACT = f"fsm-miner-hostile-{os.getpid()}"

# Computes, sleeps, and writes durably in turns, and is therefore slowed down by whatever is short.
NEIGHBOUR = """
import os, time
for n in range(10):
    time.sleep(0.03)
    sum(i * i for i in range(40000))
    with open("/job/work/page", "ab") as file:
        file.write(bytes(4096)); file.flush(); os.fsync(file.fileno())
"""


@pytest.fixture(scope="module")
def rig(shared_rigs):  # noqa: F811
    made = shared_rigs(
        start=False,
        resources={"max_concurrent_cpu": 3, "disk_reserve_mb": 16, "mem_soft_mb": 384},
        workspace={"max_files": 5000},
        timeouts={"stop_grace_s": 0.5},
    )
    made.node.allow("python3", PYTHON_RULE)
    made.node.start()
    yield made
    # What it took thousands of nested folders to make, other tools can't remove.
    remove_tree(made.node.jobs)


@pytest.fixture(scope="module", autouse=True)
def _abstract_service():
    """A service of the host that a job would like to reach."""
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(f"\0{ABSTRACT}")
        listener.listen()
        yield


def neighbour():
    return {"runner": "cli", "command": "python3", "args": ["-c", NEIGHBOUR], "timeout_s": 30}


def took_s(rig, job_id):
    """How long the job's process lived."""
    (launched,) = rig.node.await_event(job_id, "Launched")
    (ended,) = rig.node.await_event(job_id, "Ended")
    return (ended.data["finished_ns"] - launched.data["started_ns"]) / 1e9


def run_alone(rig):
    """Run the neighbour with the machine for itself; return how long it took."""
    view = rig.coordinator.run(neighbour())
    assert view["state"] == "done", view["outcomes"]
    return took_s(rig, view["job_id"])


@pytest.fixture(scope="module")
def alone_s(rig):
    return statistics.median(run_alone(rig) for _ in range(3))


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
                    if answer.status_code not in {200, 503}:
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


@pytest.fixture
def asker(rig):
    return Asker(rig.node.status_url())


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """What was seen, for whoever runs the suite by hand with -s."""
    rows = []
    yield rows
    for row in rows:
        print(json.dumps(row))
