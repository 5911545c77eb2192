"""What a run holds without showing it, on a machine without cgroups: the watchdog finds it all the same."""

import asyncio
import os

import pytest

from runners.measure import measure_written
from runners.process import init_pidfd, member_of
from runners.usage import exact_memory, sample_tree
from runners.watch import BreachKind
from tests.integration.runs.test_run_watch import MIB, breach_of

ANONYMOUS = "held = [bytearray(40 << 20) for _ in range(3)]\n"
SHARED = """
import mmap
held = []
for _ in range(3):
    m = mmap.mmap(-1, 40 << 20)
    for at in range(0, 40 << 20, 1 << 20):
        m[at:at + (1 << 20)] = b"x" * (1 << 20)
        m.madvise(mmap.MADV_DONTNEED)  # it stays, and is in no process
    held.append(m)
"""
MAPPED_FILE = """
import mmap
held = []
for _ in range(3):
    fd = os.memfd_create("x")
    os.write(fd, bytes(40 << 20))
    held.append(mmap.mmap(fd, 40 << 20, trackfd=False) if sys.version_info >= (3, 13) else None)
    if held[-1] is None:
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap(None, ctypes.c_long(40 << 20), 1, 1, fd, ctypes.c_long(0))
    os.close(fd)
"""
# Each less than the limit of 80 MiB.
THREE_SUMS = """
import mmap
fd = os.memfd_create("x")
os.write(fd, bytes(35 << 20))
with open("/dev/shm/x", "wb") as file:
    file.write(bytes(35 << 20))
held = bytearray(35 << 20)
"""
NAMELESS = """
held = []
for n in range(3):
    held.append(open(f"x{n}", "wb"))
    os.unlink(f"x{n}")
    held[-1].write(bytes(10 << 20))
    held[-1].flush()
"""
FIRST_THREAD_ENDS = """
import ctypes, os, sys, threading, time
libc = ctypes.CDLL(None)
def rest():
    while open("/proc/self/stat").read().rsplit(")", 1)[1].split()[0] != "Z":
        time.sleep(0.01)
    BODY
    time.sleep(60)
threading.Thread(target=rest).start()
libc.syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
"""
PLAIN = "import ctypes, os, sys, time\nlibc = ctypes.CDLL(None)\nBODY\ntime.sleep(60)\n"


def code_of(body, frame=PLAIN):
    depth = "    " if frame is FIRST_THREAD_ENDS else ""
    return frame.replace(f"{depth}BODY", "\n".join(depth + line for line in body.strip().splitlines()))


@pytest.mark.parametrize(
    "body", [SHARED, MAPPED_FILE, THREE_SUMS], ids=["shared, in no process", "only mapped", "a bit of each"]
)
def test_memory_in_no_process_counts(runs, limits, body):
    breach, usage = breach_of(runs, runs.python(code_of(body), limits=limits(memory_mb=80)))
    assert breach is not None
    assert breach.kind is BreachKind.MEMORY
    assert usage.max_rss_mb > 80


def test_a_name_that_reads_like_a_size_hides_nothing(runs, limits):
    code = code_of('libc.prctl(15, b"x kB", 0, 0, 0)\n' + ANONYMOUS)
    breach, _ = breach_of(runs, runs.python(code, limits=limits(memory_mb=80)))
    assert breach is not None
    assert breach.kind is BreachKind.MEMORY


# Honest: less than the limit at any time, though more than that one after the other, or by another way of counting.
HONEST = {
    "first shared, then private": """
m = mmap.mmap(-1, 60 << 20)
fill(m)
time.sleep(1.5)
m.close()
held = bytearray(60 << 20)
time.sleep(1.5)
""",
    "mapped three times": """
fd = os.memfd_create("heap")
os.ftruncate(fd, 50 << 20)
views = [mmap.mmap(fd, 50 << 20) for _ in range(3)]
for view in views:
    fill(view)
time.sleep(1.5)
""",
    "shared by a family": """
m = mmap.mmap(-1, 60 << 20)
fill(m)
for _ in range(4):
    if os.fork() == 0:
        sum(m[at] for at in range(0, 60 << 20, 4096))
        time.sleep(1.5)
        os._exit(0)
time.sleep(1.5)
""",
}
FILL = """
import mmap
def fill(view):
    for at in range(0, len(view), 1 << 20):
        view[at:at + (1 << 20)] = bytes(1 << 20)
"""


