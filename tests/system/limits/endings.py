"""Cases of how a run ends, and of what is left of it."""

import asyncio
import os
from typing import Any

from fsm_miner.site.cgroups import RunCgroups
from journal.port import StreamKey
from runners import cgroup_counts as counts
from runners.cgroup import groups_below, populated, remove
from runners.cgroup_lacks import lacks
from runners.stop import StopOutcome, end_strays
from runners.verdict import Exited, Signalled
from runners.watch import BreachKind, processes_breach
from tests.integration.daemon.rig import Rig, sh
from tests.system.limits.memory import HOG
from tests.system.limits.place import MIB, PARENT, WORKSPACE, Place, read, until


def limits_are_in_force(place: Place) -> dict[str, Any]:
    with place.run(
        "limits", "sleep 300", memory_mb=64, processes=50, nice=10, cpu_threads=1, swap_mb=8
    ) as run:
        wanted = {
            "memory.max": str(64 * MIB),
            "memory.high": str(64 * MIB - MIB // 2),
            "memory.swap.max": str(8 * MIB),
            "memory.oom.group": "1",
            "pids.max": "50",
            "cpu.max": "100000 100000",
            "cpu.weight.nice": "10",
            "cpuset.cpus.effective": "0",
            "io.weight": "default 50",
        }
        found = {name: read(run.group, name) for name in wanted}
        assert found == wanted
        # All of it is in there: timeout, two bwrap, sleep; and we are not.
        until(lambda: len(read(run.group, "cgroup.procs").split()) >= 4, "the whole chain is in the cgroup")
        assert str(os.getpid()) not in read(run.group, "cgroup.procs").split()
    return found


def a_kill_ends_everything(place: Place) -> dict[str, Any]:
    # Without a sandbox nothing but the cgroup holds them together: not the session, not the parent.
    script = "trap '' TERM HUP; (setsid sh -c 'trap \"\" TERM; echo far; sleep 300' &) ; echo near; sleep 300"
    with place.run("escape", script, bare=True) as run:
        run.printed("far")
        run.printed("near")
        inside = [int(pid) for pid in read(run.group, "cgroup.procs").split()]
        assert len(inside) >= 4, inside
        assert run.stop() is StopOutcome.KILLED
        assert run.end() != Signalled(15)
    # One that gives the lock away is still in the cgroup when the run counts as over.
    giver = (
        "(setsid sh -c 'exec 3>&- 4>&- 5>&-; echo far; exec sleep 300' &) ; "
        "(sh -c 'exec 3>&- 4>&- 5>&-; exec sleep 300' &) ; "
        "while ! test -e go; do sleep 0.1; done"
    )
    with place.run("away", giver, bare=True) as away:
        away.printed("far")
        (away.files.work / "go").touch()
        assert away.end() == Exited(0)
        assert populated(away.group)
        # Again: the number of the child that is gone still names the session of one that is left.
        assert away.end() == Exited(0)
        asyncio.run(end_strays(away.files))
        assert not populated(away.group)
    return {"killed": len(inside)}


def a_fork_bomb_is_bounded_and_ended(place: Place) -> dict[str, Any]:
    bomb = "echo up; b() { b | b & }; b; while :; do b; sleep 0.1; done"
    with (
        place.run("neighbour", "echo up; sleep 300") as neighbour,
        place.run("bomb", bomb, processes=30) as run,
    ):
        neighbour.printed("up")
        breach, meter = run.watch()
        # A shell that can't fork gives up: it may have ended before the next look.
        breach = breach or processes_breach(run.files, run.limits)
        assert breach is not None
        assert breach.kind is BreachKind.PROCESSES, breach
        assert run.stop() in {StopOutcome.KILLED, StopOutcome.NOT_RUNNING}
        assert int(read(run.group, "pids.peak")) <= 30
        assert neighbour.lives()
        assert not counts.processes_refused(neighbour.group)
    return {"message": breach.message, "usage": meter.usage.to_json()}


def leftovers_are_swept(place: Place) -> dict[str, Any]:
    cgroups = RunCgroups(place.host)
    for name in ("over.run-1", "live.run-2", "stranger.run-1", "over.run-2"):
        (PARENT / name).mkdir()
    with place.run("busy", "sleep 300") as busy:
        known = {StreamKey("over", 1), StreamKey("live", 1), StreamKey("busy", 1)}
        first = cgroups.sweep(cgroups.groups(), known, {"live.run-2"})
        again = cgroups.sweep(cgroups.groups(), known, {"live.run-2"})
        assert (sorted(first[0]), first[1]) == (["over.run-1", "over.run-2"], [])
        assert again == ([], ["busy.run-1", "stranger.run-1"])
        assert busy.lives()
    assert sorted(path.name for path in groups_below(PARENT)) == ["live.run-2", "stranger.run-1"]
    assert all(map(remove, groups_below(PARENT)))
    return {}


def a_daemon_killed_before_the_end_is_durable_loses_no_evidence(place: Place) -> dict[str, Any]:
    rig = Rig(WORKSPACE / "rig")
    node, coordinator = rig.node, rig.coordinator
    try:
        node.env["FSM_MINER_FAULT"] = "before journal.append:Ended+OutcomeKnown@hog"
        node.start()
        health = node.health()
        # Everything is there, and it says so.
        assert lacks(PARENT) == ()
        assert health["isolation"] == ["sandbox-bubblewrap", "seccomp", "cgroup-v2"], health
        assert health["isolation_lacks"] == [], health
        over = coordinator.run(sh("nproc", job_id="over", requirements={"cpu_threads": 1}))
        assert over["state"] == "done", over
        assert coordinator.log_of("over").split()[-1] == "1"
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
        assert set(ended["usage"]["stalled_s"]) == {"cpu", "memory", "io"}, ended
    finally:
        rig.close()
    return {"error": body["error_msg"], "usage": ended["usage"], "isolation": health["isolation"]}
