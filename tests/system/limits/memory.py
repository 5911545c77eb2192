"""Cases of memory and swap."""

from typing import Any

from runners import cgroup_counts as counts
from runners.verdict import Exited, OutOfMemory
from tests.system.limits.place import MIB, PARENT, Place, pairs, read

# tail keeps what it may have to print: so much memory, and bytes that can be read back.
HOG = "head -c 150000000 /dev/zero | tail -c 120000000 > /dev/null"


def memory_ends_one_job_only(place: Place) -> dict[str, Any]:
    with (
        place.run("neighbour", "echo up; sleep 300") as neighbour,
        place.run("hog", f"{HOG}; echo survived; sleep 300", memory_mb=32) as hog,
    ):
        neighbour.printed("up")
        assert hog.end() == OutOfMemory()
        assert "survived" not in hog.log()
        used = hog.used()
        assert 31 <= used["max_rss_mb"] <= 32, used
        assert used["processes_max"] >= 4, used
        assert used["cpu_s"] > 0, used
        assert neighbour.lives()
        assert counts.oom(neighbour.group) is counts.Oom.NONE
    return used


def memory_that_was_not_the_jobs_is_not_held_against_it(place: Place) -> dict[str, Any]:
    (PARENT / "memory.max").write_text(str(40 * MIB))
    try:
        with place.run("innocent", f"{HOG}; sleep 300", memory_mb=400) as run:
            end = run.end()
            assert counts.oom(run.group) is counts.Oom.OUTSIDE, read(run.group, "memory.events")
            assert end != OutOfMemory()
    finally:
        (PARENT / "memory.max").write_text("max")
    return {"verdict": repr(end)}


def caches_are_taken_back_before_the_limit(place: Place) -> dict[str, Any]:
    script = "dd if=/dev/zero of=file bs=64k count=1280; dd if=file of=/dev/null bs=64k"
    with place.run("reader", script, memory_mb=32) as run:
        assert run.end() == Exited(0), run.log()
        events = pairs(run.group, "memory.events")
        # 80 MiB went through: memory.high took back what it could, and nothing was killed for the rest.
        assert events["high"] > 0, events
        assert (events["oom"], events["oom_kill"]) == (0, 0), events
        used = run.used()
        assert used["max_rss_mb"] <= 32, used
        assert used["io_written_mb"] > 40, used
        assert used["stalled_s"]["memory"] > 0, used
    return {"events": events, **used}


def swap_is_used_up_to_its_limit(place: Place) -> dict[str, Any]:
    script = "head -c 24000000 /dev/zero | tail -c 22000000 > /dev/null; echo done"
    with place.run("swapper", script, memory_mb=16, swap_mb=24) as run:
        assert run.end() == Exited(0), run.log()
        events = pairs(run.group, "memory.events")
        # More than its memory, and by that much it was elsewhere.
        assert events["oom_kill"] == 0, events
        assert pairs(run.group, "memory.swap.events")["max"] == 0
        used = run.used()
        assert used["io_written_mb"] > 4, used
    with place.run("over", script, memory_mb=16, swap_mb=2) as run:
        assert run.end() == OutOfMemory(), run.log()
        assert pairs(run.group, "memory.swap.events")["max"] > 0
    return used
