"""Remove a folder that a stranger filled.

A job may leave ten thousand nested folders, a million files, links to anywhere and folders without
permissions. `shutil.rmtree` recurses (Python 3.11, 3.12) or holds a descriptor for each level (3.13).
Here every folder that is met below is first moved up beside its parent's top and then emptied there:
three descriptors at a time, no recursion, no path longer than one name, no link ever followed.

    top/a/b/c   ->   top/a   top/.up-0 (was b)   ->   top/.up-0   top/.up-1 (was c)   ->   gone

A removal that was cut off leaves a smaller tree of the same kind, so doing it again finishes it.
"""

import errno
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

__all__ = ["empty_folder", "remove_tree"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OWNER_ALL = 0o700


def remove_tree(path: Path) -> None:
    """Remove `path`, whatever it is, and everything below. Nothing there is fine.

    Blocks: about 12 us a file, so it belongs in a thread.

    Raises:
        OSError: something could not be removed (a mount point, an immutable file); the rest is gone.

    """
    parent = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            found = os.lstat(path.name, dir_fd=parent)
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(found.st_mode):
            os.unlink(path.name, dir_fd=parent)
            return
        with _opened(parent, path.name) as top:
            empty_folder(top)
        os.rmdir(path.name, dir_fd=parent)
    finally:
        os.close(parent)


def empty_folder(top: int) -> None:
    """Remove everything below the open folder `top`, and leave the folder itself.

    Raises:
        OSError: something could not be removed; the rest is gone.

    """
    names = (f".up-{n}" for n in count())
    while True:
        progress, obstacle = _pass(top, names)
        if progress:
            continue  # what was moved up, and what a listing left out, is met in the next pass
        if obstacle is not None:
            raise obstacle
        return


def _pass(top: int, names: Iterator[str]) -> tuple[bool, OSError | None]:
    """Remove each entry of `top` once. Tell whether anything changed, and the first thing in the way."""
    progress = False
    obstacle: OSError | None = None
    with os.scandir(top) as entries:
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    emptier, problem = _flatten(top, entry.name, names)
                    progress |= emptier
                    obstacle = obstacle or problem
                    os.rmdir(entry.name, dir_fd=top)
                else:
                    os.unlink(entry.name, dir_fd=top)
                progress = True
            except FileNotFoundError:
                continue  # the listing is older than a removal of this pass
            except OSError as problem:
                obstacle = obstacle or problem
    return progress, obstacle


def _flatten(top: int, name: str, names: Iterator[str]) -> tuple[bool, OSError | None]:
    """Unlink the files of `top/name` and move its folders up to `top`. Answers as `_pass` does."""
    progress = False
    obstacle: OSError | None = None
    with _opened(top, name) as folder, os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    _move_up(folder, entry.name, top, names)
                else:
                    os.unlink(entry.name, dir_fd=folder)
                progress = True
            except FileNotFoundError:
                continue
            except OSError as problem:
                obstacle = obstacle or problem
    return progress, obstacle


def _move_up(folder: int, name: str, top: int, names: Iterator[str]) -> None:
    """Rename `folder/name` to a free name in `top`."""
    for free in names:
        try:
            os.rename(name, free, src_dir_fd=folder, dst_dir_fd=top)
            return
        except PermissionError:
            # Moving a folder rewrites its "..", which needs write permission on the folder itself.
            # A mount point or an immutable folder fails again, with the reason.
            _open_up(folder, name)
            os.rename(name, free, src_dir_fd=folder, dst_dir_fd=top)
            return
        except OSError as problem:
            # The name is taken: by the job, or by a removal that was cut off.
            if problem.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                raise


@contextmanager
def _opened(parent: int, name: str) -> Generator[int]:
    """Open a folder for listing and changing, whatever its permissions are."""
    try:
        folder = os.open(name, _FOLDER, dir_fd=parent)
    except PermissionError:
        _open_up(parent, name)
        folder = os.open(name, _FOLDER, dir_fd=parent)
    try:
        mode = os.fstat(folder).st_mode
        if stat.S_IMODE(mode) & _OWNER_ALL != _OWNER_ALL:
            os.fchmod(folder, _OWNER_ALL)
        yield folder
    finally:
        os.close(folder)


def _open_up(parent: int, name: str) -> None:
    """Give the owner all permissions on a folder that cannot be opened, without following a link."""
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        # fchmod refuses O_PATH descriptors; their entry in /proc leads to the very same inode.
        Path(f"/proc/self/fd/{handle}").chmod(_OWNER_ALL)
    finally:
        os.close(handle)
