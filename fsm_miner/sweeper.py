"""Remove the folders of jobs that are over, once nobody is likely to look at them any more.

Only a folder whose job the journal calls final is ever removed. What the journal does not know is left
alone and reported once: it may be all that is left of a job whose journal was lost.
"""

import os
import stat
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from fsm_miner.offload import offload
from fsm_miner.tree_removal import remove_tree
from fsm_miner.workspace import TRASH_PREFIX, Workspace, key_of_folder
from journal.port import StreamKey

__all__ = ["Finished", "Retention", "Sweeper", "Swept", "empty_trash", "expired"]

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Finished:
    """A job that reached DONE or FAILED. `at_ns`: UTC, in nanoseconds, when it did."""

    key: StreamKey
    success: bool
    at_ns: int


@dataclass(frozen=True, slots=True)
class Retention:
    """How long folders are kept after the end, in seconds (`workspace.keep_success`, `keep_failed`)."""

    success_s: float
    failed_s: float


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did.

    `removed`: streams whose folder is gone now. `unknown`: folder names that the journal does not know,
    each reported in one sweep only. `problems`: a sentence for each folder that could not be removed.
    """

    removed: tuple[StreamKey, ...]
    unknown: tuple[str, ...]
    problems: tuple[str, ...]


def expired(finished: Iterable[Finished], now_ns: int, retention: Retention) -> list[StreamKey]:
    """Return whose folder has been kept long enough. An end that lies in the future has not."""
    return [
        job.key
        for job in finished
        if now_ns - job.at_ns >= (retention.success_s if job.success else retention.failed_s) * _NS
    ]


class Sweeper:
    """Sweeps the workspaces below one root."""

    def __init__(self, root: Path, retention: Retention) -> None:
        self._root = root
        self._retention = retention
        self._reported: set[str] = set()

    async def sweep(self, finished: Collection[Finished], known: Collection[StreamKey], now_ns: int) -> Swept:
        """Remove expired folders, one after the other, and look for folders of nobody.

        `finished` are the journal's final jobs, `known` all its streams, final or not. Never raises for
        a folder's sake; a root that is missing has nothing to sweep.
        """
        folders = await offload(lambda: _folders(self._root))
        removed: list[StreamKey] = []
        problems: list[str] = []
        for key in expired(finished, now_ns, self._retention):
            space = Workspace(self._root, *key)
            if space.folder.name not in folders:
                continue
            try:
                await space.remove()
                removed.append(key)
            except OSError as problem:
                problems.append(f"{space.folder}: could not be removed completely: {problem}")
        return Swept(tuple(removed), self._unknown(folders, set(known)), tuple(problems))

    def _unknown(self, folders: Collection[str], known: Collection[StreamKey]) -> tuple[str, ...]:
        strangers = {name for name in folders if key_of_folder(name) not in known}
        new = sorted(strangers - self._reported)
        self._reported = strangers  # what is gone meanwhile is forgotten, so this stays as small as the root
        return tuple(new)


async def empty_trash(root: Path) -> list[str]:
    """Finish the removals that were cut off. At start, and whenever a removal met a problem.

    Returns a sentence for each that still cannot be finished.
    """
    return await offload(lambda: _empty_trash(root))


def _empty_trash(root: Path) -> list[str]:
    problems: list[str] = []
    for name in _names(root):
        if name.startswith(TRASH_PREFIX):
            try:
                remove_tree(root / name)
            except OSError as problem:
                problems.append(f"{root / name}: could not be removed completely: {problem}")
    return problems


def _folders(root: Path) -> frozenset[str]:
    """Return the names of what may be a workspace: folders, the trash apart."""
    return frozenset(
        name for name in _names(root) if not name.startswith(TRASH_PREFIX) and _is_folder(root / name)
    )


def _names(root: Path) -> list[str]:
    try:
        return os.listdir(root)  # noqa: PTH208 - names, not paths
    except FileNotFoundError:
        return []


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False
