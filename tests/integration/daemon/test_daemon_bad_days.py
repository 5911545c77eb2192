"""Descriptors, clocks, configuration, and files that somebody deleted, under a real daemon with real jobs."""

import calendar
import os
import resource
import time
from pathlib import Path

import pytest

from tests.clock.shifted import ShiftedClock
from tests.integration.daemon.bad_days import Page, done_once, rm_r, still_queued, waiting_for
from tests.integration.daemon.rig import SH_RULE, printed, sh, until
from tests.support.needs import lacking

DAY_S = 86400


@pytest.fixture
def rig(rigs):
    """A rig whose jobs can see `shown`, a folder that outlives theirs."""
    made = rigs(start=False)
    made.shown = made.folder / "shown"
    made.shown.mkdir()
    made.node.configure(sandbox={"extra_ro_binds": [str(made.shown)]})
    made.node.start()
    return made


@pytest.fixture
def page(rig):
    made = Page(rig.node)
    yield made
    made.close()


# Descriptors.


def test_without_descriptors_nothing_is_taken_denied_or_failed(rig, page):
    go = rig.shown / "go"
    (running,) = rig.coordinator.submit(printed(waiting_for(go)))
    rig.node.await_event(running, "Launched")
    pid = rig.node.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
    try:
        page.told("descriptors", "Too many open files", "LimitNOFILE")
        until(lambda: "descriptors" in (page.health()["pull_held_back"] or ""), "nothing is pulled")
        (waiting,) = rig.coordinator.submit(printed("echo later"))
        go.touch()
        page.told("Watch", "Too many open files")
        still_queued(rig, waiting)
        assert rig.coordinator.outcomes() == []
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    done_once(rig, running)
    done_once(rig, waiting)
    page.fine()
    assert rig.coordinator.artifact(running, "out.txt") == b"done\n"
    assert len(rig.node.log("not_now")) >= 1
    assert rig.node.log("allowlist_file_removed") == []


# Processes.


@pytest.fixture
def crowd():
    """A cgroup that may be told how many processes it can have: it binds root too, as RLIMIT_NPROC does not."""
    pids = Path("/sys/fs/cgroup/pids")
    if not (pids / "cgroup.procs").exists() or os.geteuid() != 0:
        message = "needs root and the pids controller of cgroup v1"
        lacking(message)
    made = pids / f"fsm-miner-test-{os.getpid()}"
    made.mkdir()
    yield made
    for pid in (made / "cgroup.procs").read_text().split():
        (pids / "cgroup.procs").write_text(pid)
    made.rmdir()


def test_without_processes_a_job_waits_and_none_is_taken(crowd, rig, page):
    (crowd / "cgroup.procs").write_text(str(rig.node.pid))
    (crowd / "pids.max").write_text((crowd / "pids.current").read_text())
    (first,) = rig.coordinator.submit(printed("echo x"))
    page.told("Launch", "Resource temporarily unavailable")
    until(lambda: "lacks something" in (page.health()["pull_held_back"] or ""), "nothing is pulled")
    (second,) = rig.coordinator.submit(printed("echo y"))
    still_queued(rig, second)
    (crowd / "pids.max").write_text("max")
    for job_id in (first, second):
        done_once(rig, job_id)
    page.fine()
    assert rig.node.events(first).count("LaunchIntended") == 1
    assert len(rig.node.log("not_now")) == 1


# The clock.


