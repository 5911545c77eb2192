"""The machine's facts, from trees of files that look like /proc, /sys and /etc."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_miner.probe import HostProbe
from fsm_miner.probe.cgroup_limits import CgroupLimits, cgroup_limits
from fsm_miner.probe.host import cores
from fsm_miner.probe.sysfile import read_number, read_text

GIB = 1 << 30


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def probe(tmp_path):
    write(
        tmp_path / "proc/meminfo", "MemTotal:       65536000 kB\nMemFree: 1 kB\nMemAvailable:   32768000 kB\n"
    )
    write(tmp_path / "proc/cpuinfo", "processor\t: 0\nmodel name\t: Some CPU 3000\n\nprocessor\t: 1\n")
    write(tmp_path / "proc/loadavg", "0.50 1.25 2.00 1/234 5678\n")
    write(tmp_path / "etc/os-release", 'NAME="Debian GNU/Linux"\nID=debian\nVERSION_ID="12"\n')
    return HostProbe(
        workspace=tmp_path,
        proc=tmp_path / "proc",
        sysfs=tmp_path / "sys",
        etc=tmp_path / "etc",
        affinity=lambda: 16,
        arch="x86_64",
    )


def test_a_plain_machine(probe, tmp_path):
    facts = probe.read()
    disk = os.statvfs(tmp_path)
    assert (facts.cores, facts.arch, facts.cpu_model, facts.os_id) == (
        16,
        "x86_64",
        "Some CPU 3000",
        "debian",
    )
    assert (facts.memory_mb, facts.memory_free_mb) == (64000, 32000)
    assert facts.load == (0.5, 1.25, 2.0)
    # Other processes write to this disk too; a hundredth of it is far more than they do in between.
    assert (
        abs(facts.disk_free_mb - disk.f_bavail * disk.f_frsize // 2**20)
        <= disk.f_blocks * disk.f_frsize / 1e8
    )


def test_this_machine(tmp_path):
    facts = HostProbe(tmp_path).read()
    assert 1 <= facts.cores <= (os.cpu_count() or 1)
    assert 0 < facts.memory_free_mb <= facts.memory_mb
    assert facts.arch == os.uname().machine


def test_a_cgroup_narrows_cores_and_memory(probe, tmp_path):
    write(tmp_path / "proc/self/cgroup", "0::/aitbcminer.slice/aitbc-miner.service\n")
    slice_ = tmp_path / "sys/fs/cgroup/aitbcminer.slice"
    write(slice_ / "cpu.max", "350000 100000\n")
    write(slice_ / "memory.max", f"{8 * GIB}\n")
    write(slice_ / "aitbc-miner.service/cpu.max", "max 100000\n")
    facts = probe.read()
    assert facts.cores == 3
    assert (facts.memory_mb, facts.memory_free_mb) == (8192, 8192)


def test_no_meminfo_says_what_is_missing(probe, tmp_path):
    write(tmp_path / "proc/meminfo", "nothing here\n")
    with pytest.raises(OSError, match="MemTotal and MemAvailable"):
        probe.read()


def test_a_missing_workspace_is_an_error(probe, tmp_path):
    with pytest.raises(FileNotFoundError):
        HostProbe(tmp_path / "absent", proc=probe.proc).read()


def test_sparse_systems_have_no_model_and_no_id(probe, tmp_path):
    (tmp_path / "proc/cpuinfo").unlink()
    (tmp_path / "etc/os-release").unlink()
    facts = probe.read()
    assert (facts.cpu_model, facts.os_id) == (None, None)


def test_cgroup_limits_of_version_1_in_a_container(tmp_path):
    """The path in /proc/self/cgroup is the host's; the limit stands at the root that the container sees."""
    write(tmp_path / "proc/self/cgroup", "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n")
    write(tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes", f"{2 * GIB}\n")
    write(tmp_path / "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "150000\n")
    write(tmp_path / "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    assert cgroup_limits(tmp_path / "proc", tmp_path / "sys") == CgroupLimits(1.5, 2 * GIB)


def test_cgroup_version_1_without_limits(tmp_path):
    write(tmp_path / "proc/self/cgroup", "4:memory:/\n1:cpu:/\n")
    write(tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert cgroup_limits(tmp_path / "proc", tmp_path / "sys") == CgroupLimits()


def test_a_cgroup_path_never_leaves_the_cgroup_tree(tmp_path):
    write(tmp_path / "proc/self/cgroup", "0::/../../outside\n")
    write(tmp_path / "sys/outside/cpu.max", "100000 100000\n")
    (tmp_path / "sys/fs/cgroup/unified").mkdir(parents=True)
    assert cgroup_limits(tmp_path / "proc", tmp_path / "sys") == CgroupLimits()


@given(affinity=st.integers(1, 4096), quota=st.none() | st.floats(0.001, 4096))
def test_cores_are_never_more_than_there_are(affinity, quota):
    assert 1 <= cores(affinity, quota) <= affinity
    assert quota is None or cores(affinity, quota) <= max(1, quota)


@pytest.mark.parametrize(
    ("text", "number"), [("12\n", 12), ("", None), ("-1", None), ("max", None), ("²", None), ("9" * 20, None)]
)
def test_a_number_is_a_number_or_none(tmp_path, text, number):
    write(tmp_path / "file", text)
    assert read_number(tmp_path / "file") == number


def test_a_folder_or_nothing_reads_as_none(tmp_path):
    assert read_text(tmp_path) is None
    assert read_text(tmp_path / "absent") is None
