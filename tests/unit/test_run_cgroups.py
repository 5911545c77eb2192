"""The node's side of cgroups: where they may be made, what is said of them, that they go neither early nor never."""

import asyncio
import re
from pathlib import Path

import pytest

from fsm_miner.cli.check_host import cgroup_findings
from fsm_miner.cli.finding import Level, Lines
from fsm_miner.clock import SystemClock, SystemDice
from fsm_miner.observer import DaemonObserver
from fsm_miner.site import cgroups
from fsm_miner.site.cgroups import JOBS_UNIT, SLICE, RunCgroups, find_parent, installed_parent, isolation
from fsm_miner.site.process import Processes
from fsm_miner.site.watched import Watched
from journal.port import StreamKey
from runners import cgroup_lacks, host
from runners.log import RunLog
from runners.reserve import DiskReserve
from runners.run import Limits, RunFiles
from states import events as e
from states.job import Job
from states.stimuli import How
from states.table import State

DOCS = Path(__file__).parents[2] / "docs"
LIMITS = Limits(time_s=60, grace_s=1, memory_mb=64, output_mb=1, log_mb=1, processes=9)


@pytest.fixture
def root(tmp_path):
    """A hierarchy with both units, where nothing but the needed controllers is to be had."""
    parent = tmp_path / "cg" / SLICE / JOBS_UNIT
    parent.mkdir(parents=True)
    (tmp_path / "cg" / "cgroup.controllers").write_text("memory pids\n")
    for name in ("cgroup.controllers", "cgroup.subtree_control"):
        (parent / name).write_text("memory pids\n")
    (tmp_path / "cg" / SLICE / "cgroup.procs").write_text("")
    return tmp_path / "cg"


@pytest.fixture
def parent(root):
    return root / SLICE / JOBS_UNIT


def own(root, text):
    path = root.parent / "own"
    path.write_text(text)
    return path


def test_the_place_is_beside_the_daemons_own(root, parent):
    assert find_parent(own(root, f"0::/{SLICE}/aitbc-miner.service\n"), root) == (parent, None)
    assert installed_parent(root) == (parent, None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("4:memory:/\n", "no unified cgroup v2 hierarchy"),
        ("4:memory:/\n0::/\n", "as in a container"),
        ("0::/../elsewhere/a.service\n", "as in a container"),
        ("0::/user.slice/session-1.scope\n", f"{JOBS_UNIT} does not run in "),
    ],
)
def test_why_there_is_none_is_said(root, text, reason):
    parent, absent = find_parent(own(root, text), root)
    assert parent is None
    assert reason in (absent or "")
    look = RunCgroups(None, lambda: (None, absent)).look()
    assert look.tags == ("memory-watchdog",)
    assert look.lacks == (absent,)
    assert "cpu_threads binds nothing" in absent


@pytest.mark.parametrize(("setting", "told"), [("1\n", True), ("0\n", False), (None, False)])
def test_niceness_that_counts_for_nothing_is_said(root, monkeypatch, setting, told):
    file = root / "autogroup"
    if setting is not None:
        file.write_text(setting)
    monkeypatch.setattr(cgroups, "_AUTOGROUP", file)
    assert ("cpu_nice counts within a job only" in find_parent(own(root, "4:memory:/\n"), root)[1]) is told


def test_a_lacking_controller_of_the_needed_ones_is_said(root, parent):
    (parent / "cgroup.subtree_control").write_text("pids\n")
    assert "lacks memory" in (installed_parent(root)[1] or "")


def test_a_slice_that_no_job_can_be_moved_through_is_said(root):
    (root / SLICE / "cgroup.procs").unlink()
    parent, absent = installed_parent(root)
    assert parent is None
    assert "no job can be moved: chown it" in (absent or "")


def test_what_cannot_be_had_is_in_the_tags_and_in_words(parent):
    look = RunCgroups(None, lambda: (parent, None)).look()
    assert look.tags[0] == "cgroup-v2"
    assert {"no-cpu-quota", "no-cpuset", "no-swap-limit", "no-pressure"} <= set(look.tags)
    assert look.tags == isolation(None, parent)
    assert len(look.lacks) == len(look.tags) - 1
    assert RunCgroups(None, lambda: (parent, None)).tags(None) == ("memory-watchdog",)


def test_check_says_the_same(parent, tmp_path):
    lines = Lines(tmp_path / "config.yaml")
    found = list(cgroup_findings((parent, None), lines))
    assert found[0].level is Level.OK
    assert str(parent) in found[0].message
    told = [one.message for one in found[1:] if one.level is Level.WARNING]
    assert told == [f"limits: {lack.tag}: {lack.meaning}" for lack in cgroup_lacks.lacks(parent)]
    (none,) = cgroup_findings((None, "no hierarchy"), lines)
    assert (none.level, none.message) == (Level.WARNING, "limits: no hierarchy")


def test_every_tag_is_documented():
    written = set(re.findall(r"`(no-[a-z-]+)`", (DOCS / "limits.md").read_text(encoding="utf-8")))
    code = "".join(Path(module.__file__).read_text(encoding="utf-8") for module in (cgroup_lacks, host))
    assert written == set(re.findall(r'"(no-[a-z-]+)"', code)) - {"no-cgroup"}


# The evidence.


def a_run(parent, tmp_path):
    """A run that has ended, and what the kernel counted of it."""
    group = parent / "j-1.run-1"
    group.mkdir()
    control = tmp_path / "control"
    control.mkdir()
    log = RunLog(tmp_path / "log")
    files = RunFiles(control / "run-1.lock", control / "run-1.status", log, tmp_path, tmp_path, group)
    for path in (files.lock, files.status, log.path):
        path.touch()
    return Watched("j-1.run-1", files, LIMITS, lambda _log: "")


