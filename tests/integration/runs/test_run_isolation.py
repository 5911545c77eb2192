# ruff: noqa: ASYNC240  (a test's event loop has nothing else to do; other processes set no Event)

import asyncio
import dataclasses
import errno
import json
import os
import signal
import socket
from pathlib import Path

import pytest

from runners.host import probe_host
from runners.launch import launch
from runners.lock import LockState, look
from runners.run import Bind
from runners.wait import Ended, wait_end


def told(runs, code, **changes):
    """Run Python code in the sandbox and return the JSON that it prints."""
    spec = runs.python(code, **changes)
    ended = runs.finish(spec)
    assert ended == Ended(0), runs.log(spec)
    return json.loads(runs.log(spec))


def test_only_three_descriptors_are_open_even_if_the_daemon_leaks_some(runs):
    leaked = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    try:
        found = told(
            runs, "import os, json; print(json.dumps(sorted(map(int, os.listdir('/proc/self/fd')))))"
        )
    finally:
        os.close(leaked)
    assert found == [0, 1, 2, 3]  # 3 is the listing itself


def test_no_capability_and_no_way_to_get_one(runs):
    code = """
import json
lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({k: lines[k].strip() for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")}))
"""
    found = told(runs, code)
    assert found.pop("NoNewPrivs") == "1"
    assert {int(value, 16) for value in found.values()} == {0}


def test_every_namespace_is_its_own(runs):
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
    found = told(
        runs,
        f"import json, os; print(json.dumps([os.readlink('/proc/self/ns/' + kind) for kind in {kinds}]))",
    )
    ours = [str(Path("/proc/self/ns", kind).readlink()) for kind in kinds]
    assert [kind for kind, inside, outside in zip(kinds, found, ours, strict=True) if inside == outside] == []


def test_no_further_user_namespace(runs):
    spec = runs.spec("/usr/bin/unshare", "--user", "/bin/true")
    assert runs.finish(spec) != Ended(0)


def test_the_kernel_cannot_be_configured(runs):
    # Opened for writing only, never written.
    code = """
import json, os
found = []
for name in ("kernel/core_pattern", "kernel/domainname", "vm/drop_caches", "net/ipv4/ip_forward"):
    try:
        os.close(os.open("/proc/sys/" + name, os.O_WRONLY))
    except FileNotFoundError:
        continue
    except OSError as error:
        found.append(error.strerror)
    else:
        found.append("open")
print(json.dumps(sorted(set(found))))
"""
    assert told(runs, code) == ["Read-only file system"]


def test_a_listener_of_the_host_cannot_be_reached(runs):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass  # reachable from here
        code = f"""
import socket, json
try:
    socket.create_connection(("127.0.0.1", {port}), timeout=5)
    print(json.dumps("connected"))
except OSError as error:
    print(json.dumps(type(error).__name__))
"""
        assert told(runs, code) == "ConnectionRefusedError"


def test_it_has_a_loopback_of_its_own_and_no_other_network(runs):
    code = """
import json, socket
with socket.create_server(("127.0.0.1", 0)) as own:
    socket.create_connection(own.getsockname(), timeout=5).close()
print(json.dumps([name for _, name in socket.if_nameindex()]))
"""
    assert told(runs, code) == ["lo"]


def test_other_jobs_and_the_control_folder_are_not_there(runs):
    other = runs.spec("/bin/true", name="other")
    (other.paths.work / "secret.txt").write_text("x")
    code = f"""
import json, os
print(json.dumps([os.path.exists({str(other.paths.work)!r}), os.path.exists({str(runs.folder)!r}),
    sorted(os.listdir("/job")), os.path.exists("/etc/shadow"), os.path.exists("/etc/ssl/private"),
    os.path.exists("/root"), os.path.exists("/home"), os.path.exists("/run"), os.path.exists("/sys")]))
"""
    assert told(runs, code) == [
        False,
        False,
        ["input", "output", "work"],
        False,
        False,
        False,
        False,
        False,
        False,
    ]


