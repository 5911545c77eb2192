"""Files of ours that a run has descriptors of: its lock, its log, its standard output.

It runs as the same user, so it may take their permissions away, its own standard output's by fchmod(2), any of its
process 1 by a path below /proc/1/fd; whoever then opens one by name is refused, unless this user is root. Their owner
can give the permissions back.
"""

import os
from pathlib import Path

__all__ = ["open_handed"]

_TRIES = 4
_KEEP = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_MODE = 0o600


def open_handed(path: Path | str, flags: int, *, folder: int | None = None) -> int:
    """Open such a file by its name; the descriptor is the caller's. No link is followed.

    Raises:
        FileNotFoundError: there is none.
        PermissionError: it is another user's, or a run that lives takes the permissions away again and again.
        OSError: as open(2) says.

    """
    for _ in range(_TRIES):
        try:
            return os.open(path, flags | _KEEP, _MODE, dir_fd=folder)
        except PermissionError as refused:
            _give_back(path, folder, refused)
    return os.open(path, flags | _KEEP, _MODE, dir_fd=folder)


def _give_back(path: Path | str, folder: int | None, refused: PermissionError) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        raise refused from None  # the folder takes no new file
    try:
        # fchmod refuses O_PATH descriptors; their entry in /proc leads to the very same inode.
        Path(f"/proc/self/fd/{handle}").chmod(_MODE)
    except PermissionError:
        raise refused from None  # another user's
    finally:
        os.close(handle)