def a_job(run):
    intent = e.LaunchIntended(1, "boot", str(run.files.lock), str(run.files.cgroup), "/x", "0", 60.0, 64, 1)
    launch = e.Launched(1, None, 0, SystemClock().boot_ns())
    return Job(job_id="j-1", attempt=1, state=State.RUNNING, run=1, intent=intent, launch=launch)


def processes(tmp_path):
    reserve = DiskReserve(tmp_path, 0, 0)
    return Processes(None, lambda: None, "boot", reserve, clock=SystemClock(), dice=SystemDice())


async def nothing(*_args):
    return None


@pytest.mark.parametrize(
    ("events", "how"), [("oom 1\noom_kill 2\n", How.OUT_OF_MEMORY), ("oom 0\noom_kill 2\n", How.LOST)]
)
def test_who_comes_after_a_crash_finds_the_same_end(parent, tmp_path, events, how):
    run = a_run(parent, tmp_path)
    group = run.files.cgroup
    (group / "memory.events").write_text(events)
    (group / "memory.peak").write_text(str(60 * 1024 * 1024))
    first = asyncio.run(processes(tmp_path).watch(a_job(run), run, nothing))
    # The daemon dies here, before the end is durable; another one looks.
    second = asyncio.run(processes(tmp_path).watch(a_job(run), run, nothing))
    assert first.how is second.how is how
    assert first.usage == second.usage
    assert second.usage["max_rss_mb"] == 60.0
    assert first.detail == second.detail != ""


def test_a_refused_process_explains_a_failure_but_spoils_no_success(parent, tmp_path):
    run = a_run(parent, tmp_path)
    (run.files.cgroup / "pids.events").write_text("max 4\n")
    run.files.status.write_text('{"exit-code": 2}\n')
    hit = asyncio.run(processes(tmp_path).watch(a_job(run), run, nothing))
    assert "wanted more than 9 processes" in hit.failure.message
    run.files.status.write_text('{"exit-code": 0}\n')
    assert asyncio.run(processes(tmp_path).watch(a_job(run), run, nothing)).exit_code == 0


class Site:
    """Notes what it is told."""

    def __init__(self):
        self.told = []

    def end_recorded(self, job):
        self.told.append(job.run)

    def snapshot(self, job, extra):
        pass


class Silent:
    """A log, and metrics, that nobody reads."""

    def __getattr__(self, _name):
        return lambda *_args, **_more: self

    events = property(lambda self: self)


def test_the_evidence_goes_when_the_end_is_durable_and_not_before(tmp_path):
    site = Site()
    observer = DaemonObserver(
        site, Silent(), lambda _done: None, forget=lambda _key: None, clock=SystemClock(), log=Silent()
    )
    job = Job(job_id="j-1", attempt=1, state=State.RUNNING, run=1)
    observer.stepped(job, job, [e.Reattached(1, 5)])
    assert site.told == []
    observer.stepped(job, job, [e.Ended(How.EXITED, 0, None, 1, {})])
    assert site.told == [1]


def test_letting_go_again_is_harmless_and_what_lives_is_left(parent, tmp_path):
    run = a_run(parent, tmp_path)
    mine = processes(tmp_path)
    (run.files.cgroup / "alive").touch()  # not empty, as when a process is left
    mine.end_recorded(run.files.cgroup)
    assert run.files.cgroup.exists()
    (run.files.cgroup / "alive").unlink()
    for _ in range(2):
        mine.end_recorded(run.files.cgroup)
    assert not run.files.cgroup.exists()
    mine.end_recorded(None)


def test_the_sweep_takes_what_is_over_and_nothing_else(parent):
    cgroups = RunCgroups(None, lambda: (parent, None))
    names = ("over.run-1", "over~2.run-1", "live.run-2", "stranger.run-1", "stuck.run-1")
    for name in (*names, "holder"):
        (parent / name).mkdir()
    (parent / "stuck.run-1" / "alive").touch()
    known = {StreamKey("over", 1), StreamKey("live", 1), StreamKey("stuck", 1)}

    def sweep():
        return cgroups.sweep(cgroups.groups(), known, {"live.run-2"})

    first, odd = sweep()
    assert "over.run-1" in first
    assert odd == []  # it may just be ending
    _, odd = sweep()
    assert {"stranger.run-1", "stuck.run-1"} <= set(odd)
    assert sweep() == ([], [])  # said once
    assert (parent / "live.run-2").exists()
    assert (parent / "stranger.run-1").exists()
    assert (parent / "holder").exists()
    (parent / "stuck.run-1" / "alive").unlink()
    assert sweep()[0] == ["stuck.run-1"]


def test_one_that_cannot_be_removed_spoils_no_sweep(parent):
    cgroups = RunCgroups(None, lambda: (parent, None))
    (parent / "over.run-1").mkdir()
    (parent / "over.run-2").touch()  # no folder: rmdir(2) refuses it
    groups = [parent / "over.run-2", parent / "over.run-1"]
    assert cgroups.sweep(groups, {StreamKey("over", 1)}, ()) == (["over.run-1"], [])
    assert cgroups.sweep(groups, {StreamKey("over", 1)}, ()) == (["over.run-1"], ["over.run-2"])


def test_without_a_place_there_is_nothing_to_sweep():
    assert RunCgroups(None, lambda: (None, "none")).groups() == []
