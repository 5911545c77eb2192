"""Make room on a disk that is short of it: folders of delivered jobs go before their time, one by one.

They are kept for people to look at. Where the node could take no job for their sake, that is worth less than its work.
Those that hold most go first, so that the fewest are lost: the job that filled the disk, not all that came before it.
"""

import os
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from fsm_miner.log_port import Log
from fsm_miner.offload import offload
from fsm_miner.sweeper import Finished
from fsm_miner.words import counted
from fsm_miner.workspace import Workspace
from journal.port import StreamKey
from runners.measure import measure_written

__all__ = ["EarlySweep"]

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Held:
    """What the folder of a finished job holds: bytes in blocks, and files."""

    job: Finished
    bytes: int
    files: int


class EarlySweep:
    """Removes folders of finished jobs while the disk is short of space, and says what they hold."""

    def __init__(
        self,
        root: Path,
        short: Callable[[], str | None],
        *,
        log: Log,
        remove: Callable[[Workspace], Awaitable[None]] = Workspace.remove,
    ) -> None:
        """Remove nothing yet.

        Args:
            root: the jobs' folders are below it.
            short: says what the disk is short of now; None while there is room. Cheap.
            log: gets `swept_early` for each folder that went.
            remove: removes a folder, or raises OSError.

        """
        self._root = root
        self._short = short
        self._log = log
        self._remove_folder = remove
        self._held: dict[StreamKey, _Held] | None = None
        self._stuck: set[StreamKey] = set()

    def troubles(self) -> tuple[str, ...]:
        """Say how much finished jobs hold, while space is short."""
        if self._held is None or self._short() is None:
            return ()
        held_mb = sum(one.bytes for one in self._held.values()) / _MIB
        what = (
            f"finished jobs hold {held_mb:.0f} MiB in {counted(len(self._held), 'folder')}, which go one by one until "
            "there is room"
            if self._held
            else "finished jobs hold 0 MiB there: jobs that are not delivered yet, or others on the disk, hold the rest"
        )
        return (f"{self._root}: {what}",)

    def try_again(self) -> None:
        """Let folders that could not be removed be tried, and reported, anew."""
        self._stuck.clear()

    async def sweep(self, finished: Collection[Finished]) -> None:
        """Remove folders of `finished` jobs until there is room or none is left. Never raises for a folder's sake."""
        if self._short() is None:
            self._held = None
            return
        # What could not be removed is not looked through again and again: this is asked for every second.
        stuck = [one for key, one in (self._held or {}).items() if key in self._stuck]
        order = await offload(lambda: _by_weight(self._root, finished, self._stuck))
        self._held = {one.job.key: one for one in (*order, *stuck)}
        for one in order:
            if self._short() is None:
                return
            await self._remove(one)

    async def _remove(self, one: _Held) -> None:
        key, space = one.job.key, Workspace(self._root, *one.job.key)
        try:
            await self._remove_folder(space)
        except OSError as problem:
            self._stuck.add(key)
            self._log.warning(
                "folder_not_removed", problem=f"{space.folder}: could not be removed completely: {problem}"
            )
            return
        if self._held is not None:
            self._held.pop(key, None)
        self._log.warning(
            "swept_early", job_id=key.job_id, attempt=key.attempt, bytes=one.bytes, files=one.files
        )


def _by_weight(root: Path, finished: Collection[Finished], but: Collection[StreamKey]) -> list[_Held]:
    """Return what is there of finished jobs `but` some: most bytes first, then most files, then the oldest end."""
    try:
        names = set(os.listdir(root))  # noqa: PTH208 - names, not paths
    except OSError:  # it is gone: a look at the premises says so
        return []
    held = [
        one
        for job in finished
        if job.key not in but and (one := _weigh(Workspace(root, *job.key).folder, names, job)) is not None
    ]
    return sorted(held, key=lambda one: (-one.bytes, -one.files, one.job.at_ns))


def _weigh(folder: Path, names: Collection[str], job: Finished) -> _Held | None:
    try:
        if folder.name not in names or folder.is_symlink() or not folder.is_dir():
            return None
        written = measure_written([folder])
    except OSError:  # it goes last; why it can't be read is said when it can't be removed either
        return _Held(job, 0, 0)
    return _Held(job, written.allocated, written.entries)
