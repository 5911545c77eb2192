"""What is tried inside the machine that `test_cgroup_limits.py` boots: each case as a function, each result as a line.

Without systemd: the cgroups that its two units would have are made here, and this program moves itself to where the
daemon would be.
"""

import asyncio
import ctypes
import fcntl
import json
import os
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fsm_miner.site.cgroups import JOBS_UNIT, SLICE, RunCgroups, find_parent
from journal.port import StreamKey
from runners import cgroup_counts as counts
from runners.cgroup import groups_below, populated, remove
from runners.cgroup_lacks import lacks
from runners.host import HostProblems, HostTools, probe_host
from runners.launch import Launched, launch
from runners.lock import LockState, look
from runners.run import Limits, RunPaths, RunSpec
from runners.stop import StopOutcome, end_strays, stop
from runners.verdict import Exited, OutOfMemory, Signalled, verdict
from runners.wait import wait_end
from runners.watch import Breach, BreachKind, UsageMeter, monitor

REPOSITORY = Path(__file__).parents[3]
PARENT = Path("/sys/fs/cgroup") / SLICE / JOBS_UNIT
OWN = Path("/sys/fs/cgroup") / SLICE / "aitbc-miner.service"
MIB = 1024 * 1024
DEADLINE_S = 40.0
HOG = "head -c 300000000 /dev/zero | tail -c 250000000 > /dev/null"


def until(ask: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + DEADLINE_S
    while not (answer := ask()):
        assert time.monotonic() < end, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.02)
    return answer


def read(group: Path, name: str) -> str:
    return (group / name).read_text().strip()


def pairs(group: Path, name: str) -> dict[str, int]:
    return {key: int(value) for key, value in (line.split() for line in read(group, name).splitlines())}


class Started:
    """A run in a cgroup of its own."""

    def __init__(self, folder: Path, host: HostTools, script: str, **limits: Any) -> None:
        parts = [folder / part for part in ("work", "input", "output", "control")]
        for part in parts:
            part.mkdir(parents=True)
        work, inputs, output, control = parts
        fields = {"time_s": 120, "grace_s": 1, "memory_mb": 48, "output_mb": 50, "log_mb": 5, **limits}
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

    def printed(self, text: str) -> None:
        until(lambda: text in self.files.log.read_text(), f"{text} is printed")

    def end(self) -> Any:
        """Wait for the end; return what it means, as the daemon would say."""
        ended = asyncio.run(wait_end(self.files, child=self.launched.pid))
        return verdict(
            ended.exit_code,
            oom_killed=counts.oom(self.group) is counts.Oom.OWN,
            same_boot=True,
            elapsed_s=1,
            time_limit_s=120,
        )

    def watch(self) -> tuple[Breach | None, UsageMeter]:
        meter = UsageMeter()
        watching = monitor(self.files, self.limits, self.launched.started_boottime_ns, meter)
        return asyncio.run(watching), meter

    def stop(self) -> StopOutcome:
        return asyncio.run(stop(self.files, 0))

    def gone(self) -> None:
        """Nothing is left in the cgroup, and it can be removed."""
        asyncio.run(wait_end(self.files, child=self.launched.pid))
        until(lambda: pairs(self.group, "cgroup.events")["populated"] == 0, "the cgroup is empty")
        assert remove(self.group)