def test_a_clock_set_back_and_forth_by_a_day(rigs):
    rig = rigs(start=False)
    clock = ShiftedClock(rig.folder)
    rig.node.env = clock.env
    rig.node.start()
    ids = []
    for shift_s in (0, -DAY_S, DAY_S, 0):
        # A job that runs while the clock jumps, and whose result then waits for its third try.
        (job_id,) = rig.coordinator.submit(printed("while [ ! -e go ]; do sleep 0.05; done; echo x"))
        rig.node.await_event(job_id, "Launched")
        rig.coordinator.fault("/jobs/result", "status:503", times=2)
        clock.set(shift_s)
        until(lambda: abs(_ahead_s(rig.node) - clock.shift_s) < 3600, "the daemon sees another day")
        (rig.node.jobs / job_id / "work" / "go").touch()
        done_once(rig, job_id)
        done_once(rig, rig.coordinator.submit(printed("echo y"))[0])
        ids.append(job_id)
    assert rig.node.health()["status"] == "ok"
    # The journal's times go back with the clock; its order is the chain's.
    times = [rig.node.stream(job_id)[-1].at_ns for job_id in ids]
    assert times[1] < times[0] < times[3] < times[2]
    rig.node.restart()
    assert [rig.node.events(job_id)[-1] for job_id in ids] == ["Delivered"] * 4
    assert rig.node.log("unauthorized") == []


def _ahead_s(node):
    """Return by how much the daemon's clock is ahead of ours, by its last heartbeat."""
    stamp = node.health()["last_heartbeat_at"]
    moment = time.strptime(stamp.partition(".")[0] + " UTC", "%Y-%m-%dT%H:%M:%S %Z")
    return calendar.timegm(moment) - time.time()


# Configuration and rules.


def test_a_broken_configuration_stops_the_daemon_and_not_the_jobs(rig):
    go = rig.shown / "go"
    (job_id,) = rig.coordinator.submit(printed(waiting_for(go)))
    rig.node.await_event(job_id, "Launched")
    pid = rig.node.sandbox_pid(job_id)
    good = rig.node.config_file.read_text()
    rig.node.kill()
    rig.node.config_file.write_text(good.replace("timeout_s: 10", "timeout_s: soon"))
    rig.node.start(wait=False)
    assert rig.node.exit_code() == 2
    assert "config.yaml:" in rig.node.output.read_text()
    assert "coordinator.timeout_s" in rig.node.output.read_text()
    assert Path(f"/proc/{pid}").exists()
    rig.node.config_file.write_text(good)
    rig.node.start()
    rig.node.await_event(job_id, "Reattached")
    go.touch()
    done_once(rig, job_id)
    assert rig.node.events(job_id).count("Launched") == 1


def test_a_broken_rule_keeps_the_last_good_one_and_without_any_no_command_is_pulled(rigs):
    rig = rigs(start=False)
    rules = rig.node.allowlist
    rig.node.configure(runners={"cli": {"allowlist_files": [str(rules)]}, "python": {"enable": False}})
    rig.node.start()
    page = Page(rig.node)
    (rules / "sh.yaml").write_text("command: [")
    page.told("sh.yaml:1")
    done_once(rig, rig.coordinator.submit(sh("true"))[0])
    aside = rules.with_name("aside")
    rules.rename(aside)
    page.told("not pulling", "no allowlist rule is in force")
    (job_id,) = rig.coordinator.submit(sh("true"))
    still_queued(rig, job_id)
    rules.mkdir()
    rig.node.allow("sh", SH_RULE)
    done_once(rig, job_id)
    page.fine()
    page.close()


# The jobs' folders.


def ended(pid):
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def move_away(jobs):
    jobs.rename(jobs.with_name("moved"))


@pytest.mark.parametrize("away", [rm_r, move_away])
@pytest.mark.parametrize("restarted", [False, True], ids=["known", "reattached"])
def test_jobs_deleted_under_running_ones_run_again_and_never_twice_at_once(rig, page, restarted, away):
    go = rig.shown / "go"
    (job_id,) = rig.coordinator.submit(printed(f"echo up >&2; {waiting_for(go)}"))
    rig.node.await_printed(job_id, "up")  # a sandbox that is being built would fail by itself
    pid = rig.node.sandbox_pid(job_id)
    if restarted:
        rig.node.restart()
        rig.node.await_event(job_id, "Reattached")
    away(rig.node.jobs)
    rig.node.await_event(job_id, "Launched", 2)
    assert ended(pid), "two runs of one job at once"
    go.touch()
    done_once(rig, job_id)
    assert rig.coordinator.artifact(job_id, "out.txt") == b"done\n"
    (retry,) = [record for record in rig.node.stream(job_id) if record.event == "RetryScheduled"]
    assert "was removed while it ran" in retry.data["reason"]
    assert rig.node.log("effect_failed") == []


