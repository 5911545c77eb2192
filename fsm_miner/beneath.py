"""Open what a job left, without ever leaving the folder it was left in.

One component at a time, by folder descriptor, no link followed at any place: what `openat2` calls
RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, which the standard library does not offer.
"""

import os
import stat
from pathlib import Path

from runners.shortage import is_shortage

__all__ = ["NotRegularError", "NotThereError", "open_regular", "path_problem"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: if a FIFO stands there after all, opening it does not wait for a writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_PATH_BYTES_MAX = 1024
_COMPONENTS_MAX = 32
_COMPONENT_BYTES_MAX = 255

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a character device"),
)


class NotThereError(Exception):
    """Nothing has this path."""


class NotRegularError(Exception):
    """Something has this path (or stands in its way) and is no readable regular file. Says what."""


def path_problem(path: str) -> str | None:
    """Say what keeps `path` from being a plain relative path below a folder; None if nothing does."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "is not valid Unicode"
    parts = path.split("/")
    if not path or size > _PATH_BYTES_MAX or len(parts) > _COMPONENTS_MAX:
        return f"must have 1 to {_PATH_BYTES_MAX} bytes and at most {_COMPONENTS_MAX} components"
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in path):
        return "has control characters"
    if any(part in {"", ".", ".."} for part in parts):
        return "must be relative, without empty components, '.' and '..'"
    if any(len(part.encode()) > _COMPONENT_BYTES_MAX for part in parts):
        return f"has a component of more than {_COMPONENT_BYTES_MAX} bytes"
    return None


def open_regular(base: Path, path: str) -> int:
    """Open the regular file `base/path` for reading; the descriptor is the caller's.

    The folders above `base` are ours and may be reached by links; `base` and what is below must not be.
    A hard link is taken: inside the sandbox nothing of anybody else lies on a mount that work/ or output/
    could be linked from, and without one the job could simply have copied what it can link.

    Raises:
        NotThereError: it, or a folder on the way, does not exist.
        NotRegularError: it is something else, or cannot be read.
        OSError: this process lacks something for a moment (`runners.shortage`): that says nothing about the file.
        ValueError: the path is not one `path_problem` lets pass.

    """
    problem = path_problem(path)
    if problem is not None:
        raise ValueError(f"{path!r} {problem}")
    *folders, name = path.split("/")
    folder = _open_step(base, None, base.name)
    try:
        for step in folders:
            deeper = _open_step(step, folder, step)
            os.close(folder)
            folder = deeper
        return _open_file(name, folder)
    finally:
        os.close(folder)


def _open_step(step: str | Path, folder: int | None, shown: str) -> int:
    if folder is not None:
        # Looked at before it is opened, so that the message can say what it is.
        found = _lstat(str(step), folder)
        if not stat.S_ISDIR(found.st_mode):
            raise NotRegularError(f"{shown!r} on its way is {_kind(found.st_mode)}, not a folder")
    try:
        return os.open(step, _FOLDER, dir_fd=folder)
    except FileNotFoundError:
        raise NotThereError(shown) from None
    except OSError as problem:
        if is_shortage(problem):
            raise
        raise NotRegularError(f"{shown!r} on its way cannot be opened: {problem.strerror}") from problem


def _open_file(name: str, folder: int) -> int:
    found = _lstat(name, folder)
    if not stat.S_ISREG(found.st_mode):
        # Not even opened: opening a device can do something.
        raise NotRegularError(f"it is {_kind(found.st_mode)}")
    try:
        opened = os.open(name, _FILE, dir_fd=folder)
    except OSError as problem:
        if is_shortage(problem):
            raise
        raise NotRegularError(f"it cannot be opened: {problem.strerror}") from problem
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise NotRegularError("it was replaced by something else while it was opened")
    return opened


def _lstat(name: str, folder: int) -> os.stat_result:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        raise NotThereError(name) from None
    except OSError as problem:
        if is_shortage(problem):
            raise
        raise NotRegularError(f"{name!r} cannot be looked at: {problem.strerror}") from problem


def _kind(mode: int) -> str:
    for is_kind, words in _KINDS:
        if is_kind(mode):
            return words
    return "a regular file"