class Cases:
    """Each public method is a case; what it returns is told."""

    def __init__(self, folder: Path) -> None:
        host = probe_host()
        assert not isinstance(host, HostProblems), host.problems
        self.host = host
        self.folder = folder

    def run(self, name: str, script: str, **limits: Any) -> Started:
        return Started(self.folder / name, self.host, script, **limits)

    def limits_are_in_force(self) -> dict[str, Any]:
        run = self.run("limits", "sleep 300", memory_mb=64, processes=50, nice=10, cpu_threads=1, swap_mb=8)
        try:
            names = "memory.max memory.high memory.swap.max memory.oom.group pids.max cpu.max cpu.weight.nice"
            found = {name: read(run.group, name) for name in names.split()}
            assert found == {
                "memory.max": str(64 * MIB),
                "memory.high": str(64 * MIB - MIB // 2),
                "memory.swap.max": str(8 * MIB),
                "memory.oom.group": "1",
                "pids.max": "50",
                "cpu.max": "100000 100000",
                "cpu.weight.nice": "10",
            }
            if (run.group / "cpuset.cpus").exists():
                assert read(run.group, "cpuset.cpus.effective") == "0"
            # All of it is in there: timeout, two bwrap, the shell, sleep; and we are not.
            inside = read(run.group, "cgroup.procs").split()
            assert str(os.getpid()) not in inside
            until(
                lambda: len(read(run.group, "cgroup.procs").split()) >= 4, "the whole chain is in the cgroup"
            )
        finally:
            run.stop()
        run.gone()
        return found

    def memory_ends_one_job_only(self) -> dict[str, Any]:
        neighbour = self.run("neighbour", "echo up; sleep 300")
        try:
            neighbour.printed("up")
            hog = self.run("hog", f"{HOG}; echo survived; sleep 300", memory_mb=32)
            assert hog.end() == OutOfMemory()
            assert "survived" not in hog.files.log.read_text()
            meter = UsageMeter()
            meter.note_cgroup(hog.files)
            used = meter.usage.to_json()
            assert 31 <= used["max_rss_mb"] <= 32, used
            assert used["processes_max"] >= 4, used
            assert used["cpu_s"] > 0, used
            assert neighbour.lives()
            assert counts.oom(neighbour.group) is counts.Oom.NONE
            hog.gone()
        finally:
            neighbour.stop()
        neighbour.gone()
        return used

    def memory_that_was_not_the_jobs_is_not_held_against_it(self) -> dict[str, Any]:
        (PARENT / "memory.max").write_text(str(40 * MIB))
        try:
            run = self.run("innocent", f"{HOG}; sleep 300", memory_mb=400)
            end = run.end()
        finally:
            (PARENT / "memory.max").write_text("max")
        assert counts.oom(run.group) is counts.Oom.OUTSIDE, read(run.group, "memory.events")
        assert end != OutOfMemory()
        run.gone()
        return {"verdict": repr(end)}

    def the_quota_holds_back(self) -> dict[str, Any]:
        spin = "while :; do :; done"
        run = self.run("spin", f"{spin} & {spin}", cpu_threads=1)
        try:
            until(lambda: pairs(run.group, "cpu.stat")["nr_periods"] > 0, "the quota is counted")
            # This machine has one processor, so one thread's worth is all there is: take some of it away.
            (run.group / "cpu.max").write_text("20000 100000")
            before = pairs(run.group, "cpu.stat")["nr_throttled"]
            until(
                lambda: pairs(run.group, "cpu.stat")["nr_throttled"] > before + 2, "the quota holds it back"
            )
            used = counts.usage(run.group)
            assert used.throttled_s is not None
            assert used.throttled_s > 0
        finally:
            run.stop()
        run.gone()
        return {"throttled_s": used.throttled_s}

    def a_kill_ends_everything(self) -> dict[str, Any]:
        bare = probe_host("none")
        assert not isinstance(bare, HostProblems), bare.problems
        # Without a sandbox nothing but the cgroup holds them together: not the session, not the parent.
        script = (
            "trap '' TERM HUP; (setsid sh -c 'trap \"\" TERM; echo far; sleep 300' &) ; echo near; sleep 300"
        )
        run = Started(self.folder / "escape", bare, script)
        run.printed("far")
        run.printed("near")
        inside = [int(pid) for pid in read(run.group, "cgroup.procs").split()]
        assert len(inside) >= 4, inside
        assert run.stop() is StopOutcome.KILLED
        assert run.end() != Signalled(15)
        run.gone()
        # One that gives the lock away is still in the cgroup when the run counts as over.
        giver = (
            "(setsid sh -c 'exec 3>&- 4>&- 5>&-; echo far; exec sleep 300' &) ; "
            "while ! test -e go; do sleep 0.1; done"
        )
        away = Started(self.folder / "away", bare, giver)
        away.printed("far")
        (away.files.work / "go").touch()
        assert away.end() == Exited(0)
        assert populated(away.group)
        asyncio.run(end_strays(away.files))
        assert not populated(away.group)
        away.gone()
        return {"killed": len(inside)}

    def leftovers_are_swept(self) -> dict[str, Any]:
        cgroups = RunCgroups(self.host)
        for name in ("over.run-1", "live.run-2", "stranger.run-1", "over.run-2"):
            (PARENT / name).mkdir()
        busy = self.run("busy", "sleep 300")
        known = {StreamKey("over", 1), StreamKey("live", 1), StreamKey("busy", 1)}
        first = cgroups.sweep(cgroups.groups(), known, {"live.run-2"})
        again = cgroups.sweep(cgroups.groups(), known, {"live.run-2"})
        assert (sorted(first[0]), first[1]) == (["over.run-1", "over.run-2"], [])
        assert again == ([], ["busy.run-1", "stranger.run-1"])
        assert busy.lives()
        busy.stop()
        busy.gone()
        assert sorted(path.name for path in groups_below(PARENT)) == ["live.run-2", "stranger.run-1"]
        assert all(map(remove, groups_below(PARENT)))
        return {}

    def a_daemon_killed_before_the_end_is_durable_loses_no_evidence(self) -> dict[str, Any]:
        # Late, because the other cases need nothing of it.
        from tests.integration.daemon.rig import Rig, sh  # noqa: PLC0415

        rig = Rig(self.folder / "rig")
        node, coordinator = rig.node, rig.coordinator
        try:
            node.env["FSM_MINER_FAULT"] = "before journal.append:Ended+OutcomeKnown@hog"
            node.start()
            health = node.health()
            missing = lacks(PARENT)
            assert {"cgroup-v2", *(lack.tag for lack in missing)} <= set(health["isolation"]), health
            assert health["isolation_lacks"] == [lack.meaning for lack in missing], health
            over = coordinator.run(sh("exit 0", job_id="over"))
            assert over["state"] == "done", over
            assert not (PARENT / "over.run-1").exists()
            coordinator.submit(sh(HOG, job_id="hog", requirements={"memory_mb": 32}))
            assert node.exit_code() == -9
            group = PARENT / "hog.run-1"
            assert "Ended" not in node.events("hog")
            assert counts.oom(group) is counts.Oom.OWN
            (PARENT / "over.run-1").mkdir()  # as a crash between record and removal leaves it
            node.env.clear()
            node.start()
            view = coordinator.wait("hog")
            body = view["outcomes"][-1]["body"]
            assert (body["error_code"], body["retryable"]) == ("E_OOM", False), body
            until(lambda: not groups_below(PARENT), "no cgroup is left")
            ended = node.await_event("hog", "Ended")[0].data
            assert ended["usage"]["max_rss_mb"] >= 31, ended
        finally:
            rig.close()
        return {"error": body["error_msg"], "usage": ended["usage"], "isolation": health["isolation"]}

    def a_fork_bomb_is_bounded_and_ended(self) -> dict[str, Any]:
        run = self.run("bomb", "echo up; b() { b | b & }; b; while :; do b; sleep 0.1; done", processes=30)
        breach, meter = run.watch()
        assert breach is not None
        assert breach.kind is BreachKind.PROCESSES, breach
        assert run.stop() in {StopOutcome.KILLED, StopOutcome.NOT_RUNNING}
        assert int(read(run.group, "pids.peak")) <= 30
        run.gone()
        return {"message": breach.message, "usage": meter.usage.to_json()}


def enable(group: Path) -> None:
    """Turn on all that the jobs' unit asks for and this kernel has."""
    there = set(read(group, "cgroup.controllers").split()) & {"cpu", "cpuset", "io", "memory", "pids"}
    assert {"cpu", "io", "memory", "pids"} <= there, there
    (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(there)))


