"""GPU jobs with a driver made of text: each gets a card of its own, or is told why not."""

import itertools
import re

import pytest

from tests.integration.daemon.rig import printed
from tests.nvml.stand_in import Scenario, StandIn, build_library, cards

WAIT = "while ! test -e go; do sleep 0.02; done"
GPU = {"gpu": True, "vram_mb": 8000}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def node_with(rigs, library, tmp_path):
    def make(count, slots):
        driver = StandIn(library, tmp_path / "scenario", cards(count))
        rig = rigs(start=False, resources={"max_concurrent_gpu": slots})
        rig.node.env = dict(driver.env)
        rig.node.start()
        return rig, driver

    return make


def gpu_job(script):
    return printed(f'echo "$CUDA_VISIBLE_DEVICES"; echo up >&2; {script}', requirements=GPU)


def go(rig, job_id):
    (rig.node.jobs / job_id / "work" / "go").touch()


def test_each_job_has_the_card_with_the_least_memory_in_use(node_with):
    rig, driver = node_with(3, 2)
    uuids = [card.uuid for card in driver.scenario.cards]
    health = rig.node.health()
    assert (health["vram_free"], health["slots"]["gpu"]) == (16000 + 15000 + 14000, 2)
    (descriptor,) = [node["descriptor"] for node in rig.coordinator.ask("GET", "/admin/nodes")["nodes"]]
    assert [gpu["vram_mb"] for gpu in descriptor["gpu"]] == [16384] * 3

    first, second = (rig.coordinator.submit(gpu_job(WAIT))[0] for _ in range(2))
    for job_id in (first, second):
        rig.node.await_printed(job_id, "up")
    assert rig.coordinator.run(printed('echo "none:$CUDA_VISIBLE_DEVICES"'))["state"] == "done"
    for job_id in (first, second):
        go(rig, job_id)
        rig.coordinator.wait(job_id)
    seen = [rig.coordinator.artifact(job_id, "out.txt").decode().strip() for job_id in (first, second)]
    assert sorted(seen) == uuids[:2]
    granted = [rig.node.await_event(job_id, "PrepStarted")[0].data["gpus"] for job_id in (first, second)]
    assert granted == [[uuid] for uuid in seen]


def test_one_slot_runs_one_after_the_other(node_with):
    rig, driver = node_with(2, 1)
    jobs = rig.coordinator.submit(gpu_job("sleep 0.2"), gpu_job("sleep 0.2"), gpu_job("sleep 0.2"))
    for job_id in jobs:
        assert rig.coordinator.wait(job_id)["state"] == "done"
    uuid = driver.scenario.cards[0].uuid
    assert {rig.coordinator.artifact(job_id, "out.txt").decode().strip() for job_id in jobs} == {uuid}
    spans = sorted(
        (rig.node.await_event(job_id, "Launched")[0].at_ns, rig.node.await_event(job_id, "Ended")[0].at_ns)
        for job_id in jobs
    )
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans)), spans


def test_too_small_and_gone(node_with):
    rig, driver = node_with(1, 1)
    rig.coordinator.offer(
        {**printed("true", requirements={"gpu": True, "vram_mb": 99_000}), "job_id": "large"}
    )
    body = rig.coordinator.outcome_of_offer("large")["body"]
    assert (body["error_code"], body["retryable"]) == ("E_NOGPU", True)
    assert "99000 MiB" in body["error_msg"]
    assert "16384 MiB" in body["error_msg"]

    rig.node.await_idle()  # the pull of a node without room is over, and with it nothing can be handed out in vain
    driver.show(Scenario(cards=()))  # unplugged since the last look
    rig.coordinator.offer({**printed("true", requirements=GPU), "job_id": "late"})
    body = rig.coordinator.outcome_of_offer("late")["body"]
    assert (body["error_code"], body["retryable"]) == ("E_NOGPU", True)
    # Who looks first is open: admission, or the job's preparation.
    assert re.search("is gone|no GPU is there", body["error_msg"]), body["error_msg"]
    assert rig.node.health()["vram_free"] == 0
    assert "Launched" not in rig.node.events("late")


def test_a_gpu_job_keeps_its_card_over_a_restart(node_with):
    rig, driver = node_with(1, 1)
    (first,) = rig.coordinator.submit(gpu_job(WAIT))
    rig.node.await_printed(first, "up")
    rig.node.restart()
    rig.node.await_event(first, "Reattached")
    (second,) = rig.coordinator.submit(gpu_job("true"))
    assert rig.coordinator.run(printed("echo cpu"))["state"] == "done"
    assert rig.node.events(second) == []  # there is no room, so it was not even pulled
    go(rig, first)
    assert rig.coordinator.wait(second)["state"] == "done"
    assert rig.coordinator.artifact(first, "out.txt").decode().strip() == driver.scenario.cards[0].uuid
