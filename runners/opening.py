"""Opening what a run writes to, by descriptors, through no link that a job may have left there."""

import contextlib
import os
import stat
from pathlib import Path, PurePosixPath

__all__ = ["open_beneath", "open_log", "open_status"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_REPLACE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_log(path: Path) -> int:
    """Open the log for appending, mode 0600; the caller closes it."""
    return _regular(os.open(path, _APPEND, 0o600), str(path))


def open_status(path: Path) -> int:
    """Open the status file for appending, empty at first; the caller closes it."""
    fd = _regular(os.open(path, _APPEND, 0o600), str(path))
    os.ftruncate(fd, 0)
    return fd


def open_beneath(root: Path, relative: PurePosixPath) -> int:
    """Open a file below `root` for writing, emptied; makes missing folders; the caller closes it.

    Raises:
        ValueError: `relative` leads out of `root`.
        OSError: a part of it is a link, a folder or no regular file.

    """
    parts = relative.parts
    if not parts or relative.is_absolute() or ".." in parts:
        raise ValueError(f"{relative}: not a path below the working folder")
    folder = os.open(root, _FOLDER)
    try:
        for part in parts[:-1]:
            with contextlib.suppress(FileExistsError):  # opened below, if it is a folder
                os.mkdir(part, 0o700, dir_fd=folder)
            below = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        fd = _regular(os.open(parts[-1], _REPLACE, 0o600, dir_fd=folder), str(root / relative))
    finally:
        os.close(folder)
    os.ftruncate(fd, 0)
    return fd


def _regular(fd: int, name: str) -> int:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(fd)
        raise OSError(f"{name}: not a regular file with one name; remove it")
    os.set_blocking(fd, True)
    return fd
