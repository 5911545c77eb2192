"""Full and read-only disks, one at a time, under a real daemon: it says so, takes nothing, and goes on by itself."""

import pytest

from tests.integration.daemon.bad_days import Page, done_once, still_queued
from tests.integration.daemon.rig import SH_RULE, printed, sh, until


@pytest.fixture(scope="module")
def shared(shared_rigs):
    return shared_rigs()


BIG_RULE = {**SH_RULE, "max_output_mb": 500}
WAITS = "while [ ! -e go ]; do sleep 0.05; done"


def rig_with(rigs, *, jobs=None, state=None, log=None, **changes):
    """Make a rig whose node keeps its jobs, its journal or its log in another place."""
    rig = rigs(start=False)
    node = rig.node
    if jobs is not None:
        node.jobs = jobs
        changes["workspace"] = {"root": str(jobs), **changes.get("workspace", {})}
    if state is not None:
        node.journal_file = state / "journal.db"
        changes["journal"] = {"path": str(node.journal_file), **changes.get("journal", {})}
    if log is not None:
        node.log_file = log / "miner.jsonl"
        changes["logging"] = {"path": str(node.log_file), "level": "debug"}
    node.configure(**changes)
    node.allow("sh", BIG_RULE)
    node.start()
    return rig


def told(rig, *words):
    """Wait until `/healthz` tells of a trouble with all the words, and return it."""
    page = Page(rig.node)
    try:
        return page.told(*words)
    finally:
        page.close()


def fine(rig):
    page = Page(rig.node)
    page.fine()
    page.close()


def go(rig, job_id):
    (rig.node.jobs / job_id / "work" / "go").touch()


def test_a_full_journal_disk_holds_outcomes_back_and_loses_none(disks, rigs):
    disk = disks.tmpfs(23)  # enough to take a job, too little to keep room for the journal
    rig = rig_with(rigs, state=disk.path / "state")
    (first,) = rig.coordinator.submit(sh(WAITS))
    rig.node.await_event(first, "Launched")
    disk.fill()
    told(rig, "state", "MiB free", "make space")
    (second,) = rig.coordinator.submit(sh("true"))
    go(rig, first)
    told(rig, "the journal can't write", "full")
    assert rig.node.health()["pull_held_back"] is not None
    still_queued(rig, second)
    assert rig.coordinator.outcomes() == []
    disk.empty()
    for job_id in (first, second):
        done_once(rig, job_id)
    fine(rig)
    assert len(rig.node.log("journal_unavailable")) == 1
    assert [one for one in rig.node.log("premises_recovered") if "state" in one["attrs"]["problem"]]


def test_a_full_log_disk_costs_lines_and_nothing_else(disks, rigs):
    disk = disks.tmpfs(1)
    rig = rig_with(rigs, log=disk.path)
    disk.fill()
    done_once(rig, rig.coordinator.submit(sh("true"))[0])
    told(rig, "miner.jsonl", "lines are lost", "make space")
    assert rig.node.health()["pull_held_back"] is None
    disk.empty()
    fine(rig)  # although nobody logs anything now
    until(lambda: rig.node.log("log.resumed"), "the log goes on")
    assert rig.node.log("log.resumed")[0]["attrs"]["lost_lines"] > 0


def test_a_full_workspace_takes_no_job_and_a_job_at_its_end_is_delivered(disks, rigs):
    disk = disks.tmpfs(40)
    rig = rig_with(rigs, jobs=disk.path / "jobs")
    (first,) = rig.coordinator.submit(printed(f"echo early; {WAITS}"))
    rig.node.await_event(first, "Launched")
    until((rig.node.jobs / first / "logs" / "stdout").read_bytes, "it has printed")
    disk.fill()
    told(rig, "jobs", "MiB free", "resources.disk_reserve_mb")
    (second,) = rig.coordinator.submit(sh("true"))
    go(rig, first)
    done_once(rig, first)
    assert rig.coordinator.artifact(first, "out.txt") == b"early\n"
    still_queued(rig, second)
    disk.empty()
    done_once(rig, second)
    fine(rig)
    assert rig.node.log("snapshot_not_written")


