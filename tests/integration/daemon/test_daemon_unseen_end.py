"""A run that ends while no daemon is there: when it ended and what it used is told as it was, or not at all."""

import json
import os
import time
from datetime import UTC, datetime

import pytest

from fsm_miner.forensics.case import Case
from fsm_miner.forensics.page import render
from fsm_miner.forensics.story import read_story
from fsm_miner.forensics.why import why
from journal.port import StreamKey
from tests.integration.daemon.rig import holders, sh, until

COARSE_NS = 20_000_000  # a file's time is that of the kernel's last tick
UP = "echo up; while ! test -e go; do sleep 0.02; done; "


@pytest.fixture(scope="module")
def rig(shared_rigs):
    return shared_rigs()


def ended_alone(rig, script, spoil=lambda job_id: None, **more):
    """Let a job end between two daemons; return its end, its launch, and when it was over for certain."""
    (job_id,) = rig.coordinator.submit(sh(script, **more))
    rig.node.await_printed(job_id, "up")
    rig.node.await_event(job_id, "Launched")
    rig.node.kill()
    (rig.node.jobs / job_id / "work" / "go").touch()
    until(lambda: not holders(rig.node.lock_of(job_id)), "the job ends without a daemon", 15)
    over_ns = time.time_ns()
    spoil(job_id)
    rig.node.start()
    (ended,) = rig.node.await_event(job_id, "Ended")
    (launched,) = rig.node.await_event(job_id, "Launched")
    rig.coordinator.wait(job_id)
    return job_id, launched, ended, over_ns


def test_it_ended_when_it_ended_and_not_when_somebody_looked(rig):
    job_id, _, ended, over_ns = ended_alone(rig, UP + "date +%s.%N")
    seconds, _, rest = rig.node.exec_log(job_id).read_text().split()[-1].partition(".")
    last_act_ns = int(seconds) * 10**9 + int(rest)
    finished_ns = ended.data["finished_ns"]
    assert last_act_ns - COARSE_NS <= finished_ns <= over_ns < ended.at_ns
    body = rig.coordinator.wait(job_id)["outcomes"][0]["body"]
    told = datetime.fromisoformat(body["finished_at"]).timestamp()
    assert told == pytest.approx(finished_ns / 1e9, abs=0.001)
    case = Case(read_story(StreamKey(job_id, 1), rig.node.stream(job_id)), "here")
    moment = f"{datetime.fromtimestamp(finished_ns // 10**9, UTC):%H:%M:%S}"
    assert any(f"with exit code 0 at {moment}" in one.text for one in why(case))
    assert moment in render(case)


def test_the_sandboxs_own_timer_says_when(rig):
    _, launched, ended, over_ns = ended_alone(rig, "echo up; sleep 60", timeout_s=1)
    lasted_s = (ended.data["finished_ns"] - launched.data["started_ns"]) / 1e9
    assert (ended.data["how"], lasted_s) == ("timed_out", 1 + 0.5 + 2)
    assert ended.data["finished_ns"] < over_ns


def test_a_clock_that_was_wrong_makes_no_end_before_the_start_or_after_now(rig):
    def change(job_id):
        status = rig.node.lock_of(job_id).with_suffix(".status")
        os.utime(status, (1, 1))

    _, launched, ended, _ = ended_alone(rig, UP, change)
    assert ended.data["finished_ns"] == launched.data["started_ns"]


def test_what_was_written_down_is_what_it_used(rig):
    def write(job_id):
        line = {"run": 1, "at_ns": time.time_ns(), "cpu_s": 1234.5, "memory_mb": 777.0, "disk_mb": 0}
        rig.node.lock_of(job_id).with_suffix(".usage.jsonl").write_text(json.dumps(line) + "\n")

    _, _, ended, _ = ended_alone(rig, UP, write)
    assert (ended.data["usage"]["cpu_s"], ended.data["usage"]["max_rss_mb"]) == (1234.5, 777.0)


def test_what_nobody_knows_is_left_out(rig):
    def take_away(job_id):
        rig.node.lock_of(job_id).with_suffix(".usage.jsonl").unlink(missing_ok=True)

    job_id, _, ended, _ = ended_alone(rig, UP, take_away)
    (intended,) = rig.node.await_event(job_id, "LaunchIntended")
    if intended.data["cgroup"] is None:
        assert ended.data["usage"] == {}
    else:  # the kernel has counted
        assert ended.data["usage"]["cpu_s"] > 0
