"""The disk's reserve while jobs run: who eats it up is ended before the disk is full, and nobody else is hurt.

Below `keep` no job is taken. Below half of it, the run that has taken most of it is over its limit: the other half is
what the journal, the log and the results of everybody else still need.

What a run has taken is counted from its last look at which the disk had the whole reserve, and anew for all when one
has been named; the next one is named when a further part of what was left is gone. So it makes no difference how many
write, nor how slowly: of N runs, one took an Nth part of that at least. Who took less is not the one.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from runners.measure import Written

__all__ = ["FILES_RESERVE", "DiskReserve", "Space", "space_of"]

FILES_RESERVE = 2000
"""How many more files a disk must be able to take for a job to be taken."""

_MIB = 1024 * 1024
# One of N is named for each part of 1 in _SHARE * N that goes of what is left: when all of eight were, half is there.
_SHARE = 4


@dataclass(frozen=True, slots=True)
class Space:
    """What is left on a file system for this user: bytes, and files (None where it does not count them)."""

    free_bytes: int
    free_files: int | None
    read_only: bool = False


def space_of(path: Path) -> Space:
    """Look at the file system of `path` (statvfs(3)).

    Raises:
        OSError: there is no such path.

    """
    found = os.statvfs(path)
    free_files = found.f_favail if found.f_files else None
    return Space(found.f_bavail * found.f_frsize, free_files, bool(found.f_flag & os.ST_RDONLY))


@dataclass(slots=True)
class _Run:
    """What it has on the disk, and what it had there when counting began."""

    allocated: int = 0
    entries: int = 0
    allocated_before: int = 0
    entries_before: int = 0

    def settle(self) -> None:
        self.allocated_before, self.entries_before = self.allocated, self.entries

    @property
    def taken_bytes(self) -> int:
        return max(0, self.allocated - self.allocated_before)

    @property
    def taken_files(self) -> int:
        return max(0, self.entries - self.entries_before)


class DiskReserve:
    """Knows what each run has taken of the reserve, and says which one must go. Used by any thread."""

    def __init__(
        self, folder: Path, keep_bytes: int, keep_files: int, *, space: Callable[[Path], Space] = space_of
    ) -> None:
        self._folder = folder
        self._keep_bytes = keep_bytes
        self._keep_files = keep_files
        self._space = space
        self._lock = Lock()
        self._runs: dict[str, _Run] = {}
        self._last: Space | None = None  # what was left when one was named

    def short(self) -> str | None:
        """Say what is less than half of the reserve; None while there is enough, or while it can't be told."""
        space = self._look()
        return None if space is None else self._bytes_short(space) or self._files_short(space)

    def judge(self, name: str, written: Written) -> str | None:
        """Note how much a run has written; say why it must end, if it has taken most of the reserve."""
        with self._lock:
            mine = self._runs.setdefault(name, _Run())
            mine.allocated, mine.entries = written.allocated, written.entries
            space = self._look()
            if space is None:
                return None
            if self._whole(space):
                mine.settle()
                return None
            short = self._named(mine, space)
            if short is None:
                return None
            self._last = space
            for run in self._runs.values():
                run.settle()
        return (
            f"wrote {written.allocated / _MIB:.1f} MiB in {written.entries} files, and more than any other job "
            f"since the disk had its reserve; {short}"
        )

    def forget(self, name: str) -> None:
        """Let go of a run that has ended."""
        with self._lock:
            self._runs.pop(name, None)

    def _named(self, mine: _Run, space: Space) -> str | None:
        """Say what is short, if this run has taken most of it."""
        runs, last = self._runs.values(), self._last
        bytes_short, files_short = self._bytes_short(space), self._files_short(space)
        if bytes_short is None and files_short is None:
            self._last = None
            return None
        if bytes_short is not None and (
            _far_enough(space.free_bytes, last and last.free_bytes, len(runs))
            and _took_most(mine.taken_bytes, [run.taken_bytes for run in runs], self._keep_bytes)
        ):
            return bytes_short
        if files_short is not None and (
            _far_enough(space.free_files or 0, last and last.free_files, len(runs))
            and _took_most(mine.taken_files, [run.taken_files for run in runs], self._keep_files)
        ):
            return files_short
        return None

    def _look(self) -> Space | None:
        try:
            return self._space(self._folder)
        except OSError:
            return None

    def _whole(self, space: Space) -> bool:
        return space.free_bytes >= self._keep_bytes and (
            space.free_files is None or space.free_files >= self._keep_files
        )

    def _bytes_short(self, space: Space) -> str | None:
        if space.free_bytes >= self._keep_bytes // 2:
            return None
        return (
            f"{space.free_bytes // _MIB} MiB were left on the disk, less than half of "
            f"resources.disk_reserve_mb ({self._keep_bytes // _MIB})"
        )

    def _files_short(self, space: Space) -> str | None:
        if space.free_files is None or space.free_files >= self._keep_files // 2:
            return None
        return f"{space.free_files} more files were all that the disk could take"


def _far_enough(left: int, left_before: int | None, runs: int) -> bool:
    """Whether a further part is gone since the last one was named, or none was: its end may have been enough."""
    part = _SHARE * runs
    return left_before is None or left * part <= left_before * (part - 1)


def _took_most(mine: int, all_of_them: Sequence[int], keep: int) -> bool:
    """Whether this one has taken most, and as much as one of them must have if it was them."""
    runs = len(all_of_them)
    # Of half of `keep` a quarter is left even when all but one of a hundred were named.
    return mine > 0 and mine == max(all_of_them) and mine * _SHARE * runs * runs >= keep // 8
