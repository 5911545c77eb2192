"""The scenarios, in the order in which they are played. Each returns facts, or fails by an assertion."""

from typing import Any

from egress import host_and_secret
from events import daemon_reload, kill_9, reboot, rebooted, restart, stop_jobs_unit, upgrade, watchdog
from limits import limits_in_force, memory_over, processes_over, python_task
from packages import configure, install, purge, remove, security_figures
from runbook import another_user, runbook, unit_in_force, without_a_token
from script import script_install, script_uninstall, script_upgrade
from world import World, vital


@vital
def a_job(world: World) -> dict[str, Any]:
    """A job goes through, and leaves no cgroup."""
    job_id = world.submit("echo hello > output.txt")
    view = world.wait(job_id)
    assert view["state"] == "done", view
    assert [path["path"] for path in view["artifacts"]] == ["output.txt"], view["artifacts"]
    world.no_cgroup_of(job_id)
    world.kept["a_job"] = job_id
    return {}


ALL = (
    install,
    security_figures,
    without_a_token,
    configure,
    a_job,
    python_task,
    host_and_secret,
    unit_in_force,
    runbook,
    limits_in_force,
    memory_over,
    processes_over,
    restart,
    daemon_reload,
    kill_9,
    watchdog,
    upgrade,
    stop_jobs_unit,
    another_user,
    reboot,
    rebooted,
    remove,
    purge,
    script_install,
    script_upgrade,
    script_uninstall,
)