def test_who_fills_the_disk_is_ended_and_its_neighbour_is_not(disks, rigs):
    # Jobs and journal on one disk of 96 MiB, 48 of them the reserve: below 24 somebody has to go.
    disk = disks.tmpfs(96)
    rig = rig_with(
        rigs, jobs=disk.path / "jobs", state=disk.path / "state", resources={"disk_reserve_mb": 48}
    )
    (neighbour,) = rig.coordinator.submit(
        printed("while [ ! -e go ]; do echo line >> lines; sleep 0.05; done; echo fine")
    )
    rig.node.await_event(neighbour, "Launched")
    eater = rig.coordinator.run(
        sh("n=0; while :; do n=$((n+1)); head -c 2M /dev/zero > $n; sleep 0.06; done")
    )
    (outcome,) = eater["outcomes"]
    assert (outcome["body"]["error_code"], outcome["body"]["retryable"]) == ("E_NORESOURCE", True)
    assert "resources.disk_reserve_mb (48)" in outcome["body"]["error_msg"]
    assert not (rig.node.jobs / eater["job_id"] / "work").exists()  # its neighbour has the room again
    go(rig, neighbour)
    done_once(rig, neighbour)
    assert rig.coordinator.artifact(neighbour, "out.txt") == b"fine\n"
    assert rig.node.log("journal_unavailable") == []


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_who_fills_the_disk_at_once_is_ended_all_the_same(disks, rigs, kind):
    # Too fast for the reserve to be of use: the journal goes on in the room that it has.
    disk = {"tmpfs": disks.tmpfs, "ext4": disks.ext4}[kind](96)
    rig = rig_with(
        rigs, jobs=disk.path / "jobs", state=disk.path / "state", resources={"disk_reserve_mb": 48}
    )
    neighbours = rig.coordinator.submit(*[printed(f"{WAITS}; echo fine") for _ in range(3)])
    for job_id in neighbours:
        rig.node.await_event(job_id, "Launched")
    eater = rig.coordinator.run(sh("head -c 200M /dev/zero > all; head -c 9K /dev/zero > rest; sleep 60"))
    (outcome,) = eater["outcomes"]
    assert (outcome["body"]["error_code"], outcome["body"]["retryable"]) == ("E_NORESOURCE", True)
    for job_id in neighbours:
        go(rig, job_id)
        done_once(rig, job_id)
    assert rig.node.log("journal_unavailable") == []
    fine(rig)


def test_eight_slow_writers_do_not_fill_the_disk(disks, rigs):
    # Each writes less than a MiB a second; together they go from above the reserve of 24 MiB to below its half.
    disk = disks.tmpfs(48)
    rig = rig_with(
        rigs,
        jobs=disk.path / "jobs",
        state=disk.path / "state",
        resources={"disk_reserve_mb": 24, "max_concurrent_cpu": 8},
    )
    slow = "n=0; while :; do n=$((n+1)); head -c 150K /dev/zero > $n; sleep 0.2; done"
    writers = rig.coordinator.submit(*[sh(slow) for _ in range(8)])
    for job_id in writers:
        rig.node.await_event(job_id, "Launched")
    (disk.path / "ballast").write_bytes(bytes(20 << 20))
    (first,) = until(lambda: rig.coordinator.outcomes()[:1], "one is ended")
    assert first["body"]["error_code"] == "E_NORESOURCE", first["body"]
    assert "more than any other job since the disk had its reserve" in first["body"]["error_msg"]
    assert rig.node.log("journal_unavailable") == []
    (disk.path / "ballast").unlink()
    for job_id in writers:
        rig.coordinator.cancel(job_id)
    rig.coordinator.wait_all()


