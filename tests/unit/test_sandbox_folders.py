import os
import subprocess
import sys
from pathlib import Path

import pytest

from fsm_miner.cli.check_host import sandbox_findings
from fsm_miner.cli.finding import Level, Lines
from fsm_miner.site.cgroups import RunCgroups, isolation
from runners.host import HostProblems, parse_version, probe_host
from runners.measure import DEPTH_MAX, measure_written
from runners.opening import open_fresh, open_log
from runners.system_view import system_folders


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
    assert measure_written([tmp_path]).size == 10_000_000 + tmp_path.stat().st_blocks * 512


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
        (
            'case "$*" in --version) echo bubblewrap 0.8.0;; *--seccomp*) exit 1;; esac',
            "CONFIG_SECCOMP_FILTER",
        ),
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


def test_a_machine_that_no_filter_is_known_for_says_so_in_each_place(tmp_path):
    for name in ("sh", "choom", "nice", "ionice", "prlimit", "timeout", "env", "setpriv"):
        script(tmp_path / name, "exit 0")
    script(tmp_path / "bwrap", 'case "$*" in --version) echo bubblewrap 0.8.0;; *--seccomp*) exit 1;; esac')
    host = probe_host(search_path=str(tmp_path), machine="riscv64")
    assert not isinstance(host, HostProblems)
    assert isolation(host, None) == ("sandbox-bubblewrap", "no-seccomp", "memory-watchdog")
    assert "riscv64" in host.lacks[0].meaning
    cgroups = RunCgroups(host, lambda: (None, "there are none"))
    assert cgroups.look().lacks == (host.lacks[0].meaning, "there are none")
    warned = [
        one.message for one in sandbox_findings(host, Lines(Path("/c.yaml"))) if one.level is Level.WARNING
    ]
    assert warned == [f"sandbox: no-seccomp: {host.lacks[0].meaning}"]


def test_where_user_namespaces_are_off_the_probe_says_what_to_allow():
    """Asked by a process in a sandbox, which can make no further one."""
    around = ["bwrap", "--unshare-user", "--disable-userns", "--dev-bind", "/", "/", "--"]
    code = "from runners.host import probe_host; print(*probe_host().problems, sep='\\n')"
    done = subprocess.run(
        [*around, sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert "cannot build a sandbox" in done.stdout, done.stderr
    assert "user.max_user_namespaces" in done.stdout
