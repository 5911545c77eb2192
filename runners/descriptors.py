"""What a process has open that hides it: one that made itself undumpable, or runs a program that may not be read.

Its /proc/<pid>/fd then belongs to root (proc(5)). But whoever made the user namespace that it lives in may still take
copies of its descriptors, one number after the other (pidfd_getfd(2), Linux 5.6).
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Hidden", "can_look", "hidden_descriptors"]

_GETFD = 438  # on every architecture: its number is of the time when they were made the same
_PIDFD_THREAD = os.O_EXCL  # pidfd_open(2)
_YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
_NOBODY_LOOKS = "3"


class Hidden(Exception):
    """Nobody sees what a process has open: its first thread has ended, and this kernel takes copies from no other."""


def hidden_descriptors(pid: int, member: int) -> Iterator[os.stat_result | None]:
    """Yield what each number in the process's table of descriptors leads to, None for one that is not in use.

    Nothing for a process that has ended or is no job's yet: the sandbox itself, while and because it was started
    outside of it. Asks a microsecond or two for each number, and a table may be as large as RLIMIT_NOFILE allows.
    `member` is a thread that lives (`runners.process.member_of`).

    Raises:
        Hidden: it can't be seen (before Linux 6.9).
        OSError: this process lacks something for a moment.

    """
    try:
        process = os.pidfd_open(member, 0 if member == pid else _PIDFD_THREAD)
    except ProcessLookupError:
        return
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        if member == pid:
            return  # it has ended
        raise Hidden from error
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        for number in range(_table_size(member)):
            copy = libc.syscall(_GETFD, process, number, 0)
            if copy >= 0:
                try:
                    found = os.fstat(copy)
                finally:
                    os.close(copy)
                yield found
            elif ctypes.get_errno() == errno.EBADF:
                yield None
            else:
                return
    finally:
        os.close(process)


def can_look(yama: Path = _YAMA) -> bool:
    """Whether `hidden_descriptors` finds anything here: Yama may forbid it (`yama`), and so may a system call filter.

    Root needs it not.
    """
    if os.geteuid() == 0:
        return True
    process = os.pidfd_open(os.getpid())
    try:
        copy = ctypes.CDLL(None).syscall(_GETFD, process, process, 0)
        if copy < 0:
            return False
        os.close(copy)
    finally:
        os.close(process)
    try:
        return yama.read_text().strip() != _NOBODY_LOOKS
    except OSError:
        return True  # a kernel without Yama


def _table_size(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    sizes = [line.split()[1] for line in text.splitlines() if line.startswith(b"FDSize:")]
    return int(sizes[0]) if sizes else 0
