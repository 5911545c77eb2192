"""Processes of a run: found through the status file, held by pidfds, never trusted by number alone.

A process id from the status file means something only while the run's lock is held. What it names is opened as
a pidfd first and checked after that, so that a reused number cannot slip in between (pidfd_open(2)).
"""

import os
import select
import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from runners.lock import LockState, look
from runners.run import RunFiles
from runners.status import Status, read_status

__all__ = [
    "children_of",
    "ended",
    "in_other_namespace",
    "init_pidfd",
    "member_of",
    "parent_of",
    "read_proc",
    "send",
    "signal_command",
    "stat_of",
]

_PROC = Path("/proc")
# The process may be gone at any moment; then its files are not there, or reading them says so.
_GONE = (FileNotFoundError, ProcessLookupError)
_ENDED = (b"Z", b"X")


@contextmanager
def init_pidfd(files: RunFiles) -> Generator[tuple[int, int] | None]:
    """Yield (process id, pidfd) of the sandbox's process 1, or None if it cannot be had.

    Without a sandbox: of the recording shell. Killing it kills everything in the sandbox (pid_namespaces(7)).
    """
    status = read_status(files.status)
    pid = status.child_pid
    if pid is None:
        yield None
        return
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield (pid, pidfd) if _is_ours(pid, status, files) and not ended(pidfd) else None
    finally:
        os.close(pidfd)


def _is_ours(pid: int, status: Status, files: RunFiles) -> bool:
    try:
        if status.pid_namespace is not None:
            mine = (_PROC / str(pid) / "ns" / "pid").stat().st_ino == status.pid_namespace
        else:
            mine = _holds(pid, files.lock)
    except (*_GONE, PermissionError):  # ours are never hidden from us
        return False
    return mine and look(files.lock) is LockState.HELD


def in_other_namespace(pid: int) -> bool:
    """Tell whether the process is in a process id namespace other than ours: inside of a sandbox."""
    try:
        return (_PROC / str(pid) / "ns" / "pid").stat().st_ino != (
            _PROC / "self" / "ns" / "pid"
        ).stat().st_ino
    except (*_GONE, PermissionError):
        return False


def _holds(pid: int, lock: Path) -> bool:
    """Tell whether the process has the lock file open."""
    wanted = lock.stat()
    for fd in (_PROC / str(pid) / "fd").iterdir():
        try:
            found = fd.stat()
        except _GONE:
            continue
        if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
            return True
    return False


def ended(pidfd: int) -> bool:
    """Tell whether the process has ended: a pidfd is readable then."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def send(pidfd: int, number: signal.Signals) -> bool:
    """Send a signal; False if the process is gone."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True


def signal_command(init: int, number: signal.Signals) -> bool:
    """Send a signal to the command itself, the first child of `init`. False if there is none."""
    for pid in children_of(init)[:1]:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        try:
            return parent_of(pid) == init and send(pidfd, number)
        finally:
            os.close(pidfd)
    return False


def read_proc(path: str) -> bytes:
    """Return what a file of /proc says. A look at a job may need thousands, and pathlib takes more than twice as long.

    Raises:
        OSError: as open(2) and read(2) say; FileNotFoundError and ProcessLookupError when the process is gone.

    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = b""
        while more := os.read(fd, 65536):
            found += more
        return found
    finally:
        os.close(fd)


def member_of(pid: int, stat: Sequence[bytes] | None = None) -> int:
    """Return the id by which /proc tells of a process: its own, or that of a thread if the first one has ended.

    A process whose first thread has ended goes on, and /proc shows it as one that has nothing (pthread_exit(3)).
    `stat` is what `stat_of` has said of it, where that is known already.

    Raises:
        OSError: as `read_proc`.

    """
    known = stat_of(f"/proc/{pid}") if stat is None else stat
    if known[0] not in _ENDED or known[17] == b"1":  # num_threads
        return pid
    for name in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - names, not paths
        try:
            if stat_of(f"/proc/{pid}/task/{name}")[0] not in _ENDED:
                return int(name)
        except _GONE:
            continue
    return pid


def stat_of(folder: str) -> list[bytes]:
    """Return the fields of `stat` in a task's folder of /proc, from the state on, which is the third (proc(5)).

    Raises:
        OSError: as `read_proc`.

    """
    stat = read_proc(f"{folder}/stat")
    # The name, in parentheses, may hold anything: count from its end.
    return stat[stat.rindex(b")") + 2 :].split()


def children_of(pid: int) -> list[int]:
    """Return the children of a process, the oldest first; [] if it is gone."""
    found: list[int] = []
    threads = f"/proc/{pid}/task"
    try:
        for thread in os.listdir(threads):  # noqa: PTH208 - names, not paths
            found += map(int, read_proc(f"{threads}/{thread}/children").split())
    except FileNotFoundError:
        # Gone, or a kernel without CONFIG_PROC_CHILDREN.
        return sorted(_children_by_scan(pid)) if (_PROC / str(pid)).exists() else []
    except ProcessLookupError:
        return []
    return found


def _children_by_scan(pid: int) -> Iterator[int]:
    for folder in _PROC.iterdir():
        if folder.name.isdecimal() and parent_of(int(folder.name)) == pid:
            yield int(folder.name)


def parent_of(pid: int) -> int | None:
    """Return the parent's process id; None if the process is gone."""
    try:
        return int(stat_of(f"/proc/{pid}")[1])
    except _GONE:
        return None