@pytest.mark.parametrize("what", HONEST)
def test_who_holds_less_than_the_limit_goes_on(runs, limits, what):
    code = code_of(FILL + HONEST[what]).replace("time.sleep(60)", "print('done')")
    spec = runs.python(code, limits=limits(memory_mb=100))
    breach, _ = breach_of(runs, spec)
    assert (breach, runs.log(spec)) == (None, "done\n")


@pytest.mark.parametrize("body", [ANONYMOUS, SHARED], ids=["anonymous", "shared"])
def test_memory_counts_of_a_process_whose_first_thread_has_ended(runs, limits, body):
    spec = runs.python(code_of(body, FIRST_THREAD_ENDS), limits=limits(memory_mb=80))
    breach, _ = breach_of(runs, spec)
    assert breach is not None, runs.log(spec)
    assert breach.kind is BreachKind.MEMORY


def test_files_without_a_name_count_of_a_process_whose_first_thread_has_ended(runs, limits):
    spec = runs.python(code_of(NAMELESS, FIRST_THREAD_ENDS), limits=limits(output_mb=16))
    breach, _ = breach_of(runs, spec)
    assert breach is not None, runs.log(spec)
    assert breach.kind is BreachKind.OUTPUT


def test_a_thread_has_the_descriptors_of_its_process(runs):
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
stack = ctypes.create_string_buffer(65536)
top = (ctypes.addressof(stack) + 65536) & ~15
CLONE = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
# VM, FS, SIGHAND, THREAD, SYSVSEM: all of a thread but FILES
flags = ctypes.c_long(0x50B00)
print(libc.syscall(ctypes.c_long(CLONE), flags, ctypes.c_void_p(top), 0, 0, 0), ctypes.get_errno())
print(libc.close_range(200, 300, 2), ctypes.get_errno(), libc.close_range(200, 300, 0))
"""
    spec = runs.python(code)
    assert runs.finish(spec).exit_code == 0
    assert runs.log(spec).splitlines() == ["-1 1", "-1 22 0"]


def test_a_folder_counts_with_the_names_that_it_once_had(tmp_path):
    folder = tmp_path / "once full"
    folder.mkdir()
    for number in range(3000):
        (folder / f"{number:0200}").touch()
    for path in folder.iterdir():
        path.unlink()
    blocks = folder.stat().st_blocks * 512
    for top, size in ((folder, blocks), (tmp_path, blocks + tmp_path.stat().st_blocks * 512)):
        found = measure_written((top,))
        assert (found.size, found.allocated) == (size, size)


def test_what_a_fork_shares_counts_once_and_no_further_than_it_must(runs, limits, monkeypatch):
    code = """
import os, time
held = bytearray(50 << 20)
for _ in range(6):
    if os.fork() == 0:
        break
print("ready", flush=True)
time.sleep(60)
"""

    async def go():
        spec = runs.python(code, limits=limits(memory_mb=500))
        launched = runs.launch(spec)
        while runs.log(spec).count("ready") < 7:  # noqa: ASYNC110 - nothing else to do
            await asyncio.sleep(0.01)
        with init_pidfd(launched.files) as init:
            assert init is not None
            pid = init[0]
            whole = exact_memory(pid)
            sample = sample_tree(pid)
            walked = []
            real = os.open

            def noted(path, *args, **kwargs):
                walked.append(str(path))
                return real(path, *args, **kwargs)

            monkeypatch.setattr(os, "open", noted)
            assert exact_memory(pid, limit_bytes=10 * MIB) > 10 * MIB
            over = sum("smaps_rollup" in path for path in walked)
            walked.clear()
            assert exact_memory(pid, limit_bytes=5000 * MIB) <= 5000 * MIB
            under = sum("smaps_rollup" in path for path in walked)
            monkeypatch.undo()
            assert exact_memory(pid, in_files_bytes=30 * MIB) - whole in range(29 * MIB, 31 * MIB)
        return whole, sample.anonymous_bytes, over, under

    whole, anonymous, over, under = asyncio.run(go())
    assert 50 * MIB <= whole < 120 * MIB  # once
    assert anonymous >= 350 * MIB  # seven times
    assert over <= 2
    assert under == 0


def test_a_process_is_shown_by_itself_as_long_as_its_first_thread_lives():
    assert member_of(os.getpid()) == os.getpid()
