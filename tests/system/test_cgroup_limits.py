"""Resource control on Debian's own kernel: limits, weights, processors, pressure, swap, kill, evidence, sweep, lacks.

QEMU boots it with this machine's own file system, read-only, and without systemd. The same with the real systemd and
the package, under User Mode Linux's kernel, is another test. Costs and figures: docs/system-tests.md.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.needs import lacking
from tests.system.kernel import Qemu
from tests.system.limits.cases import ALL

REPOSITORY = Path(__file__).parents[2]
CASES = [case.__name__ for case in ALL]
_DEADLINE_S = 420
_NEEDED = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mkfs.ext4": "e2fsprogs",
    "mkswap": "util-linux",
    "bwrap": "bubblewrap",
}
# The third does three hundred requests a second, so that jobs can keep it busy.
_DISKS = (("workspace", 512, ""), ("slow", 64, ",throttling.iops-total=300"), ("swap", 128, ""))
_INIT = """\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 FSM_MINER_TEST_SLOWNESS=5
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir /dev/shm
mount -t tmpfs tmpfs /dev/shm
# Not exec: the first process of a machine has to reap what the others leave.
'{python}' -P /mnt/play.py
"""
# The repository comes last: what is installed is what is tested.
_PLAY = """\
import sys
from pathlib import Path

sys.path.append({repository!r})
from tests.system.limits.inside import play, power_off

try:
    play(Path("/mnt/results.jsonl"), {cases!r})
finally:
    power_off()
"""


def _unfit():
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = sorted(package for tool, package in _NEEDED.items() if shutil.which(tool, path=path) is None)
    if missing:
        return f"apt install {' '.join(missing)}"
    if os.uname().machine != "x86_64":
        return "the kernel and the emulator are those of x86_64"
    if os.geteuid() != 0:
        return "a machine with this one's file system needs root: its user is root's"
    return None


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each case came to, by its name; and the end of what the machine printed."""
    problem = _unfit()
    if problem is not None:
        lacking(problem)
    shared = tmp_path_factory.mktemp("qemu")
    (shared / "init").write_text(_INIT.format(python=sys.executable))
    (shared / "play.py").write_text(_PLAY.format(repository=str(REPOSITORY), cases=[]))
    disks = []
    for name, size_mb, options in _DISKS:
        with (shared / name).open("wb") as disk:
            disk.truncate(size_mb * 1024 * 1024)
        disks.append(f"file={shared / name}{options}")
    console = shared / "console.txt"
    machine = subprocess.Popen(
        Qemu(shared, console, disks).command(), stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        machine.wait(_DEADLINE_S)
    except subprocess.TimeoutExpired:
        pass  # what there is by then is looked at, and the missing cases say how far it came
    finally:
        if machine.poll() is None:
            os.killpg(machine.pid, signal.SIGKILL)
            machine.wait()
        for name, _, _ in _DISKS:
            (shared / name).unlink()
    lines = shared / "results.jsonl"
    found = (
        {one["name"]: one for one in map(json.loads, lines.read_text().splitlines())}
        if lines.exists()
        else {}
    )
    return found, console.read_text(errors="replace")[-6000:] if console.exists() else ""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", CASES)
def test_limits_on_a_real_kernel(results, case):
    found, console = results
    assert case in found, f"{case} was not reached; the machine's last words:\n{console}"
    print(json.dumps(found[case], indent=1))
    assert found[case]["problem"] == "", found[case]["problem"]