def test_jobs_deleted_while_a_result_waits_and_while_one_is_queued(rig):
    rig.coordinator.fault("/jobs/result", "status:503", times=-1)
    (waiting,) = rig.coordinator.submit(printed("echo x"))
    rig.node.await_event(waiting, "OutcomeKnown")
    rig.node.await_event(waiting, "RetryScheduled")
    rm_r(rig.node.jobs)
    rig.coordinator.no_faults()
    (outcome,) = rig.coordinator.wait(waiting)["outcomes"]
    assert outcome["body"]["error_code"] == "E_ARTIFACT"
    assert "no longer what was collected" in outcome["body"]["error_msg"]
    done_once(rig, rig.coordinator.submit(printed("echo y"))[0])
    assert rig.node.log("effect_failed") == []


# The daemon's own files.


def deleted(state):
    for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
        (state / name).unlink()


def without_its_log(state):
    (state / "journal.db-wal").unlink()


def replaced(state):
    (state / "journal.db").rename(state / "elsewhere")
    (state / "journal.db").write_bytes(b"a backup that somebody put there")


@pytest.mark.parametrize("how", [deleted, without_its_log, replaced, rm_r])
def test_a_journal_deleted_under_the_daemon_is_written_anew(rig, page, how):
    go = rig.shown / "go"
    (before,) = rig.coordinator.submit(printed("echo x"))
    done_once(rig, before)
    (job_id,) = rig.coordinator.submit(printed(f"echo up >&2; {waiting_for(go)}"))
    # Its sandbox stands: until then a daemon of root needs what lies in that folder (runners.own_copies).
    rig.node.await_printed(job_id, "up")
    how(rig.node.journal_file.parent)
    go.touch()
    done_once(rig, job_id)
    until(lambda: rig.node.log("journal_put_back"), "it was noticed")
    until(lambda: rig.node.status_url() is not None, "the lock file is there")
    page.fine()
    page.close()
    rig.node.restart()
    for known in (before, job_id):
        assert rig.node.events(known)[-1] == "Delivered"
    assert rig.node.events(job_id).count("Launched") == 1
    assert rig.node.log("journal_salvaged") == []
    strangers = list(rig.node.journal_file.parent.glob("*.stranger-*Z"))
    assert len(strangers) == (how is replaced)


def test_a_journal_that_cannot_be_put_back_holds_everything_and_loses_nothing(rig, page):
    go = rig.shown / "go"
    (job_id,) = rig.coordinator.submit(printed(f"echo up >&2; {waiting_for(go)}"))
    # Its sandbox stands: until then a daemon of root needs what lies in that folder (runners.own_copies).
    rig.node.await_printed(job_id, "up")
    state = rig.node.journal_file.parent
    rm_r(state)
    state.write_text("a file in the way")
    trouble = page.told("journal.db was deleted", "don't stop the daemon")
    assert "could not be put back" in trouble
    (waiting,) = rig.coordinator.submit(printed("echo y"))
    go.touch()
    page.told("not pulling")
    still_queued(rig, waiting)
    assert rig.coordinator.outcomes() == []
    state.unlink()
    for one in (job_id, waiting):
        done_once(rig, one)
    page.fine()
    assert rig.node.events(job_id)[0] == "Offered"


def test_a_deleted_lock_keeps_a_second_daemon_out_and_a_deleted_log_comes_back(rig, page):
    lock = rig.node.journal_file.parent / "daemon.lock"
    lock.unlink()
    rig.node.log_file.unlink()
    until(lock.exists, "the lock file is there again")
    until(rig.node.status_url, "and tells where the status page is")
    done_once(rig, rig.coordinator.submit(sh("true"))[0])
    until(lambda: rig.node.log("job_state"), "the log goes on in a new file")
    second = type(rig.node)(
        rig.folder / "second", rig.coordinator.base_url, journal={"path": str(rig.node.journal_file)}
    )
    second.start(wait=False)
    assert second.exit_code() == 4
    page.fine()
