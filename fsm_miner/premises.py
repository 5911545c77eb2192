"""The premises: what the node stands on, looked at every other second. Its disks, its state folder, its descriptors.

What is wrong is said in `/healthz` and, once, in the log, with what to do about it. While a promise could not be
kept, no job is pulled. Nothing here ends anything: when the cause is gone, the next look says so.
"""

import errno
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fsm_miner.clock import Clock
from fsm_miner.config.model import Config
from fsm_miner.log_port import Log
from fsm_miner.offload import offload
from runners.reserve import FILES_RESERVE, Space, space_of
from runners.shortage import is_shortage

__all__ = ["STATE_RESERVE_MB", "Findings", "LogState", "Premises", "full", "made", "unwritable"]

STATE_RESERVE_MB = 16
"""What must be free beside the journal for a job to be taken: its outcome has to be written down as well."""

_MIB = 1024 * 1024
_EVERY_S = 2.0
_EVERY_S_IN_TROUBLE = 1.0
# Most of what keeps a disk from taking anything shows without writing to it; the rest is looked for less often.
_WRITES_EVERY = 5
_PROBE_BYTES = bytes(4096)
_SPARE_DESCRIPTORS = 16
_KEPT_BY = "resources.disk_reserve_mb"


class LogState(Protocol):
    """What the log knows of itself."""

    @property
    def trouble(self) -> str | None:
        """Why lines are being lost; None while they are not."""
        ...

    def resume(self) -> None:
        """Try to end an outage. Never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look found: `hold` are reasons to take no job, `trouble` other things that are wrong."""

    hold: tuple[str, ...] = ()
    trouble: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Everything that is wrong."""
        return self.hold + self.trouble


class Premises:
    """Looks, remembers what it saw, and says what changed."""

    def __init__(
        self,
        config: Config,
        log_state: LogState,
        own_files: Sequence[Callable[[], Awaitable[str | None]]],
        *,
        clock: Clock,
        log: Log,
    ) -> None:
        """Look at nothing yet.

        Args:
            config: names the folders and the reserve.
            log_state: the log file's state.
            own_files: each says what is wrong with a file that the daemon holds open, and mends it if it can; what
                it says is a reason to take no job.
            clock: for waiting.
            log: gets what changed.

        """
        self._root = config.workspace.root
        self._state_dir = config.state_dir
        self._keep_mb = config.resources.disk_reserve_mb
        self._log_state = log_state
        self._own_files = tuple(own_files)
        self.on_change: Callable[[], object] | None = None
        """Called in the event loop when what was found has changed."""
        self.on_short: Callable[[], object] | None = None
        """Called in the event loop at each look that finds too little space where the jobs' folders are."""
        self._clock = clock
        self._log = log
        self._looks = 0
        self.found = Findings()
        """What the last look found."""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(_EVERY_S_IN_TROUBLE if self.found.all else _EVERY_S)

    async def look(self) -> None:
        """Look now."""
        before, found = self.found, await offload(self._look)
        own = [problem for ask in self._own_files if (problem := await ask()) is not None]
        self.found = Findings((*found.hold, *own), found.trouble)
        news = [problem for problem in self.found.all if _subject(problem) not in map(_subject, before.all)]
        gone = [problem for problem in before.all if _subject(problem) not in map(_subject, self.found.all)]
        for problem in news:
            self._log.error("premises_trouble", problem=problem)
        for problem in gone:
            self._log.info("premises_recovered", problem=problem)
        if (news or gone) and self.on_change is not None:
            self.on_change()
        if self.on_short is not None and self.short() is not None:
            self.on_short()

    def why_not_pull(self) -> str | None:
        """Say why no job should be taken; what is cheap to see is looked at anew."""
        return next(iter(self.found.hold), None) or made(self._root) or full(self._root, self._keep_mb)

    def short(self) -> str | None:
        """Say what there is too little of that fewer folders of jobs would give back. Cheap."""
        try:
            found = _scarce(self._root, space_of(self._root), self._keep_mb)
            if found is None and self._root.stat().st_dev == self._state_dir.stat().st_dev:
                found = _scarce(self._state_dir, space_of(self._state_dir), STATE_RESERVE_MB, "the journal")
        except OSError:  # a folder is gone: a look says so
            return None
        return found

    def _look(self) -> Findings:
        writes = self._looks % _WRITES_EVERY == 0 or bool(self.found.hold)
        self._looks += 1
        hold = [
            made(self._root) or full(self._root, self._keep_mb) or _refused(self._root, writes),
            made(self._state_dir)
            or full(self._state_dir, STATE_RESERVE_MB, "the journal")
            or _refused(self._state_dir, writes),
            _descriptors(),
        ]
        self._log_state.resume()
        lost = self._log_state.trouble
        return Findings(tuple(filter(None, hold)), () if lost is None else (lost,))


def made(folder: Path) -> str | None:
    """Make the folder, should somebody have deleted it; say why it can't be had."""
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        return f"{folder}: {error.strerror}: make it again, for the daemon's user to write to"
    return None


def full(folder: Path, keep_mb: int, kept_by: str = _KEPT_BY) -> str | None:
    """Say what there is too little of on the folder's disk to take another job."""
    try:
        space = space_of(folder)
    except OSError as error:
        return f"{folder}: {error.strerror}"
    if (scarce := _scarce(folder, space, keep_mb, kept_by)) is not None:
        return scarce
    if space.read_only:
        return (
            f"{folder}: is mounted read-only: see dmesg for the disk's errors, then mount it read-write again"
        )
    return None


def _scarce(folder: Path, space: Space, keep_mb: int, kept_by: str = _KEPT_BY) -> str | None:
    free_mb = space.free_bytes // _MIB
    if free_mb <= keep_mb:
        return f"{folder}: {free_mb} MiB free; {kept_by} keeps {keep_mb}: make space, or use a larger disk"
    if space.free_files is not None and space.free_files <= FILES_RESERVE:
        return f"{folder}: the disk can take {space.free_files} more files; {FILES_RESERVE} are kept: remove some"
    return None


def unwritable(folder: Path) -> str | None:
    """Say why nothing can be written to the folder, by writing a page and removing it; None if it can."""
    probe = folder / ".probe"
    try:
        fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, _PROBE_BYTES)
        finally:
            os.close(fd)
            probe.unlink(missing_ok=True)
    except OSError as error:
        return (
            None
            if is_shortage(error)
            else f"{folder}: {error.strerror}: see its mode, and dmesg for the disk's errors"
        )
    return None


def _refused(folder: Path, writes: bool) -> str | None:
    return unwritable(folder) if writes else None


def _descriptors() -> str | None:
    """Say whether this process could still open a few files and sockets."""
    spare: list[int] = []
    try:
        for _ in range(_SPARE_DESCRIPTORS):
            spare.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))  # noqa: PERF401 - those opened are closed
    except OSError as error:
        whose = "the machine" if error.errno == errno.ENFILE else "this process"
        return (
            f"descriptors: {whose} can't open another file ({error.strerror}): raise LimitNOFILE= of the unit, or "
            "see who holds so many (ls /proc/<pid>/fd)"
        )
    finally:
        for fd in spare:
            os.close(fd)
    return None


def _subject(problem: str) -> str:
    """Return what a sentence is about: figures in it may change with each look."""
    return problem.partition(": ")[0]