def make_place() -> None:
    root = Path("/sys/fs/cgroup")
    for group in (root, root / SLICE):
        group.mkdir(exist_ok=True)
        enable(group)
    OWN.mkdir()
    PARENT.mkdir()
    enable(PARENT)
    (OWN / "cgroup.procs").write_text("0")
    assert find_parent() == (PARENT, None)


def loopback_up() -> None:
    """Do what `ip link set lo up` does (netdevice(7)): SIOCSIFFLAGS with IFF_UP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", 1))


def main(results: Path, wanted: list[str]) -> None:
    sys.path.append(str(REPOSITORY))
    make_place()
    loopback_up()
    cases = Cases(Path("/run/t"))
    names = wanted or [name for name in vars(Cases) if not name.startswith("_") and name != "run"]
    for name in names:
        began = time.monotonic()
        told: dict[str, Any] = {}
        problem = ""
        try:
            told = getattr(cases, name)()
        except Exception:  # noqa: BLE001 - it is told outside
            problem = traceback.format_exc()
        line = {"name": name, "problem": problem, "told": told, "seconds": round(time.monotonic() - began, 2)}
        with results.open("a") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2:])
    finally:
        os.sync()
        ctypes.CDLL(None).reboot(0x4321FEDC)  # power off: reboot(2)