def test_what_may_be_written_and_what_not(runs):
    places = ["/job/work/a", "/job/output/a", "/tmp/a", "/dev/shm/a"]
    forbidden = ["/job/input/a", "/job/a", "/a", "/dev/a", "/usr/a", "/etc/a", "/proc/sys/kernel/hostname"]
    code = f"""
import json
def can(path):
    try:
        open(path, "w").close()
        return True
    except OSError:
        return False
print(json.dumps([[can(p) for p in {places}], [can(p) for p in {forbidden}]]))
"""
    allowed, denied = told(runs, code)
    assert allowed == [True] * len(places)
    assert denied == [False] * len(forbidden)


def test_what_it_writes_belongs_to_the_daemons_user(runs):
    spec = runs.shell("echo made > made.txt")
    runs.finish(spec)
    assert (spec.paths.work / "made.txt").stat().st_uid == os.geteuid()


def test_memory_folders_are_bounded(runs, limits):
    code = """
import json, os
def size(path):
    s = os.statvfs(path)
    return s.f_blocks * s.f_frsize
print(json.dumps([size("/tmp"), size("/dev/shm")]))
"""
    assert told(runs, code, limits=limits(memory_mb=256)) == [128 * 1024 * 1024] * 2


def test_it_sees_no_process_but_its_own(runs):
    code = "import json, os; print(json.dumps(sorted(int(n) for n in os.listdir('/proc') if n.isdecimal())))"
    assert told(runs, code) == [1, 2]


def test_priority_and_limits_are_set(runs, limits):
    code = """
import json, os, resource
print(json.dumps({
    "nice": os.nice(0),
    "oom": int(open("/proc/self/oom_score_adj").read()),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
    "host": os.uname().nodename,
    "cwd": os.getcwd(),
}))
"""
    wanted = max(10, runs.host.base_nice)
    assert told(runs, code, limits=limits(open_files=100)) == {
        "nice": wanted,
        "oom": 500,
        "core": [1, 1],
        "files": 100,
        "host": "job",
        "cwd": "/job/work",
    }


def test_the_environment_is_its_own_and_nothing_else(runs, monkeypatch):
    monkeypatch.setenv("DAEMON_TOKEN", "never")
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    found = told(runs, code, env={"A": "1"}, secret_env={"B": "2"})
    found.pop("LC_CTYPE", None)  # Python sets it for itself (PEP 538)
    assert found == {"A": "1", "B": "2", "PWD": "/job/work"}


def test_a_secret_shows_in_no_argument_list_no_file_and_no_outer_environment(runs):
    secret = "s3cr3t-" + "x" * 20

    async def go():
        spec = runs.shell('echo "$TOKEN"; read x < input.fifo', secret_env={"TOKEN": secret})
        os.mkfifo(spec.paths.work / "input.fifo")
        launched = runs.launch(spec)
        await runs.printed(spec, secret)
        seen = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal() and int(folder.name) != os.getpid():
                try:
                    seen.append((folder / "cmdline").read_bytes())
                except (FileNotFoundError, ProcessLookupError):
                    continue
        chain = Path(f"/proc/{launched.pid}/environ").read_bytes()
        kept = {path: path.read_bytes() for path in runs.folder.rglob("*") if path.is_file()}
        (spec.paths.work / "input.fifo").write_text("go\n")
        await wait_end(launched.files, child=launched.pid)
        return spec, seen, chain, kept

    spec, seen, chain, kept = asyncio.run(go())
    assert any(b"bwrap" in line for line in seen)
    assert not [line for line in seen if secret.encode() in line]
    assert chain == b""
    assert spec.status in kept
    assert not [path for path, content in kept.items() if secret.encode() in content]
    assert secret not in repr(spec)
    assert not spec.paths.log.exists()


def test_a_preload_in_the_environment_reaches_no_program_of_the_chain(runs):
    # The dynamic linker complains about what it cannot preload: once for each program that sees the variable.
    spec = runs.spec("/bin/true", env={"LD_PRELOAD": "/nonexistent/evil.so"})
    assert runs.finish(spec) == Ended(0)
    assert spec.paths.log.read_text().count("evil.so") == 1


def test_a_large_environment_passes(runs):
    env = {f"V{i}": "x" * 4000 for i in range(100)}
    code = "import json, os; print(json.dumps(sum(len(v) for k, v in os.environ.items() if k[0] == 'V')))"
    assert told(runs, code, env=env) == 400_000


