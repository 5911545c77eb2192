"""A daemon whose user has no epoll registration left: a job in a sandbox can use them all up (fsm_miner/loop.py)."""

import errno
import os
import sys

import pytest

from tests.integration.daemon.rig import printed, until

EPOLL_CTL = {"x86_64": 233, "aarch64": 21}.get(os.uname().machine)

# Becomes the daemon, with a kernel that answers each registration as one whose limit is reached: epoll_ctl(2), ENOSPC.
NONE_LEFT = """
import ctypes, os, select, sys
number, error, *command = sys.argv[1:]
def op(code, jt, jf, k):
    return code.to_bytes(2, sys.byteorder) + bytes((jt, jf)) + k.to_bytes(4, sys.byteorder)
program = op(0x20, 0, 0, 0) + op(0x15, 0, 1, int(number))
program += op(0x06, 0, 0, 0x50000 | int(error)) + op(0x06, 0, 0, 0x7FFF0000)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(len(program) // 8, program)), 0, 0) == 0, ctypes.get_errno()
try:
    select.epoll().register(0, select.EPOLLIN)
except OSError as error_seen:
    assert error_seen.errno == int(error)
    os.execv(command[0], command)
sys.exit("a registration was made")
"""


@pytest.mark.skipif(
    EPOLL_CTL is None, reason=f"the number of epoll_ctl on {os.uname().machine} is not known here"
)
def test_it_starts_runs_jobs_and_answers(rigs):
    rig = rigs(start=False)
    node = rig.node
    daemon = [sys.executable, "-P", "-m", "fsm_miner", "--config", str(node.config_file)]
    refused = [sys.executable, "-c", NONE_LEFT, str(EPOLL_CTL), str(errno.ENOSPC)]
    node.spawn([*refused, *daemon], node.folder.parent, node.env)
    until(node.registered, "the node is registered")
    (job_id,) = rig.coordinator.submit(printed("echo fine"))
    assert rig.coordinator.wait(job_id)["state"] == "done"
    assert rig.coordinator.artifact(job_id, "out.txt") == b"fine\n"
    node.allow("true", {"command": {"path": "/usr/bin/true"}})
    until(
        lambda: any("true" in one["attrs"]["commands"] for one in node.log("allowlist_changed")),
        "the new rule is seen",
    )
    assert node.health()["registered"]
