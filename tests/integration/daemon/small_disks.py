"""Small real file systems below a test's folder: filled, emptied, made read-only, and unmounted whatever happens."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.support.needs import lacking

PAGE = 4096


def need(*commands):
    """Skip where file systems can't be mounted; fail there when CI says so."""
    missing = [name for name in ("mount", "umount", *commands) if shutil.which(name) is None]
    problem = (
        f"missing: {', '.join(missing)}" if missing else "" if os.geteuid() == 0 else "mounting needs root"
    )
    if problem:
        lacking(problem)


def run(*command):
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


class Disk:
    """One mounted file system; `path` is where it is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ballast = path / "ballast"

    def fill(self) -> None:
        """Take all space."""
        with self.ballast.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(16 * PAGE))
            except OSError:
                pass
            try:
                while True:
                    file.write(bytes(PAGE))
            except OSError:
                pass

    def empty(self) -> None:
        self.ballast.unlink()

    def read_only(self) -> None:
        run("mount", "-o", "remount,ro", self.path)

    def read_write(self) -> None:
        run("mount", "-o", "remount,rw", self.path)

    def break_down(self) -> None:
        """Have the kernel find an error in an ext4 that is mounted with errors=remount-ro."""
        device = run("findmnt", "-n", "-o", "SOURCE", self.path).strip()
        Path("/sys/fs/ext4", Path(device).name, "trigger_fs_error").write_text("by a test")

    def mend(self) -> None:
        """Unmount, copy to a good disk, check, mount: nobody may use it meanwhile.

        The copy, because a mount namespace that somebody else has made keeps the broken one mounted.
        """
        device = run("findmnt", "-n", "-o", "SOURCE", self.path).strip()
        image = run("losetup", "-n", "-O", "BACK-FILE", device).strip()
        run("umount", self.path)
        copy = Path(image + "-mended")
        shutil.copyfile(image, copy)
        run("sh", "-c", 'fsck.ext4 -p "$1"; test $? -le 1', "sh", copy)
        run("mount", "-o", "loop,errors=remount-ro", copy, self.path)


class Disks:
    """Makes them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mounted: list[Path] = []

    def tmpfs(self, mb: int, at: Path | None = None, inodes: int = 0) -> Disk:
        """Mount one in memory."""
        options = f"size={mb}m,mode=0755" + (f",nr_inodes={inodes}" if inodes else "")
        return self._mount("-t", "tmpfs", "-o", options, "none", at=at)

    def ext4(self, mb: int, *options: str) -> Disk:
        """Mount one in a file, with `options` of mkfs."""
        image = self._folder / f"image-{len(self._mounted)}"
        with image.open("wb") as file:
            file.truncate(mb << 20)
        run("mkfs.ext4", "-q", "-F", "-m", "0", *options, image)
        return self._mount("-o", "loop,errors=remount-ro", image)

    def _mount(self, *how, at: Path | None = None) -> Disk:
        path = at or self._folder / f"disk-{len(self._mounted)}"
        path.mkdir(parents=True, exist_ok=True)
        run("mount", *how, path)
        self._mounted.append(path)
        return Disk(path)

    def close(self) -> None:
        for path in reversed(self._mounted):
            run("umount", "-l", path)
