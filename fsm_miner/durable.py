"""Make what a job left survive a power cut: its bytes, and the names that lead to them.

Until fsync(2) has returned, a power cut may take a file, its name, or any part of what is in it.
"""

import os
from pathlib import Path

from journal.schema import fsync_folder

__all__ = ["sync_file"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def sync_file(fd: int, base: Path, path: str, root: Path) -> None:
    """Make the open file `fd`, which is `base/path`, durable, with every name from `root` down to it.

    Blocks for as long as the disk needs. `path` must be one that `fsm_miner.beneath` has opened.

    Raises:
        OSError: the disk refuses, or a folder is gone.

    """
    os.fsync(fd)
    # Downwards, one component at a time: below `base` stands what a job left, and no link is followed there.
    folder = os.open(base, _FOLDER)
    try:
        os.fsync(folder)
        for step in path.split("/")[:-1]:
            deeper = os.open(step, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = deeper
            os.fsync(folder)
    finally:
        os.close(folder)
    for above in base.parents:
        fsync_folder(above)
        if above == root:
            return
