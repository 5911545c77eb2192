"""What a real run used is written down while it is watched, and goes on with the next watch."""

import asyncio
from itertools import pairwise

from fsm_miner.forensics.samples import read_samples
from runners.clock import utc_ns
from runners.meter import UsageMeter
from runners.series import UsageSeries
from runners.watch import monitor
from tests.integration.runs.conftest import limits_of

SCRIPT = (
    "import time; held = bytearray(40 << 20); open('made', 'wb').write(bytes(3 << 20))\n"
    "end = time.process_time() + 0.4\n"
    "while time.process_time() < end: pass\n"
    "open('ready', 'w'); time.sleep(60)"
)


def test_a_watched_run_leaves_its_usage_where_it_can_be_read(runs):
    spec = runs.python(SCRIPT, limits=limits_of(time_s=60, memory_mb=512))
    launched = runs.launch(spec)

    async def watch(enough):
        series = UsageSeries(launched.files.usage, spec.run, utc_ns)
        watching = asyncio.create_task(
            monitor(launched.files, spec.limits, launched.started_boottime_ns, UsageMeter(), series=series)
        )
        async with asyncio.timeout(30):
            while not enough(read_samples(spec.paths.control.parent)):  # noqa: ASYNC110 - the watch is in a task
                await asyncio.sleep(0.02)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    def worked(found):
        return bool(found) and found[-1].cpu_s >= 0.4 and found[-1].memory_mb > 40 and found[-1].disk_mb >= 3

    asyncio.run(watch(worked))
    first = read_samples(spec.paths.control.parent)
    asyncio.run(watch(lambda found: len(found) > len(first) + 3))  # another daemon
    found = read_samples(spec.paths.control.parent)
    assert found[: len(first)] == first
    assert {sample.run for sample in found} == {1}
    assert all(before.at_ns < after.at_ns for before, after in pairwise(found))
    assert launched.started_ns < found[0].at_ns < utc_ns()
    # A new daemon's meter starts anew, but the run's processor time does not.
    assert found[-1].cpu_s >= 0.4
    assert found[-1].memory_mb < 512
    assert launched.files.usage.stat().st_mode & 0o777 == 0o600
