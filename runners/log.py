"""A run's log: a file; or, of a run that is told secrets and may print them, in memory for as long as it goes on."""

import os
from dataclasses import dataclass
from pathlib import Path

from runners.handed import open_handed
from runners.opening import open_memory

__all__ = ["MemoryFile", "RunLog"]


class MemoryFile:
    """A file on no disk. Closed when nobody refers to it any more: whoever reads it in a thread reads no other."""

    def __init__(self) -> None:
        """Make an empty one.

        Raises:
            OSError: there is no memory, or no descriptor.

        """
        self.fd = open_memory("log")

    def __del__(self) -> None:
        """Close it, if there is one."""
        if hasattr(self, "fd"):
            os.close(self.fd)

    def open_for_run(self) -> int:
        """Open it for appending, with an offset of its own; the descriptor is the caller's."""
        return os.open(f"/proc/self/fd/{self.fd}", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)


@dataclass(frozen=True, slots=True)
class RunLog:
    """The log `exec.log`: at `path`, or in `memory` until the run is over and somebody puts it there."""

    path: Path
    memory: MemoryFile | None = None

    def open(self) -> int:
        """Open it for reading, by pread(2): its offset may be shared. The descriptor is the caller's.

        Raises:
            FileNotFoundError: there is none.
            OSError: as open(2) says.

        """
        return open_handed(self.path, os.O_RDONLY) if self.memory is None else os.dup(self.memory.fd)

    def size(self) -> int:
        """Return its size in bytes; raises FileNotFoundError if there is none."""
        if self.memory is not None:
            return os.fstat(self.memory.fd).st_size
        return self.path.stat(follow_symlinks=False).st_size
