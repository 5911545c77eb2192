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
_PROGRAM = stat.S_IFREG | 0o555


@dataclass(frozen=True, slots=True)
class Copies:
    """Where they are, in `folder`; None: jobs get what is the system's.

    `devices` are to be shown in the place of what bubblewrap shows, `program` is the sandbox's own. `lack` says what is
    wrong with the system's.
    """

    folder: Path | None = None
    devices: tuple[str, ...] = ()
    program: str | None = None
    lack: str | None = None

    def of(self, path: str) -> str:
        """Return the copy of a device or a program, named by its absolute path; without a folder, that itself."""
        return path if self.folder is None else str(self.folder / path[1:])

    def restore(self, devices: Iterable[str] = ()) -> None:
        """Make what is not there as it should be, and nodes of `devices`. Another thread may do so at the same time.

        Raises:
            OSError: there is no such device, this user can't make nodes, or the folder of the folder is gone.

        """
        if self.folder is None:
            return
        self.folder.mkdir(mode=0o700, exist_ok=True)
        for device in (*self.devices, *devices):
            number = Path(device).stat().st_rdev
            node = Path(self.of(device))
            if not _is(node, _NODE, st_rdev=number):
                _put(node, _NODE, lambda made, number=number: os.mknod(made, _NODE, number))
        if self.program is not None:
            original, copy = Path(self.program), Path(self.of(self.program))
            about = original.stat()
            if not _is(copy, _PROGRAM, st_size=about.st_size, st_mtime_ns=about.st_mtime_ns):
                _put(copy, _PROGRAM, lambda made: shutil.copy2(original, made))


ORIGINALS = Copies()
"""None: what is the system's belongs to root, so no other user's jobs can do it harm."""


def prepare_copies(folder: Path | None, program: str) -> Copies:
    """Make copies of the devices and of `program` in `folder`, where this is root; elsewhere the originals do."""
    if folder is None or os.geteuid() != 0:
        return ORIGINALS
    copies = Copies(folder, tuple(device for device in _DEVICES if Path(device).exists()), program)
    try:
        folder.parent.mkdir(mode=0o750, parents=True, exist_ok=True)  # at the very first start
        copies.restore()
        os.close(os.open(copies.of("/dev/null"), os.O_RDWR | os.O_CLOEXEC))
        if not os.access(copies.of(program), os.X_OK):
            raise PermissionError(0, "no program may be run from there")
    except OSError as error:
        return Copies(
            lack=f"the daemon runs as root and can't make copies of devices and bwrap ({folder}: {error.strerror}): a "
            "job may take permissions of these away, for the whole machine; run the daemon as another user"
        )
    return copies


def _put(target: Path, mode: int, make: Callable[[Path], object]) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = target.with_name(f".{target.name}.{os.urandom(6).hex()}")
    try:
        make(made)
        os.chown(made, _NOBODY, _NOBODY)
        made.chmod(stat.S_IMODE(mode))  # whatever the umask
        made.replace(target)
    finally:
        made.unlink(missing_ok=True)


def _is(path: Path, mode: int, **more: int) -> bool:
    """Whether the copy is nobody's, of this type and mode, and has these other fields of `os.stat_result`."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    right = (found.st_mode, found.st_uid) == (mode, _NOBODY)
    return right and all(getattr(found, name) == value for name, value in more.items())
