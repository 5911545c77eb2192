"""A listening socket on a run's own loopback, held by us outside: how a run reaches what we let it reach.

Nothing of ours runs in the sandbox and the sandbox gets nothing but a peer on 127.0.0.1: the socket is made in the
run's network namespace by a process that enters it (runners.egress_listener), and comes back as a descriptor.
"""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from runners import egress_listener
from runners.lock import RunError
from runners.process import init_pidfd
from runners.run import RunFiles
from runners.wait import Ended, observe

__all__ = ["PROXY_PORT", "EgressFailed", "open_listener"]

PROXY_PORT = 3128
"""Where the run finds the proxy, on 127.0.0.1."""

_LOOK_EVERY_S = 0.005
_MESSAGE_CHARS_MAX = 300


class EgressFailed(RunError):
    """There is no listener in the run's network. Says why."""


def open_listener(files: RunFiles, *, port: int = PROXY_PORT, timeout_s: float = 10.0) -> socket.socket:
    """Return a TCP socket that listens on 127.0.0.1 in the run's network namespace. Blocks, some 50 ms.

    The run must be in a sandbox and alive; whether its command has started does not matter.

    Raises:
        EgressFailed: the run has ended or has no network of its own, the port is taken, or entering is forbidden.
        OSError: no process or descriptor can be had.

    """
    namespace = _await_namespace(files, timeout_s)
    try:
        return _made_in(namespace, port, timeout_s)
    finally:
        os.close(namespace)


def _await_namespace(files: RunFiles, timeout_s: float) -> int:
    for _ in range(max(1, int(timeout_s / _LOOK_EVERY_S))):
        with init_pidfd(files) as init:
            # Opened while the pidfd says that the number is still this process's.
            if init is not None:
                return _namespace_of(init[0])
        if isinstance(observe(files), Ended):
            break
        threading.Event().wait(_LOOK_EVERY_S)
    raise EgressFailed("the sandbox did not come up, or has ended")


def _namespace_of(pid: int) -> int:
    try:
        fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise EgressFailed(f"the run's network can't be entered: {error.strerror}") from error
    if os.fstat(fd).st_ino == Path("/proc/self/ns/net").stat().st_ino:
        os.close(fd)
        raise EgressFailed("the run has no network of its own")
    return fd


def _made_in(namespace: int, port: int, timeout_s: float) -> socket.socket:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(timeout_s)
        program = [sys.executable, "-I", "-S", egress_listener.__file__]
        with subprocess.Popen(
            [*program, str(namespace), str(theirs.fileno()), str(port)],
            env={},
            cwd="/",
            pass_fds=(namespace, theirs.fileno()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as helper:
            theirs.close()
            try:
                _, fds, _, _ = socket.recv_fds(ours, 1, 1, socket.MSG_CMSG_CLOEXEC)
            except TimeoutError:
                helper.kill()
                fds = []
            _, complaint = helper.communicate()
    if not fds:
        words = complaint.decode(errors="replace").strip()[-_MESSAGE_CHARS_MAX:]
        raise EgressFailed(f"the run's network can't be entered: {words or 'no answer in time'}")
    listener = socket.socket(fileno=fds[0])
    listener.setblocking(False)
    return listener