def test_what_a_delivered_job_left_goes_early_when_its_space_is_needed(disks, rigs):
    disk = disks.tmpfs(96)
    (disk.path / "jobs").mkdir()
    rig = rig_with(rigs, jobs=disk.path / "jobs", resources={"disk_reserve_mb": 48})
    (small, large) = rig.coordinator.submit(sh("echo > small"), sh("head -c 40M /dev/zero > rubbish; exit 3"))
    done_once(rig, small)
    assert rig.coordinator.wait(large)["state"] == "failed"
    (held,) = rig.coordinator.submit(sh(WAITS))  # nobody's folder goes that is not delivered
    rig.node.await_event(held, "Launched")
    (disk.path / "ballast").write_bytes(bytes(20 << 20))
    until(lambda: rig.node.log("swept_early"), "room is made")
    (waiting,) = rig.coordinator.submit(sh("true"))
    done_once(rig, waiting)
    (swept,) = rig.node.log("swept_early")
    assert (swept["job_id"], swept["attrs"]["attempt"]) == (large, 1)
    assert 40 << 20 <= swept["attrs"]["bytes"] < 41 << 20
    assert not (rig.node.jobs / large).exists()
    assert (rig.node.jobs / small).exists()
    disk.fill()
    told(rig, "jobs: finished jobs hold 0 MiB", "not delivered yet")
    assert (rig.node.jobs / held).exists()
    assert not (rig.node.jobs / small).exists()
    disk.empty()
    go(rig, held)
    done_once(rig, held)
    fine(rig)


def test_who_takes_all_the_disks_files_is_ended(disks, rigs):
    disk = disks.ext4(80, "-N", "6000")
    rig = rig_with(rigs, jobs=disk.path / "jobs")
    script = "n=0; while :; do n=$((n+1)); mkdir $n; cd $n; seq 1 200 | xargs touch; cd ..; sleep 0.1; done"
    (outcome,) = rig.coordinator.run(sh(script))["outcomes"]
    assert outcome["body"]["error_code"] == "E_NORESOURCE"
    assert "more files were all that the disk could take" in outcome["body"]["error_msg"]
    fine(rig)  # what it wrote has gone with it
    done_once(rig, rig.coordinator.submit(sh("true"))[0])


def test_a_job_may_make_only_so_many_files(rigs):
    rig = rigs(workspace={"max_files": 300})
    (outcome,) = rig.coordinator.run(sh("seq 1 400 | xargs touch; sleep 60"))["outcomes"]
    assert outcome["body"]["error_code"] == "E_OUTPUT"
    assert "more than 300 files" in outcome["body"]["error_msg"]


def test_an_input_that_does_not_fit_is_not_fetched_into_the_reserve(disks, rigs):
    disk = disks.tmpfs(40)
    rig = rig_with(rigs, jobs=disk.path / "jobs")
    url = rig.coordinator.put_file("large", bytes(30 << 20))
    large = sh("true", input={"urls": [{"url": url, "name": "x"}]})
    (outcome,) = rig.coordinator.run(large)["outcomes"]
    assert (outcome["body"]["error_code"], outcome["body"]["retryable"]) == ("E_NORESOURCE", True)
    done_once(rig, rig.coordinator.submit(sh("true"))[0])


def test_a_disk_that_fills_up_while_an_input_arrives(disks, rigs):
    # No reserve, and a length that nobody announced: the disk itself says no, in the middle.
    disk = disks.tmpfs(20)
    rig = rig_with(rigs, jobs=disk.path / "jobs", resources={"disk_reserve_mb": 0})
    url = rig.coordinator.put_file("large", bytes(19 << 20))
    rig.coordinator.fault("/files/large", "delay:0.5")
    (job_id,) = rig.coordinator.submit(sh("true", input={"urls": [{"url": url, "name": "x"}]}))
    rig.node.await_event(job_id, "PrepStarted")
    disk.fill()
    (outcome,) = rig.coordinator.wait(job_id)["outcomes"]
    assert outcome["body"]["error_code"] == "E_NORESOURCE"
    disk.empty()
    done_once(rig, rig.coordinator.submit(sh("true"))[0])


