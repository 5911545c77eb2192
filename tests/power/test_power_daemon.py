"""The power goes at every bad moment: what was acknowledged is there, and each job has one outcome, the right one."""

import random
import time
from collections import Counter

import pytest

from journal import open_reader
from tests.integration.daemon.rig import printed, until

# Real output, so that a torn artifact would be seen.
SCRIPT = "echo started >&2; i=0; while test $i -lt 400; do echo {n}-$i; i=$((i+1)); done; sleep {s}"


def job(n, sleep_s=0.1, **more):
    return printed(SCRIPT.format(n=n, s=sleep_s), **more)


def right(n):
    return "".join(f"{n}-{i}\n" for i in range(400)).encode()


def spin_until(ask, what):
    """Wait without a pause: the moment is shorter than a sleep."""
    end = time.monotonic() + 20
    while not ask():
        assert time.monotonic() < end, what


def acknowledged(machine, job_id):
    """Return what the journal held when somebody looked: all of it was confirmed as durable."""
    return [record.hash for record in machine.node.stream(job_id)]


def everything(machine):
    """Return all records of all streams: whoever reads one reads what is durable."""
    with open_reader(machine.node.journal_file) as reader:
        return {key: reader.read(key) for key in reader.streams()}


def cut_and_look(machine, job_id):
    """Cut; after it, what anybody had read from the journal must still be there, as it was."""
    before = acknowledged(machine, job_id)
    machine.cut()
    machine.power_on(start=False)
    after = acknowledged(machine, job_id)
    assert after[: len(before)] == before
    last = machine.node.events(job_id)[-1]
    machine.node.start(wait=False)
    return last


def test_at_every_chosen_moment(machines):
    machine = machines()
    jobs, found = [], {}

    def play(moment, wait, prepare=lambda: None):
        n = len(jobs)
        until(machine.node.registered, "the node is up")
        machine.node.await_idle()  # lest an earlier job's delivery meets what is prepared for this one's
        prepare()
        jobs.extend(machine.coordinator.submit(job(n, job_id=f"cut-{n}")))
        wait(jobs[-1])
        found[moment] = cut_and_look(machine, jobs[-1])
        machine.coordinator.no_faults()

    def recorded(event):
        return lambda job_id: spin_until(lambda: event in machine.node.events(job_id), event)

    for event in ("Offered", "Acked", "LaunchIntended", "Launched", "Ended", "OutcomeKnown", "Delivered"):
        play(event, recorded(event))
    play(
        "during the upload",
        lambda _: until(lambda: machine.coordinator.faults() == [], "the upload has begun"),
        lambda: machine.coordinator.fault("/jobs/result", "delay:1"),
    )

    def lose_answers():
        machine.coordinator.fault("/jobs/result", "drop_after")
        machine.coordinator.fault("/jobs/result", "status:503", times=-1)

    play(
        "the coordinator took it and nobody heard",
        lambda job_id: until(lambda: machine.coordinator.outcomes(job_id), "the coordinator has it"),
        lose_answers,
    )

    until(machine.node.registered, "the node is up")
    machine.coordinator.wait_all(60)
    machine.check(jobs)
    for n, job_id in enumerate(jobs):
        assert machine.coordinator.artifact(job_id, "out.txt") == right(n)
    print(f"cuts: {machine.disk.cuts}; the last event after each: {found}")
    # The moments were met: nowhere did a cut come long after what it was meant for.
    assert len(set(found.values())) >= 4, found


@pytest.mark.slow
def test_at_random_moments(machines):
    machine = machines()
    rng = random.Random(7)
    jobs = machine.coordinator.submit(
        *(job(n, f"{rng.uniform(0, 0.6):.2f}", priority=rng.randrange(3)) for n in range(24))
    )
    found = Counter()
    while machine.disk.cuts < 7:
        time.sleep(rng.uniform(0, 0.5))  # the random moment
        before = everything(machine)
        machine.cut()
        machine.power_on(start=False)
        after = everything(machine)
        for key, records in before.items():
            assert after[key][: len(records)] == records
        found.update(records[-1].event for records in after.values())
        machine.node.start(wait=rng.random() < 0.8)
        if machine.coordinator.ask("GET", "/admin/stats")["counts"].get("done", 0) == len(jobs):
            break
    until(machine.node.registered, "the node is up")
    assert machine.coordinator.wait_all(60) == {"done": len(jobs)}
    machine.check(jobs)
    for n, job_id in enumerate(jobs):
        assert machine.coordinator.artifact(job_id, "out.txt") == right(n)
    print(f"cuts: {machine.disk.cuts}; states met: {found}")
    assert machine.disk.cuts >= 4
