"""Cases of disks: their weight, what is counted of them, how long jobs wait for them."""

from pathlib import Path
from typing import Any

from runners import cgroup_counts as counts
from runners.cgroup_lacks import lacks
from tests.system.limits.place import PARENT, SLOW, Place, disk, read, until

# Past the caches, so that each read is a request to the disk.
READER = (
    "dd if=/dev/zero of=file bs=64k count=16 conv=fsync; echo up; "
    "while :; do dd if=file of=/dev/null bs=4k iflag=direct; done"
)


def a_busy_disk_is_shared_by_weight(place: Place) -> dict[str, Any]:
    with (
        place.run("heavy", READER, folder=SLOW, io_level=0) as heavy,
        place.run("light", READER, folder=SLOW, io_level=7) as light,
    ):
        for run, weight in ((heavy, 200), (light, 25)):
            assert read(run.group, "io.weight") == f"default {weight}"
            assert read(run.group, "io.bfq.weight").removeprefix("default ") == str(weight)
            run.printed("up")
        before = [disk(run.group, "rios") for run in (heavy, light)]

        def since() -> list[int]:
            after = [disk(run.group, "rios") for run in (heavy, light)]
            return [end - begin for end, begin in zip(after, before, strict=True)]

        # Eight to one; without weights it would be one to one, for ever.
        until(lambda: since()[0] > 200 and since()[0] > 3 * since()[1], "the heavy one gets more")
        got = since()
        until(lambda: counts.pressure(light.group).get("io", 0) > 0, "its waiting shows")
        used = light.used()
        assert used["io_read_mb"] > 0, used
        assert used["io_written_mb"] >= 1, used
        assert used["stalled_s"]["io"] > 0, used
    return {"heavy": got[0], "light": got[1], "light_used": used}


def a_weight_that_no_disk_heeds_is_said(place: Place) -> dict[str, Any]:
    assert place.host is not None
    schedulers = [Path(f"/sys/block/{name}/queue/scheduler") for name in ("vda", "vdb")]
    assert lacks(PARENT) == ()
    for scheduler in schedulers:
        scheduler.write_text("mq-deadline")
    try:
        (lack,) = lacks(PARENT)
    finally:
        for scheduler in schedulers:
            scheduler.write_text("bfq")
    assert lack.tag == "no-io-weight"
    assert lacks(PARENT) == ()
    return {"meaning": lack.meaning}
