"""Find, check and hash what a run was to produce.

Called when nothing of the run is alive any more, yet everything found is a stranger's: it is looked at
through `fsm_miner.beneath`, follows no link, and what is no regular file is not even opened.
"""

import asyncio
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any, Literal

from fsm_miner.beneath import NotRegularError, NotThereError, open_regular, path_problem
from fsm_miner.durable import sync_file
from fsm_miner.offload import offload
from fsm_miner.workspace import Workspace
from runners.shortage import is_shortage, refused_by_disk
from states.codes import ErrorCode, Failure

__all__ = ["Collected", "Declared", "StoredArtifact", "Where", "collect", "open_stored", "sha256_of"]

Where = Literal["output", "work", "stdout"]

_MIB = 1 << 20
_CHUNK_BYTES = 1 << 20
_HASHED_AT_ONCE = 2
_LISTED_MAX = 20
_LISTED_NAME_CHARS_MAX = 80


@dataclass(frozen=True, slots=True)
class Declared:
    """An artifact as the manifest declares it. `max_mb` in MiB."""

    path: str
    type: str
    max_mb: float
    optional: bool = False


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """An artifact that was found, as the journal keeps it. All plain JSON.

    `size` in bytes, `sha256` in lower-case hex. `where` is the folder of the workspace it was found in,
    or "stdout": the run's standard output. `inode` and `mtime_ns` tell later whether it is still the
    same file, without hashing it again.
    """

    path: str
    type: str
    size: int
    sha256: str
    where: Where
    inode: int
    mtime_ns: int

    def to_json(self) -> dict[str, Any]:
        """Return it as the journal keeps it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "StoredArtifact":
        """Return what `to_json` made; fields of newer versions are ignored."""
        found = cls(**{name: data[name] for name in cls.__slots__})
        assert found.where in {"output", "work", "stdout"}, found.where
        assert path_problem(found.path) is None, found.path
        return found


@dataclass(frozen=True, slots=True)
class Collected:
    """Every declared artifact that is there, in the manifest's order."""

    artifacts: tuple[StoredArtifact, ...]


class _StoppedError(Exception):
    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.failure = Failure(code, message)


async def collect(
    declared: Sequence[Declared],
    workspace: Workspace,
    *,
    total_bytes_max: int,
    stdout_artifact: str | None = None,
) -> Collected | Failure:
    """Find every declared artifact in output/, or else in work/, make it durable and hash it.

    Only then may the journal call the job a success: a power cut must not take what it speaks of.

    `stdout_artifact` is the path of the artifact that takes the run's standard output
    (`workspace.stdout`) where the command did not write such a file itself (contract, "Manifest").

    Fails with E_DENY for a path that is none, E_ARTIFACT for what is missing (and not optional) or is no
    readable regular file, E_OUTPUT for what is larger than its `max_mb`, or than `total_bytes_max`
    together. Sizes are checked before anything is hashed. E_INTERNAL: the disk cannot be read, or not be
    written; E_NORESOURCE: it has no room for what the run had written.

    Raises:
        OSError: this process lacks something for a moment (`runners.shortage`).

    """
    try:
        return await _collect(declared, workspace, total_bytes_max, stdout_artifact)
    except _StoppedError as stopped:
        return stopped.failure


async def _collect(
    declared: Sequence[Declared], workspace: Workspace, total_bytes_max: int, stdout_artifact: str | None
) -> Collected:
    _check_paths(declared)
    sizes = await offload(lambda: [_measure(item, workspace, stdout_artifact) for item in declared])
    total = sum(size for size in sizes if size is not None)
    if total > total_bytes_max:
        raise _StoppedError(
            ErrorCode.OUTPUT,
            f"artifacts: {_mib(total)} together, {_mib(total_bytes_max)} are allowed",
        )
    there = [item for item, size in zip(declared, sizes, strict=True) if size is not None]
    gate = asyncio.Semaphore(_HASHED_AT_ONCE)
    stop = Event()

    async def store(item: Declared) -> StoredArtifact | _StoppedError:
        async with gate:
            try:
                return await offload(lambda: _store(item, workspace, stdout_artifact, stop), stop=stop)
            except _StoppedError as stopped:
                return stopped

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(store(item)) for item in there]
    stored: list[StoredArtifact] = []
    for task in tasks:
        result = task.result()
        if isinstance(result, _StoppedError):
            raise result
        stored.append(result)
    return Collected(tuple(stored))


def open_stored(workspace: Workspace, artifact: StoredArtifact) -> int:
    """Open a stored artifact where it was found; the descriptor is the caller's.

    Raises:
        NotThereError, NotRegularError: it is no longer there, or no longer a regular file.

    """
    return open_regular(*_place(workspace, artifact.where, artifact.path))


