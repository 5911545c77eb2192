# ruff: noqa: ASYNC110  (a test's event loop has nothing else to do; other processes set no Event)

import asyncio
import errno
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from runners import watch
from runners.measure import Written
from runners.meter import UsageMeter
from runners.process import init_pidfd
from runners.stop import stop
from runners.usage import count_processes, exact_memory, tree_of
from runners.wait import wait_end
from runners.watch import Breach, BreachKind, monitor

MIB = 1024 * 1024


def breach_of(runs, spec, boottime=None):
    """Start, watch until something happens, stop, and return the breach and the usage."""

    async def go():
        launched = runs.launch(spec)
        meter = UsageMeter()
        clock = {} if boottime is None else {"boottime": boottime}
        async with asyncio.timeout(30):
            breach = await monitor(launched.files, spec.limits, launched.started_boottime_ns, meter, **clock)
        await stop(launched.files, 0)
        await wait_end(launched.files, child=launched.pid)
        return breach, meter.usage

    return asyncio.run(go())


def test_a_run_within_its_limits_breaks_none(runs):
    breach, _ = breach_of(runs, runs.shell("echo fine; exit 1"))
    assert breach is None


def test_time(runs, limits):
    late = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 3600 * 10**9
    breach, _ = breach_of(
        runs, runs.shell("sleep 60", limits=limits(time_s=3600)), boottime=lambda: late + 10**9
    )
    assert breach is not None
    assert breach.kind is BreachKind.TIME
    assert "3600 s" in breach.message


@pytest.mark.parametrize(
    "code",
    [
        "x = bytearray(120 << 20); sleep()",
        "f = open('/tmp/x', 'wb'); f.write(bytes(30 << 20)); f.flush(); x = bytearray(60 << 20); sleep()",
        "import mmap; m = mmap.mmap(-1, 120 << 20); m.write(bytes(1 << 20) * 120); sleep()",
        "import os; pid = os.fork(); x = bytearray(60 << 20); sleep()",
    ],
    ids=["anonymous", "tmp", "shared", "family"],
)
def test_memory(runs, limits, code):
    spec = runs.python(f"import time\ndef sleep(): time.sleep(60)\n{code}", limits=limits(memory_mb=80))
    breach, usage = breach_of(runs, spec)
    assert breach is not None
    assert breach.kind is BreachKind.MEMORY
    assert usage.max_rss_mb > 80


def test_memory_in_files_that_no_process_maps(runs, limits):
    code = """
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
print(libc.shmget(0, 1 << 20, 0o1600), ctypes.get_errno(), flush=True)
held = [os.memfd_create("held") for _ in range(3)]
for fd in held:
    os.write(fd, bytes(30 << 20))
os.fork()
time.sleep(60)
"""
    spec = runs.python(code, limits=limits(memory_mb=80))
    breach, usage = breach_of(runs, spec)
    assert breach is not None
    assert breach.kind is BreachKind.MEMORY
    assert 90 <= usage.max_rss_mb < 180  # what two processes share counts once
    if runs.host.seccomp:
        assert spec.paths.log.read_text() == f"-1 {errno.ENOSYS}\n"


def test_mapped_files_and_shared_pages_are_not_memory_used_up(runs, limits):
    # 200 MiB of a file, mapped and read; and 50 MiB shared by four processes. The limit is 100.
    code = """
import mmap, os, time
with open("model.bin", "wb") as f:
    for _ in range(200):
        f.write(os.urandom(1 << 20))
f = open("model.bin", "rb")
m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
sum(m[i] for i in range(0, len(m), 4096))
x = bytearray(50 << 20)
for _ in range(3):
    if os.fork() == 0:
        break
print("ready", flush=True)
time.sleep(60)
"""

    async def go():
        spec = runs.python(code, limits=limits(memory_mb=300, output_mb=400))
        launched = runs.launch(spec)
        await runs.printed(spec, "ready\nready\nready\nready\n")
        with init_pidfd(launched.files) as init:
            return exact_memory(init[0])

    assert 50 * MIB < asyncio.run(go()) < 100 * MIB


def test_output_of_both_folders(runs, limits):
    spec = runs.shell(
        "head -c 3000000 /dev/zero > a; head -c 3000000 /dev/zero > /job/output/b; sleep 60",
        limits=limits(output_mb=5),
    )
    breach, _ = breach_of(runs, spec)
    assert breach is not None
    assert breach.kind is BreachKind.OUTPUT


def test_files_without_a_name_count_while_they_are_open(runs, limits):
    code = """
import os, time
files = []
for n in range(3):
    files.append(open(f"f{n}", "wb"))
    os.unlink(f"f{n}")
    files[-1].write(bytes(3_000_000))
    files[-1].flush()
time.sleep(60)
"""
    breach, _ = breach_of(runs, runs.python(code, limits=limits(output_mb=5)))
    assert breach is not None
    assert breach.kind is BreachKind.OUTPUT


MEASURE_AS_NOBODY = """
import os, sys
from pathlib import Path
from runners.measure import measure_written
os.chdir(sys.argv[1])
if os.getuid() == 0:  # whom no permission keeps out
    os.chown("work", 65534, 65534)
    os.chown("work/hidden", 65534, 65534)
    os.setgroups([])
    os.setuid(65534)
print(measure_written([Path("work")]).size >= 5_000_000)
"""


