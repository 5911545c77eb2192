"""Cases of machines that lend us less than they could: each says so."""

from pathlib import Path
from typing import Any

from fsm_miner.site.cgroups import JOBS_UNIT, SLICE, find_parent, installed_parent
from runners.cgroup import problem_with, remove
from runners.cgroup_lacks import lacks
from tests.system.limits.place import PARENT, Place, as_nobody, enable, mounted


def what_is_not_delegated_is_said(_place: Place) -> dict[str, Any]:
    here = PARENT.parent / "lesser.service"
    here.mkdir()
    try:
        none = problem_with(here)
        assert none is not None
        assert "lacks memory, pids" in none, none
        enable(here, "memory", "pids")
        assert problem_with(here) is None
        found = {lack.tag: lack.meaning for lack in lacks(here)}
        assert set(found) == {"no-cpu-quota", "no-cpu-weight", "no-cpuset", "no-io-weight", "no-io-counts"}
        assert all("is not enabled for jobs" in meaning for meaning in found.values()), found
        as_nobody(lambda: "not writable" in str(problem_with(here)))
    finally:
        remove(here)
    return {"none": none, "lacks": sorted(found)}


def a_hierarchy_that_may_only_be_read_is_said(_place: Place) -> dict[str, Any]:
    with mounted(Path("/run/read-only"), "-t", "cgroup2", "-o", "ro", "none") as root:
        assert (root / SLICE / JOBS_UNIT).is_dir()
        parent, absent = installed_parent(root)
        assert parent is None
        assert absent is not None
        assert "mounted read-only" in absent, absent
    return {"absent": absent}


def a_hierarchy_of_version_1_is_said(_place: Place) -> dict[str, Any]:
    with (
        mounted(Path("/run/hybrid"), "-t", "tmpfs", "none") as root,
        mounted(root / "unified", "-t", "cgroup2", "none"),
    ):
        parent, absent = find_parent(root=root)
        assert parent is None
        assert absent is not None
        assert "systemd.unified_cgroup_hierarchy" in absent, absent
    return {"absent": absent}
