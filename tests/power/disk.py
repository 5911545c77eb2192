"""A file system whose power can be cut: ext4 in a file, and the ioctl that shuts it down where it stands.

EXT4_IOC_SHUTDOWN with NOLOGFLUSH aborts the file system's journal and writes nothing more: neither data nor names
that nobody had made durable. Mounting it again replays that journal, as after a power cut.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import struct
import subprocess
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
    """Made below `folder`, mounted at `folder/disk`. `close` unmounts, come what may."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "disk"
        self.path.mkdir()
        self.cuts = 0
        self._image = folder / "disk-0.img"
        self._device = 0
        with self._image.open("wb") as image:
            image.truncate(SIZE_MB << 20)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", self._image)

    def mount(self) -> None:
        _run("mount", "-o", "loop", self._image, self.path)
        self._device = self.path.stat().st_dev

    def cut(self) -> None:
        """Cut the power of the disk: from here on nothing reaches it."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, NOLOGFLUSH)
        finally:
            os.close(fd)
        self.cuts += 1

    def power_on(self) -> None:
        """Mount what the cut has left; whatever works there is killed first.

        A copy of it: whoever has copied our mounts meanwhile, as every sandbox does for a moment, may still hold
        the old file system in memory, and mounting it again would bring that back.
        """
        self._unmount()
        left = self._image
        self._image = left.with_name(f"disk-{self.cuts}.img")
        _run("cp", "--sparse=always", left, self._image)
        left.unlink()
        self.mount()

    def close(self) -> None:
        self._unmount()

    def kill_all(self) -> None:
        """Kill whatever has something open on the disk, until there is nothing left."""
        until(self._kill_round, "nothing works on the disk any more")

    def _kill_round(self) -> bool:
        end_all(self.path)
        left = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and self._works_here(p)]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    def _works_here(self, process: Path) -> bool:
        # Not by path: a sandbox that is being built has no way to the name of what it has open.
        with contextlib.suppress(OSError):
            for fd in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if fd.stat().st_dev == self._device:
                        return int(process.name) != os.getpid()
        return False

    def _unmount(self) -> None:
        if self.path.is_mount():
            self.kill_all()
            until(self._umount, f"{self.path} can be unmounted", 10)

    def _umount(self) -> bool:
        done = subprocess.run(["umount", str(self.path)], capture_output=True, check=False)
        return done.returncode == 0
