"""How much a run has written below its folders, measured through descriptors and no links, bounded.

A job may take its own permissions off a folder, or the name off a file that it has open: both still fill the disk.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from runners.descriptors import Hidden, hidden_descriptors
from runners.opening import open_memory
from runners.process import member_of, read_proc

__all__ = ["Written", "measure_written"]

ENTRIES_MAX = 200_000
DEPTH_MAX = 100
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_HANDLE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OWNER_LOOKS = 0o500
_TRIES = 4
_CLOSED = "into folders that it closes again and again"
_HIDDEN = "into files that it hides: the first thread of a process that may not be looked at has ended"
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Written:
    """`size` in bytes: of each file its length or its blocks, whichever is more; `allocated` in bytes: its blocks.

    `excess`: what was too much.
    """

    size: int
    allocated: int
    entries: int
    excess: str | None = None


@dataclass(slots=True)
class _Walk:
    entries_max: int
    in_memory: int = 0
    size: int = 0
    allocated: int = 0
    entries: int = 0
    excess: str | None = None
    linked: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])
    mapped: dict[int, int] = field(default_factory=dict[int, int])

    def folder(self, fd: int, depth: int) -> None:
        if depth > DEPTH_MAX:
            self.excess = f"folders more than {DEPTH_MAX} deep"
            return
        with os.scandir(fd) as found:
            for entry in found:
                self.entries += 1
                if self.entries > self.entries_max:
                    self.excess = f"more than {self.entries_max} files"
                if self.excess is not None:
                    return
                self.entry(fd, entry, depth)

    def entry(self, fd: int, entry: "os.DirEntry[str]", depth: int) -> None:
        try:
            about = _about(entry.name, fd)
            if not stat.S_ISDIR(about.st_mode):
                self.file(about)
                return
            below = _open_folder(entry.name, fd)
            self.blocks(about)
        except PermissionError:
            self.excess = _CLOSED
            return
        except OSError:
            return  # gone or exchanged meanwhile
        try:
            self.folder(below, depth + 1)
        finally:
            os.close(below)

    def process(self, pid: int, devices: set[int], memory: int, *, mapped: bool) -> None:
        """Add what a process holds open, or has `mapped`, and no folder names any more."""
        try:
            member = member_of(pid)
            self.open_files(pid, member, devices, memory)
            if mapped:
                self.mappings(member, memory)
        except OSError:
            return  # the process has ended

    def open_files(self, pid: int, member: int, devices: set[int], memory: int) -> None:
        try:
            with os.scandir(f"/proc/{member}/fd") as found:
                for entry in found:
                    self.entries += 1
                    if self.entries > self.entries_max:
                        self.excess = f"more than {self.entries_max} files"
                        return
                    self.open_file(_opened(entry), devices, memory)
        except PermissionError:
            self.hidden_files(pid, member, devices, memory)

    def hidden_files(self, pid: int, member: int, devices: set[int], memory: int) -> None:
        """Do the same for a process whose list of open files is closed to its own user, see runners.descriptors."""
        try:
            for about in hidden_descriptors(pid, member):
                self.entries += 1
                if self.entries > self.entries_max:
                    self.excess = f"more than {self.entries_max} files"
                    return
                self.open_file(about, devices, memory)
        except Hidden:
            self.excess = _HIDDEN

    def mappings(self, member: int, memory: int) -> None:
        """Note what is mapped of files in memory: no descriptor may lead there any more, and no page be in use."""
        device = f" {os.major(memory):02x}:{os.minor(memory):02x} ".encode()
        try:
            maps = read_proc(f"/proc/{member}/maps")
        except PermissionError:
            # It hides them: whatever it has mapped may be that.
            self.in_memory += int(read_proc(f"/proc/{member}/statm").split()[0]) * _PAGE
            return
        for line in maps.splitlines() if device in maps else ():
            places, _, offset, on, inode, *_ = line.split(maxsplit=5)
            if on == device.strip():
                begin, end = places.split(b"-")
                reach = int(offset, 16) + int(end, 16) - int(begin, 16)
                self.mapped[int(inode)] = max(reach, self.mapped.get(int(inode), 0))

    def only_mapped(self, memory: int) -> None:
        """Add what is mapped of files that no descriptor was found for."""
        for inode, reach in self.mapped.items():
            if (memory, inode) not in self.linked:
                self.in_memory += reach

    def open_file(self, about: os.stat_result | None, devices: set[int], memory: int) -> None:
        if about is None or not stat.S_ISREG(about.st_mode) or about.st_nlink != 0:
            return
        if about.st_dev == memory:
            self.memory(about)
        elif about.st_dev in devices:
            self.file(about)

    def memory(self, about: os.stat_result) -> None:
        if not self.seen(about):
            self.in_memory += about.st_blocks * 512

    def seen(self, about: os.stat_result) -> bool:
        name = (about.st_dev, about.st_ino)
        if name in self.linked:
            return True
        self.linked.add(name)
        return False

    def file(self, about: os.stat_result) -> None:
        if about.st_nlink != 1 and self.seen(about):
            return
        self.size += max(about.st_size, about.st_blocks * 512)
        self.allocated += about.st_blocks * 512

    def blocks(self, about: os.stat_result) -> None:
        """Add a folder: it grows with the names that it had at a time, and stays that large."""
        self.size += about.st_blocks * 512
        self.allocated += about.st_blocks * 512


def measure_written(
    folders: Sequence[Path],
    processes: Iterable[int] = (),
    *,
    files: Sequence[Path] = (),
    entries_max: int = ENTRIES_MAX,
) -> Written:
    """Add up what lies below `folders`, and `files`. Call it in a thread: a job may have made very many files.

    What is missing counts as empty. Of the files that `processes` hold open, those without a name
    count too where they lie on the folders' file systems.
    """
    walk = _Walk(entries_max)
    devices: set[int] = set()
    for folder in folders:
        try:
            fd = _open_folder(folder, None)
        except FileNotFoundError:
            continue
        except PermissionError:
            walk.excess = _CLOSED
            break
        try:
            about = os.fstat(fd)
            devices.add(about.st_dev)
            walk.blocks(about)
            walk.folder(fd, 0)
        finally:
            os.close(fd)
    for path in files:
        with suppress(FileNotFoundError):
            walk.file(path.stat(follow_symlinks=False))
    memory = _memory_device()
    for pid in processes:
        if walk.excess is not None:
            break
        walk.process(pid, devices, memory, mapped=False)
    return Written(walk.size, walk.allocated, walk.entries, walk.excess)


def measure_in_memory(processes: Iterable[int]) -> int:
    """Return the bytes in files that lie on no disk and have no name (memfd_create(2)), and in shared memory.

    As much as is mapped, where no descriptor leads there. The first of the `processes` is the sandbox's own.
    """
    walk = _Walk(ENTRIES_MAX)
    memory = _memory_device()
    for position, pid in enumerate(processes):
        walk.process(pid, set(), memory, mapped=position > 0)
    walk.only_mapped(memory)
    return walk.in_memory


def _memory_device() -> int:
    """Return the device of files in memory that have no name: the kernel's own tmpfs, one for all."""
    fd = open_memory("here")
    try:
        return os.fstat(fd).st_dev
    finally:
        os.close(fd)


