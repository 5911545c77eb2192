"""The real daemon and a socket like systemd's: ready, keep-alives for as long as it works, a status, a good end."""

import contextlib
import socket
import time

import pytest

from tests.integration.daemon.rig import until


@pytest.fixture
def ear(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.setblocking(False)
        yield ear


def test_systemd_is_told_and_children_are_not(rigs, tmp_path, ear):
    rig = rigs(start=False)
    rig.node.env |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
    told = []

    def listen():
        with contextlib.suppress(BlockingIOError):
            while True:
                told.append(dict(line.split("=", 1) for line in ear.recv(4096).decode().splitlines()))
        return told

    rig.node.start()
    until(
        lambda: any(one.get("STATUS", "").startswith("registered; 0 running") for one in listen()),
        "its status",
    )
    assert told[0]["READY"] == "1"
    (job_id,) = rig.coordinator.submit(
        {
            "runner": "cli",
            "command": "sh",
            "args": ["-c", "env > output.txt; cat /proc/1/environ"],
            "timeout_s": 60,
            "artifacts": [{"path": "output.txt", "type": "text/plain", "max_mb": 1}],
        }
    )
    assert rig.coordinator.wait(job_id)["state"] == "done"
    assert b"NOTIFY" not in rig.coordinator.artifact(job_id, "output.txt")
    assert "NOTIFY" not in rig.coordinator.log_of(job_id)
    # The parts that have an end (the reconciliation) are over by now: the others' keep-alives go on.
    listen()
    told.clear()
    began = time.monotonic()
    until(lambda: sum("WATCHDOG" in one for one in listen()) >= 5, "five keep-alives")
    assert time.monotonic() - began < 4, "systemd would have lost patience"
    rig.node.stop()
    assert listen()[-1]["STOPPING"] == "1"