def sha256_of(fd: int, size: int, stop: Event) -> str | None:
    """Hash the first `size` bytes of an open file. None if `stop` was set meanwhile, or it is shorter.

    Blocks, about 1 s a GiB. Raises OSError.
    """
    digest = hashlib.sha256()
    at = 0
    while at < size and not stop.is_set():
        chunk = os.pread(fd, min(_CHUNK_BYTES, size - at), at)
        if not chunk:
            return None
        digest.update(chunk)
        at += len(chunk)
    return digest.hexdigest() if at == size else None


def _check_paths(declared: Sequence[Declared]) -> None:
    seen: set[str] = set()
    for item in declared:
        problem = path_problem(item.path) or ("is declared twice" if item.path in seen else None)
        if problem is not None:
            raise _StoppedError(ErrorCode.DENY, f"artifact {item.path[:200]!r}: its path {problem}")
        seen.add(item.path)


def _measure(item: Declared, workspace: Workspace, stdout_artifact: str | None) -> int | None:
    """Return the artifact's size in bytes; None if it is optional and missing."""
    found = _find(item, workspace, stdout_artifact)
    if found is None:
        if item.optional:
            return None
        raise _StoppedError(
            ErrorCode.ARTIFACT,
            f"artifact {item.path!r}: neither in output/ nor in work/. "
            f"In output/: {_listing(workspace.output)}. In work/: {_listing(workspace.work)}",
        )
    fd, _ = found
    try:
        size = os.fstat(fd).st_size
    finally:
        os.close(fd)
    if size > item.max_mb * _MIB:
        raise _StoppedError(
            ErrorCode.OUTPUT, f"artifact {item.path!r}: {_mib(size)}, the manifest allows {item.max_mb:g} MiB"
        )
    return size


def _store(item: Declared, workspace: Workspace, stdout_artifact: str | None, stop: Event) -> StoredArtifact:
    found = _find(item, workspace, stdout_artifact)
    if found is None:
        raise _changed(item)
    fd, where = found
    try:
        before = os.fstat(fd)
        base, path = _place(workspace, where, item.path)
        sync_file(fd, base, path, workspace.root)
        digest = sha256_of(fd, before.st_size, stop)
        after = os.fstat(fd)
    except OSError as problem:
        if is_shortage(problem):
            raise
        raise _StoppedError(
            ErrorCode.NORESOURCE if refused_by_disk(problem) else ErrorCode.INTERNAL,
            f"artifact {item.path!r}: cannot be read from the disk, or made durable: {problem.strerror}",
        ) from problem
    finally:
        os.close(fd)
    same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    if digest is None or not same or before.st_size > item.max_mb * _MIB:
        raise _changed(item)
    return StoredArtifact(
        path=item.path,
        type=item.type,
        size=before.st_size,
        sha256=digest,
        where=where,
        inode=before.st_ino,
        mtime_ns=before.st_mtime_ns,
    )


def _changed(item: Declared) -> _StoppedError:
    # Nothing of the run is alive: whoever did this came from outside of the sandbox.
    return _StoppedError(ErrorCode.ARTIFACT, f"artifact {item.path!r}: changed while it was being read")


def _find(item: Declared, workspace: Workspace, stdout_artifact: str | None) -> tuple[int, Where] | None:
    """Open the artifact where it is; None if it is nowhere. The descriptor is the caller's."""
    places: list[Where] = ["output", "work"]
    if item.path == stdout_artifact:
        places.append("stdout")
    for where in places:
        try:
            return open_regular(*_place(workspace, where, item.path)), where
        except NotThereError:
            continue
        except NotRegularError as problem:
            raise _StoppedError(
                ErrorCode.ARTIFACT, f"artifact {item.path!r} in {where}/: {problem}"
            ) from problem
    return None


def _place(workspace: Workspace, where: Where, path: str) -> tuple[Path, str]:
    """Return the folder that an artifact was found in, and its path below that."""
    match where:
        case "output":
            return workspace.output, path
        case "work":
            return workspace.work, path
        case "stdout":
            return workspace.logs, workspace.stdout.name


def _listing(folder: Path) -> str:
    """Name what lies in a folder, boundedly, for the person who wonders where the artifact is."""
    try:
        with os.scandir(folder) as entries:
            names = [_listed(entry) for entry in islice(entries, _LISTED_MAX + 1)]
    except OSError as problem:
        return f"(not readable: {problem.strerror})"
    return _joined(sorted(names[:_LISTED_MAX]), more=len(names) > _LISTED_MAX)


def _listed(entry: "os.DirEntry[str]") -> str:
    shown = repr(entry.name[:_LISTED_NAME_CHARS_MAX])
    return shown + "/" if entry.is_dir(follow_symlinks=False) else shown


def _joined(names: Iterable[str], *, more: bool) -> str:
    return (", ".join(names) or "nothing") + (" and more" if more else "")


def _mib(size: int) -> str:
    return f"{size / _MIB:.1f} MiB"
