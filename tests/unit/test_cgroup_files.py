"""A run's cgroup as files: what is written into it, and what is read from it. The kernel's part is tried elsewhere."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners import cgroup
from runners import cgroup_counts as counts
from runners.cgroup_cpus import choose_cpus, format_cpus, parse_cpus
from runners.cgroup_lacks import lacks
from runners.log import RunLog
from runners.meter import UsageMeter
from runners.run import Limits, RunFiles
from runners.series import UsageSeries, parse_lines
from runners.watch import processes_breach

MIB = 1024 * 1024
NAME = "j-1.run-1"
ALL = {
    "memory.max": str(64 * MIB),
    "memory.high": str(64 * MIB - MIB // 2),
    "memory.swap.max": "0",
    "memory.oom.group": "1",
    "pids.max": "9",
    "cpu.max": "300000 100000",
    "cpu.weight.nice": "5",
    "io.weight": "50",
    "io.bfq.weight": "50",
}
COUNTERS = ("memory.peak", "pids.peak", "io.stat", "cgroup.kill", "cpuset.cpus")


def limits(**changes):
    fields = {
        "time_s": 1,
        "grace_s": 1,
        "memory_mb": 64,
        "output_mb": 1,
        "log_mb": 1,
        "processes": 9,
        "nice": 5,
    }
    return Limits(**{**fields, "cpu_threads": 3, **changes})


@pytest.fixture
def parent(tmp_path):
    """A folder with the kernel's files, where everything can be had."""
    for control in ("cgroup.subtree_control", "cgroup.controllers"):
        (tmp_path / control).write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cpuset.cpus.effective").write_text("0-3\n")
    for name in (*ALL, *COUNTERS):
        (tmp_path / name).write_text("")
    for name in ("cpu", "memory", "io"):
        (tmp_path / f"{name}.pressure").write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
    return tmp_path


@pytest.fixture
def sysfs(tmp_path_factory):
    """A /sys with two disks, of which one goes by weights."""
    root = tmp_path_factory.mktemp("sys")
    for disk, scheduler in (("sda", "none [bfq]"), ("sdb", "[mq-deadline] none")):
        queue = root / "block" / disk / "queue"
        queue.mkdir(parents=True)
        (queue / "scheduler").write_text(f"{scheduler}\n")
    return root


def group_of(parent, *files, name=NAME):
    """Make a cgroup with these files in it, as the kernel would have made them."""
    group = parent / name
    group.mkdir()
    for file in files:
        (group / file).write_text("")
    return group


# Written.


def test_limits_are_written(parent):
    group = group_of(parent, *ALL)
    assert cgroup.create(parent, NAME, limits()) == group
    assert {name: (group / name).read_text() for name in ALL} == ALL


def test_limits_that_this_kernel_lacks_are_left_out_but_never_the_needed_ones(parent):
    group = group_of(parent, "memory.max", "pids.max")
    cgroup.create(parent, NAME, limits())
    assert sorted(path.name for path in group.iterdir()) == ["memory.max", "pids.max"]
    (group / "memory.max").unlink()
    with pytest.raises(FileNotFoundError):
        cgroup.create(parent, NAME, limits())


def test_without_threads_there_is_no_quota_and_no_affinity(parent):
    group = group_of(parent, *ALL, "cpuset.cpus")
    cgroup.create(parent, NAME, limits(cpu_threads=None))
    assert (group / "cpu.max").read_text() == ""
    assert (group / "cpuset.cpus").read_text() == ""


@pytest.mark.parametrize(
    ("io_class", "level", "weight"),
    [("best-effort", 0, "200"), ("best-effort", 4, "100"), ("best-effort", 7, "25"), ("idle", 0, "1")],
)
def test_the_io_priority_becomes_a_weight(parent, io_class, level, weight):
    group = group_of(parent, *ALL)
    cgroup.create(parent, NAME, limits(io_class=io_class, io_level=level, swap_mb=2))
    assert (group / "io.weight").read_text() == weight
    assert (group / "memory.swap.max").read_text() == str(2 * MIB)


@pytest.mark.parametrize("control", ["", "cpu", "memory", "cpu pids"])
def test_a_folder_without_the_controllers_is_refused(parent, control):
    (parent / "cgroup.subtree_control").write_text(control)
    assert "subtree_control lacks" in (cgroup.problem_with(parent) or "")


def test_a_usable_folder_and_none_at_all(parent):
    assert cgroup.problem_with(parent) is None
    assert "no usable cgroup v2" in (cgroup.problem_with(parent / "missing") or "")


