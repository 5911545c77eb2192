"""The outbox for real: outcomes wait through an outage, in turns; what another node has done meanwhile is let go."""

import sqlite3
from collections import Counter
from contextlib import closing
from itertools import pairwise

import pytest

from tests.integration.daemon.rig import Node, printed, sh, until

BACKOFF = {"interval_s": 0.2, "backoff": {"min_s": 0.05, "max_s": 0.2}}


def refuse_outcomes(rig):
    rig.coordinator.fault("/jobs/result", "status:503", times=-1)
    rig.coordinator.fault("/jobs/fail", "status:503", times=-1)


def await_waiting(rig, count):
    until(lambda: rig.node.health()["outbox"]["waiting"] == count, f"{count} outcomes wait")


def test_outcomes_wait_and_arrive_once_each(rigs):
    rig = rigs(heartbeat=BACKOFF, outbox={"max_concurrent": 1, "pause_pull_at": None})
    refuse_outcomes(rig)
    jobs = []
    for number in range(8):
        jobs += rig.coordinator.submit(printed(f"echo {number}") if number % 2 else sh(f"exit {number + 1}"))
        await_waiting(rig, number + 1)
    # New jobs go on meanwhile: all eight have run, though nobody takes an outcome.
    rig.node.restart()
    await_waiting(rig, len(jobs))
    problem = until(lambda: rig.node.health()["outbox"]["problem"], "it says why")
    assert "503" in problem
    assert any("8 outcomes wait for the coordinator" in line for line in rig.node.health()["trouble"])
    assert "fsm_miner_outbox 8.0" in rig.node.get("/metrics").text
    rig.coordinator.no_faults()
    for job_id in jobs:
        rig.coordinator.wait(job_id)
    rig.node.await_idle()
    assert Counter(one["job_id"] for one in rig.coordinator.outcomes()) == Counter(jobs)
    assert rig.node.health()["outbox"] == {"waiting": 0, "oldest_since": None, "problem": None}


def test_the_oldest_outcome_is_next(rigs):
    rig = rigs(outbox={"max_concurrent": 1})
    rig.coordinator.fault("/jobs/fail", "delay:3")
    (first,) = rig.coordinator.submit(sh("exit 1"))
    until(lambda: rig.coordinator.faults() == [], "the first delivery is under way")
    # Those that were submitted first end last.
    waits = ("0.6", "0.4", "0.2", "0")
    others = rig.coordinator.submit(*(sh(f"sleep {wait}; exit 1") for wait in waits))
    await_waiting(rig, 5)
    rig.coordinator.wait_all()
    rig.node.await_idle()
    finished = {job: rig.node.await_event(job, "Ended")[0].data["finished_ns"] for job in [first, *others]}
    assert order_of(rig, "Delivered") == sorted(finished, key=finished.__getitem__)


def test_an_outage_costs_the_journal_no_more_for_many_than_for_one(rigs):
    rig = rigs(heartbeat={"interval_s": 0.2, "backoff": {"min_s": 0.2, "max_s": 0.2}})
    refuse_outcomes(rig)
    jobs = rig.coordinator.submit(*(sh("exit 1") for _ in range(12)))
    await_waiting(rig, 12)

    def tries():
        return sum(retries_of(rig, job) for job in jobs)

    before = tries()
    until(lambda: tries() >= before + 10, "ten more tries")
    # The coordinator is asked at intervals, for all twelve together: not twelve times at each.
    times = sorted(record.at_ns for job in jobs for record in retry_records(rig, job))[-10:]
    gaps_s = [(after - at) / 1e9 for at, after in pairwise(times)]
    assert min(gaps_s) >= 0.09, gaps_s
    rig.coordinator.no_faults()
    rig.coordinator.wait_all()
    rig.node.await_idle()


def test_nothing_is_pulled_above_the_watermark_and_again_below_it(rigs):
    rig = rigs(heartbeat=BACKOFF, outbox={"pause_pull_at": 3}, resources={"max_concurrent_cpu": 1})
    refuse_outcomes(rig)
    jobs = rig.coordinator.submit(*(sh("exit 1") for _ in range(5)))
    until(lambda: "outbox.pause_pull_at" in (rig.node.health()["pull_held_back"] or ""), "it takes no more")
    assert rig.node.health()["outbox"]["waiting"] == 3
    assert rig.coordinator.ask("GET", "/admin/stats")["counts"]["queued"] == 2
    rig.coordinator.no_faults()
    rig.coordinator.wait_all()
    assert Counter(one["job_id"] for one in rig.coordinator.outcomes()) == Counter(jobs)
    until(lambda: rig.node.health()["pull_held_back"] is None, "it pulls again")


@pytest.mark.parametrize("finds_out_by", ["reconcile", "ack", "delivery"])
def test_what_another_node_has_delivered_meanwhile_is_superseded(rigs, finds_out_by):
    """The lease runs out while the node is down; another node does the job; the first one comes back with its own."""
    rig = rigs("--lease-s", "1", "--max-attempts", "2")
    (job_id,) = rig.coordinator.submit(
        printed("echo up >&2; while ! test -e go; do sleep 0.02; done; head -c 12 /dev/urandom | od -x")
    )
    rig.node.await_printed(job_id, "up")
    rig.node.kill()
    (rig.node.jobs / job_id / "work" / "go").touch()
    other = Node(rig.folder / "other", rig.coordinator.base_url, node_id="node-other")
    try:
        other.start()
        other.await_printed(f"{job_id}@2", "up")  # before that, its folder may still be made anew
        (other.jobs / f"{job_id}@2" / "work" / "go").touch()
        view = rig.coordinator.wait(job_id)
        theirs = rig.coordinator.artifact(job_id, "out.txt", attempt=2)
        if finds_out_by != "reconcile":
            rig.coordinator.fault("/jobs/reconcile", "status:404")
        # Whatever else could find out first fails.
        if finds_out_by == "delivery":
            rig.coordinator.fault("/jobs/ack", "status:503")
        else:
            rig.coordinator.fault("/jobs/result", "status:503", times=-1)
        rig.node.start()
        (superseded,) = rig.node.await_event(job_id, "Superseded")
        rig.node.await_idle()
    finally:
        other.stop()
    assert view["state"] == "done"
    assert superseded.data["status"] in ({409, 410} if finds_out_by == "delivery" else {None})
    assert rig.node.events(job_id).count("Delivered") == 0
    assert rig.coordinator.artifact(job_id, "out.txt", attempt=2) == theirs
    assert not (rig.coordinator.folder / "data" / "results" / job_id / "1").exists()
    (outcome,) = rig.coordinator.outcomes(job_id)
    assert (outcome["node_id"], outcome["attempt"]) == ("node-other", 2)


def retry_records(rig, job_id):
    return [record for record in rig.node.stream(job_id) if record.event == "RetryScheduled"]


def retries_of(rig, job_id):
    return len(retry_records(rig, job_id))


def order_of(rig, event):
    """Return the jobs in the order in which the event was committed."""
    with closing(sqlite3.connect(rig.node.journal_file)) as conn:
        rows = conn.execute("SELECT job_id FROM records WHERE event = ? ORDER BY n", (event,)).fetchall()
    return [job_id for (job_id,) in rows]
