"""The runs' cgroups: where they may be made, what they can't do here, and the removal of those that are over.

They are made below the jobs' unit, beside the daemon's own, in the slice of both. That unit may come and go, so
it is looked for each time anew; a look is some twenty looks at files.
"""

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from fsm_miner.workspace import key_of_folder
from journal.port import StreamKey
from runners.cgroup import groups_below, problem_with, remove
from runners.cgroup_lacks import lacks
from runners.host import HostTools

__all__ = [
    "JOBS_UNIT",
    "SLICE",
    "Found",
    "Isolation",
    "RunCgroups",
    "find_parent",
    "installed_parent",
    "isolation",
]

JOBS_UNIT = "aitbc-miner-jobs.service"
SLICE = "aitbcminer.slice"
_ROOT = Path("/sys/fs/cgroup")
_AUTOGROUP = Path("/proc/sys/kernel/sched_autogroup_enabled")
_NO_HIERARCHY = (
    "this machine has no unified cgroup v2 hierarchy (if it has version 1 instead: "
    "systemd.unified_cgroup_hierarchy=1 on the kernel's command line)"
)

Found = tuple[Path | None, str | None]
"""(folder for the runs' cgroups, None), or (None, why there is none)."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """What keeps jobs apart, as tags; and a sentence for each part of resource control that is not to be had."""

    tags: tuple[str, ...]
    lacks: tuple[str, ...]

    @property
    def told(self) -> dict[str, list[str]]:
        """As the log and `/healthz` have it."""
        return {"isolation": list(self.tags), "isolation_lacks": list(self.lacks)}


def find_parent(own: Path = Path("/proc/self/cgroup"), root: Path = _ROOT) -> Found:
    """Find the folder for a daemon, by the cgroup that `own` says it is in.

    The daemon may move a process there, because the slice's `cgroup.procs` is the common ancestor of its own
    unit and the jobs' (cgroup-v2.rst, "Delegation Containment").
    """
    try:
        lines = own.read_text(encoding="ascii").splitlines()
    except OSError as error:
        return None, f"{own}: {error.strerror}"
    path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
    if path is None:
        return None, _without(_NO_HIERARCHY)
    unit = path.strip("/")
    if not unit or ".." in unit.split("/"):
        # In a namespace of cgroups (cgroup_namespaces(7)), where nothing is beside us, or we are outside of it.
        return None, _without(
            f"{own}: the cgroup is {path}, as in a container: there is no {JOBS_UNIT} beside it"
        )
    return _judged(root / unit.rpartition("/")[0] / JOBS_UNIT, root)


def installed_parent(root: Path = _ROOT) -> Found:
    """Find the folder that a daemon would have if it was started by its unit."""
    return _judged(root / SLICE / JOBS_UNIT, root)


def _judged(parent: Path, root: Path) -> Found:
    if not (root / "cgroup.controllers").exists():
        return None, _without(_NO_HIERARCHY)
    if not parent.is_dir():
        return None, _without(f"{JOBS_UNIT} does not run in {parent.parent}")
    problem = problem_with(parent)
    # Who moves a process needs this file of the nearest cgroup above both places.
    if problem is None and not os.access(parent.parent / "cgroup.procs", os.W_OK):
        problem = (
            f"{parent.parent}/cgroup.procs: not writable for this user, so that no job can be moved: chown it"
        )
    return (parent, None) if problem is None else (None, _without(problem))


def _without(problem: str) -> str:
    """Say what the lack of cgroups means."""
    nice = (
        "; cpu_nice counts within a job only, as kernel.sched_autogroup_enabled is 1" if _by_session() else ""
    )
    return f"{problem}; the watchdog enforces memory and processes, and cpu_threads binds nothing{nice}"


def _by_session() -> bool:
    """Whether the kernel shares processors between sessions, whatever the niceness of who is in them (sched(7))."""
    try:
        return _AUTOGROUP.read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False  # a kernel without it


def isolation(host: HostTools | None, cgroup_parent: Path | None) -> tuple[str, ...]:
    """Name what keeps jobs apart, for the descriptor's tags and for each `Launched` event.

    `host` is None on a machine that can't run jobs as configured: then nothing is claimed of a sandbox.
    """
    limits = ("memory-watchdog",)
    if cgroup_parent is not None:
        limits = ("cgroup-v2", *(lack.tag for lack in lacks(cgroup_parent)))
    if host is None:
        return limits
    kept = () if host.backend == "none" else ("sandbox-bubblewrap", *(["seccomp"] if host.seccomp else ()))
    return (*kept, *(lack.tag for lack in host.lacks), *limits)


class RunCgroups:
    """The cgroups of one node's runs."""

    def __init__(self, host: HostTools | None, find: Callable[[], Found] = find_parent) -> None:
        self._host = host
        self._find = find
        self._strangers: set[str] = set()
        self._reported: set[str] = set()

    def parent(self) -> Path | None:
        """Return where a new run's cgroup is to be made, if any can be."""
        return self._find()[0]

    def look(self) -> Isolation:
        """Return what keeps a job apart that would start now, and what doesn't."""
        parent, absent = self._find()
        sandbox = () if self._host is None else tuple(lack.meaning for lack in self._host.lacks)
        if parent is None:
            return Isolation(self.tags(None), sandbox if absent is None else (*sandbox, absent))
        return Isolation(self.tags(parent), (*sandbox, *(lack.meaning for lack in lacks(parent))))

    def tags(self, parent: Path | None) -> tuple[str, ...]:
        """Return what keeps a run apart whose cgroup is made in `parent`; None: that has none."""
        return isolation(self._host, parent)

    def groups(self) -> list[Path]:
        """Return the runs' cgroups that are there now: list first, then ask the journal which are over."""
        parent = self.parent()
        return [] if parent is None else groups_below(parent)

    def sweep(
        self, groups: Sequence[Path], known: Collection[StreamKey], live: Collection[str]
    ) -> tuple[list[str], list[str]]:
        """Remove the cgroups of runs that are over; return (names removed, names that are new and odd).

        `known` are the streams of the journal, `live` the names of runs whose end is not in it. Another daemon's
        cgroups, and those of jobs whose records are lost, are nobody's to remove; odd is also one that is over
        and has a process in it, at two sweeps in a row, or can't be removed.
        """
        removed: list[str] = []
        odd: set[str] = set()
        for group in groups:
            if group.name in live:
                continue
            if key_of_folder(group.name.rpartition(".run-")[0]) in known and _removed(group):
                removed.append(group.name)
            else:
                odd.add(group.name)
        new = sorted((odd & self._strangers) - self._reported)
        self._reported = (self._reported | set(new)) & odd
        self._strangers = odd
        return removed, new


def _removed(group: Path) -> bool:
    try:
        return remove(group)
    except OSError:
        return False  # another user's: it is told as odd, and the others are swept all the same
