"""What a job can take from a daemon that is no root: permissions of files and folders that both own."""

import shutil
import tempfile
from pathlib import Path

import pytest

START = """
import asyncio, sys, time
from pathlib import Path
from runners.host import probe_host
from runners.launch import launch
from runners.lock import LockState, look
from runners.run import Limits, RunPaths, RunSpec
from runners.stop import stop
from runners.verdict import chain_failure
from runners.status import read_status
from runners.wait import Ended, wait_end
from runners.watch import monitor
from runners.meter import UsageMeter
base = Path(sys.argv[1])
for part in ("work", "input", "output", "logs", "control"):
    (base / part).mkdir()
paths = RunPaths(base / "work", base / "input", base / "output", base / "logs/exec.log", base / "control")
PRELUDE = '''
import ctypes, os, shutil, sys, threading, time
libc = ctypes.CDLL(None)
'''
def limits(**changes):
    return Limits(**{"time_s": 30, "grace_s": 1, "memory_mb": 400, "output_mb": 8, "log_mb": 5, **changes})
async def broken(code, **changes):
    spec = RunSpec(
        "n", 1, ("/usr/bin/python3", "-c", PRELUDE + code), {"PATH": "/usr/bin"}, paths, limits(**changes)
    )
    started = launch(spec, probe_host())
    breach = await monitor(started.files, spec.limits, time.clock_gettime_ns(time.CLOCK_BOOTTIME), UsageMeter())
    await stop(started.files, 0)
    print(breach and breach.kind.name, breach and breach.message)
    print(await wait_end(started.files, child=started.pid))
    return started.files
"""

CHMOD_LOCK = "os.chmod('/proc/1/fd/4', 0); print('up', flush=True); time.sleep(60)"
CLOSE_AGAIN_AND_AGAIN = """
def close():
    while True:
        os.chmod(PATH, 0)
for _ in range(2):
    threading.Thread(target=close, daemon=True).start()
time.sleep(60)
"""
WRITE_TOO_MUCH = """
for n in range(5):
    with open(f'/job/work/below/{n}', 'wb') as f:
        f.write(bytes(4 << 20))
"""
NAMELESS = """
f = open('/job/work/x', 'wb')
os.unlink('/job/work/x')
f.write(bytes(20 << 20))
f.flush()
time.sleep(60)
"""
UNDUMPABLE = "libc.prctl(4, 0, 0, 0, 0)"
UNREADABLE = """
if not os.path.exists('/job/work/program'):
    shutil.copy('/usr/bin/python3', '/job/work/program')
    os.chmod('/job/work/program', 0o111)
    os.execv('/job/work/program', ['program', '-c', sys.orig_argv[-1]])
"""
# Undumpable, and its first thread has ended: /proc tells nothing of it.
BEHIND_A_THREAD = """
def rest():
    while open('/proc/self/stat').read().rsplit(')', 1)[1].split()[0] != 'Z':
        time.sleep(0.01)
    libc.prctl(4, 0, 0, 0, 0)
    HELD
    time.sleep(60)
threading.Thread(target=rest).start()
libc.syscall({'x86_64': 60, 'aarch64': 93}[os.uname().machine], 0)
"""
LET_GO = """
import mmap
held = []
for _ in range(50):
    m = mmap.mmap(-1, 10 << 20)
    m.write(bytes(10 << 20))
    m.madvise(mmap.MADV_DONTNEED)
    held.append(m)
time.sleep(60)
"""
MEMFD = """
for _ in range(80):
    os.write(os.memfd_create('x'), bytes(6 << 20))
time.sleep(60)
"""
HIDDEN_MEMORY = """
os.chmod('/dev/shm', 0o300)
for n in range(7):
    with open(f'/dev/shm/{n}', 'wb') as f:
        f.write(bytes(6 << 20))
memory = bytearray(b"x" * (80 << 20))
time.sleep(60)
"""


def told(as_nobody, code):
    done, home = as_nobody(START + code)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode().splitlines(), home


def test_a_lock_that_the_job_closes_is_still_seen_held_and_free(as_nobody):
    lines, _ = told(
        as_nobody,
        f"""
files = asyncio.run(broken({CHMOD_LOCK!r}, time_s=1))
print(look(files.lock).name)
""",
    )
    assert lines[0].startswith("TIME ran longer than 1 s")
    assert lines[1].startswith("Ended(")
    assert lines[2] == "FREE"


@pytest.mark.parametrize(
    ("path", "limit"), [("/proc/1/fd/4", "TIME"), ("/job/work", "OUTPUT"), ("/job/work/below", "OUTPUT")]
)
def test_permissions_taken_away_again_and_again_end_the_job_and_nothing_else(as_nobody, path, limit):
    written = "" if limit == "TIME" else WRITE_TOO_MUCH
    code = f"PATH = {path!r}\nos.mkdir('/job/work/below')\n{written}{CLOSE_AGAIN_AND_AGAIN}"
    lines, _ = told(as_nobody, f"asyncio.run(broken({code!r}, time_s=4))")
    # Measured after all, or not to be measured: it goes as one that wrote too much.
    assert lines[0].split()[0] == limit, lines
    assert lines[1].startswith("Ended(")