@pytest.mark.parametrize("filtered", [True, False])
def test_the_job_cannot_make_itself_look_dead(runs, filtered):
    # It takes the lock's descriptor out of the sandbox's process 1 and unlocks it. The filter refuses that;
    # where there is none, `timeout` holds another.
    if not filtered:
        runs.host = dataclasses.replace(runs.host, seccomp=b"")
    code = """
import ctypes, fcntl, os
libc = ctypes.CDLL(None, use_errno=True)
pidfd = os.pidfd_open(1)
unlocked = 0
for number in range(3, 20):
    fd = libc.syscall(438, pidfd, number, 0)  # pidfd_getfd
    if fd >= 0:
        try:
            fcntl.flock(fd, fcntl.LOCK_UN)
            unlocked += 1
        except OSError:
            pass
print("unlocked", unlocked, flush=True)
open("input.fifo").read()
"""

    async def go():
        spec = runs.python(code)
        os.mkfifo(spec.paths.work / "input.fifo")
        launched = runs.launch(spec)
        await runs.printed(spec, "unlocked")
        state = look(spec.lock)
        (spec.paths.work / "input.fifo").write_text("go\n")
        await wait_end(launched.files, child=launched.pid)
        return state, spec.paths.log.read_text()

    state, log = asyncio.run(go())
    # Without the filter it must work, or else this proves nothing.
    assert (log == "unlocked 0\n") is filtered
    assert state is LockState.HELD


def test_a_bind_is_read_only_unless_it_says_otherwise(runs, tmp_path):
    (tmp_path / "asset").write_text("model")
    spec = runs.shell(
        "cat /opt/asset; echo x > /opt/asset || exit 8", binds=(Bind(tmp_path / "asset", "/opt/asset"),)
    )
    assert runs.finish(spec) == Ended(8)
    assert spec.paths.log.read_text().startswith("model")
    assert (tmp_path / "asset").read_text() == "model"


@pytest.mark.skipif(os.geteuid() != 0, reason="already an unprivileged user: every other test here shows it")
def test_everything_works_for_an_unprivileged_user(as_nobody):
    # The same checks once more, as nobody: start, limits, stop by another process, memory measured.
    script = """
import asyncio, sys
from pathlib import Path
from runners.host import probe_host
from runners.launch import launch
from runners.process import init_pidfd
from runners.run import Limits, RunPaths, RunSpec
from runners.stop import stop
from runners.usage import exact_memory, sample_tree
from runners.wait import wait_end
base = Path(sys.argv[1])
for part in ("work", "input", "output", "logs", "control"):
    (base / part).mkdir()
paths = RunPaths(base / "work", base / "input", base / "output", base / "logs/exec.log", base / "control")
code = "trap 'exit 7' TERM; id -u > uid; echo ready; while :; do sleep 0.02; done"
spec = RunSpec("n", 1, ("/bin/sh", "-c", code), {"PATH": "/usr/bin"}, paths, Limits(60, 1, 256, 10, 10))
async def main():
    started = launch(spec, probe_host())
    while not paths.log.exists() or "ready" not in paths.log.read_text():
        await asyncio.sleep(0.01)
    with init_pidfd(started.files) as init:
        assert init is not None
        assert sample_tree(init[0]).processes >= 2
        assert exact_memory(init[0]) > 0
    print((await stop(started.files, 20)).name, await wait_end(started.files, child=started.pid))
asyncio.run(main())
"""
    done, home = as_nobody(script)
    assert done.stdout == b"TERMINATED Ended(exit_code=7)\n", done.stderr
    assert (home / "work/uid").stat().st_uid == 65534
    assert (home / "work/uid").read_text() == "1000\n"


def test_what_the_operator_adds_below_tmp_is_seen_and_read_only(runs, tmp_path):
    shown = tmp_path / "shown"
    shown.mkdir()
    (shown / "fact").write_text("42\n")
    assert shown.is_relative_to("/tmp")
    host = probe_host(extra_binds=[Bind(shown, str(shown))])
    spec = runs.shell(f"cat {shown}/fact; echo x > {shown}/fact")
    launched = launch(spec, host)
    asyncio.run(wait_end(launched.files, child=launched.pid))
    log = spec.paths.log.read_text()
    assert log.startswith("42\n")
    assert "Read-only" in log
    assert (shown / "fact").read_text() == "42\n"


