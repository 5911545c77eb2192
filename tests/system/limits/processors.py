"""Cases of processor time and processors."""

from typing import Any

from runners import cgroup_counts as counts
from runners.cgroup_cpus import parse_cpus
from tests.system.limits.place import Place, Started, pairs, read, until

SPIN = "while :; do :; done"
SEEN = "echo $(nproc) $(grep Cpus_allowed_list: /proc/self/status) seen; sleep 300"


def _effective(run: Started) -> set[int]:
    return parse_cpus(read(run.group, "cpuset.cpus.effective"))


def _seen(run: Started) -> tuple[int, set[int]]:
    """Return how many processors the job may use, as sched_getaffinity(2) says inside, and which."""
    words = run.printed("seen").split()
    return int(words[0]), parse_cpus(words[2])


def each_job_has_processors_of_its_own(place: Place) -> dict[str, Any]:
    with place.run("first", SEEN, cpu_threads=1) as first:
        assert _effective(first) == {0}
        assert _seen(first) == (1, {0})
        with place.run("second", SEEN, cpu_threads=1) as second:
            assert _effective(second) == {1}
            assert _seen(second) == (1, {1})
            # None is left, nor are four: these share all, and nobody is turned away.
            with (
                place.run("third", SEEN, cpu_threads=1) as third,
                place.run("wide", SEEN, cpu_threads=4) as wide,
                place.run("unbound", SEEN) as unbound,
            ):
                for run in (third, wide, unbound):
                    assert _effective(run) == {0, 1}
                    assert _seen(run) == (2, {0, 1})
                assert read(third.group, "cpu.max") == "100000 100000"
                assert read(wide.group, "cpu.max") == "400000 100000"
                assert read(unbound.group, "cpu.max") == "max 100000"
        # Given back when its cgroup goes.
        with place.run("heir", SEEN, cpu_threads=1) as heir:
            assert _seen(heir) == (1, {1})
    with place.run("both", SEEN, cpu_threads=2) as both:
        assert _seen(both) == (2, {0, 1})
    return {}


def the_quota_holds_back(place: Place) -> dict[str, Any]:
    """One thread's worth of both processors, where none is left for it alone."""
    with (
        place.run("owner", "sleep 300", cpu_threads=2),
        place.run("spin", f"{SPIN} & {SPIN}", cpu_threads=1) as run,
    ):
        assert _effective(run) == {0, 1}
        until(lambda: pairs(run.group, "cpu.stat")["nr_throttled"] > 2, "the quota holds it back")
        until(lambda: counts.pressure(run.group).get("cpu", 0) > 0, "its waiting shows")
        used = run.used()
        assert used["throttled_s"] > 0, used
        assert used["stalled_s"]["cpu"] > 0, used
        stat = pairs(run.group, "cpu.stat")
        # The kernel hands out slices of 5 ms: a little more than the quota is within it.
        assert stat["usage_usec"] <= (stat["nr_periods"] + 1) * 110_000, stat
    return used


def a_busy_processor_is_shared_by_weight(place: Place) -> dict[str, Any]:
    """Niceness 0 has ten times the weight of niceness 10, whoever has more processes."""
    with (
        place.run("first", "sleep 300", cpu_threads=1),
        place.run("heavy", f"taskset -c 1 sh -c '{SPIN}'", nice=0) as heavy,
        place.run("light", f"taskset -c 1 sh -c '{SPIN} & {SPIN} & {SPIN}'", nice=10) as light,
    ):
        assert read(heavy.group, "cpu.weight.nice") == "0"
        assert read(light.group, "cpu.weight.nice") == "10"
        until(
            lambda: (
                len(read(light.group, "cgroup.procs").split()) >= 6
                and pairs(light.group, "cpu.stat")["usage_usec"] > 0
                and len(read(heavy.group, "cgroup.procs").split()) >= 4
            ),
            "all are there",
        )
        before = [pairs(run.group, "cpu.stat")["usage_usec"] for run in (heavy, light)]

        def since() -> list[int]:
            after = [pairs(run.group, "cpu.stat")["usage_usec"] for run in (heavy, light)]
            return [end - begin for end, begin in zip(after, before, strict=True)]

        until(lambda: since()[0] > 500_000 and since()[0] > 3 * since()[1], "the heavy one gets more")
        got = since()
    return {"heavy_us": got[0], "light_us": got[1]}
