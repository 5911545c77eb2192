"""What a system test boots and installs: disks of both Debians, the package, the coordinator's libraries.

All of it is made once and kept below the user's cache folder, each under a digest of what it was made from.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
INSIDE = Path(__file__).parent / "inside"

# What a minimal server has, and what the package depends on: there is no network inside.
_PACKAGES = (
    "systemd systemd-sysv dbus passwd python3 python3-venv bubblewrap logrotate ca-certificates tzdata"
)
_DISK_MIB = 1400
# The driver is started by the real systemd, like everything else; its files come from the host by hostfs.
_DRIVER_UNIT = """\
[Unit]
Description=Driver of the system test
After=multi-user.target dbus.service

[Service]
ExecStartPre=/bin/mount -t hostfs none /host
ExecStart=/usr/bin/python3 -B /host/inside/driver.py
FailureAction=poweroff-force
OOMScoreAdjust=-1000
StandardOutput=journal+console
StandardError=journal+console
"""
_CUSTOMIZE = """\
set -eu
mkdir "$1/host"
mkdir -p "$1/etc/systemd/system/basic.target.wants"
cp "$DRIVER_UNIT" "$1/etc/systemd/system/driver.service"
mkdir -p "$1/etc/systemd/system/multi-user.target.wants"
ln -s ../driver.service "$1/etc/systemd/system/multi-user.target.wants/driver.service"
for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer dpkg-db-backup.timer \\
    getty@tty1.service ldconfig.service systemd-journal-catalog-update.service systemd-update-done.service; do
    ln -sf /dev/null "$1/etc/systemd/system/$unit"
done
echo force-unsafe-io >"$1/etc/dpkg/dpkg.cfg.d/test"
echo "/dev/ubda / ext4 rw,noatime 0 0" >"$1/etc/fstab"
echo miner-under-test >"$1/etc/hostname"
printf '127.0.0.1 localhost miner-under-test\\n' >"$1/etc/hosts"
rm -rf "$1/var/cache/apt" "$1/var/lib/apt/lists" "$1/usr/share/locale" "$1/usr/share/man"
"""
# Of requirements-dev.lock: what the dev coordinator needs beside the product's own libraries.
_COORDINATOR_NEEDS = ("cffi", "cryptography", "joserfc", "pycparser", "python-multipart")


@dataclass(frozen=True)
class Release:
    """A Debian release: its code name, its number, its Python."""

    name: str
    number: int
    python: str


RELEASES = (Release("bookworm", 12, "3.11"), Release("trixie", 13, "3.13"))


def cache_folder() -> Path:
    """Return where things are kept between runs."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "fsm-miner" / "system-tests"


def disk(release: Release) -> Path:
    """Return the release's disk: a minimal system, nothing of ours but the driver's unit."""
    made_from = [release.name, _PACKAGES, str(_DISK_MIB), _DRIVER_UNIT, _CUSTOMIZE]
    return kept(f"disk-{release.name}", made_from, lambda target: _make_disk(release, target))


def package() -> Path:
    """Return the Debian package of the checkout, with the wheel that `make venv` built."""
    wheels = sorted((ROOT / "build" / "wheel").glob("fsm_miner-*.whl"))
    assert len(wheels) == 1, f"one wheel is needed in build/wheel, there are {len(wheels)}: make venv"
    folders = ("packaging", "systemd", "config", "allowlist.d", "tasks", "docs")
    files = [wheels[0], ROOT / "requirements.lock", ROOT / "tools" / "deb.py", ROOT / "CHANGELOG.md"]
    files += sorted(path for name in folders for path in (ROOT / name).rglob("*") if path.is_file())
    made_from = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    return kept("package", made_from, _make_package) / "first.deb"


def newer_package() -> Path:
    """Return the same package as the next revision."""
    return package().with_name("second.deb")


def coordinator_libraries(release: Release) -> Path:
    """Return a folder with what the dev coordinator imports and the package does not bring."""
    wanted = _locked(ROOT / "requirements-dev.lock", _COORDINATOR_NEEDS)
    return kept(
        f"libraries-{release.name}", [wanted], lambda target: _make_libraries(release, wanted, target)
    )


def wheels(release: Release) -> Path:
    """Return a folder with the wheels of the product's lock file, for the install script."""
    lock = ROOT / "requirements.lock"
    return kept(
        f"wheels-{release.name}",
        [release.python, lock.read_text()],
        lambda target: _pip(release, "download", "--dest", str(target), "-r", str(lock)),
    )


