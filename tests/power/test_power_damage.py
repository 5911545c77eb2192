"""A power cut on a disk that lies: the database is torn. The daemon starts, says what is lost, and goes on."""

import sqlite3
from contextlib import closing

import pytest

from tests.integration.daemon.rig import printed, until

PAGE = 4096


def zero_page(data, at):
    data[at : at + PAGE] = bytes(PAGE)


def half_page(data, at):
    data[at + PAGE // 2 : at + PAGE] = bytes(PAGE // 2)


def page_of(data, wanted, others):
    """Return where a page begins that holds records of `wanted` jobs and none of `others`."""
    for at in range(PAGE, len(data), PAGE):
        page = bytes(data[at : at + PAGE])
        if page[0] == 13 and any(one in page for one in wanted) and not any(one in page for one in others):
            return at
    raise AssertionError("no such page")


@pytest.mark.parametrize("tear", [zero_page, half_page])
def test_what_survived_goes_on_and_what_did_not_is_named(machines, tear):
    machine = machines()
    old = machine.coordinator.submit(*(printed(f"echo {n}", job_id=f"old-{n}") for n in range(6)))
    machine.coordinator.wait_all()
    machine.node.await_idle()
    machine.coordinator.fault("/jobs/result", "status:503", times=-1)
    going = machine.coordinator.submit(
        printed("echo waits", job_id="going-waits"),
        printed("echo up >&2; sleep 0.5; echo runs", job_id="going-runs"),
    )
    machine.node.await_event(going[0], "OutcomeKnown")
    machine.node.await_printed(going[1], "up")
    machine.cut()
    machine.power_on(start=False)
    # Not through the log, which would heal it.
    with closing(sqlite3.connect(machine.node.journal_file, isolation_level=None)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    data = bytearray(machine.node.journal_file.read_bytes())
    # A page of the records themselves, and only of jobs that are over.
    tear(data, page_of(data, [b"old-"], [b"going-"]))
    machine.node.journal_file.write_bytes(data)

    machine.coordinator.no_faults()
    machine.node.start()
    (told,) = machine.node.log("journal_salvaged")
    aside = [p for p in machine.node.journal_file.parent.iterdir() if ".damaged-" in p.name]
    (kept,) = [p for p in aside if p.name.endswith("Z")]
    assert kept.read_bytes() == bytes(data)
    for report in (told["attrs"]["report"], *machine.node.health()["trouble"]):
        assert "the journal was damaged" in report
        assert str(kept) in report
    assert machine.node.health()["status"] == "degraded"
    assert "old-" in told["attrs"]["report"]

    for one in going:
        machine.coordinator.wait(one)
    machine.check([*old, *going])
    assert machine.coordinator.artifact(going[0], "out.txt") == b"waits\n"
    assert machine.coordinator.artifact(going[1], "out.txt") == b"runs\n"
    # What is mended stays mended.
    machine.node.restart()
    assert len(machine.node.log("journal_salvaged")) == 1
    until(lambda: machine.node.health()["status"] == "ok", "the trouble is over")


def test_a_log_of_another_time_is_no_reason_to_stop(machines):
    machine = machines()
    log = machine.node.journal_file.with_name("journal.db-wal")
    jobs = machine.coordinator.submit(*(printed(f"echo {n}", job_id=f"early-{n}") for n in range(3)))
    machine.coordinator.wait_all()
    machine.node.await_idle()
    early = log.read_bytes()
    with closing(sqlite3.connect(machine.node.journal_file, isolation_level=None)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    jobs += machine.coordinator.submit(*(printed(f"echo {n}", job_id=f"late-{n}") for n in range(3)))
    machine.coordinator.wait_all()
    machine.node.await_idle()
    machine.cut()
    machine.power_on(start=False)
    log.write_bytes(early)
    machine.node.start()
    jobs += machine.coordinator.submit(printed("echo after", job_id="after"))
    machine.coordinator.wait(jobs[-1])
    for told in machine.node.log("journal_salvaged"):
        assert "the old file is" in told["attrs"]["report"]
    machine.node.await_idle()
    assert sorted(one["job_id"] for one in machine.coordinator.outcomes()) == sorted(jobs)
    assert machine.fsm_miner("verify").returncode == 0


def test_a_run_that_the_journal_forgot_is_ended_and_done_again(machines):
    """The records of a live run are lost, but for those before it was started."""
    machine = machines()
    script = "echo up >&2; echo one >> out.txt; while ! test -e go; do sleep 0.02; done; echo two >> out.txt"
    (job,) = machine.coordinator.submit(
        {**printed(script, job_id="forgotten"), "artifacts": [{"path": "out.txt", "type": "text/plain"}]}
    )
    machine.node.await_printed(job, "up")
    machine.node.kill()
    with closing(sqlite3.connect(machine.node.journal_file)) as conn:
        trigger = conn.execute("SELECT sql FROM sqlite_master WHERE name = 'records_no_delete'").fetchone()[0]
        conn.execute("DROP TRIGGER records_no_delete")
        conn.execute("DELETE FROM records WHERE event IN ('LaunchIntended', 'Launched')")
        conn.execute(trigger)
        conn.commit()
    machine.node.start()
    machine.node.await_event(job, "RetryScheduled")
    machine.node.await_event(job, "Launched")
    (machine.node.jobs / job / "work" / "go").touch()
    machine.coordinator.wait(job)
    assert machine.coordinator.artifact(job, "out.txt") == b"one\ntwo\n"
    machine.check([job])
    # Of the first run nothing lives that could have written.
    assert machine.node.events(job).count("LaunchIntended") == 1
