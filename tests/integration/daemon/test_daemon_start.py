"""Starting where something is wrong: the exit code says which kind, the words say what to do."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from fsm_miner.site.cgroups import RunCgroups
from runners.host import probe_host
from tests.integration.daemon.rig import MARKER, TOKEN, Node, printed, until


def ended(node, code):
    """Start, wait for the exit code, and return everything that was said."""
    node.start(wait=False)
    assert node.exit_code() == code
    return node.output.read_text()


def test_a_second_daemon_names_the_first(rigs):
    rig = rigs()
    other = Node(rig.folder / "other", rig.coordinator.base_url, journal={"path": str(rig.node.journal_file)})
    said = ended(other, 4)
    assert f"process {rig.node.pid}" in said
    assert "journal.path" in said
    assert rig.coordinator.run(printed("echo x"))["state"] == "done"
    # A lock dies with its holder, also by SIGKILL.
    rig.node.restart()


def test_a_taken_health_address_costs_the_page_and_nothing_else(rigs):
    rig = rigs(start=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        rig.node.configure(health={"listen": address})
        rig.node.start(wait=False)
        assert rig.coordinator.run(printed("echo x"))["state"] == "done"
        (record,) = rig.node.log("health_unavailable")
        assert record["level"] == "error"
        for word in (f"health.listen {address}", "in use", "restart"):
            assert word in record["attrs"]["problem"]
        assert rig.node.status_url() is None
        rig.node.stop()


def test_no_health_page_where_none_is_wanted(rigs):
    rig = rigs(start=False)
    rig.node.configure(health={"listen": None})
    rig.node.start(wait=False)
    assert rig.coordinator.run(printed("echo x"))["state"] == "done"
    assert rig.node.status_url() is None
    rig.node.stop()


@pytest.mark.parametrize(
    ("instead", "words"),
    [
        (None, ["bwrap: not found", "apt install bubblewrap"]),
        ("#!/bin/sh\necho bubblewrap 0.4.1\n", ["version 0.4.1", "0.8 or newer", "apt install bubblewrap"]),
        (
            '#!/bin/sh\n[ "$1" = --version ] && echo bubblewrap 0.8.0 && exit\necho "no namespaces" >&2; exit 1\n',
            ["cannot build a sandbox", "no namespaces", "user.max_user_namespaces"],
        ),
    ],
    ids=["missing", "old", "broken"],
)
def test_a_sandbox_that_does_not_work(tmp_path, instead, words):
    node = Node(tmp_path / "node", "http://127.0.0.1:1/api/v1")
    fake = tmp_path / "bwrap"
    fake.write_text(instead or "")
    fake.chmod(0o644 if instead is None else 0o755)
    real = shutil.which("bwrap")
    # The daemon in a mount namespace where another file stands in the place of bwrap.
    command = [real, "--bind", "/", "/", "--dev-bind", "/dev", "/dev", "--proc", "/proc"]
    command += ["--ro-bind", str(fake), str(os.path.realpath(real)), "--"]
    command += [sys.executable, "-P", "-m", "fsm_miner", "--config", str(node.config_file)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "MINER_AUTH": TOKEN, MARKER: str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    for word in words:
        assert word in done.stderr
    assert not (node.folder / "state" / "journal.db").exists()


def test_all_problems_of_a_configuration_at_once(tmp_path):
    node = Node(tmp_path / "node", "http://127.0.0.1:1/api/v1")
    node.configure(heartbeat={"interval_s": "soon"}, resources={"cpu_nice": 40}, workspaces={})
    said = ended(node, 2)
    for word in ("heartbeat.interval_s", "resources.cpu_nice", "workspaces", "config.yaml:"):
        assert word in said
    assert not node.journal_file.exists()


def test_no_configuration_and_no_token(tmp_path):
    node = Node(tmp_path / "node", "http://127.0.0.1:1/api/v1")
    node.env = {"MINER_AUTH": ""}
    assert "MINER_AUTH" in ended(node, 2)
    node.config_file.unlink()
    assert str(node.config_file) in ended(node, 2)


def test_a_damaged_journal_is_set_aside_and_the_node_works(rigs):
    rig = rigs()
    first = rig.coordinator.run(printed("echo x"))["job_id"]
    rig.node.await_event(first, "Delivered")
    rig.node.stop()
    content = bytearray(rig.node.journal_file.read_bytes())
    content[:100] = os.urandom(100)
    rig.node.journal_file.write_bytes(content)
    rig.node.start()
    assert rig.node.log("journal_salvaged")
    assert rig.coordinator.run(printed("echo y"))["state"] == "done"


def test_sigterm_before_the_coordinator_ever_answered(tmp_path):
    node = Node(tmp_path / "node", "http://127.0.0.1:1/api/v1")
    node.start(wait=False)
    until(lambda: node.log("register_failed"), "it tries to register")
    node.signal(signal.SIGTERM)
    assert node.exit_code(5) == 0
    node.check()


def test_who_connects_to_the_health_page_and_says_nothing_is_sent_away(rigs):
    rig = rigs()
    host, _, port = rig.node.status_url().removeprefix("http://").rpartition(":")
    with contextlib.ExitStack() as opened:
        silent = [
            opened.enter_context(socket.create_connection((host, int(port)), timeout=10)) for _ in range(100)
        ]
        for one in silent:
            one.sendall(b"GET /healthz HTTP/1.1\r\nX: ")

        def open_files():
            return len(list(Path(f"/proc/{rig.node.pid}/fd").iterdir()))

        until(lambda: open_files() < 60, "their connections are closed")

        def served():
            try:
                return rig.node.get("/healthz").status_code == 200
            except httpx.TransportError:
                return False  # among so many, one that has not asked yet is sent away too

        until(served, "others are served")


def test_what_keeps_jobs_apart_here_and_what_can_not_be_had_is_told_to_everybody(rigs):
    rig = rigs()
    look = RunCgroups(probe_host()).look()  # this process is in the daemon's cgroup
    assert {"sandbox-bubblewrap", "seccomp"} < set(look.tags)
    (descriptor,) = [node["descriptor"] for node in rig.coordinator.ask("GET", "/admin/nodes")["nodes"]]
    health = rig.node.health()
    (started,) = [line["attrs"] for line in rig.node.log("started")]
    assert set(look.tags) < set(descriptor["tags"])
    for told in (health, started):
        assert (told["isolation"], told["isolation_lacks"]) == (list(look.tags), list(look.lacks))
    job = rig.coordinator.run(printed("echo hi"))["job_id"]
    (launched,) = rig.node.await_event(job, "Launched")
    assert launched.data["isolation"] == list(look.tags)
    # Each lack is said: a tag that is not the best to be had comes with a sentence.
    assert (look.lacks == ()) is (look.tags == ("sandbox-bubblewrap", "seccomp", "cgroup-v2"))