def test_killing_and_removing(parent):
    group = group_of(parent, "cgroup.kill")
    cgroup.kill(group)
    assert (group / "cgroup.kill").read_text() == "1"
    assert not cgroup.remove(group)  # not empty, as when a process is left
    (group / "cgroup.kill").unlink()
    assert cgroup.remove(group)
    assert cgroup.remove(group)
    cgroup.kill(group)


@pytest.mark.parametrize(
    ("text", "found"), [("populated 1\nfrozen 0\n", True), ("populated 0\nfrozen 1\n", False), ("", False)]
)
def test_whether_anything_is_in_it(parent, text, found):
    group = group_of(parent, "cgroup.events")
    (group / "cgroup.events").write_text(text)
    assert cgroup.populated(group) is found
    assert not cgroup.populated(parent / "missing")


def test_only_runs_are_listed(parent):
    for name in ("holder", "j-1.run-1", "j-1.run-x", "j.run-2.run-30", ".run-1"):
        (parent / name).mkdir()
    (parent / "file.run-1").write_text("")
    assert sorted(path.name for path in cgroup.groups_below(parent)) == ["j-1.run-1", "j.run-2.run-30"]
    assert cgroup.groups_below(parent / "missing") == []


# Processors.


def test_each_run_gets_processors_of_its_own_while_there_are_enough(parent):
    names = [f"j-{n}.run-1" for n in range(4)]
    for name in names:
        group_of(parent, *ALL, "cpuset.cpus", name=name)
        cgroup.create(parent, name, limits(cpu_threads=2))
    given = [(parent / name / "cpuset.cpus").read_text() for name in names]
    assert given == ["0-1", "2-3", "", ""]
    (parent / names[0] / "cpuset.cpus").write_text("")
    assert choose_cpus(parent, names[3], 1) == "0"
    assert choose_cpus(parent, names[1], 3) == "0-2"  # what it has itself is in nobody's way


def test_without_the_controller_no_processor_is_given(parent):
    (parent / "cpuset.cpus.effective").unlink()
    assert choose_cpus(parent, NAME, 1) is None


@given(st.sets(st.integers(0, 300)))
def test_a_list_of_processors_reads_as_it_was_written(cpus):
    assert parse_cpus(format_cpus(sorted(cpus))) == cpus


@pytest.mark.parametrize("text", ["", "\n", "x", "1-", "-2", "0-999999999999"])
def test_what_is_no_list_gives_no_processor(text):
    assert parse_cpus(text) - {1} == set()


# Read.


def test_an_empty_cgroup_tells_nothing(parent):
    assert counts.usage(group_of(parent)) == counts.CgroupUsage()


def test_usage_is_read(parent):
    group = group_of(parent)
    for name, text in {
        "cpu.stat": "usage_usec 1500000\nuser_usec 1\nthrottled_usec 250000\n",
        "memory.peak": "4096\n",
        "memory.stat": "anon 100\nfile 5000\nshmem 20\n",
        "pids.peak": "7\n",
        "io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n9:0 rbytes=1 wbytes=2\n",
        "cpu.pressure": "some avg10=1.53 avg60=0.90 avg300=0.10 total=2500000\nfull avg10=0.00 total=9\n",
    }.items():
        (group / name).write_text(text)
    assert counts.usage(group) == counts.CgroupUsage(1.5, 4096, 120, 0.25, 7, 11, 22, {"cpu": 2.5})
    assert counts.pressure(group) == {"cpu": 1.53}


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ("oom 0\noom_kill 0\n", counts.Oom.NONE),
        ("max 12\noom 1\noom_kill 0\n", counts.Oom.NONE),
        ("oom 1\noom_kill 2\noom_group_kill 1\n", counts.Oom.OWN),
        ("oom 0\noom_kill 2\n", counts.Oom.OUTSIDE),
    ],
)
def test_whose_limit_killed_is_told_apart(parent, events, found):
    group = group_of(parent)
    (group / "memory.events").write_text(events)
    assert counts.oom(group) is found
    assert counts.oom(parent / "missing") is counts.Oom.NONE


@pytest.mark.parametrize("number", [errno.ENODEV, errno.EOPNOTSUPP])
def test_a_cgroup_that_goes_while_it_is_read_tells_nothing(parent, number, monkeypatch):
    def refuse(*_args, **_more):
        raise OSError(number, os.strerror(number))

    group = group_of(parent, "memory.events")
    monkeypatch.setattr(type(group), "read_text", refuse)
    assert counts.oom(group) is counts.Oom.NONE
    assert counts.pressure(group) == {}


def files_of(parent, group):
    path = parent / "run-1.status"
    return RunFiles(path.with_suffix(".lock"), path, RunLog(parent / "log"), parent, parent, group)


