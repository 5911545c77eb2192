"""The daemon against the mock of section 16: no registration, no heartbeat, the same job for ever."""

import json
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.daemon.rig import Node, Program, end_all, until

POLL_S = 0.1


class MockProgram(Program):
    def start(self):
        script = str(Path(__file__).with_name("mock_coordinator.py"))
        self.spawn([sys.executable, script, str(self.folder)], self.folder.parent, {})
        url = self.folder / "url"
        until(url.exists, "the mock listens")
        return url.read_text()

    def calls(self):
        try:
            lines = (self.folder / "calls.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines]

    def count(self):
        return Counter(call["call"] for call in self.calls())


@pytest.fixture
def mock(tmp_path):
    (tmp_path / "mock").mkdir()
    program = MockProgram(tmp_path / "mock")
    yield program
    end_all(tmp_path)
    if program.process is not None:
        program.exit_code()


def test_hello_world_runs_once_and_nothing_spins(mock, tmp_path):
    url = mock.start()
    coordinator = {
        "base_url": url,
        "auth_token": "env:MINER_AUTH",
        "pull_wait_s": 5,
        "poll_interval_s": POLL_S,
    }
    node = Node(tmp_path / "node", url, coordinator=coordinator)
    node.start()
    until(lambda: mock.count()["result"], "the result comes")
    node.await_event("j-local-1", "Delivered")

    # The same job comes with every pull, is known, and told again now and then.
    before, began = mock.count()["pull"], time.monotonic()
    until(lambda: mock.count()["pull"] >= before + 8, "pulls go on")
    took_s = time.monotonic() - began
    assert took_s >= 7 * POLL_S, "the daemon pulls faster than poll_interval_s allows"
    restarted_at = mock.count()
    node.restart()
    until(lambda: mock.count()["pull"] >= restarted_at["pull"] + 3, "pulls go on after a restart")
    node.stop()

    assert node.events("j-local-1").count("Launched") == 1
    counts = mock.count()
    # Told again at the second, fourth, eighth time in each of its two lives.
    told_max = 1 + 2 * counts["pull"].bit_length()
    assert 1 < counts["result"] <= told_max, counts
    assert counts["result"] <= counts["ack"] <= told_max, counts
    results = [call for call in mock.calls() if call["call"] == "result"]
    assert all(result == results[0] for result in results), results
    result = results[0]
    assert result["good"]
    assert (result["job_id"], result["content"]) == ("j-local-1", "hello world\n")
    assert result["name"] == "artifacts/output.txt"
    assert result["metadata"]["exit_code"] == 0
    assert result["idempotency_key"] == "j-local-1/1/result"
    acks = [call for call in mock.calls() if call["call"] == "ack"]
    assert all(ack["query"] == {"job_id": "j-local-1", "node_id": "node-e2e"} for ack in acks), acks
    absent = Counter(record["attrs"]["endpoint"] for record in node.log("endpoint_absent"))
    assert absent["heartbeat"] <= 2, absent  # once for each life of the daemon
    node.check()
