import os
from pathlib import Path

import pytest

from runners import cgroup
from runners.host import HostProblems, parse_version, probe_host, system_folders
from runners.measure import DEPTH_MAX, measure_written
from runners.opening import open_fresh, open_log
from runners.run import Limits

LIMITS = Limits(time_s=1, grace_s=1, memory_mb=64, output_mb=1, log_mb=1, processes=9, nice=5, cpu_threads=3)


@pytest.fixture
def parent(tmp_path):
    """A folder with the kernel's files; each new group has them too, as the kernel would make them."""
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory pids\n")
    return tmp_path


def group_of(parent, *files):
    group = parent / "j-1"
    group.mkdir()
    for name in files:
        (group / name).write_text("")
    return group


def test_limits_are_written(parent):
    names = ("memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.max", "cpu.weight.nice")
    group = group_of(parent, *names)
    assert cgroup.create(parent, "j-1", LIMITS) == group
    assert [(group / name).read_text() for name in names] == ["67108864", "0", "1", "9", "300000 100000", "5"]


def test_limits_that_this_kernel_lacks_are_left_out_but_never_the_needed_ones(parent):
    group = group_of(parent, "memory.max", "memory.oom.group", "pids.max")
    cgroup.create(parent, "j-1", LIMITS)
    assert sorted(path.name for path in group.iterdir()) == ["memory.max", "memory.oom.group", "pids.max"]
    (group / "memory.max").unlink()
    with pytest.raises(FileNotFoundError):
        cgroup.create(parent, "j-1", LIMITS)


@pytest.mark.parametrize("control", ["", "cpu", "memory", "cpu pids"])
def test_a_folder_without_the_controllers_is_refused(parent, control):
    (parent / "cgroup.subtree_control").write_text(control)
    assert "subtree_control lacks" in (cgroup.problem_with(parent) or "")


def test_a_usable_folder_and_none_at_all(parent):
    assert cgroup.problem_with(parent) is None
    assert "no usable cgroup v2" in (cgroup.problem_with(parent / "missing") or "")


def test_usage_and_oom_are_read(parent):
    group = group_of(parent)
    assert cgroup.usage(group) == cgroup.CgroupUsage(None, None)
    assert not cgroup.oom_killed(group)
    (group / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\n")
    (group / "memory.peak").write_text("4096\n")
    (group / "memory.events").write_text("low 0\nmax 12\noom 1\noom_kill 0\n")
    assert cgroup.usage(group) == cgroup.CgroupUsage(1.5, 4096)
    assert not cgroup.oom_killed(group)
    (group / "memory.events").write_text("oom 1\noom_kill 2\n")
    assert cgroup.oom_killed(group)


def test_killing_and_removing(parent):
    group = group_of(parent, "cgroup.kill")
    cgroup.kill(group)
    assert (group / "cgroup.kill").read_text() == "1"
    assert not cgroup.remove(group)  # not empty, as when a process is left
    (group / "cgroup.kill").unlink()
    assert cgroup.remove(group)
    assert cgroup.remove(group)
    cgroup.kill(group)


def test_written_counts_files_once_and_follows_no_link(tmp_path):
    folder = tmp_path / "work"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_bytes(b"x" * 100_000)
    os.link(folder / "a", folder / "sub" / "again")
    (tmp_path / "outside").write_bytes(b"x" * 1_000_000)
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "up").symlink_to(tmp_path)
    found = measure_written([folder, tmp_path / "missing"])
    assert 100_000 <= found.size < 200_000
    assert found.entries == 5
    assert found.excess is None


def test_a_sparse_file_counts_by_its_length(tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10_000_000)
    assert measure_written([tmp_path]).size == 10_000_000


def test_too_many_and_too_deep(tmp_path):
    for i in range(20):
        (tmp_path / str(i)).touch()
    assert measure_written([tmp_path], entries_max=10).excess == "more than 10 files"
    deep = tmp_path / "deep" / "/".join(["d"] * (DEPTH_MAX + 1))
    deep.mkdir(parents=True)
    assert "deep" in (measure_written([tmp_path / "deep"]).excess or "")


def write(fd, text):
    try:
        os.write(fd, text)
    finally:
        os.close(fd)


def test_a_fresh_file_is_emptied_and_private(tmp_path):
    (tmp_path / "out.txt").write_text("longer than before")
    write(open_fresh(tmp_path / "out.txt"), b"new")
    assert (tmp_path / "out.txt").read_text() == "new"
    os.close(open_fresh(tmp_path / "status"))
    assert (tmp_path / "status").stat().st_mode & 0o777 == 0o600


def test_links_pipes_and_second_names_are_refused(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("kept")
    work = tmp_path / "work"
    work.mkdir()
    (work / "link").symlink_to(victim)
    os.link(victim, work / "hard")
    os.mkfifo(work / "fifo")
    for name in ("link", "hard", "fifo"):
        with pytest.raises(OSError, match=r".+"):
            open_fresh(work / name)
    assert victim.read_text() == "kept"


def test_the_log_is_private_and_no_link(tmp_path):
    os.close(open_log(tmp_path / "exec.log"))
    assert (tmp_path / "exec.log").stat().st_mode & 0o777 == 0o600
    (tmp_path / "link").symlink_to(tmp_path / "exec.log")
    with pytest.raises(OSError, match="symbolic"):
        open_log(tmp_path / "link")


def test_system_folders_of_a_merged_and_of_an_old_system(tmp_path):
    (tmp_path / "usr").mkdir()
    (tmp_path / "lib").mkdir()
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "etc/ssl/private").mkdir(parents=True)
    (tmp_path / "etc/ssl/certs").mkdir()
    (tmp_path / "etc/shadow").touch()
    binds, links = system_folders(tmp_path)
    assert [(bind.source, bind.target, bind.writable) for bind in binds] == [
        (tmp_path / "usr", "/usr", False),
        (tmp_path / "lib", "/lib", False),
        (tmp_path / "etc/ssl/certs", "/etc/ssl/certs", False),
    ]
    assert links == (("usr/bin", "/bin"),)


@pytest.mark.parametrize(
    ("text", "version"),
    [("bubblewrap 0.8.0", (0, 8, 0)), ("bubblewrap 0.11\n", (0, 11)), ("", ()), ("none", ())],
)
def test_versions(text, version):
    assert parse_version(text) == version


def test_a_machine_without_the_programs_says_what_to_install(tmp_path):
    found = probe_host(search_path=str(tmp_path))
    assert isinstance(found, HostProblems)
    assert any("apt install util-linux" in problem for problem in found.problems)


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "apt install bubblewrap"),
        ("echo bubblewrap 0.4.1", "0.8 or newer"),
        (
            '[ "$1" = --version ] && echo bubblewrap 0.8.0 && exit; echo No permissions >&2; exit 1',
            "No permissions",
        ),
        ('[ "$1" = --version ] && echo bubblewrap 0.8.0 && exit; exit 1', "max_user_namespaces"),
    ],
)
def test_an_unusable_bwrap_says_what_to_do(tmp_path, text, says):
    for name in ("sh", "choom", "nice", "ionice", "prlimit", "timeout", "env", "setpriv"):
        script(tmp_path / name, "exit 0")
    if text is not None:
        script(tmp_path / "bwrap", text)
    found = probe_host(search_path=str(tmp_path))
    assert isinstance(found, HostProblems)
    assert says in found.problems[0]
    chosen = probe_host("none", search_path=str(tmp_path))
    assert not isinstance(chosen, HostProblems)
    assert chosen.backend == "none"
