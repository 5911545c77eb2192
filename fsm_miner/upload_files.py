"""Open a result's files for delivery: the stored artifacts, and the run's log."""

import errno
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from threading import Event

from fsm_miner.artifacts import StoredArtifact, open_stored, sha256_of
from fsm_miner.beneath import NotRegularError, NotThereError, open_regular
from fsm_miner.coordinator.port import UploadFile
from fsm_miner.offload import offload
from fsm_miner.workspace import Workspace
from states.codes import ErrorCode, Failure

__all__ = ["Uploads", "opened_for_upload"]

Pread = Callable[[int, int, int], bytes]

_STEP = 1024 * 1024
# What the disk says of a file that it will not give: broken sectors, a damaged file system (ext4, XFS).
_DAMAGED = frozenset({errno.EIO, errno.EUCLEAN, errno.EBADMSG})


@dataclass(frozen=True, slots=True)
class Uploads:
    """Open files: one for each artifact, in their order, and the log if there is one."""

    artifacts: tuple[UploadFile, ...]
    log: UploadFile | None


@asynccontextmanager
async def opened_for_upload(
    workspace: Workspace,
    artifacts: Sequence[StoredArtifact],
    *,
    doubted: bool = False,
    pread: Pread = os.pread,
) -> AsyncGenerator[Uploads | Failure]:
    """Open what was collected, making sure that it is still what was collected; closed on leaving.

    A file with another size is refused; with another inode or time it is hashed again, and so is every file if
    they are `doubted`: a disk that lost its power may have lied about what it had written. Yields a Failure
    (E_ARTIFACT) if one is gone or differs. A log that is gone or damaged is left out; `pread` reads it.

    Raises:
        OSError: the disk cannot be read, or too many files are open.

    """
    with ExitStack() as stack:
        stop = Event()
        opened = await offload(
            partial(_open_all, workspace, artifacts, doubted, stack, stop, pread), stop=stop
        )
        yield opened


def _open_all(
    workspace: Workspace,
    artifacts: Sequence[StoredArtifact],
    doubted: bool,
    stack: ExitStack,
    stop: Event,
    pread: Pread,
) -> Uploads | Failure:
    files: list[UploadFile] = []
    for artifact in artifacts:
        try:
            fd = open_stored(workspace, artifact)
        except (NotThereError, NotRegularError) as problem:
            return Failure(
                ErrorCode.ARTIFACT, f"artifact {artifact.path!r}: no longer what was collected: {problem}"
            )
        stack.callback(os.close, fd)
        if not _same(fd, artifact, doubted, stop):
            return Failure(ErrorCode.ARTIFACT, f"artifact {artifact.path!r}: changed since it was collected")
        files.append(UploadFile(fd, artifact.size, f"artifacts/{artifact.path}", artifact.type))
    return Uploads(tuple(files), _open_log(workspace, stack, stop, pread))


def _same(fd: int, artifact: StoredArtifact, doubted: bool, stop: Event) -> bool:
    found = os.fstat(fd)
    if found.st_size != artifact.size:
        return False
    if not doubted and (found.st_ino, found.st_mtime_ns) == (artifact.inode, artifact.mtime_ns):
        return True
    return sha256_of(fd, artifact.size, stop) == artifact.sha256


def _open_log(workspace: Workspace, stack: ExitStack, stop: Event, pread: Pread) -> UploadFile | None:
    """Open the log; a result is worth delivering without one, also without one that the disk does not give."""
    try:
        fd = open_regular(workspace.logs, workspace.exec_log.name)
        stack.callback(os.close, fd)
        size = os.fstat(fd).st_size
        # A sending that breaks off at a broken place would break off there for ever.
        for offset in range(0, size, _STEP):
            if stop.is_set() or not pread(fd, _STEP, offset):
                break
    except (NotThereError, NotRegularError):
        return None
    except OSError as error:
        if error.errno in _DAMAGED:
            return None
        raise
    return UploadFile(fd, size, "logs/exec.log", "text/plain")
