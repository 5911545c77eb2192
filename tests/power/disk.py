"""A file system whose power can be cut: ext4 in a file, and the ioctl that shuts it down where it stands.

EXT4_IOC_SHUTDOWN with NOLOGFLUSH aborts the file system's journal and writes nothing more: neither data nor names
that nobody had made durable. Mounting it again replays that journal, as after a power cut.
"""

import fcntl
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path

from tests.integration.daemon.rig import end_all, until

SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
NOLOGFLUSH = struct.pack("I", 2)
SIZE_MB = 96


def why_not() -> str | None:
    """Say why no file system can be cut on this machine; None if one can."""
    if os.geteuid() != 0:
        return "needs root, to mount a file system"
    for tool in ("mkfs.ext4", "mount", "umount", "losetup", "unshare"):
        if shutil.which(tool) is None:
            return f"needs {tool} (apt install e2fsprogs mount util-linux)"
    if not Path("/dev/loop-control").exists():
        return "needs loop devices"
    return None


def _run(*argv: str | Path) -> str:
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


class CutDisk:
    """Made below `folder`, mounted at `folder/disk`. `close` unmounts and detaches, come what may."""

    def __init__(self, folder: Path) -> None:
        self.image = folder / "disk.img"
        self.path = folder / "disk"
        self.path.mkdir()
        self.cuts = 0
        with self.image.open("wb") as image:
            image.truncate(SIZE_MB << 20)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", self.image)

    def mount(self) -> None:
        _run("mount", "-o", "loop", self.image, self.path)
        # Under a private mount, whoever unshares its mounts takes no part in ours.
        _run("mount", "--make-private", self.path)

    def cut(self) -> None:
        """Cut the power of the disk: from here on nothing reaches it."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, NOLOGFLUSH)
        finally:
            os.close(fd)
        self.cuts += 1

    def power_on(self) -> None:
        """Mount again what the cut has left; whatever worked there must have been killed."""
        self._unmount()
        self.mount()

    def close(self) -> None:
        end_all(self.path)
        self._unmount()

    def _unmount(self) -> None:
        if os.path.ismount(self.path):
            until(self._umount, f"{self.path} can be unmounted", 10)
        # The old superblock must be gone, or it would be mounted again with all that it holds in memory.
        until(lambda: not _run("losetup", "-j", self.image), f"{self.image} is detached", 10)

    def _umount(self) -> bool:
        done = subprocess.run(["umount", str(self.path)], capture_output=True, check=False)
        if done.returncode != 0:
            time.sleep(0.02)
        return done.returncode == 0
