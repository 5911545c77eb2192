"""Where a run's cgroup may be made: below the jobs' unit, beside the daemon's own, in the slice of both."""

from pathlib import Path

from runners.cgroup import problem_with
from runners.host import HostTools

__all__ = ["JOBS_UNIT", "find_parent", "isolation"]

JOBS_UNIT = "aitbc-miner-jobs.service"


def find_parent(
    own: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> tuple[Path | None, str | None]:
    """Return (folder for the runs' cgroups, None), or (None, why there is none).

    The daemon may move a process there, because the slice's `cgroup.procs` is the common ancestor of its own
    unit and the jobs' (cgroup-v2.rst, "Delegation Containment").
    """
    try:
        lines = own.read_text(encoding="ascii").splitlines()
    except OSError as error:
        return None, f"{own}: {error.strerror}"
    path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
    if path is None or not (root / "cgroup.controllers").exists():
        return None, "this machine has no unified cgroup v2 hierarchy; the watchdog enforces the limits"
    parent = root / path.lstrip("/") / ".." / JOBS_UNIT
    parent = parent.resolve()
    if not parent.is_dir():
        return None, f"{JOBS_UNIT} does not run beside this daemon; the watchdog enforces the limits"
    problem = problem_with(parent)
    return (None, problem) if problem is not None else (parent, None)


def isolation(host: HostTools | None, cgroup_parent: Path | None) -> tuple[str, ...]:
    """Name what keeps jobs apart, for the descriptor's tags and for each `Launched` event.

    `host` is None on a machine that can't run jobs as configured: then nothing is claimed of a sandbox.
    """
    limits = "memory-watchdog" if cgroup_parent is None else "cgroup-v2"
    if host is None:
        return (limits,)
    sandbox = "sandbox-bubblewrap" if host.backend == "bwrap" else "sandbox-none"
    return (sandbox, "seccomp", limits) if host.seccomp else (sandbox, limits)