def test_a_full_archive_keeps_the_records_in_the_journal(disks, rigs):
    rig = rig_with(rigs)
    (job_id,) = rig.coordinator.submit(sh("true"))
    done_once(rig, job_id)
    rig.node.stop()
    disk = disks.tmpfs(1, at=rig.node.journal_file.parent / "journal-archive")
    disk.fill()
    rig.node.configure(journal={"path": str(rig.node.journal_file), "retention": 0})
    rig.node.start()
    told(rig, "housekeeping", "the export failed, so nothing was dropped")
    assert rig.node.stream(job_id)
    done_once(rig, rig.coordinator.submit(sh("true"))[0])
    disk.empty()
    until(lambda: rig.node.log("journal_exported"), "the records are exported")
    fine(rig)
    assert len(rig.node.log("sweep_failed")) == 1
    assert len(rig.node.log("sweep_goes_on")) == 1


def test_a_read_only_workspace_takes_no_job_until_it_is_writable(disks, rigs):
    disk = disks.ext4(48)
    rig = rig_with(rigs, jobs=disk.path / "jobs")
    done_once(rig, rig.coordinator.submit(sh("true"))[0])
    disk.read_only()
    told(rig, "jobs", "mounted read-only", "dmesg")
    (job_id,) = rig.coordinator.submit(sh("true"))
    until(lambda: rig.node.health()["pull_held_back"], "nothing is pulled")
    still_queued(rig, job_id)
    disk.read_write()
    done_once(rig, job_id)
    fine(rig)


def test_a_journal_whose_disk_fails_holds_back_until_the_disk_is_mended(disks, rigs):
    # What a bad sector does: the kernel makes the file system read-only under the open files, and for good.
    disk = disks.ext4(48)
    rig = rig_with(rigs, state=disk.path / "state")
    (job_id,) = rig.coordinator.submit(sh(WAITS))
    rig.node.await_event(job_id, "Launched")
    disk.break_down()
    told(rig, "state", "Read-only", "dmesg")
    go(rig, job_id)
    told(rig, "the journal can't write")
    (waiting,) = rig.coordinator.submit(sh("true"))
    assert rig.coordinator.outcomes() == []
    still_queued(rig, waiting)
    rig.node.stop()
    disk.mend()
    rig.node.start()
    for one in (job_id, waiting):
        done_once(rig, one)
    fine(rig)


# Ways round a job's limit on what it writes.


@pytest.mark.parametrize(
    ("script", "artifacts"),
    [
        ("while :; do head -c 1000000 /dev/zero >> /proc/1/fd/4; sleep 0.02; done", []),
        ("head -c 7M /dev/zero > file; head -c 7M /dev/zero; sleep 60", ["out"]),
        ("truncate -s 9M sparse; sleep 60", []),
        ("exec 7>gone; rm gone; head -c 9M /dev/zero >&7; sleep 60", []),
        ("mkdir -p a/b/c; head -c 9M /dev/zero > a/b/c/f; chmod 0 a/b/c a; sleep 60", []),
        ("d=.; for n in $(seq 120); do d=$d/d; mkdir $d; done; sleep 60", []),
    ],
    ids=["its-lock", "standard-output", "sparse", "unlinked", "closed-folders", "depth"],
)
def test_no_way_round_the_limit(shared, script, artifacts):
    declared = [{"path": path, "type": "text/plain"} for path in artifacts]
    (outcome,) = shared.coordinator.run(sh(script, artifacts=declared))["outcomes"]
    assert outcome["body"]["error_code"] == "E_OUTPUT", outcome["body"]


def test_empty_files_in_memory_are_memory(shared):
    script = "cd /tmp; n=0; while :; do n=$((n+1)); mkdir $n; seq 1 2000 | (cd $n; xargs touch); done"
    (outcome,) = shared.coordinator.run(sh(script, requirements={"memory_mb": 24}))["outcomes"]
    assert outcome["body"]["error_code"] == "E_OOM", outcome["body"]