def test_whether_a_process_that_hides_can_be_looked_into_is_known(as_nobody):
    ask = "from pathlib import Path\nfrom runners.descriptors import can_look\nprint(can_look(), "
    ask += "[can_look(Path(f'{n}')) for n in range(4)])"
    write = "from pathlib import Path\nfor n in range(3): Path(f'{n}').write_text(f'{n + 1}\\n')\n"
    done, _ = as_nobody(f"import os, sys\nos.chdir(sys.argv[1])\n{write}{ask}")
    assert done.stdout.decode() == "True [True, True, False, True]\n", done


@pytest.mark.parametrize("hide", [UNDUMPABLE, UNREADABLE], ids=["undumpable", "unreadable program"])
def test_files_without_a_name_count_of_a_process_that_hides_them(as_nobody, hide):
    lines, _ = told(as_nobody, f"asyncio.run(broken({hide + NAMELESS!r}, time_s=8, output_mb=16))")
    assert lines[0].startswith("OUTPUT wrote 2"), lines


def test_files_without_a_name_count_of_one_that_hides_behind_a_thread(as_nobody):
    held = "\n    ".join(NAMELESS.strip().splitlines())
    code = BEHIND_A_THREAD.replace("HELD", held)
    lines, _ = told(as_nobody, f"asyncio.run(broken({code!r}, time_s=8, output_mb=16))")
    # Where this kernel shows nothing of it at all, that is too much.
    assert lines[0].startswith(("OUTPUT wrote 2", "OUTPUT wrote into files that it hides")), lines


def test_memory_in_no_process_counts_of_a_process_that_hides_what_it_has_mapped(as_nobody):
    lines, _ = told(as_nobody, f"asyncio.run(broken({UNDUMPABLE + LET_GO!r}, time_s=8))")
    assert lines[0] == "MEMORY used more than 400 MiB of memory", lines


def test_files_in_memory_count_of_a_process_that_hides_them(as_nobody):
    lines, _ = told(as_nobody, f"asyncio.run(broken({UNDUMPABLE + MEMFD!r}, time_s=8))")
    assert lines[0] == "MEMORY used more than 400 MiB of memory", lines


def test_a_memory_folder_that_the_job_closes_counts(as_nobody):
    lines, _ = told(as_nobody, f"asyncio.run(broken({HIDDEN_MEMORY!r}, time_s=8, memory_mb=100))")
    assert lines[0] == "MEMORY used more than 100 MiB of memory", lines


def test_a_log_that_the_job_closes_is_read_and_goes_on_at_the_next_run(as_nobody):
    lines, home = told(
        as_nobody,
        """
files = asyncio.run(broken("print('first', flush=True); os.fchmod(1, 0); time.sleep(60)", time_s=1))
print(chain_failure(files, read_status(files.status).launched))
(base / "control/run-1.lock").unlink()
asyncio.run(broken("print('second', flush=True); os.fchmod(1, 0)"))
""",
    )
    assert lines[2] == "None"
    assert (home / "logs/exec.log").read_text() == "first\nsecond\n"


MEMORY_OF_ANOTHERS_PROGRAM = """
import subprocess, sys
from runners.usage import exact_memory
child = subprocess.Popen([PROGRAM, "-c", "x = bytearray(40 << 20); print(len(x), flush=True); input()"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
try:
    open(f"/proc/{child.pid}/smaps_rollup").read()
    print("readable")
except PermissionError:
    print(40 << 20 <= exact_memory(child.pid) < 60 << 20)
child.communicate(b"\\n")
"""


def test_memory_of_a_program_that_may_be_run_but_not_read_counts(as_nobody):
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        program = Path(name) / "python"
        shutil.copy("/usr/bin/python3", program)
        program.chmod(0o711)
        done, _home = as_nobody(f"PROGRAM = {str(program)!r}\n{MEMORY_OF_ANOTHERS_PROGRAM}")
    assert done.stdout == b"True\n", done


# The child waits to be killed, each time at another point of the daemon's look at it; at the end all wait to be ended.
LINGER = """
import resource, signal, socket, struct
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
with socket.create_server(('127.0.0.1', 0)) as listener:
    name, peers = listener.getsockname(), []
    for _ in range(6):
        a = socket.create_connection(name)
        peers.append(listener.accept()[0])
        a.setblocking(False)
        try:
            while True:
                a.send(bytes(65536))
        except BlockingIOError:
            pass
        a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 100_000))
        pid = os.fork()
        if pid == 0:
            libc.prctl(4, 0, 0, 0, 0)
            for n in range(10, hard - 1):
                os.dup2(a.fileno(), n)
            time.sleep(100)
        a.close()
        time.sleep(0.8 + 0.1 * len(peers))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
with open('/job/work/x', 'wb') as f:
    f.write(bytes(20 << 20))
time.sleep(100)
"""


def test_a_socket_that_lingers_holds_up_nobody_who_looks_at_it(as_nobody):
    lines, _ = told(as_nobody, f"asyncio.run(broken({LINGER!r}, time_s=50, output_mb=16))")
    assert lines[0].startswith("OUTPUT wrote 2"), lines
