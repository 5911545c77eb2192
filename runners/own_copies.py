"""What the jobs of a daemon of root get in copies of their own, so that they take it from nobody else.

In a sandbox the job's user is the daemon's. To root belong the nodes of /dev as well, and the sandbox's program, which
a job sees as /proc/1/exe: whoever owns a file may take its permissions away, for everybody on the machine. A bind mount
shows the very same inode, and one that is read-only opens no devices. So root's jobs get copies that are nobody's.
"""

import os
import shutil
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ORIGINALS", "Copies", "prepare_copies"]

# What bubblewrap shows to every sandbox (`--dev`).
_DEVICES = ("/dev/full", "/dev/null", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero")
_NOBODY = 65534
_NODE = stat.S_IFCHR | 0o666
_PROGRAM_MODE = 0o555


@dataclass(frozen=True, slots=True)
class Copies:
    """Where they are, in `folder`; None: jobs get what is the system's.

    `devices` are to be shown in the place of what bubblewrap shows. `lack` says what is wrong with the system's.
    """

    folder: Path | None = None
    devices: tuple[str, ...] = ()
    lack: str | None = None

    def of(self, path: str) -> str:
        """Return the copy of a device or a program, named by its absolute path; without a folder, that itself."""
        return path if self.folder is None else str(self.folder / path[1:])

    def make_nodes(self, devices: Iterable[str]) -> None:
        """Make those nodes that are not there as they should be. Another thread may do the same at the same time.

        Raises:
            OSError: there is no such device, or this user can't make nodes.

        """
        if self.folder is not None:
            for device in devices:
                _make_node(Path(self.of(device)), os.stat(device).st_rdev)  # noqa: PTH116 - beside lstat


ORIGINALS = Copies()
"""None: what is the system's belongs to root, so no other user's jobs can do it harm."""


def prepare_copies(folder: Path | None, program: str) -> Copies:
    """Make copies of the devices and of `program` in `folder`, where this is root; elsewhere the originals do."""
    if folder is None or os.geteuid() != 0:
        return ORIGINALS
    copies = Copies(folder, tuple(device for device in _DEVICES if Path(device).exists()))
    try:
        copies.make_nodes(copies.devices)
        os.close(os.open(copies.of("/dev/null"), os.O_RDWR | os.O_CLOEXEC))
        _put(Path(copies.of(program)), _PROGRAM_MODE, lambda made: shutil.copyfile(program, made))
        if not os.access(copies.of(program), os.X_OK):
            raise PermissionError(0, "no program may be run from there")
    except OSError as error:
        return Copies(
            lack=f"the daemon runs as root and can't make copies of devices and bwrap ({folder}: {error.strerror}): a "
            "job may take permissions of these away, for the whole machine; run the daemon as another user"
        )
    return copies


def _make_node(node: Path, number: int) -> None:
    if not _is_right(node, number):
        _put(node, stat.S_IMODE(_NODE), lambda made: os.mknod(made, _NODE, number))


def _put(target: Path, mode: int, make: Callable[[Path], object]) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = target.with_name(f".{target.name}.{os.urandom(6).hex()}")
    try:
        make(made)
        os.chown(made, _NOBODY, _NOBODY)
        made.chmod(mode)  # whatever the umask
        made.replace(target)
    finally:
        made.unlink(missing_ok=True)


def _is_right(node: Path, number: int) -> bool:
    try:
        found = os.lstat(node)
    except FileNotFoundError:
        return False
    return (found.st_mode, found.st_rdev, found.st_uid) == (_NODE, number, _NOBODY)