def test_nothing_tells_which_machine_this_is_or_where(runs):
    code = """
import json, os, time
found = {}
for name in ("/proc/cmdline", "/proc/sys/kernel/random/boot_id", "/proc/interrupts", "/etc/machine-id", "/etc/hostname",
             "/etc/localtime", "/etc/timezone", "/etc/passwd", "/etc/os-release", "/sys"):
    try:
        found[name] = open(name).read() if not os.path.isdir(name) else "there"
    except OSError as error:
        found[name] = type(error).__name__
for name in ("/proc/acpi", "/proc/asound", "/proc/scsi"):
    found[name] = os.listdir(name) if os.path.isdir(name) else []
print(json.dumps([found, time.tzname, os.uname().nodename, sorted(os.listdir("/etc"))]))
"""
    found, zone, name, etc = told(runs, code, env={"PATH": "/usr/bin:/bin"})
    for path in ("/proc/acpi", "/proc/asound", "/proc/scsi"):
        assert found.pop(path) == []
    assert set(found.values()) <= {"FileNotFoundError", "PermissionError"}, found
    assert (zone, name) == (["UTC", "UTC"], "job")
    assert set(etc) <= {
        *("ld.so.cache", "alternatives", "ssl", "fonts", "nsswitch.conf", "mime.types", "OpenCL", "vulkan")
    }


def test_nobody_outside_is_handed_its_memory_when_it_dies(runs):
    """1, and nothing else: see core(5). A program that wants to be sure is told so, and other limits are its own."""
    code = """
import json, resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.prlimit(0, resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
print(json.dumps([resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""
    assert told(runs, code) == [[1, 1], [64, 64]]


def test_no_signal_is_ignored_or_blocked_because_the_daemon_does(runs):
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})
    try:
        lines = told(
            runs,
            "import json; print(json.dumps(dict(l.split(':\\t') for l in open('/proc/1/status') if l[:3] == 'Sig')))",
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGUSR1, before)
    # Above 31: what the C library keeps for itself.
    assert int(lines["SigIgn"], 16) & 0x7FFF_FFFF == 0
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        assert int(lines["SigBlk"], 16) & (1 << (number - 1)) == 0


def test_standard_input_is_empty_and_stays_so(runs):
    code = """
import fcntl, json, os
found = [os.read(0, 10).decode()]
for what in (lambda: os.write(0, b"x"), lambda: os.ftruncate(0, 9), lambda: fcntl.fcntl(0, fcntl.F_ADD_SEALS, 0)):
    try:
        what()
    except OSError as error:
        found.append(error.errno)
print(json.dumps(found))
"""
    assert told(runs, code) == ["", errno.EPERM, errno.EPERM, errno.EPERM]


def test_each_run_is_a_session_of_its_own(runs):
    """A terminal's signals don't reach it, and a scheduler that shares between sessions gives it no other's part."""

    async def go():
        spec = runs.shell("read x < input.fifo")
        os.mkfifo(spec.paths.work / "input.fifo")
        launched = runs.launch(spec)
        session = os.getsid(launched.pid)
        (spec.paths.work / "input.fifo").write_text("go\n")
        await wait_end(launched.files, child=launched.pid)
        return session, launched.pid

    session, pid = asyncio.run(go())
    assert session == pid


def test_hardware_is_hidden_in_a_sys_that_a_card_needs(runs):
    hidden = [path for path in runs.host.masked_folders if path.startswith("/sys/")]
    assert "/sys/kernel" in hidden
    code = f"""
import json, os
listings = [os.listdir(path) for path in {hidden!r}]
print(json.dumps([listings, os.path.isdir("/sys/devices"), os.access("/sys/devices", os.W_OK)]))
"""
    listings, shown, writable = told(runs, code, binds=(Bind(Path("/sys"), "/sys"),))
    assert listings == [[] for _ in hidden]
    assert shown
    assert not writable
