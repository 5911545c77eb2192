"""The kernel's limits: there, as asked for, and in force. What breaks one harms nobody else."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from world import World, cgroup_of, main_pid, processes_of, until

_MIB = 1024 * 1024


def python_task(world: World) -> dict[str, Any]:
    """Run a Python task that the package ships."""
    job_id = world.submit_task("example", {"algorithm": "sha256"})
    view = world.wait(job_id)
    assert view["state"] == "done", view
    return {}


def limits_in_force(world: World) -> dict[str, Any]:
    """Find a running job in a cgroup of its own, with the limits it was given."""
    job_id = world.submit(
        "touch started; while ! test -e go; do :; done; echo done > output.txt",
        requirements={"memory_mb": 64, "cpu_threads": 1},
    )
    folder = world.running(job_id)
    group = cgroup_of(job_id)
    read = {
        name: (group / name).read_text().strip()
        for name in (
            "memory.max",
            "memory.oom.group",
            "pids.max",
            "cpu.max",
            "cpu.weight",
            "cgroup.controllers",
        )
    }
    assert read["memory.max"] == str(64 * _MIB), read
    assert read["memory.oom.group"] == "1", read
    assert int(read["pids.max"]) > 0, read
    # Caches are taken back a little before the limit: 1/128 of it.
    assert int((group / "memory.high").read_text()) == 64 * _MIB - 64 * _MIB // 128
    assert read["cpu.max"] == "100000 100000", read
    # Everything of it is in there, and the daemon is not.
    inside = processes_of(group)
    assert len(inside) >= 2, inside
    assert main_pid() not in inside
    assert _commands(inside) >= {"bwrap", "sh"}, _commands(inside)
    until(lambda: _pairs(group / "cpu.stat")["nr_periods"] > 0, "the quota is counted")
    # In force: half of the job's own limit is taken away, and it is held back at once.
    (group / "cpu.max").write_text("10000 100000")
    until(lambda: _pairs(group / "cpu.stat")["nr_throttled"] > 3, "the quota holds it back")
    (group / "cpu.max").write_text("max 100000")
    (folder / "work" / "go").touch()
    assert world.wait(job_id)["state"] == "done"
    world.no_cgroup_of(job_id)
    return read


def memory_over(world: World) -> dict[str, Any]:
    """A job takes more memory than it may: it ends with E_OOM; its neighbour and the daemon notice nothing."""
    neighbour = world.submit("touch started; while ! test -e go; do sleep 0.2; done; echo done > output.txt")
    folder = world.running(neighbour)
    daemon, before = main_pid(), processes_of(cgroup_of(neighbour))
    # A pipe's reader keeps the last line, and there is only one.
    job_id = world.submit(
        "touch started; head -c 300000000 /dev/zero | tail -c 250000000 > /dev/null; echo no > output.txt",
        requirements={"memory_mb": 48},
    )
    view = world.wait(job_id)
    assert view["state"] == "failed", view
    told = view["outcomes"][-1]["body"]
    assert told["error_code"] == "E_OOM", told
    assert main_pid() == daemon
    # `sleep` comes and goes.
    assert len(set(before) & set(processes_of(cgroup_of(neighbour)))) >= len(before) - 1
    (folder / "work" / "go").touch()
    assert world.wait(neighbour)["state"] == "done"
    world.no_cgroup_of(job_id)
    return {"message": told["error_msg"]}


def processes_over(world: World) -> dict[str, Any]:
    """A job starts more processes than it may: the kernel refuses them, and counts the refusals."""
    job_id = world.submit(
        "touch started; trap '' TERM; while ! test -e go; do sleep 0.2; done; "
        "i=0; while test $i -lt 60; do sleep 30 & i=$((i+1)); done; touch forked; wait"
    )
    folder = world.running(job_id)
    group = cgroup_of(job_id)
    # A bound that can be met without bringing the machine down.
    (group / "pids.max").write_text("20")
    (folder / "work" / "go").touch()

    # The daemon sees the kernel's count of refusals and ends it, and then the cgroup goes: as soon as it likes.
    def gone() -> bool:
        try:
            inside = processes_of(group)
        except OSError:
            return True
        assert len(inside) <= 20, inside
        return False

    until(gone, "it is ended")
    view = world.wait(job_id)
    assert view["state"] == "failed", view
    world.no_cgroup_of(job_id)
    told = view["outcomes"][-1]["body"]
    assert told["error_code"] == "E_OOM", told
    assert "more than" in told["error_msg"], told
    assert "processes" in told["error_msg"], told
    return {"message": told["error_msg"]}


def _pairs(path: Any) -> dict[str, int]:
    return {key: int(value) for key, value in (line.split() for line in path.read_text().splitlines())}


def _commands(pids: list[int]) -> set[str]:
    found: set[str] = set()
    for pid in pids:
        with suppress(FileNotFoundError):  # one of the job's short commands, which has ended meanwhile
            found.add(Path(f"/proc/{pid}/exe").readlink().name.replace("dash", "sh"))
    return found
