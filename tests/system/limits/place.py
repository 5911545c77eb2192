"""Where the cases are played: cgroups as the two units would have them, disks, swap, a loopback; a run in there."""

import asyncio
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsm_miner.site.cgroups import JOBS_UNIT, SLICE, find_parent
from runners import cgroup_counts as counts
from runners.cgroup import remove
from runners.host import HostProblems, HostTools, probe_host
from runners.launch import Launched, launch
from runners.lock import LockState, look
from runners.meter import UsageMeter
from runners.run import Limits, RunPaths, RunSpec
from runners.stop import StopOutcome, stop
from runners.verdict import verdict
from runners.wait import wait_end
from runners.watch import Breach, monitor

ROOT = Path("/sys/fs/cgroup")
PARENT = ROOT / SLICE / JOBS_UNIT
OWN = ROOT / SLICE / "aitbc-miner.service"
CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")
WORKSPACE = Path("/run/t")
SLOW = Path("/run/slow")
"""A folder on a disk that does so many requests a second, and no more."""
MIB = 1024 * 1024
# Everything is emulated, and the machine that emulates it is shared.
DEADLINE_S = 120.0


def until(ask: Callable[[], Any], what: str) -> Any:
    """Ask until the answer is true, and return it."""
    end = time.monotonic() + DEADLINE_S
    while not (answer := ask()):
        assert time.monotonic() < end, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.02)
    return answer


def read(group: Path, name: str) -> str:
    return (group / name).read_text().strip()


def pairs(group: Path, name: str) -> dict[str, int]:
    return {key: int(value) for key, value in (line.split() for line in read(group, name).splitlines())}


def disk(group: Path, name: str) -> int:
    """Return one field of io.stat, added up over the disks."""
    words = [word for line in read(group, "io.stat").splitlines() for word in line.split()[1:]]
    return sum(int(value) for key, _, value in (word.partition("=") for word in words) if key == name)


class Started:
    """A run in a cgroup of its own."""

    def __init__(self, folder: Path, host: HostTools, script: str, **limits: Any) -> None:
        parts = [folder / part for part in ("work", "input", "output", "control")]
        for part in parts:
            part.mkdir(parents=True)
        work, inputs, output, control = parts
        fields = {"time_s": 300, "grace_s": 1, "memory_mb": 48, "output_mb": 200, "log_mb": 5, **limits}
        self.limits = Limits(**fields)
        spec = RunSpec(
            name=f"{folder.name}.run-1",
            run=1,
            argv=("/bin/sh", "-c", script),
            env={"PATH": "/usr/bin:/bin"},
            paths=RunPaths(work, inputs, output, folder / "exec.log", control),
            limits=self.limits,
        )
        self.launched: Launched = launch(spec, host, cgroup_parent=PARENT)
        assert self.launched.cgroup is not None
        self.group = self.launched.cgroup
        self.files = self.launched.files
        until(lambda: read(self.group, "cgroup.procs") or not self.lives(), "the run is in its cgroup")

    def lives(self) -> bool:
        return look(self.files.lock) is LockState.HELD

    def log(self) -> str:
        return self.files.log.path.read_text()

    def printed(self, text: str) -> str:
        """Wait until it has printed this, and return all that it has."""
        until(lambda: text in self.log() or not self.lives(), f"{text} is printed")
        assert text in self.log(), self.log()
        return self.log()

    def end(self) -> Any:
        """Wait for the end; return what it means, as the daemon would say."""
        ended = asyncio.run(wait_end(self.files, child=self.launched.pid))
        return verdict(
            ended.exit_code,
            oom_killed=counts.oom(self.group) is counts.Oom.OWN,
            same_boot=True,
            elapsed_s=1,
            time_limit_s=300,
        )

    def watch(self) -> tuple[Breach | None, UsageMeter]:
        meter = UsageMeter()
        watching = monitor(self.files, self.limits, self.launched.started_boottime_ns, meter)
        return asyncio.run(watching), meter

    def used(self) -> dict[str, Any]:
        """Return what the kernel counted, as the result would have it."""
        meter = UsageMeter()
        meter.note_cgroup(self.files)
        return meter.usage.to_json()

    def stop(self) -> StopOutcome:
        return asyncio.run(stop(self.files, 0))

    def gone(self) -> None:
        """Wait for the end, again if need be: nothing is left in the cgroup, and it can be removed."""
        asyncio.run(wait_end(self.files, child=self.launched.pid))
        until(lambda: pairs(self.group, "cgroup.events")["populated"] == 0, "the cgroup is empty")
        assert remove(self.group)


class Place:
    """Starts runs, and leaves none."""

    def __init__(self) -> None:
        host, bare = probe_host(), probe_host("none")
        assert not isinstance(host, HostProblems), host.problems
        assert not isinstance(bare, HostProblems), bare.problems
        self.host = host
        self.bare = bare

    @contextmanager
    def run(
        self, name: str, script: str, *, folder: Path = WORKSPACE, bare: bool = False, **limits: Any
    ) -> Iterator[Started]:
        """Start a run; at the end it is stopped, and its cgroup goes."""
        run = Started(folder / name, self.bare if bare else self.host, script, **limits)
        try:
            yield run
        finally:
            run.stop()
            run.gone()
            shutil.rmtree(folder / name)


def enable(group: Path, *controllers: str) -> None:
    """Turn on the controllers for what is below."""
    (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))


def make_place() -> Place:
    """Make what the units, systemd and the installer would."""
    for group in (ROOT, ROOT / SLICE):
        group.mkdir(exist_ok=True)
        enable(group, *CONTROLLERS)
    OWN.mkdir()
    PARENT.mkdir()
    enable(PARENT, *CONTROLLERS)
    (OWN / "cgroup.procs").write_text("0")
    assert find_parent() == (PARENT, None)
    _disks()
    _loopback_up()
    return Place()


def _disks() -> None:
    for name, folder in (("vda", WORKSPACE), ("vdb", SLOW)):
        Path(f"/sys/block/{name}/queue/scheduler").write_text("bfq")
        _do("mkfs.ext4", "-q", f"/dev/{name}")
        folder.mkdir()
        _do("mount", "-o", "noatime", f"/dev/{name}", str(folder))
    _do("mkswap", "/dev/vdc")
    _do("swapon", "/dev/vdc")


def _do(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"


def _loopback_up() -> None:
    """Do what `ip link set lo up` does (netdevice(7)): SIOCSIFFLAGS with IFF_UP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", 1))


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """Mount something there, and take it away again."""
    folder.mkdir(exist_ok=True)
    _do("mount", *options, str(folder))
    try:
        yield folder
    finally:
        _do("umount", str(folder))


def as_nobody(ask: Callable[[], Any]) -> None:
    """Have a child of another user ask, who must find it true."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgid(65534)
            os.setuid(65534)
            code = 0 if ask() else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