def _open_folder(name: str | Path, parent: int | None) -> int:
    """Open a folder, giving its owner back the permission to look into it, where that was taken away.

    Raises:
        PermissionError: it is taken away again and again.

    """
    for _ in range(_TRIES):
        try:
            return os.open(name, _FOLDER, dir_fd=parent)
        except PermissionError:
            if parent is not None:
                _give_back(parent)
            handle = os.open(name, _HANDLE, dir_fd=parent)
            try:
                _give_back(handle)
            finally:
                os.close(handle)
    return os.open(name, _FOLDER, dir_fd=parent)


def _about(name: str, parent: int) -> os.stat_result:
    """Look at an entry of a folder that is open; raises as `_open_folder`."""
    for _ in range(_TRIES):
        try:
            return os.stat(name, dir_fd=parent, follow_symlinks=False)
        except PermissionError:
            _give_back(parent)
    return os.stat(name, dir_fd=parent, follow_symlinks=False)


def _give_back(folder: int) -> None:
    # fchmod refuses O_PATH descriptors; their entry in /proc leads to the very same inode.
    Path(f"/proc/self/fd/{folder}").chmod(stat.S_IMODE(os.fstat(folder).st_mode) | _OWNER_LOOKS)


def _opened(entry: "os.DirEntry[str]") -> os.stat_result | None:
    """Return what an entry of /proc/<pid>/fd leads to."""
    try:
        return entry.stat()
    except OSError:
        return None  # closed meanwhile
