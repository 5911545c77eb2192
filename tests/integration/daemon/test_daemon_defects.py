"""A defect of the daemon, planted by `FSM_MINER_FAULT='raise POINT'`: it costs what it is in, and nothing else."""

import pytest

from tests.integration.daemon.rig import DEADLINE_S, sh, until

SLOW = "echo up; while ! test -e go; do sleep 0.05; done; echo done > ../output/r"
RESULT = [{"path": "r", "type": "application/json", "max_mb": 1}]


@pytest.mark.parametrize("point", ["coordinator.pull", "coordinator.heartbeat"])
def test_in_a_loop_it_ends_the_daemon_and_no_job(rigs, point):
    rig = rigs()
    job = rig.coordinator.submit(sh(SLOW, job_id="slow", artifacts=RESULT))[0]
    rig.node.await_printed(job, "up")
    rig.node.kill()
    rig.node.defects_allowed |= {"loop_failed"}
    rig.node.env["FSM_MINER_FAULT"] = f"raise {point}"
    rig.node.start(wait=False)
    assert rig.node.exit_code() == 1
    (told,) = rig.node.log("loop_failed")
    assert f"raise {point}#1" in told["attrs"]["problem"]
    rig.node.env.clear()
    rig.node.start()
    (rig.node.jobs / job / "work" / "go").touch()
    view = rig.coordinator.wait(job)
    assert (view["state"], len(view["outcomes"])) == ("done", 1), view
    assert rig.node.events(job).count("Launched") == 1


@pytest.mark.parametrize("point", ["site.launch", "site.parcel"])
def test_in_an_effect_it_costs_that_job_and_no_other(rigs, point):
    rig = rigs(start=False)
    rig.node.defects_allowed |= {"effect_failed"}
    rig.node.env["FSM_MINER_FAULT"] = f"raise {point}@bad"
    rig.node.start()
    neighbour = rig.coordinator.submit(sh(SLOW, job_id="slow", artifacts=RESULT))[0]
    rig.node.await_printed(neighbour, "up")
    view = rig.coordinator.run(sh("echo hi > ../output/r", job_id="bad", artifacts=RESULT))
    told = until(lambda: rig.node.log("effect_failed"), "the defect is in the log", DEADLINE_S)
    assert [one["job_id"] for one in told] == ["bad"]
    assert f"raise {point}#1@bad" in str(told)
    assert len(view["outcomes"]) == 1, view
    assert rig.node.health()["running"] == 1
    (rig.node.jobs / neighbour / "work" / "go").touch()
    assert rig.coordinator.wait(neighbour)["state"] == "done"
