"""What happens to a node in the middle of a job, and that the job goes on, once."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from world import (
    DAEMON,
    JOBS,
    JOBS_UNIT,
    Reboot,
    World,
    cgroup_of,
    health,
    main_pid,
    processes_of,
    run,
    shown,
    until,
)

VENV = Path("/usr/lib/aitbc/miner/.venv")
# It says each time that it starts, and ends when it is told to.
_SCRIPT = (
    "echo x >> starts; touch started; while ! test -e go; do sleep 0.2; done; cp starts output.txt; sleep 0.2"
)


_LATE_TASK = """\
import time
from pathlib import Path


def run():
    Path("started").touch()
    while not Path("go").exists():
        time.sleep(0.1)
    import structlog

    return {"from": structlog.__file__}
"""


def in_the_middle_of_a_job(
    world: World, event: Callable[[], None], *, new_daemon: bool = True
) -> dict[str, Any]:
    """Let the event happen while a job runs; it must go on as the same processes, and be delivered once."""
    job_id = world.submit(_SCRIPT, requirements={"memory_mb": 64})
    folder = world.running(job_id)
    group = cgroup_of(job_id)
    daemon, before, limit = main_pid(), processes_of(group), (group / "memory.max").read_text()
    assert before
    began = time.monotonic()
    event()
    after = world.registered(other_than=daemon if new_daemon else 0)
    seconds = time.monotonic() - began
    assert (after != daemon) is new_daemon
    # `sleep` comes and goes; the chain, the sandbox and the shell stay.
    still = [pid for pid in before if pid in processes_of(group)]
    assert len(still) >= len(before) - 1, (before, processes_of(group))
    assert (group / "memory.max").read_text() == limit
    (folder / "work" / "go").touch()
    view = world.wait(job_id)
    assert view["state"] == "done", view
    assert (len(view["attempts"]), view["result_calls"], view["fail_calls"]) == (1, 1, 0), view
    assert (folder / "work" / "starts").read_text() == "x\n"
    assert shown(JOBS_UNIT, "ActiveState") == "active"
    world.no_cgroup_of(job_id)
    return {"back_after_s": round(seconds, 1)}


def restart(world: World) -> dict[str, Any]:
    """systemctl restart."""
    return in_the_middle_of_a_job(world, lambda: run("systemctl", "restart", DAEMON))


def daemon_reload(world: World) -> dict[str, Any]:
    """systemctl daemon-reload, then daemon-reexec."""

    def event() -> None:
        run("systemctl", "daemon-reload")
        run("systemctl", "daemon-reexec")

    return in_the_middle_of_a_job(world, event, new_daemon=False)


def kill_9(world: World) -> dict[str, Any]:
    """kill -9."""
    return in_the_middle_of_a_job(world, lambda: os.kill(main_pid(), signal.SIGKILL))


def watchdog(world: World) -> dict[str, Any]:
    """A daemon that hangs is found by systemd's watchdog, and replaced. One that works never was."""
    assert "Watchdog timeout" not in run("journalctl", "--no-pager", "-b", "-u", DAEMON)
    facts = in_the_middle_of_a_job(world, lambda: os.kill(main_pid(), signal.SIGSTOP))
    assert "Watchdog timeout" in run("journalctl", "--no-pager", "-b", "-u", DAEMON)
    return facts


def upgrade(world: World) -> dict[str, Any]:
    """Install a newer package. A task that was started in the version before goes on loading from it."""
    before = VENV.readlink()
    Path("/usr/local/lib/aitbc/miner/tasks/late.py").write_text(_LATE_TASK)
    task = world.submit_task("late", {})
    folder = world.running(task)
    facts = in_the_middle_of_a_job(world, lambda: run("dpkg", "-i", "/host/second.deb", timeout_s=400))
    assert run("dpkg-query", "-W", "-f=${Version}", "fsm-miner").endswith("-2")
    now = VENV.readlink()
    assert now != before
    # The new version has looked at the journal as root, and left no file of root's there.
    assert {path.owner() for path in Path("/var/lib/aitbc/miner").glob("journal.db*")} == {"games"}
    (folder / "work" / "go").touch()
    assert world.wait(task)["state"] == "done"
    loaded = json.loads(run("cat", f"/var/lib/coordinator/results/{task}/1/artifacts/result.json"))["from"]
    assert loaded.startswith(str(before)), loaded
    return facts


def stop_jobs_unit(world: World) -> dict[str, Any]:
    """Stop the unit that holds the jobs, as the manual says not to: the job is lost, and run again."""
    job_id = world.submit(_SCRIPT)
    folder = world.running(job_id)
    (folder / "work" / "started").unlink()
    run("systemctl", "stop", JOBS_UNIT)
    # A node that promised cgroups runs nothing without, and says what is to be done.
    until(
        lambda: any("systemctl start" in line for line in health().get("trouble", ())),
        "it says what it lacks",
    )
    assert not (folder / "work" / "started").exists()
    run("systemctl", "start", JOBS_UNIT)
    until((folder / "work" / "started").exists, "it runs again")
    assert processes_of(cgroup_of(job_id))
    (folder / "work" / "go").touch()
    view = world.wait(job_id)
    assert (view["state"], len(view["attempts"])) == ("done", 1), view
    retries = _retries(job_id)
    assert retries == ["E_LOST"], retries
    return {"retries": retries}


def reboot(world: World) -> dict[str, Any]:
    """Reboot in the middle of a job."""
    job_id = world.submit(_SCRIPT)
    world.running(job_id)
    (JOBS / job_id / "work" / "started").unlink()
    world.kept["rebooted"] = job_id
    raise Reboot


def rebooted(world: World) -> dict[str, Any]:
    """Afterwards the job is found lost, run again, and delivered once."""
    job_id = world.kept["rebooted"]
    world.start_coordinator()
    world.registered()
    folder = world.running(job_id)
    retries = _retries(job_id)
    assert retries == ["E_LOST"], retries
    # By the user that it was given to, who may still move a process from one cgroup to another.
    assert Path(f"/proc/{main_pid()}").owner() == "miner"
    assert processes_of(cgroup_of(job_id))
    (folder / "work" / "go").touch()
    view = world.wait(job_id)
    assert (view["state"], len(view["attempts"])) == ("done", 1), view
    assert (view["result_calls"], view["fail_calls"]) == (1, 0), view
    return {"retries": retries}


def _retries(job_id: str) -> list[str]:
    """Return the code of each retry that the journal tells of."""
    records = json.loads(run("fsm-miner", "replay", job_id, "--json"))["records"]
    return [record["data"]["code"] for record in records if record["event"] == "RetryScheduled"]
