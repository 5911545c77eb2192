"""What a run's processes use, read from /proc, for machines without a cgroup (proc(5)).

Memory means what the machine cannot take back: anonymous pages, and shared memory with what lies in the run's
/tmp and /dev/shm. Mapped files are not counted: the kernel drops them when it needs the room.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from runners.process import children_of, member_of, read_proc, stat_of

__all__ = ["TreeSample", "count_processes", "exact_memory", "sample_tree", "tree_of"]

PROCESSES_MAX = 20_000
_ASK_EVERY = 32
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
# What an empty file costs the kernel in a tmpfs: inode and name, which no size bounds.
_INODE_BYTES = 1024
_GONE = (FileNotFoundError, ProcessLookupError)
_SIZES = frozenset({b"RssAnon:", b"RssShmem:", b"VmSwap:", b"Pss_Anon:", b"Pss_Shmem:", b"SwapPss:"})


@dataclass(frozen=True, slots=True)
class TreeSample:
    """One look. `memory_bytes` is cheap and never too low; `anonymous_bytes` leaves shared pages out.

    `processes` counts their threads too, as pids.max does. `cpu_s` counts every process that lives or was waited for.
    """

    processes: int
    memory_bytes: int
    anonymous_bytes: int
    cpu_s: float


def tree_of(init: int, crowded: Callable[[], bool] = lambda: False) -> Iterator[int]:
    """Yield `init` and the processes below it; a sandbox's orphans stay below its process 1. Bounded.

    Ends early once `crowded` says so, which is asked now and then: a fork bomb grows faster than it can be read.
    """
    waiting = [init]
    seen: set[int] = set()
    while waiting and len(seen) < PROCESSES_MAX:
        pid = waiting.pop()
        if pid not in seen:
            seen.add(pid)
            yield pid
            if len(seen) % _ASK_EVERY == 0 and crowded():
                return
            waiting.extend(children_of(pid))


def count_processes(init: int) -> int:
    """Return how many processes the sandbox of `init` has, by one listing; 0 where there is no sandbox."""
    inside = f"/proc/{init}/root/proc"
    try:
        if Path(inside).stat().st_dev == Path("/proc").stat().st_dev:
            return 0
        return sum(name.isdecimal() for name in os.listdir(inside))  # noqa: PTH208 - names, not paths
    except (*_GONE, PermissionError):
        return 0  # being built, or ending


def sample_tree(init: int, crowded: Callable[[], bool] = lambda: False) -> TreeSample:
    """Add up the tree, see `tree_of`; processes that end meanwhile are left out."""
    processes = resident = anonymous = ticks = 0
    for pid in tree_of(init, crowded):
        try:
            stat = stat_of(f"/proc/{pid}")
            pages = read_proc(f"/proc/{member_of(pid, stat)}/statm").split()
        except _GONE:
            continue
        processes += int(stat[17])  # num_threads
        resident += int(pages[1]) * _PAGE
        anonymous += _anonymous(pages)
        ticks += sum(map(int, stat[11:15]))  # utime, stime, cutime, cstime
    held = _memory_folders(init)
    return TreeSample(processes, resident + held, anonymous + held, ticks / _TICKS)


def exact_memory(
    init: int,
    crowded: Callable[[], bool] = lambda: False,
    *,
    limit_bytes: int | None = None,
    in_files_bytes: int = 0,
) -> int:
    """Return the bytes the tree really holds, each shared page once. Walks page tables: only near a limit.

    `in_files_bytes`: in files in memory without a name, see `runners.measure`. With `limit_bytes` it walks no further
    than to tell whether it is more than that, those first that may hold most; what it returns is then as good as that.
    """
    looks: list[tuple[int, int, int]] = []
    for pid in tree_of(init, crowded):
        try:
            member = member_of(pid)
            about = _sizes(read_proc(f"/proc/{member}/status"))
        except _GONE:
            continue
        own = about.get(b"RssAnon:", 0) + about.get(b"VmSwap:", 0)  # a page that a fork shares, once for each
        looks.append((own, about.get(b"RssShmem:", 0), member))
    in_files_bytes += _memory_folders(init)
    private = shared = 0
    unknown = sum(own + others for own, others, _ in looks)
    for own, others, pid in sorted(looks, reverse=True):
        # What is mapped of /dev/shm is in both: the larger counts, never the sum.
        held = private + max(shared, in_files_bytes)
        if limit_bytes is not None and held > limit_bytes:
            return held
        if limit_bytes is not None and held + unknown <= limit_bytes:
            break
        unknown -= own + others
        found = _pages(pid, own)
        private += min(own, found[0])
        shared += found[1]
    return private + max(shared, in_files_bytes) + unknown


def _pages(pid: int, own: int) -> tuple[int, int]:
    """Return the bytes of a process in pages of no file, and of shared memory: its part of those that it shares.

    Where that is hidden, `own`: it runs a program of the system's that its user may not read.
    """
    try:
        about = _sizes(read_proc(f"/proc/{pid}/smaps_rollup"))
    except PermissionError:
        return own, 0
    except _GONE:
        return 0, 0
    return about.get(b"Pss_Anon:", 0) + about.get(b"SwapPss:", 0), about.get(b"Pss_Shmem:", 0)


def _sizes(text: bytes) -> dict[bytes, int]:
    """Return the sizes that a file of /proc tells, in bytes; a process chooses its name, on a line beside them."""
    words = (line.split() for line in text.splitlines())
    return {
        one[0]: int(one[1]) * 1024 for one in words if len(one) == 3 and one[0] in _SIZES and one[1].isdigit()
    }


def _anonymous(pages: list[bytes]) -> int:
    """Return the bytes of a process in pages that are of no file and no shared memory, by its /proc/<pid>/statm."""
    return max(0, int(pages[1]) - int(pages[2])) * _PAGE


def _memory_folders(init: int) -> int:
    """Return the bytes in the sandbox's own /tmp and /dev/shm, with what each file costs by being there.

    0 where they are the host's.
    """
    total = 0
    host = Path("/").stat().st_dev
    try:
        if Path(f"/proc/{init}/root").stat().st_dev == host:
            return 0  # no sandbox
        for name in ("tmp", "dev/shm"):
            # A handle: the job may have taken the permission to read it away.
            fd = os.open(
                f"/proc/{init}/root/{name}", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            )
            try:
                found = os.fstatvfs(fd)
            finally:
                os.close(fd)
            total += (found.f_blocks - found.f_bfree) * found.f_frsize
            total += (found.f_files - found.f_ffree) * _INODE_BYTES
    except (*_GONE, PermissionError):
        return 0  # being built, or ending
    return total