def checkout(folder: Path) -> None:
    """Lay out what the install script needs of a checkout, with the wheel that `make venv` built."""
    for name in ("systemd", "config", "allowlist.d", "tasks", "docs", "packaging", "build/wheel"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.lock", folder)


def kept(name: str, made_from: list[str], make: Callable[[Path], None]) -> Path:
    """Return the kept thing, made now if its inputs, or this module, have changed; what was made from others goes."""
    how = Path(__file__).read_text()
    digest = hashlib.sha256("\0".join([*made_from, how]).encode()).hexdigest()[:16]
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}-{digest}"
    with _only_one(folder / f"{name}.lock"):
        if not target.exists():
            staged = folder / f"{name}.making"
            for old in [staged, *folder.glob(f"{name}-????????????????")]:
                _remove(old)
            make(staged)
            staged.rename(target)
    return target


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _make_disk(release: Release, target: Path) -> None:
    # In memory where there is some: dpkg asks for many an fsync.
    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**30 else target.parent
    with tempfile.TemporaryDirectory(prefix="fsm-miner-disk-", dir=where) as scratch:
        root, unit = Path(scratch, "root"), Path(scratch, "driver.service")
        unit.write_text(_DRIVER_UNIT)
        options = ["--quiet", "--variant=apt", f"--include={_PACKAGES.replace(' ', ',')}"]
        # A mirror may be a frozen one.
        options += ['--aptopt=Acquire::Check-Valid-Until "false"', '--aptopt=Acquire::Check-Date "false"']
        hook = f"--customize-hook={_CUSTOMIZE}"
        run(
            *("mmdebstrap", *options, hook, release.name, str(root), _mirror()),
            env={"DRIVER_UNIT": str(unit)},
        )
        run("mke2fs", "-q", "-F", "-t", "ext4", "-d", str(root), str(target), f"{_DISK_MIB}M")


def _mirror() -> str:
    """Return the address that this machine's own apt has its Debian from."""
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line
    )
    codename = release.get("VERSION_CODENAME", "").strip('"')
    listed = run(
        "apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(SITE)", "Created-By: Packages"
    )
    sites = [line.split()[2] for line in listed.splitlines() if line.startswith(f"{codename} main ")]
    assert sites, f"apt's configuration names no mirror of {codename} main"
    return sites[0]


def _make_package(target: Path) -> None:
    target.mkdir()
    built = run(sys.executable, str(ROOT / "tools" / "deb.py"), "--fast", "--out", str(target))
    first = Path(built.split()[-1]).rename(target / "first.deb")
    tree = target / "tree"
    run("dpkg-deb", "-R", str(first), str(tree))
    control = tree / "DEBIAN" / "control"
    text = control.read_text()
    version = next(line for line in text.splitlines() if line.startswith("Version: "))
    assert version.endswith("-1")
    control.write_text(text.replace(version, f"{version[:-1]}2"))
    run("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(tree), str(target / "second.deb"))
    _remove(tree)


def _locked(lock: Path, names: tuple[str, ...]) -> str:
    """Return the lock file's entries of these packages, with their hashes."""
    blocks, block = [], ""
    for line in [*lock.read_text().splitlines(keepends=True), "end=="]:
        if line[:1].isspace() or line.startswith("#"):
            block += line
            continue
        if block.partition("==")[0] in names:
            blocks.append(block)
        block = line
    assert len(blocks) == len(names), f"{lock.name}: not all of {names}"
    return "".join(blocks)


def _make_libraries(release: Release, wanted: str, target: Path) -> None:
    target.mkdir()
    requirements = target / "requirements.txt"
    requirements.write_text(wanted)
    _pip(release, "install", "--no-compile", "-r", str(requirements), "--target", str(target / "lib"))


def _pip(release: Release, *words: str) -> None:
    """Have pip do it for the release's Python, with wheels that are checked by their hashes."""
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    options += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", release.python]
    for platform in ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014"):
        options += ["--platform", f"{platform}_{os.uname().machine}"]
    run(sys.executable, "-m", "pip", *words, *options)


def run(*command: str, env: dict[str, str] | None = None, folder: Path | None = None) -> str:
    """Return what the command prints; it works in `folder`, with `env` beside the environment's own."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})}, cwd=folder
    )
    assert done.returncode == 0, (
        f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    )
    return done.stdout