def test_the_figures_of_the_kernel_are_in_the_usage(parent):
    group = group_of(parent)
    meter = UsageMeter()
    meter.note_cgroup(files_of(parent, group))
    assert meter.usage.to_json() == {}  # unknown is not nothing
    (group / "cpu.stat").write_text("usage_usec 1500000\nthrottled_usec 250000\n")
    (group / "memory.stat").write_text(f"anon {3 * MIB}\n")  # without memory.peak: as of the looks
    (group / "pids.peak").write_text("7\n")
    (group / "io.stat").write_text(f"8:0 rbytes={MIB} wbytes={2 * MIB}\n")
    (group / "io.pressure").write_text("some avg10=9.50 avg60=0 avg300=0 total=1000\n")
    meter.note_cgroup(files_of(parent, group))
    assert meter.usage.to_json() == {
        "cpu_s": 1.5,
        "max_rss_mb": 3.0,
        "throttled_s": 0.25,
        "processes_max": 7,
        "io_read_mb": 1.0,
        "io_written_mb": 2.0,
        "stalled_s": {"io": 0.001},
    }
    series = UsageSeries(parent / "usage.jsonl", 1, lambda: 1)
    meter.note_in(series, files_of(parent, group))
    (line,) = parse_lines((parent / "usage.jsonl").read_bytes())
    assert (line["memory_mb"], line["io_pressure_pct"]) == (3.0, 9.5)
    assert "cpu_pressure_pct" not in line


def test_a_refused_process_is_a_breach_also_when_the_run_is_over(parent):
    group = group_of(parent, "pids.events")
    assert processes_breach(files_of(parent, group), limits()) is None
    (group / "pids.events").write_text("max 3\n")
    breach = processes_breach(files_of(parent, group), limits())
    assert breach is not None
    assert breach.message == "wanted more than 9 processes and threads"
    assert processes_breach(files_of(parent, None), limits()) is None


# Not to be had.


def test_where_everything_is_there_nothing_lacks(parent, sysfs):
    assert lacks(parent, sysfs) == ()


@pytest.mark.parametrize(
    ("missing", "tags"),
    [
        (["cpuset.cpus"], ["no-cpuset"]),
        (["io.weight"], []),
        (["io.weight", "io.bfq.weight"], ["no-io-weight"]),
        (["memory.swap.max", "memory.peak"], ["no-swap-limit", "no-memory-peak"]),
        (["cpu.pressure", "memory.pressure", "io.pressure"], ["no-pressure"]),
        (["cgroup.kill"], ["no-cgroup-kill"]),
    ],
)
def test_each_file_that_is_missing_is_told(parent, sysfs, missing, tags):
    for name in missing:
        (parent / name).unlink()
    found = lacks(parent, sysfs)
    assert [lack.tag for lack in found] == tags
    assert all(": not in this kernel: " in lack.meaning for lack in found)


def test_each_controller_that_is_missing_is_told(parent, sysfs):
    (parent / "cgroup.subtree_control").write_text("memory pids\n")
    (parent / "cgroup.controllers").write_text("memory pids io\n")
    found = {lack.tag: lack.meaning for lack in lacks(parent, sysfs)}
    assert set(found) == {"no-cpu-quota", "no-cpu-weight", "no-cpuset", "no-io-weight", "no-io-counts"}
    assert "controller io is not enabled for jobs" in found["no-io-weight"]
    assert "controller cpu is not delegated, or not in this kernel" in found["no-cpu-quota"]


def test_a_weight_that_no_disk_goes_by_is_told(parent, sysfs):
    (sysfs / "block" / "sda" / "queue" / "scheduler").write_text("[none] bfq\n")
    (lack,) = lacks(parent, sysfs)
    assert lack.tag == "no-io-weight"
    assert "no disk goes by it" in lack.meaning
    cost = sysfs / "fs" / "cgroup" / "io.cost.qos"
    cost.parent.mkdir(parents=True)
    for text, tags in (("8:0 enable=0 ctrl=auto\n", ["no-io-weight"]), ("8:0 enable=1 ctrl=auto\n", [])):
        cost.write_text(text)
        assert [lack.tag for lack in lacks(parent, sysfs)] == tags


def test_pressure_that_was_turned_off_at_boot_is_told(parent, sysfs):
    for name in ("cpu", "memory", "io"):
        (parent / f"{name}.pressure").write_text("")
    assert [lack.tag for lack in lacks(parent, sysfs)] == ["no-pressure"]
    assert [lack.tag for lack in lacks(parent / "missing", sysfs)] == ["no-cgroup"]
