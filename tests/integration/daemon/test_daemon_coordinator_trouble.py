"""A coordinator that is away, breaks connections, or answers nonsense: late, but delivered, and once."""

import pytest

from tests.integration.daemon.rig import printed, sh, until


@pytest.fixture(scope="module")
def rig(shared_rigs):
    return shared_rigs("--offer-s", "0.5", coordinator={"pull_wait_s": 0})


def key_of(job_id, step):
    return f"{job_id}/1/{step}"


def test_away_for_a_while(rig):
    started = rig.coordinator.submit(printed("echo up >&2; while ! test -e go; do sleep 0.02; done; echo x"))[
        0
    ]
    rig.node.await_printed(started, "up")
    rig.coordinator.kill()
    (rig.node.jobs / started / "work" / "go").touch()
    rig.node.await_event(started, "RetryScheduled", 2)
    trouble = until(
        lambda: rig.node.health()["trouble"] or rig.node.log("heartbeat_unanswered"), "it says so"
    )
    assert trouble
    rig.coordinator.start()
    view = rig.coordinator.wait(started)
    assert [outcome["key"] for outcome in view["outcomes"]] == [key_of(started, "result")]
    assert view["result_calls"] == 1
    assert rig.coordinator.run(printed("echo after"))["state"] == "done"


def test_not_there_when_the_node_starts(rigs):
    rig = rigs(start=False)
    rig.coordinator.kill()
    rig.node.start(wait=False)
    until(lambda: rig.node.log("register_failed"), "registration fails")
    until(rig.node.status_url, "the status page is up")
    health = rig.node.health()
    assert (health["registered"], health["status"]) == (False, "degraded")
    assert "does not answer" in health["trouble"][0]
    rig.coordinator.start()
    assert rig.coordinator.run(printed("echo x"))["state"] == "done"
    assert rig.node.health()["trouble"] == []


def test_refused_registration_is_tried_for_ever_and_explained(rigs):
    rig = rigs(start=False)
    rig.coordinator.fault("/nodes/register", "status:401", times=3)
    rig.node.start()
    (failed,) = rig.node.log("register_failed")
    assert "refuses this node (401)" in failed["attrs"]["reason"]
    assert rig.coordinator.faults() == []


SPOILED = ["drop_before", "drop_after", "cut_body", "garbage", "status:500", "status:503", "drop_at:20"]


@pytest.mark.parametrize("do", SPOILED)
@pytest.mark.parametrize("script", ["echo x", "echo x; exit 3"], ids=["result", "fail"])
def test_every_call_is_spoiled_twice(rig, do, script):
    for path in ("/jobs/pull", "/jobs/ack", "/jobs/result", "/jobs/fail", "/nodes/heartbeat"):
        rig.coordinator.fault(path, do, times=2)
    view = rig.coordinator.run(printed(script))
    kind = "fail" if "exit" in script else "result"
    (outcome,) = view["outcomes"]
    assert (outcome["kind"], outcome["key"]) == (kind, key_of(view["job_id"], kind))
    processed = do in {"drop_after", "cut_body", "garbage"}
    until(lambda: "Delivered" in rig.node.events(view["job_id"]), "the node knows")
    view = rig.coordinator.wait(view["job_id"])
    assert view[f"{kind}_calls"] == (3 if processed else 1)
    assert rig.node.events(view["job_id"]).count("Launched") == 1
    assert len(view["attempts"]) == 1
    rig.coordinator.no_faults()


def test_a_coordinator_that_takes_no_outcome_is_asked_for_no_more_jobs(rigs):
    rig = rigs()
    rig.coordinator.fault("/jobs/fail", "status:503", times=-1)
    refused = [{"runner": "cli", "command": "rm", "args": []} for _ in range(80)]
    rig.coordinator.submit(*refused)
    words = until(lambda: rig.node.health()["pull_held_back"], "it has enough")
    assert "outcomes wait for the coordinator to take them" in words
    assert 64 <= len(rig.node.health()["jobs"]) <= 64 + 4  # its slots
    rig.coordinator.no_faults()
    assert rig.coordinator.wait_all() == {"failed": 80}


def test_told_to_wait(rig):
    rig.coordinator.fault("/jobs/result", "status:429;retry_after=1")
    view = rig.coordinator.run(printed("echo x"))
    (wait,) = rig.node.await_event(view["job_id"], "RetryScheduled")
    assert wait.data["delay_s"] >= 1
    delivered = rig.node.await_event(view["job_id"], "Delivered")[0]
    assert delivered.at_ns - wait.at_ns >= 1_000_000_000


def test_a_pull_told_to_wait(rig):
    before = len(rig.node.log("pull_unanswered"))
    rig.coordinator.fault("/jobs/pull", "status:503;retry_after=0.3", times=1)
    assert rig.coordinator.run(printed("echo x"))["state"] == "done"
    until(lambda: len(rig.node.log("pull_unanswered")) > before, "the pull was refused")


def test_a_revoked_token_is_renewed_and_no_job_touched(rig):
    (job_id,) = rig.coordinator.submit(
        printed("echo up >&2; while ! test -e go; do sleep 0.02; done; echo x")
    )
    rig.node.await_printed(job_id, "up")
    sandbox = rig.node.sandbox_pid(job_id)
    before = len(rig.node.log("registered"))
    rig.coordinator.ask("POST", "/admin/nodes/node-e2e/revoke")
    until(lambda: len(rig.node.log("registered")) > before, "registered again")
    assert rig.node.sandbox_pid(job_id) == sandbox
    (rig.node.jobs / job_id / "work" / "go").touch()
    assert rig.coordinator.wait(job_id)["state"] == "done"
    assert rig.node.events(job_id).count("Launched") == 1


def test_given_to_another_while_the_node_was_cut_off(rigs):
    rig = rigs("--lease-s", "1.5", "--max-attempts", "2", coordinator={"pull_wait_s": 0})
    (job_id,) = rig.coordinator.submit(sh("echo up; sleep 60"))
    rig.node.await_printed(job_id, "up")
    for path in ("/nodes/heartbeat", "/jobs/progress", "/jobs/pull"):
        rig.coordinator.fault(path, "drop_before", times=-1)

    def attempt():
        return rig.coordinator.ask("GET", f"/admin/jobs/{job_id}")["attempt"]

    until(lambda: attempt() == 2, "the lease runs out")
    rig.node.kill()
    rig.coordinator.no_faults()
    rig.coordinator.fault("/jobs/pull", "drop_before", times=-1)
    rig.node.start()
    rig.node.await_event(job_id, "Superseded")  # the old attempt is stopped, and nothing is told of it
    assert rig.coordinator.outcomes(job_id) == []
    rig.coordinator.no_faults()
    rig.node.await_printed(f"{job_id}@2", "up")
    rig.coordinator.cancel(job_id)
    assert rig.coordinator.wait(job_id)["state"] == "cancelled"
    (outcome,) = rig.coordinator.outcomes(job_id)
    assert outcome["attempt"] == 2
