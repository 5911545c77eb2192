"""One daemon for all attacks of a file, with the hosts that they may reach."""

import os
import socket
import statistics
from contextlib import closing

import pytest

from fsm_miner.tree_removal import remove_tree
from tests.hostile.figures import RECORD, Recorder
from tests.hostile.scene import ABSTRACT, Asker, Host, Scene, neighbour, took_s
from tests.integration.daemon.conftest import _sandbox, shared_rigs  # noqa: F401 - fixtures

PYTHON_RULE = {
    "command": {"path": "/usr/bin/python3"},
    "args": [["-c", "(?s).*"]],
    "max_total_args_len": 16384,
    "max_runtime_s": 30,
    "max_output_mb": 8,
}


@pytest.fixture(scope="module")
def scene(shared_rigs):  # noqa: F811
    allowed, closed = Host(), Host()
    config = {
        "resources": {"max_concurrent_cpu": 3, "disk_reserve_mb": 16, "mem_soft_mb": 384},
        "workspace": {"max_files": 5000},
        "timeouts": {"stop_grace_s": 0.5},
        "network": {"allow_private": [f"localhost:{allowed.port}", f"localhost:{closed.port}"]},
    }
    rig = shared_rigs(start=False, **config)
    rig.node.allow("python3", PYTHON_RULE)
    rig.node.start()
    yield Scene(rig, allowed, closed, config)
    allowed.close()
    closed.close()
    # What it took thousands of nested folders to make, other tools can't remove.
    remove_tree(rig.node.jobs)


@pytest.fixture(scope="module")
def rig(scene):
    return scene.rig


@pytest.fixture(scope="module", autouse=True)
def _abstract_service():
    """A service of the host that a job would like to reach."""
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(f"\0{ABSTRACT}")
        listener.listen()
        yield


def run_alone(rig):
    """Run the neighbour with the machine for itself; return how long it took."""
    view = rig.coordinator.run(neighbour())
    assert view["state"] == "done", view["outcomes"]
    return took_s(rig, view["job_id"])


@pytest.fixture(scope="module")
def alone_s(rig):
    return statistics.median(run_alone(rig) for _ in range(3))


@pytest.fixture
def asker(rig):
    return Asker(rig.node.status_url())


@pytest.fixture(scope="session")
def recorder():
    """What was seen: kept where the environment names a file for it (`python tests/hostile/table.py --record`)."""
    made = Recorder()
    yield made
    if RECORD in os.environ:
        made.write(os.environ[RECORD])
