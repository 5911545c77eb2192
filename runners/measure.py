"""How much a run has written below its folders, measured through descriptors and no links, bounded."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Written", "measure_written"]

ENTRIES_MAX = 200_000
DEPTH_MAX = 100
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Written:
    """`size` in bytes: of each file its length or its blocks, whichever is more. `excess`: what was too much."""

    size: int
    entries: int
    excess: str | None = None


@dataclass(slots=True)
class _Walk:
    entries_max: int
    size: int = 0
    entries: int = 0
    excess: str | None = None
    linked: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])

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
            about = entry.stat(follow_symlinks=False)
            if not stat.S_ISDIR(about.st_mode):
                self.file(about)
                return
            below = os.open(entry.name, _FOLDER, dir_fd=fd)
        except OSError:
            return  # gone or exchanged meanwhile
        try:
            self.folder(below, depth + 1)
        finally:
            os.close(below)

    def file(self, about: os.stat_result) -> None:
        if about.st_nlink > 1:
            name = (about.st_dev, about.st_ino)
            if name in self.linked:
                return
            self.linked.add(name)
        self.size += max(about.st_size, about.st_blocks * 512)


def measure_written(folders: Sequence[Path], *, entries_max: int = ENTRIES_MAX) -> Written:
    """Add up what lies below `folders`. Call it in a thread: a job may have made very many files.

    A folder that is missing counts as empty.
    """
    walk = _Walk(entries_max)
    for folder in folders:
        try:
            fd = os.open(folder, _FOLDER)
        except FileNotFoundError:
            continue
        try:
            walk.folder(fd, 0)
        finally:
            os.close(fd)
    return Written(walk.size, walk.entries, walk.excess)
