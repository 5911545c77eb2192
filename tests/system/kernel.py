"""A machine under QEMU: Debian's own kernel, this machine's own file system, read-only, and nothing installed.

The kernel is downloaded, unpacked and kept as `images` keeps its disks, beside a small initramfs that mounts the root
over 9p. QEMU emulates the processors (TCG), so it runs wherever the tests do: no /dev/kvm is asked for.
"""

import lzma
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.system.images import kept, run

# Not the cloud kernel: it has no 9p.
_PACKAGES = ("linux-image-amd64", "busybox-static")
# In this order, each after what it depends on. ext4 asks for crc32c by the name of its algorithm.
_MODULES = ("virtio_pci", "virtio_blk", "9pnet_virtio", "9p", "crc32c_generic", "ext4", "bfq")
_INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for name in {modules}; do /bin/busybox insmod /modules/$name.ko || exit 1; done
# The root does not change while this machine runs: what was read once is kept.
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576,ro,cache=loose root /root || exit 1
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576 shared /root/mnt || exit 1
/bin/busybox mount -o move /dev /root/dev
exec /bin/busybox switch_root /root /bin/sh /mnt/init
"""
_FOLDER, _PROGRAM, _FILE, _CONSOLE = 0o40755, 0o100755, 0o100644, 0o20600


@dataclass(frozen=True)
class Qemu:
    """What to boot: `shared` is its /mnt, with a script `init` in it; `disks` are /dev/vda and on, as for `-drive`.

    `options` are for the kernel's command line.
    """

    shared: Path
    console: Path
    disks: Sequence[str] = ()
    processors: int = 2
    memory_mb: int = 768
    options: Sequence[str] = field(default=())

    def command(self) -> list[str]:
        """Return how to start it; it ends when the machine powers itself off, or its kernel panics."""
        kernel = debian_kernel()
        # The emulated processor has none of the faults, and what mends them makes it half as fast.
        words = ("console=ttyS0", "loglevel=4", "panic=-1", "mitigations=off", "psi=1", *self.options)
        command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "qemu64"]
        command += ["-smp", str(self.processors), "-m", str(self.memory_mb)]
        command += ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
        command += ["-kernel", str(kernel / "vmlinuz"), "-initrd", str(kernel / "initramfs")]
        command += ["-append", " ".join(words), "-serial", f"file:{self.console}"]
        command += _9p("root", Path("/"), "readonly=on,multidevs=remap")
        command += _9p("shared", self.shared, "multidevs=remap")
        for disk in self.disks:
            # What is lost with the power may be lost: nothing here outlives the machine.
            command += ["-drive", f"if=virtio,format=raw,cache=unsafe,{disk}"]
        return command


def _9p(tag: str, path: Path, options: str) -> tuple[str, ...]:
    place = f"local,id={tag},path={path},security_model=none,{options}"
    return ("-fsdev", place, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}")


def debian_kernel() -> Path:
    """Return a folder with `vmlinuz`, the kernel of this machine's Debian release, and `initramfs`."""
    release = Path("/etc/os-release").read_text()
    return kept("kernel", [release, *_PACKAGES, *_MODULES, _INIT], _make)


def _make(target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="fsm-miner-kernel-") as scratch:
        root = Path(scratch, "root")
        for package in _download(Path(scratch)):
            run("dpkg-deb", "-x", str(package), str(root))
        (kernel,) = (root / "boot").glob("vmlinuz-*")
        names, modules = _with_dependencies(root / "usr" / "lib" / "modules", root / "lib" / "modules")
        busybox = next(path for path in (root / "bin/busybox", root / "usr/bin/busybox") if path.exists())
        entries = [(name, _FOLDER, b"") for name in ("bin", "dev", "modules", "root")]
        entries.append(("bin/busybox", _PROGRAM, busybox.read_bytes()))
        entries.append(("init", _PROGRAM, _INIT.format(modules=" ".join(names)).encode()))
        entries += [
            (f"modules/{name}.ko", _FILE, content) for name, content in zip(names, modules, strict=True)
        ]
        target.mkdir()
        (target / "vmlinuz").write_bytes(kernel.read_bytes())
        (target / "initramfs").write_bytes(_archive(entries))


def _download(scratch: Path) -> list[Path]:
    """Fetch the packages from where this machine's apt has its own, leaving apt's lists as they are."""
    folders = {"Dir::State": "state", "Dir::State::Lists": "state/lists", "Dir::Cache": "cache"}
    options = ["-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none"]
    # A mirror may be a frozen one.
    options += ["-o", "Acquire::Check-Valid-Until=false", "-o", "Acquire::Check-Date=false"]
    for name, folder in folders.items():
        options += ["-o", f"{name}={scratch / folder}"]
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    run("apt-get", *options, "update")
    needed = run("apt-cache", *options, "depends", _PACKAGES[0])
    image = re.search(r"Depends: (linux-image-\S+)", needed)
    assert image, f"{_PACKAGES[0]} names no kernel:\n{needed}"
    run("apt-get", *options, "download", image[1], *_PACKAGES[1:], folder=scratch)
    return list(scratch.glob("*.deb"))


def _with_dependencies(*folders: Path) -> tuple[list[str], list[bytes]]:
    """Return names and contents of the modules, each after those it says it depends on (modinfo(8))."""
    files = {
        path.name.partition(".")[0].replace("-", "_"): path
        for folder in folders
        for path in folder.rglob("*.ko*")
    }
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in found:
            return
        path = files[name]
        content = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        depends = re.search(rb"\0depends=([^\0]*)\0", content)
        for needed in depends[1].decode().replace("-", "_").split(",") if depends else ():
            if needed:
                add(needed)
        found[name] = content

    for name in _MODULES:
        add(name)
    return list(found), list(found.values())


def _archive(entries: Sequence[tuple[str, int, bytes]]) -> bytes:
    """Return them as the kernel unpacks them (initramfs-buffer-format.rst), with /dev/console for init's output."""
    parts = [_entry(*entry) for entry in entries]
    parts += [_entry("dev/console", _CONSOLE, device=(5, 1)), _entry("TRAILER!!!", 0)]
    return b"".join(parts)


def _entry(name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    text = os.fsencode(name) + b"\0"
    numbers = (0, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(text), 0)
    head = b"070701" + b"".join(b"%08X" % number for number in numbers) + text
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)
