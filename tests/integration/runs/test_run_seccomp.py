"""The filter on system calls in a real sandbox, against the kernel's own answers without it."""

import dataclasses
import errno
import json
import os

import pytest

from runners.seccomp import machine_known
from runners.seccomp_calls import REFUSED

CALLS = {name: numbers for calls in REFUSED.values() for name, numbers in calls.items()}
COLUMN = {"x86_64": 0, "aarch64": 1}.get(os.uname().machine)

# Each call with arguments that can do no harm, were it allowed.
PROBE = """
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
found = {}
for name, number in json.loads(sys.argv[1]).items():
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(-1)] * 6)
    found[name] = ctypes.get_errno() if result == -1 else 0
print(json.dumps(found))
"""


@pytest.fixture(scope="module", autouse=True)
def _machine():
    if not machine_known(os.uname().machine):
        pytest.skip(f"there is no filter for {os.uname().machine}")


def ask(runs, calls, **changes):
    spec = runs.spec("/usr/bin/python3", "-c", PROBE, json.dumps(calls), **changes)
    ended = runs.finish(spec)
    text = spec.paths.log.read_text()
    assert ended.exit_code == 0, text
    return json.loads(text)


def test_every_refused_call_gets_eperm(runs):
    calls = {name: numbers[COLUMN] for name, numbers in CALLS.items() if numbers[COLUMN] is not None}
    found = ask(runs, calls)
    assert found == dict.fromkeys(calls, errno.EPERM)


def test_the_kernel_would_have_allowed_some_of_them(runs):
    """Or else the test above would prove nothing."""
    runs.host = dataclasses.replace(runs.host, seccomp=b"")
    calls = {name: CALLS[name][COLUMN] for name in ("keyctl", "get_mempolicy", "process_vm_readv")}
    found = ask(runs, calls)
    assert all(code != errno.EPERM for code in found.values()), found


def test_threads_processes_and_sockets_work_and_the_rest_does_not(runs):
    code = """
import os, socket, subprocess, threading
thread = threading.Thread(target=lambda: print("thread")); thread.start(); thread.join()
print(subprocess.check_output(["echo", "process"], text=True), end="")
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK):
    socket.socket(family, socket.SOCK_RAW if family == socket.AF_NETLINK else socket.SOCK_STREAM).close()
print("sockets")
for family in (socket.AF_VSOCK, socket.AF_PACKET, 38, 44):
    try:
        socket.socket(family, socket.SOCK_SEQPACKET if family == 38 else socket.SOCK_STREAM)
    except OSError as error:
        print(family, error.errno)
"""
    spec = runs.python(code)
    assert runs.finish(spec).exit_code == 0
    family = errno.EAFNOSUPPORT
    assert spec.paths.log.read_text().splitlines() == [
        *("thread", "process", "sockets"),
        *(f"{number} {family}" for number in (40, 17, 38, 44)),
    ]


def test_the_filter_cannot_be_taken_off(runs):
    code = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.prctl(22, 0, 0, 0, 0), ctypes.get_errno())  # PR_SET_SECCOMP: off
print(open("/proc/self/status").read())
"""
    spec = runs.python(code)
    assert runs.finish(spec).exit_code == 0
    text = spec.paths.log.read_text()
    assert text.startswith(f"-1 {errno.EINVAL}")
    fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    assert (fields["Seccomp"], fields["NoNewPrivs"]) == ("2", "1")
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}


LEASES_AND_MEMORY = """
import ctypes, errno, fcntl, os, signal, socket
signal.signal(signal.SIGIO, signal.SIG_IGN)
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

def answer(name, ask):
    try:
        result = ask()
    except OSError as error:
        print(name, errno.errorcode[error.errno])
    else:
        print(name, "-1 " + errno.errorcode[ctypes.get_errno()] if result == -1 else "yes")

own = os.open("own", os.O_RDWR | os.O_CREAT)
answer("write lease", lambda: fcntl.fcntl(own, fcntl.F_SETLEASE, fcntl.F_WRLCK))
answer("lock", lambda: fcntl.lockf(own, fcntl.LOCK_EX))
answer("notify", lambda: fcntl.fcntl(os.open(".", os.O_RDONLY), fcntl.F_NOTIFY, 2))
answer("room at once", lambda: libc.fallocate64(own, 1, ctypes.c_long(0), ctypes.c_long(1 << 20)))
answer("room by writing", lambda: os.posix_fallocate(own, 0, 1 << 20))
print(os.fstat(own).st_size, os.fstat(own).st_blocks * 512 >= 1 << 20)
answer("secret memory", lambda: libc.syscall(447, 0))
answer("huge page", lambda: libc.memfd_create(b"x", 4))
answer("netfilter", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12))
answer("packet type", lambda: socket.socket(socket.AF_INET, socket.SOCK_RDM, 0))
answer("bridge", lambda: fcntl.ioctl(socket.socket(), 0x8940, bytes(32)))
print(socket.if_nameindex())
"""


def test_what_would_hold_up_others_or_is_counted_nowhere(runs):
    spec = runs.python(LEASES_AND_MEMORY)
    assert runs.finish(spec).exit_code == 0, runs.log(spec)
    assert runs.log(spec).splitlines() == [
        *("write lease EINVAL", "lock yes", "notify EINVAL"),
        *("room at once -1 ENOTSUP", "room by writing yes", "1048576 True"),
        *("secret memory -1 ENOSYS", "huge page -1 ENOMEM"),
        *("netfilter EPROTONOSUPPORT", "packet type ESOCKTNOSUPPORT", "bridge EPERM"),
        "[(1, 'lo')]",
    ]


def test_a_lease_would_be_given_without_the_filter(runs):
    """Or else the test above would prove nothing of the one that has others wait."""
    runs.host = dataclasses.replace(runs.host, seccomp=b"")
    spec = runs.python(LEASES_AND_MEMORY)
    assert runs.finish(spec).exit_code == 0, runs.log(spec)
    assert {"write lease yes", "notify yes"} <= set(runs.log(spec).splitlines())
