"""The disk's reserve while jobs run: who eats it up is ended before the disk is full, and nobody else is hurt.

Below `keep` no job is taken. Below half of it, the run that grows fastest is over its limit: the other half is what
the journal, the log and the results of everybody else still need.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from runners.measure import Written

__all__ = ["FILES_RESERVE", "DiskReserve", "Space", "space_of"]

FILES_RESERVE = 2000
"""How many more files a disk must be able to take for a job to be taken."""

_MIB = 1024 * 1024
# Whoever grows by less than this between two looks is not the one who fills the disk.
_GROWTH_BYTES_MIN = _MIB
_GROWTH_FILES_MIN = 500


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
    at_s: float
    allocated: int
    entries: int
    bytes_per_s: float = 0.0
    files_per_s: float = 0.0
    grown_bytes: int = 0
    grown_files: int = 0


class DiskReserve:
    """Knows how fast each run grows, and says which one must go. Used by any thread."""

    def __init__(
        self,
        folder: Path,
        keep_bytes: int,
        keep_files: int,
        *,
        space: Callable[[Path], Space] = space_of,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._keep_bytes = keep_bytes
        self._keep_files = keep_files
        self._space = space
        self._monotonic = monotonic
        self._lock = Lock()
        self._runs: dict[str, _Run] = {}

    def short(self) -> str | None:
        """Say what is less than half of the reserve; None while there is enough, or while it can't be told."""
        try:
            space = self._space(self._folder)
        except OSError:
            return None
        if space.free_bytes < self._keep_bytes // 2:
            return (
                f"{space.free_bytes // _MIB} MiB were left on the disk, less than half of "
                f"resources.disk_reserve_mb ({self._keep_bytes // _MIB})"
            )
        if space.free_files is not None and space.free_files < self._keep_files // 2:
            return f"{space.free_files} more files were all that the disk could take"
        return None

    def judge(self, name: str, written: Written) -> str | None:
        """Note how much a run has written; say why it must end, if it is the one that fills the disk."""
        with self._lock:
            mine = self._note(name, written)
            short = self.short()
            if short is None:
                return None
            others = [run for other, run in self._runs.items() if other != name]
            in_bytes = mine.grown_bytes >= _GROWTH_BYTES_MIN and all(
                mine.bytes_per_s >= run.bytes_per_s for run in others
            )
            in_files = mine.grown_files >= _GROWTH_FILES_MIN and all(
                mine.files_per_s >= run.files_per_s for run in others
            )
            if not (in_bytes or in_files):
                return None
        return f"wrote {written.allocated / _MIB:.1f} MiB in {written.entries} files and was writing on when {short}"

    def forget(self, name: str) -> None:
        """Let go of a run that has ended."""
        with self._lock:
            self._runs.pop(name, None)

    def _note(self, name: str, written: Written) -> _Run:
        now_s = self._monotonic()
        before = self._runs.get(name)
        if before is None:  # all that it has written is growth: it may have been the last look before the end
            before = _Run(now_s - 1.0, 0, 0)
        past_s = max(now_s - before.at_s, 0.001)
        grown_bytes = max(written.allocated - before.allocated, 0)
        grown_files = max(written.entries - before.entries, 0)
        run = self._runs[name] = _Run(
            now_s,
            written.allocated,
            written.entries,
            grown_bytes / past_s,
            grown_files / past_s,
            grown_bytes,
            grown_files,
        )
        return run