@pytest.mark.parametrize("closed", ["work", "work/hidden"])
def test_folders_that_a_job_closed_count_too(tmp_path, closed):
    hidden = tmp_path / "work" / "hidden"
    hidden.mkdir(parents=True)
    (hidden / "file").write_bytes(bytes(5_000_000))
    (tmp_path / closed).chmod(0)
    tmp_path.chmod(0o711)
    found = subprocess.run(
        [sys.executable, "-c", MEASURE_AS_NOBODY, str(tmp_path)],
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.stdout, found.stderr) == ("True\n", "")


def test_log(runs, limits):
    breach, _ = breach_of(runs, runs.shell("head -c 2000000 /dev/zero; sleep 60", limits=limits(log_mb=1)))
    assert breach is not None
    assert breach.kind is BreachKind.LOG


def test_an_earlier_runs_log_does_not_count(runs, limits):
    spec = runs.shell("echo fine", limits=limits(log_mb=1))
    spec.paths.log.write_bytes(b"x" * 2_000_000)
    assert breach_of(runs, spec)[0] is None


def test_processes(runs, limits):
    spec = runs.shell("for i in $(seq 30); do sleep 60 & done; wait", limits=limits(processes=20))
    breach, _ = breach_of(runs, spec)
    assert breach is not None
    assert breach.kind is BreachKind.PROCESSES


def test_a_crowd_is_counted_at_once_and_not_read_to_its_end(runs):
    async def go():
        spec = runs.shell("for i in $(seq 50); do sleep 60 & done; echo ready; wait")
        launched = runs.launch(spec)
        await runs.printed(spec, "ready")
        with init_pidfd(launched.files) as init:
            pid = init[0]
            return count_processes(pid), len(list(tree_of(pid))), len(list(tree_of(pid, lambda: True)))

    counted, read, read_until_crowded = asyncio.run(go())
    assert counted == read == 52  # the sandbox's process 1 and the shell are two of them
    assert read_until_crowded < read


def test_without_a_sandbox_the_hosts_processes_are_not_counted():
    assert count_processes(os.getpid()) == 0


def test_processor_time_of_ended_children_is_counted(runs):
    busy = "import time\nwhile time.process_time() < 0.3: pass"

    async def go():
        spec = runs.shell(f"python3 -c '{busy}'; echo ready; read x < input.fifo")
        os.mkfifo(spec.paths.work / "input.fifo")
        launched = runs.launch(spec)
        meter = UsageMeter()
        await runs.printed(spec, "ready")
        watching = asyncio.create_task(
            monitor(launched.files, spec.limits, launched.started_boottime_ns, meter)
        )
        async with asyncio.timeout(20):
            while (meter.usage.cpu_s or 0.0) < 0.25:
                await asyncio.sleep(0.01)
        (spec.paths.work / "input.fifo").write_text("go\n")
        await wait_end(launched.files, child=launched.pid)
        return await watching

    assert asyncio.run(go()) is None


@pytest.fixture
def counting_never_ends(monkeypatch):
    """Have nothing that a run writes be counted before the watching is over."""
    over, close = threading.Event(), watch._Walks.close

    def never(*_args, **_named):
        over.wait()
        return Written(0, 0, 0)

    def closed(walks):
        close(walks)
        over.set()

    monkeypatch.setattr(watch, "measure_written", never)
    monkeypatch.setattr(watch._Walks, "close", closed)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ("head -c 200M /dev/zero | tail -c 150M", BreachKind.MEMORY),
        ("head -c 3M /dev/zero; sleep 60", BreachKind.LOG),
    ],
    ids=["memory", "log"],
)
def test_counting_for_long_what_it_wrote_holds_up_no_other_look(
    runs, limits, counting_never_ends, script, kind
):
    breach, _ = breach_of(runs, runs.shell(script, limits=limits(memory_mb=100, log_mb=1)))
    assert breach is not None
    assert breach.kind is kind


def test_counting_has_threads_of_its_own(runs, counting_never_ends):
    """However many runs have very many files, every other look, and all else the daemon does in threads, goes on."""

    async def go():
        counting = ThreadPoolExecutor(1)
        spec = runs.shell("sleep 60")
        launched = runs.launch(spec)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        watching = asyncio.create_task(
            monitor(
                launched.files, spec.limits, launched.started_boottime_ns, UsageMeter(), counting=counting
            )
        )
        async with asyncio.timeout(20):
            while not counting._work_queue.qsize() and not counting._threads:
                await asyncio.sleep(0.01)
            assert await asyncio.to_thread(lambda: "at once") == "at once"
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await stop(launched.files, 0)
        await wait_end(launched.files, child=launched.pid)

    asyncio.run(go())


def test_what_can_not_be_counted_in_any_time_is_too_much(runs, counting_never_ends, monkeypatch):
    monkeypatch.setattr(watch, "_WALK_MAX_S", 0.2)
    breach, _ = breach_of(runs, runs.shell("sleep 60"))
    assert breach == Breach(BreachKind.OUTPUT, "wrote what takes longer than 0.2 s to count")


def test_one_file_cannot_grow_far_beyond_the_limit_even_without_a_watcher(runs, limits):
    spec = runs.shell("head -c 100M /dev/zero > big; exit 0", limits=limits(output_mb=2, log_mb=2))
    runs.finish(spec)
    assert (spec.paths.work / "big").stat().st_size == 18 * MIB
